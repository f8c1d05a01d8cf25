//! Why a callback was refused, with a stable code for its sender and a sentence for the log.

use crate::body::BodyError;

/// Why a callback was refused.
///
/// `Display` is for the log. A sender gets [`code`](Self::code) at most: that says the same of every
/// envelope that does not open, so that a ciphertext can't be read by asking (a padding oracle).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// A check of the URL lacks a parameter.
    #[error("the query has no {0}")]
    MissingParameter(&'static str),
    /// A callback lacks a parameter that its signature needs.
    #[error("the callback is not signed, its query has no {0}")]
    Unsigned(&'static str),
    /// The signature is not ours.
    #[error("the signature does not match")]
    BadSignature,
    /// The timestamp is no number or too far from now.
    #[error("the timestamp is outside the window")]
    StaleTimestamp,
    /// The body is in clear, though the mode or the query demands a sealed one.
    #[error("the body is in clear where a sealed one is demanded")]
    PlaintextRefused,
    /// The body is sealed, but the account has no key.
    #[error("the body is sealed, but the account has no EncodingAESKey")]
    NoAesKey,
    /// `encrypt_type` is neither `aes` nor `raw`.
    #[error("the query's encrypt_type is neither aes nor raw")]
    UnknownEncryptType,
    /// The ciphertext is not Base64.
    #[error("the ciphertext is not base64")]
    BadBase64,
    /// The ciphertext does not open with any of the account's keys.
    #[error("the ciphertext does not open with the account's keys")]
    BadEnvelope,
    /// The envelope opened, but it names another app id.
    #[error("the envelope names another app id")]
    ForeignAppId,
    /// ToUserName is not the account's original id.
    #[error("the message is addressed to another account")]
    WrongReceiver,
    /// The body itself.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body is authentic and can't be read all the same. It is answered `success`, for WeChat would
    /// only send the same again, and tell the user that the service is broken.
    #[error("the callback is authentic, but {0}")]
    Unreadable(BodyError),
}

/// How a refusal is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// 200, `success`: it is WeChat's, and no repetition would help.
    Acknowledged,
    /// 403: the sender has not shown that it may call.
    Forbidden,
    /// 400: the call makes no sense.
    Malformed,
    /// 413: the body is too large.
    TooLarge,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Acknowledged => 200,
            Refusal::Forbidden => 403,
            Refusal::Malformed => 400,
            Refusal::TooLarge => 413,
        }
    }
}

impl OpenError {
    /// A stable code. Safe to show to the sender.
    pub fn code(self) -> &'static str {
        match self {
            OpenError::MissingParameter(_) | OpenError::Unsigned(_) => "missing-parameter",
            OpenError::BadSignature => "bad-signature",
            OpenError::StaleTimestamp => "stale-timestamp",
            OpenError::PlaintextRefused => "plaintext-refused",
            OpenError::NoAesKey => "no-aes-key",
            OpenError::UnknownEncryptType => "unknown-encrypt-type",
            OpenError::BadBase64 => "bad-base64",
            OpenError::BadEnvelope | OpenError::ForeignAppId => "bad-envelope",
            OpenError::WrongReceiver => "wrong-receiver",
            OpenError::Body(error) | OpenError::Unreadable(error) => error.code(),
        }
    }

    /// How it is answered.
    pub fn class(self) -> Refusal {
        match self {
            OpenError::Unsigned(_)
            | OpenError::BadSignature
            | OpenError::StaleTimestamp
            | OpenError::PlaintextRefused => Refusal::Forbidden,
            OpenError::Body(BodyError::TooLarge { .. }) => Refusal::TooLarge,
            OpenError::Unreadable(_) => Refusal::Acknowledged,
            OpenError::MissingParameter(_)
            | OpenError::NoAesKey
            | OpenError::UnknownEncryptType
            | OpenError::BadBase64
            | OpenError::BadEnvelope
            | OpenError::ForeignAppId
            | OpenError::WrongReceiver
            | OpenError::Body(_) => Refusal::Malformed,
        }
    }
}
