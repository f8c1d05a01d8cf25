//! What WeChat Pay tells (回调通知): an envelope that is signed, and in it a text that is sealed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::aead::{self, AeadError};
use super::key::ApiV3Key;
use super::refund::Refund;
use super::transaction::Transaction;
use super::{AnswerError, read};

/// The only way in which notices are sealed.
const ALGORITHM: &str = "AEAD_AES_256_GCM";

/// Why a notice can't be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoticeError {
    /// It is not what WeChat Pay documents.
    #[error(transparent)]
    Malformed(#[from] AnswerError),
    /// It is sealed in a way that is newer than this.
    #[error("it is sealed by {0:?}, not by {ALGORITHM}")]
    Algorithm(String),
    /// It is not sealed with this key.
    #[error(transparent)]
    Sealed(#[from] AeadError),
}

/// The envelope.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Envelope {
    /// Names the notice; the same when it is told again.
    pub id: String,
    /// Such as `TRANSACTION.SUCCESS`.
    pub event_type: String,
    /// For people.
    #[serde(default)]
    pub summary: String,
    /// When it was made.
    #[serde(default)]
    pub create_time: String,
    /// What is sealed.
    pub resource: Resource,
}

/// What is sealed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Resource {
    /// `transaction`, `refund` …
    #[serde(default)]
    pub original_type: String,
    /// How it is sealed.
    pub algorithm: String,
    /// Base64.
    pub ciphertext: String,
    /// May be absent.
    #[serde(default)]
    pub associated_data: Option<String>,
    /// 12 bytes.
    pub nonce: String,
}

/// What a notice says.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Of an order.
    Transaction(Transaction),
    /// Of a refund.
    Refund(Refund),
    /// Of something else.
    Other {
        /// What.
        original_type: String,
        /// In WeChat Pay's own form.
        said: Value,
    },
}

impl Envelope {
    /// Reads the body of a notice.
    ///
    /// # Errors
    /// It is not what WeChat Pay documents.
    pub fn read(body: &[u8]) -> Result<Self, NoticeError> {
        Ok(read(body)?)
    }

    /// Opens it.
    ///
    /// # Errors
    /// It is not sealed with this key, or says what WeChat Pay does not document.
    pub fn open(&self, key: &ApiV3Key) -> Result<Notice, NoticeError> {
        let Resource {
            original_type,
            algorithm,
            ciphertext,
            associated_data,
            nonce,
        } = &self.resource;
        if algorithm != ALGORITHM {
            let shown = algorithm.chars().take(64).collect();
            return Err(NoticeError::Algorithm(shown));
        }
        let associated_data = associated_data.as_deref().unwrap_or_default();
        let clear = aead::open(key, nonce, associated_data, ciphertext)?;
        Ok(match &**original_type {
            "transaction" => Notice::Transaction(Transaction::read(&clear)?),
            "refund" => Notice::Refund(Refund::read(&clear)?),
            _ => Notice::Other {
                original_type: original_type.clone(),
                said: read(&clear)?,
            },
        })
    }
}
