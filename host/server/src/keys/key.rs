//! One API key: its text, and what the host knows of it.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::{
    grants::{GrantError, KeyGrants},
    rate::Window,
    signing::SigningSecret,
};
use crate::{
    accounts::Account,
    db::keys::KeyRow,
    random,
    seal::{MasterKeys, Place},
};

/// How every key begins, so that it is known for one where it should not be (a repository, a log).
const PREFIX: &str = "wxk_";

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// The text of a key: given out once, never stored. `wxk_` and 64 hex digits.
#[derive(Clone, Debug)]
pub struct KeyText(SecretString);

impl KeyText {
    /// A new one.
    pub(super) fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random::fill(bytes.as_mut());
        let digits = Zeroizing::new(hex::encode(bytes.as_ref()));
        Self(format!("{PREFIX}{}", digits.as_str()).into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether a text looks like a key, good or not.
    pub fn is_shaped_like_one(text: &str) -> bool {
        text.strip_prefix(PREFIX)
            .is_some_and(|rest| rest.len() == 2 * KEY_BYTES && rest.bytes().all(is_digit))
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// SHA-256 of a key's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a text that looks like a key.
    pub(super) fn of(text: &str) -> Option<Self> {
        KeyText::is_shaped_like_one(text).then(|| Self(Sha256::digest(text).into()))
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

/// Why a stored key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A column is not the JSON that it should be.
    #[error("the stored {column} is not valid")]
    Column {
        /// Which.
        column: &'static str,
    },
    /// A grant that this host does not know.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// A good key.
pub struct ApiKey {
    /// Names it, in the audit and the log.
    pub id: Arc<str>,
    /// Whose systems use it.
    pub tenant_id: Arc<str>,
    /// What it may do.
    pub grants: KeyGrants,
    /// Requests a minute, over all hosts where they share a Redis.
    pub rate_per_minute: u32,
    /// The accounts that it reaches; all of the tenant's if absent.
    app_ids: Option<HashSet<String>>,
    /// What requests are signed with, sealed; keys of an earlier version have none.
    signing_secret_sealed: Option<String>,
    /// Requests under way on this host.
    places: Arc<Semaphore>,
    /// Requests of this minute, where no Redis counts.
    pub(super) window: parking_lot::Mutex<Window>,
    /// When it was last used, if that is not stored yet; else 0.
    used_ms: AtomicI64,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("tenant_id", &self.tenant_id)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

impl ApiKey {
    /// Requests of one key at the same time on one host: a system that has lost its patience must not
    /// take the places of all others.
    pub const CONCURRENT: usize = 64;

    pub(super) fn from_row(row: &KeyRow) -> Result<Self, KeyError> {
        let column = |column| move |_| KeyError::Column { column };
        let app_ids = row.app_ids.as_deref().map(serde_json::from_str);
        let grants: Vec<String> = serde_json::from_str(&row.grants).map_err(column("grants"))?;
        Ok(Self {
            id: row.id.as_str().into(),
            tenant_id: row.tenant_id.as_str().into(),
            grants: KeyGrants::parse(grants)?,
            rate_per_minute: u32::try_from(row.rate_per_minute).unwrap_or(1),
            app_ids: app_ids.transpose().map_err(column("app_ids"))?,
            signing_secret_sealed: row.signing_secret_sealed.clone(),
            places: Arc::new(Semaphore::new(Self::CONCURRENT)),
            window: parking_lot::Mutex::default(),
            used_ms: AtomicI64::new(0),
        })
    }

    /// Whether it reaches an account.
    pub fn reaches(&self, account: &Account) -> bool {
        *account.tenant.id == *self.tenant_id
            && self
                .app_ids
                .as_ref()
                .is_none_or(|app_ids| app_ids.contains(account.app_id.as_str()))
    }

    /// What its requests are signed with, if it has that and it opens.
    pub fn signing_secret(&self, keys: &MasterKeys) -> Option<SigningSecret> {
        let sealed = self.signing_secret_sealed.as_deref()?;
        let opened = keys.open_text(Place::signing_secret(&self.id), sealed);
        let opened = opened.inspect_err(|error| {
            tracing::error!(key.id = &*self.id, error = %error, "a key's signing secret does not open");
        });
        opened.ok().map(SigningSecret::opened)
    }

    /// A place for one more request of it on this host, if there is one.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Notes that it was used.
    pub fn note_use(&self, now_ms: i64) {
        self.used_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// When it was used since this was asked last.
    pub(super) fn take_use(&self) -> Option<i64> {
        Some(self.used_ms.swap(0, Ordering::Relaxed)).filter(|time| *time > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_are_known_by_their_shape_and_do_not_show() {
        let (one, other) = (KeyText::generate(), KeyText::generate());
        assert_ne!(one.expose(), other.expose());
        assert!(Fingerprint::of(one.expose()) != Fingerprint::of(other.expose()));
        assert!(!format!("{one:?}").contains(&one.expose()[4..]));
        let digits = "0".repeat(64);
        for (text, expected) in [
            (one.expose(), true),
            (&*format!("wxk_{digits}"), true),
            (&*format!("wxk_{digits}0"), false),
            (&*format!("wxk_{}G", "0".repeat(63)), false),
            (&*digits, false),
            ("", false),
        ] {
            assert_eq!(KeyText::is_shaped_like_one(text), expected, "{text}");
        }
    }
}
