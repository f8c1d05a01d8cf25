//! Short keys (短key托管): WeChat keeps a text under a key that fits into a QR code.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Request, answer};

/// Most bytes of a text.
pub const MAX_DATA_BYTES: usize = 4096;
/// Longest life: 30 days.
pub const MAX_EXPIRE_SECONDS: u32 = 2_592_000;

/// `POST /cgi-bin/shorten/gen`.
#[derive(Clone, Debug, Serialize)]
pub struct Create {
    /// The text, [`MAX_DATA_BYTES`] at most.
    #[serde(rename = "long_data")]
    pub data: String,
    /// How long it is kept, 1 to [`MAX_EXPIRE_SECONDS`].
    pub expire_seconds: u32,
}

/// `POST /cgi-bin/shorten/fetch`.
#[derive(Clone, Debug, Serialize)]
pub struct Fetch {
    /// The key.
    #[serde(rename = "short_key")]
    pub key: String,
}

/// A key that was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Key {
    /// The key.
    #[serde(rename = "short_key")]
    pub key: String,
}

/// What is kept under a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Kept {
    /// The text.
    #[serde(rename = "long_data")]
    pub data: String,
    /// Unix seconds.
    #[serde(deserialize_with = "answer::number")]
    pub create_time: u64,
    /// How much longer it is kept.
    #[serde(deserialize_with = "answer::number")]
    pub expire_seconds: u64,
}

impl Call for Create {
    type Answer = Key;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::bytes("long_data", &self.data, 1..=MAX_DATA_BYTES)?;
        limit::range(
            "expire_seconds",
            self.expire_seconds,
            1..=MAX_EXPIRE_SECONDS.into(),
        )?;
        Request::ask("/cgi-bin/shorten/gen", self)
    }
}

impl Call for Fetch {
    type Answer = Kept;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("short_key", &self.key)?;
        Request::ask("/cgi-bin/shorten/fetch", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    #[test]
    fn calls_are_the_documents() {
        let create = Create {
            data: "loooooong 数据".into(),
            expire_seconds: 86400,
        };
        assert_eq!(
            line(&create),
            r#"POST /cgi-bin/shorten/gen {"long_data":"loooooong 数据","expire_seconds":86400}"#
        );
        assert_eq!(
            answer(&create, r#"{"errcode":0,"short_key":"mA1tgYYSaRRBzBp"}"#).key,
            "mA1tgYYSaRRBzBp"
        );
        let fetch = Fetch { key: "mA1".into() };
        assert_eq!(
            line(&fetch),
            r#"POST /cgi-bin/shorten/fetch {"short_key":"mA1"}"#
        );
        let kept = answer(
            &fetch,
            r#"{"long_data":"数据","create_time":1611047541,"expire_seconds":86300}"#,
        );
        assert_eq!((&*kept.data, kept.expire_seconds), ("数据", 86300));
    }

    #[test]
    fn limits_hold() {
        let create = |bytes, expire_seconds| Create {
            data: "x".repeat(bytes),
            expire_seconds,
        };
        assert_eq!(
            refused(&create(4097, 60)),
            "long_data has 4097 bytes, 1 to 4096 are allowed"
        );
        let expire = "expire_seconds is 2592001, 1 to 2592000 is allowed";
        assert_eq!(refused(&create(1, 2_592_001)), expire);
        assert_eq!(refused(&Fetch { key: String::new() }), "short_key is empty");
    }
}
