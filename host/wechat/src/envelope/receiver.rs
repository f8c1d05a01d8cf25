//! The account as the envelope sees it: who it is, how WeChat talks to it, and its keys, made ready.

use serde::{Deserialize, Serialize};

use super::OpenError;
use crate::cipher::MessageCipher;
use crate::id::{AppId, OriginalId};
use crate::secret::{CallbackToken, EncodingAesKey};

/// How WeChat sends callbacks to an account (消息加解密方式), and what the account accepts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// 明文模式: in clear; sealed ones are accepted if a key is there.
    Plain,
    /// 兼容模式: in clear and sealed, both in one body; the sealed part counts.
    Compatible,
    /// 安全模式: sealed only; what comes in clear is refused.
    Safe,
}

impl Mode {
    /// The name of the mode in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Compatible => "compatible",
            Mode::Safe => "safe",
        }
    }
}

/// The secrets of an account's callbacks.
#[derive(Clone, Debug)]
pub struct CallbackKeys {
    /// Signs every callback.
    pub token: CallbackToken,
    /// Seals callbacks and replies.
    pub current: Option<EncodingAesKey>,
    /// The key before the last change; WeChat may use it for a while yet.
    pub previous: Option<EncodingAesKey>,
}

/// Which of an account's keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeySlot {
    /// The key in use.
    Current,
    /// The key before the last change.
    Previous,
}

/// What a [`Receiver`] is made from.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// The account; sealed callbacks must name it.
    pub app_id: AppId,
    /// Where it is known, every callback's ToUserName must equal it.
    pub original_id: Option<OriginalId>,
    /// How WeChat talks to it.
    pub mode: Mode,
    /// Its secrets.
    pub keys: CallbackKeys,
    /// How far a callback's timestamp may be from now, in seconds, before or after.
    pub window_seconds: u64,
}

/// Why settings make no receiver.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiverError {
    /// Compatible and safe mode need an AES key.
    #[error("{} mode needs an EncodingAESKey", .0.as_str())]
    NoAesKey(Mode),
}

/// An account that can open callbacks and seal replies. Its keys are expanded once, here.
#[derive(Clone, Debug)]
pub struct Receiver {
    app_id: AppId,
    original_id: Option<OriginalId>,
    mode: Mode,
    token: CallbackToken,
    current: Option<MessageCipher>,
    previous: Option<MessageCipher>,
    window_seconds: u64,
}

impl Receiver {
    /// Expands the keys.
    ///
    /// # Errors
    ///
    /// [`ReceiverError`]: the mode needs a key that is not there.
    pub fn new(settings: ReceiverSettings) -> Result<Self, ReceiverError> {
        let ReceiverSettings {
            app_id,
            original_id,
            mode,
            keys,
            window_seconds,
        } = settings;
        if mode != Mode::Plain && keys.current.is_none() {
            return Err(ReceiverError::NoAesKey(mode));
        }
        Ok(Self {
            app_id,
            original_id,
            mode,
            current: keys.current.as_ref().map(MessageCipher::new),
            previous: keys.previous.as_ref().map(MessageCipher::new),
            token: keys.token,
            window_seconds,
        })
    }

    /// The account.
    pub fn app_id(&self) -> &AppId {
        &self.app_id
    }

    /// The account's original id, where it is known.
    pub fn original_id(&self) -> Option<&OriginalId> {
        self.original_id.as_ref()
    }

    /// How WeChat talks to it.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How far a timestamp may be from now, in seconds.
    pub fn window_seconds(&self) -> u64 {
        self.window_seconds
    }

    pub(super) fn token(&self) -> &CallbackToken {
        &self.token
    }

    /// The keys in the order in which they are tried.
    pub(super) fn ciphers(&self) -> impl Iterator<Item = (KeySlot, &MessageCipher)> {
        let current = self.current.iter().map(|cipher| (KeySlot::Current, cipher));
        current.chain(
            self.previous
                .iter()
                .map(|cipher| (KeySlot::Previous, cipher)),
        )
    }

    /// The key of a slot, or the one that there is.
    pub(super) fn cipher(&self, slot: KeySlot) -> Option<&MessageCipher> {
        match slot {
            KeySlot::Current => self.current.as_ref().or(self.previous.as_ref()),
            KeySlot::Previous => self.previous.as_ref().or(self.current.as_ref()),
        }
    }

    /// Whether a callback with this `encrypt_type` comes sealed.
    pub(super) fn expects_sealed(&self, encrypt_type: Option<&str>) -> Result<bool, OpenError> {
        let sealed = match encrypt_type {
            None | Some("" | "raw") => false,
            Some("aes") => true,
            Some(_) => return Err(OpenError::UnknownEncryptType),
        };
        match self.mode {
            Mode::Safe if !sealed => Err(OpenError::PlaintextRefused),
            Mode::Plain if sealed && self.current.is_none() => Err(OpenError::NoAesKey),
            Mode::Plain | Mode::Compatible | Mode::Safe => Ok(sealed),
        }
    }
}
