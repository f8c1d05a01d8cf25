//! How an account's callbacks come: the callback lane's settings of it. They are here, and not with the
//! lane, because accounts are made of them.

use std::ops::RangeInclusive;

use secrecy::ExposeSecret;
use wxhost_wechat::{
    envelope::{CallbackKeys, Mode, Receiver, ReceiverSettings},
    id::{AppId, OriginalId},
    secret::{AES_KEY_LENGTH, CallbackToken, EncodingAesKey},
};

use super::OptOutWords;
use crate::{
    db::callback_settings::CallbackSettingsRow,
    random,
    seal::{MasterKeys, Place, SealError},
    settings::{ChangeError, StoredError, changed, column, span},
};

/// How far a callback's timestamp may be off, in seconds. Less than ten seconds would turn away
/// honest clocks; a day is as good as no check.
pub const WINDOW_SECONDS: RangeInclusive<u32> = 10..=86_400;

/// Bytes of a fallback text: WeChat cuts passive text replies there.
pub const MAX_FALLBACK_BYTES: usize = 2048;

/// The word for a mode, as it is stored and shown.
fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => "plain",
        Mode::Compatible => "compatible",
        Mode::Safe => "safe",
    }
}

/// The mode that a word stands for.
pub(crate) fn mode_of(word: &str) -> Result<Mode, String> {
    match word {
        "plain" => Ok(Mode::Plain),
        "compatible" => Ok(Mode::Compatible),
        "safe" => Ok(Mode::Safe),
        _ => Err(String::from("a mode is plain, compatible or safe")),
    }
}

/// How an account's callbacks come, ready for use: keys opened, ciphers built.
#[derive(Debug)]
pub struct CallbackSettings {
    /// Opens callbacks and seals the replies.
    pub receiver: Receiver,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
    /// The words that stop and resume messages; without them, all words are the plugin's.
    pub opt_out_words: Option<OptOutWords>,
}

impl CallbackSettings {
    pub(crate) fn from_row(
        app_id: &AppId,
        original_id: &str,
        row: &CallbackSettingsRow,
        keys: &MasterKeys,
    ) -> Result<Self, StoredError> {
        let original_id = OriginalId::parse(original_id).map_err(column("original_id"))?;
        let settings = ReceiverSettings {
            app_id: app_id.clone(),
            original_id: Some(original_id),
            mode: mode_of(&row.mode).map_err(column("mode"))?,
            keys: callback_keys(app_id.as_str(), row, keys)?,
            window_seconds: u64::try_from(row.window_seconds).map_err(column("window_seconds"))?,
        };
        Ok(Self {
            receiver: Receiver::new(settings).map_err(column("encoding_aes_key"))?,
            fallback_text: row.fallback_text.clone(),
            opt_out_words: row
                .opt_out_words
                .as_deref()
                .map(serde_json::from_str)
                .transpose()
                .map_err(column("opt_out_words"))?,
        })
    }
}

fn callback_keys(
    app_id: &str,
    row: &CallbackSettingsRow,
    keys: &MasterKeys,
) -> Result<CallbackKeys, StoredError> {
    let token = keys.open_text(Place::token(app_id), &row.token_sealed)?;
    let aes_key = |place, sealed: &Option<String>| -> Result<_, StoredError> {
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let text = keys.open_text(place, sealed)?;
        let key = EncodingAesKey::parse(text.expose_secret()).map_err(column("aes_key_sealed"))?;
        Ok(Some(key))
    };
    let present = Place::aes_key(app_id);
    let previous = match &row.previous_aes_key_sealed {
        None => aes_key(Place::former_aes_key(app_id), &row.former_aes_key_sealed)?,
        // Not sealed anew yet as the one before.
        before => aes_key(present, before)?,
    };
    Ok(CallbackKeys {
        token: CallbackToken::parse(token.expose_secret()).map_err(column("token_sealed"))?,
        current: aes_key(present, &row.aes_key_sealed)?,
        previous,
    })
}

/// A receiver with keys that nobody has. It takes both clear and encrypted callbacks as far as a
/// wrong signature would get.
pub(crate) fn decoy() -> Result<Receiver, StoredError> {
    let word = || hex::encode(random::sixteen());
    let aes_key = format!("{}{}", word(), &word()[..AES_KEY_LENGTH - 32]);
    let settings = ReceiverSettings {
        app_id: AppId::parse("decoy").map_err(column("app_id"))?,
        original_id: None,
        mode: Mode::Compatible,
        keys: CallbackKeys {
            token: CallbackToken::parse(&word()).map_err(column("token_sealed"))?,
            current: Some(EncodingAesKey::parse(&aes_key).map_err(column("aes_key_sealed"))?),
            previous: None,
        },
        window_seconds: 300,
    };
    Receiver::new(settings).map_err(column("encoding_aes_key"))
}

/// How the callbacks of an account to be added come.
#[derive(Clone, Debug)]
pub struct NewCallbacks {
    /// As set in WeChat's console.
    pub mode: Mode,
    /// Signs them.
    pub token: CallbackToken,
    /// Encrypts them.
    pub aes_key: Option<EncodingAesKey>,
    /// How far a timestamp may be off.
    pub window_seconds: u32,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
}

impl NewCallbacks {
    pub(crate) fn into_row(
        self,
        app_id: &str,
        keys: &MasterKeys,
    ) -> Result<CallbackSettingsRow, SealError> {
        let aes_key = self.aes_key.as_ref().map(|key| key.expose().as_bytes());
        Ok(CallbackSettingsRow {
            mode: mode_word(self.mode).to_owned(),
            token_sealed: keys.seal(Place::token(app_id), self.token.expose().as_bytes())?,
            aes_key_sealed: aes_key
                .map(|key| keys.seal(Place::aes_key(app_id), key))
                .transpose()?,
            previous_aes_key_sealed: None,
            former_aes_key_sealed: None,
            window_seconds: self.window_seconds.into(),
            fallback_text: self.fallback_text,
            opt_out_words: None,
        })
    }
}

/// What is to be changed of how callbacks come; nothing else is.
#[derive(Clone, Debug, Default)]
pub struct CallbackChange {
    /// As set in WeChat's console.
    pub mode: Option<Mode>,
    /// How far a timestamp may be off.
    pub window_seconds: Option<u32>,
    /// What the user gets when the plugin fails; `Some(None)` for nothing.
    pub fallback_text: Option<Option<String>>,
    /// The words that stop and resume messages; `Some(None)` for none.
    pub opt_out_words: Option<Option<OptOutWords>>,
}

impl CallbackChange {
    pub(crate) fn apply(self, row: &mut CallbackSettingsRow) {
        if let Some(mode) = self.mode {
            row.mode = mode_word(mode).to_owned();
        }
        if let Some(seconds) = self.window_seconds {
            row.window_seconds = seconds.into();
        }
        if let Some(text) = self.fallback_text {
            row.fallback_text = text;
        }
        if let Some(words) = self.opt_out_words {
            row.opt_out_words = words.map(|words| serde_json::json!(words).to_string());
        }
    }
}

/// New keys of an account.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// Takes the place of the old one at once.
    pub token: Option<CallbackToken>,
    /// The old one still opens callbacks until the next change.
    pub aes_key: Option<EncodingAesKey>,
}

impl KeyChange {
    pub(crate) fn apply(
        self,
        app_id: &str,
        row: &mut CallbackSettingsRow,
        keys: &MasterKeys,
    ) -> Result<(), SealError> {
        if let Some(token) = self.token {
            row.token_sealed = keys.seal(Place::token(app_id), token.expose().as_bytes())?;
        }
        if let Some(key) = self.aes_key {
            let sealed = keys.seal(Place::aes_key(app_id), key.expose().as_bytes())?;
            row.previous_aes_key_sealed = None;
            row.former_aes_key_sealed = match row.aes_key_sealed.replace(sealed) {
                None => None,
                Some(before) => Some(keys.as_former_aes_key(app_id, &before)?),
            };
        }
        Ok(())
    }
}

impl CallbackSettingsRow {
    /// Refuses what nobody could mean or the keys can't serve.
    pub(crate) fn check(&self) -> Result<(), ChangeError> {
        let seconds = u32::try_from(self.window_seconds).unwrap_or(0);
        if !WINDOW_SECONDS.contains(&seconds) {
            return Err(ChangeError::invalid(
                "window_seconds",
                format_args!("must be {}", span(&WINDOW_SECONDS)),
            ));
        }
        let text = self.fallback_text.as_deref();
        if text.is_some_and(|text| text.is_empty() || text.len() > MAX_FALLBACK_BYTES) {
            return Err(ChangeError::invalid(
                "fallback_text",
                format_args!("must have 1 to {MAX_FALLBACK_BYTES} bytes of UTF-8"),
            ));
        }
        if let Some(words) = &self.opt_out_words {
            let words: Result<OptOutWords, _> = serde_json::from_str(words);
            let checked = words.map_err(|error| error.to_string());
            checked
                .and_then(|words| words.check())
                .map_err(|error| ChangeError::invalid("opt_out_words", error))?;
        }
        let mode = mode_of(&self.mode).map_err(|error| ChangeError::invalid("mode", error))?;
        if mode != Mode::Plain && self.aes_key_sealed.is_none() {
            return Err(ChangeError::invalid(
                "encoding_aes_key",
                format_args!("{} mode needs one", self.mode),
            ));
        }
        Ok(())
    }

    /// The names of what is another in `after`, for the audit: of a secret no more than that.
    pub(crate) fn changed_in(&self, after: &Self) -> impl Iterator<Item = &'static str> + use<> {
        changed([
            ("mode", self.mode != after.mode),
            ("token", self.token_sealed != after.token_sealed),
            (
                "encoding_aes_key",
                self.aes_key_sealed != after.aes_key_sealed,
            ),
            (
                "window_seconds",
                self.window_seconds != after.window_seconds,
            ),
            ("fallback_text", self.fallback_text != after.fallback_text),
            ("opt_out_words", self.opt_out_words != after.opt_out_words),
        ])
    }
}
