//! Which Redis this is. The oldest that works is [`OLDEST`]; a host looks when it starts.

use redis::{RedisResult, Value};

use super::Redis;
use crate::store::StoreAway;

/// A version of Redis: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The oldest Redis that works: before it, a script that asks for the time may not write.
pub const OLDEST: Version = Version(5, 0);

impl Redis {
    /// The version of the server that answers; None where it does not say. The oldest that works is
    /// [`OLDEST`].
    ///
    /// # Errors
    /// Redis can't be reached.
    pub async fn version(&self) -> Result<Option<Version>, StoreAway> {
        let mut connection = self.connection().await?;
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let reply: RedisResult<Value> = info.query_async(&mut connection).await;
        Ok(oldest_in(&self.noting_failure(reply)?))
    }
}

/// The oldest version in answers to INFO: a Cluster gives one of each node.
fn oldest_in(info: &Value) -> Option<Version> {
    match info {
        Value::Map(nodes) => nodes.iter().filter_map(|(_, info)| oldest_in(info)).min(),
        Value::Array(nodes) => nodes.iter().filter_map(oldest_in).min(),
        Value::BulkString(bytes) => version_in(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => version_in(text),
        _ => None,
    }
}

fn version_in(info: &str) -> Option<Version> {
    let named = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))?;
    let mut parts = named.trim().split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|minor| minor.parse().ok());
    Some(Version(major, minor.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_node_of_a_cluster_counts() {
        let node = |version: &str| {
            let info = format!("# Server\r\nredis_version:{version}\r\nredis_git_sha1:0\r\n");
            Value::BulkString(info.into_bytes())
        };
        let check = |info: &Value, expected: Option<Version>| {
            assert_eq!(oldest_in(info), expected, "{info:?}");
        };
        check(&node("7.0.15"), Some(Version(7, 0)));
        check(&node("255.255.255"), Some(Version(255, 255)));
        check(&Value::BulkString(b"# Server".to_vec()), None);
        check(&Value::Nil, None);
        let name = |n: u8| Value::BulkString(vec![n]);
        let nodes = vec![(name(1), node("7.2.4")), (name(2), node("4.0.9"))];
        let cluster = Value::Map(nodes);
        check(&cluster, Some(Version(4, 0)));
        assert!(oldest_in(&cluster).unwrap() < OLDEST);
    }
}
