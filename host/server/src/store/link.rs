//! How Redis is reached: one server, the master that Sentinels name, or a Cluster, as its URL says.
//!
//! | URL | what |
//! |---|---|
//! | `redis://host:6379/0`, `rediss://…` (TLS), `unix://…` | one server |
//! | `redis+sentinel://[user:password@]host:26379,host:26379/master-name[/0]` | the master of that name; asked for anew whenever the connection breaks |
//! | `redis+cluster://[user:password@]host:6379,host:6379` | a Cluster; any of its nodes will do to begin with |
//!
//! `rediss+sentinel` and `rediss+cluster` speak TLS. User and password are those of the servers; the
//! Sentinels themselves are asked without.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub,
};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;

/// How Redis is reached.
pub(super) enum Link {
    /// One server; the manager connects again by itself.
    Server {
        client: Client,
        manager: ConnectionManager,
    },
    /// The master that Sentinels name.
    Sentinel(Mutex<Sentinel>),
    /// A Cluster; once connected it follows the cluster's changes by itself.
    Cluster {
        client: ClusterClient,
        connected: Mutex<Option<ClusterConnection>>,
        /// For subscriptions: a Cluster passes messages on to all nodes.
        nodes: Vec<Client>,
        timeout: Duration,
    },
}

pub(super) struct Sentinel {
    client: SentinelClient,
    connected: Option<MultiplexedConnection>,
    timeout: Duration,
}

/// A connection that commands can be sent through; cheap to clone.
#[derive(Clone)]
pub(super) enum Connection {
    Server(ConnectionManager),
    Sentinel(Arc<Link>, MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// Prepares to reach the Redis of `url`; nothing is connected yet. An answer is waited for as long
    /// as `timeout`.
    pub(super) fn open(url: &str, timeout: Duration) -> RedisResult<Self> {
        match url.split_once("://") {
            Some(("redis+sentinel", rest)) => Self::sentinel(rest, false, timeout),
            Some(("rediss+sentinel", rest)) => Self::sentinel(rest, true, timeout),
            Some(("redis+cluster", rest)) => Self::cluster(rest, false, timeout),
            Some(("rediss+cluster", rest)) => Self::cluster(rest, true, timeout),
            _ => Self::server(url, timeout),
        }
    }

    fn server(url: &str, timeout: Duration) -> RedisResult<Self> {
        let client = Client::open(url)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(timeout))
            .set_connection_timeout(Some(timeout))
            .set_number_of_retries(0);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self::Server { client, manager })
    }

    fn sentinel(rest: &str, tls: bool, timeout: Duration) -> RedisResult<Self> {
        let address = Address::parse(rest)?;
        let (master, db) = match address.path.split_once('/') {
            None => (address.path, None),
            Some((master, db)) => (master, Some(db)),
        };
        if master.is_empty() {
            return Err(malformed(
                "name the master: redis+sentinel://host:26379/mymaster",
            ));
        }
        let kind = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(address.nodes(26379, tls)?, master, kind)?;
        if tls {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = address.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = address.password {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(db) = db {
            let db = db
                .parse()
                .map_err(|_| malformed("the database is a number"))?;
            builder = builder.set_client_to_redis_db(db);
        }
        Ok(Self::Sentinel(Mutex::new(Sentinel {
            client: builder.build()?,
            connected: None,
            timeout,
        })))
    }

    fn cluster(rest: &str, tls: bool, timeout: Duration) -> RedisResult<Self> {
        let address = Address::parse(rest)?;
        if !address.path.is_empty() {
            return Err(malformed("a Cluster has no databases"));
        }
        let mut infos = Vec::new();
        for node in address.nodes(6379, tls)? {
            let mut info = node.into_connection_info()?;
            let mut settings = info.redis_settings().clone();
            if let Some(user) = address.user {
                settings = settings.set_username(user);
            }
            if let Some(password) = address.password {
                settings = settings.set_password(password);
            }
            info = info.set_redis_settings(settings);
            infos.push(info);
        }
        let nodes = infos.iter().cloned().map(Client::open);
        let nodes = nodes.collect::<RedisResult<_>>()?;
        let client = ClusterClient::builder(infos)
            .connection_timeout(timeout)
            .response_timeout(timeout)
            // The caller decides what to do without Redis, soon.
            .retries(2)
            .max_retry_wait(50)
            .build()?;
        Ok(Self::Cluster {
            client,
            connected: Mutex::new(None),
            nodes,
            timeout,
        })
    }

    /// A connection to send commands through. It may turn out to be broken when it is used.
    pub(super) async fn connection(self: &Arc<Self>) -> RedisResult<Connection> {
        match &**self {
            Self::Server { manager, .. } => Ok(Connection::Server(manager.clone())),
            Self::Sentinel(sentinel) => {
                let mut sentinel = sentinel.lock().await;
                let connection = match &sentinel.connected {
                    Some(connection) => connection.clone(),
                    None => sentinel.connect().await?,
                };
                Ok(Connection::Sentinel(Arc::clone(self), connection))
            }
            Self::Cluster {
                client,
                connected,
                timeout,
                ..
            } => {
                let mut connected = connected.lock().await;
                if let Some(connection) = &*connected {
                    return Ok(Connection::Cluster(connection.clone()));
                }
                let connecting = Box::pin(client.get_async_connection());
                let connection = within(*timeout * 2, connecting).await?;
                *connected = Some(connection.clone());
                Ok(Connection::Cluster(connection))
            }
        }
    }

    /// A connection for subscriptions. It ends when the server goes away.
    pub(super) async fn subscription(&self) -> RedisResult<PubSub> {
        match self {
            Self::Server { client, .. } => client.get_async_pubsub().await,
            Self::Sentinel(sentinel) => {
                let mut sentinel = sentinel.lock().await;
                let timeout = sentinel.timeout;
                let master = within(timeout * 2, sentinel.client.async_get_client()).await?;
                drop(sentinel);
                within(timeout * 2, master.get_async_pubsub()).await
            }
            Self::Cluster { nodes, timeout, .. } => {
                let mut failure = malformed("no node is named");
                for node in nodes {
                    match within(*timeout, node.get_async_pubsub()).await {
                        Ok(subscription) => return Ok(subscription),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }

    /// Looks for the master anew next time: what was connected failed.
    async fn forget(&self) {
        if let Self::Sentinel(sentinel) = self {
            sentinel.lock().await.connected = None;
        }
    }
}

impl Sentinel {
    async fn connect(&mut self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let connecting = Box::pin(self.client.get_async_connection_with_config(&config));
        let connection = within(self.timeout * 2, connecting).await?;
        self.connected = Some(connection.clone());
        Ok(connection)
    }
}

/// A master that was demoted still answers, but takes no writes.
fn is_gone(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_timeout()
        || error.is_io_error()
        || error.code() == Some("READONLY")
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
            Self::Sentinel(link, connection) => Box::pin(async move {
                let answer = connection.req_packed_command(cmd).await;
                if answer.as_ref().is_err_and(is_gone) {
                    link.forget().await;
                }
                answer
            }),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Sentinel(link, connection) => Box::pin(async move {
                let answer = connection
                    .req_packed_commands(pipeline, offset, count)
                    .await;
                if answer.as_ref().is_err_and(is_gone) {
                    link.forget().await;
                }
                answer
            }),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
            Self::Sentinel(_, connection) => connection.get_db(),
        }
    }
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err((ErrorKind::Io, "redis does not answer").into()),
    }
}

fn malformed(reason: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, reason).into()
}

/// `[user:password@]host[:port],host[:port][/path]`. A password is taken as it stands.
struct Address<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
}

impl<'a> Address<'a> {
    fn parse(text: &'a str) -> RedisResult<Self> {
        let (login, rest) = match text.rsplit_once('@') {
            None => (None, text),
            Some((login, rest)) => (Some(login), rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':')) {
            None => (None, None),
            Some(None) => return Err(malformed("a login is user:password, or :password")),
            Some(Some((user, password))) => (Some(user).filter(|u| !u.is_empty()), Some(password)),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            user,
            password,
            hosts,
            path,
        })
    }

    fn nodes(&self, default_port: u16, tls: bool) -> RedisResult<Vec<ConnectionAddr>> {
        let node = |text: &str| {
            let (host, port) = match text.rsplit_once(':') {
                None => (text, default_port),
                Some((host, port)) => {
                    let port = port.parse();
                    (host, port.map_err(|_| malformed("a port is a number"))?)
                }
            };
            if host.is_empty() {
                return Err(malformed("a host is missing"));
            }
            let host = host.to_owned();
            Ok(match tls {
                false => ConnectionAddr::Tcp(host, port),
                true => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                },
            })
        };
        self.hosts.split(',').map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_says_what_kind_of_redis_it_is() {
        for (url, expected) in [
            ("redis://localhost", "server"),
            ("rediss://:p@localhost:6380/3", "server"),
            ("redis+sentinel://a,b:26380/mymaster", "sentinel"),
            ("redis+sentinel://u:p@a/mymaster/2", "sentinel"),
            ("rediss+sentinel://a/mymaster", "sentinel"),
            ("redis+cluster://:p@a,b:6380", "cluster"),
            ("http://localhost", "refused"),
            ("redis+sentinel://a", "refused"),
            ("redis+sentinel://a/m/x", "refused"),
            ("redis+cluster://a:x", "refused"),
            ("redis+cluster://a/1", "refused"),
            ("redis+cluster://u@a", "refused"),
            ("redis+cluster://", "refused"),
        ] {
            let kind = match Link::open(url, Duration::from_millis(100)) {
                Ok(Link::Server { .. }) => "server",
                Ok(Link::Sentinel(_)) => "sentinel",
                Ok(Link::Cluster { .. }) => "cluster",
                Err(_) => "refused",
            };
            assert_eq!(kind, expected, "{url}");
        }
    }
}
