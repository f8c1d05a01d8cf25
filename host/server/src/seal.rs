//! Secrets at rest: AES-256-GCM boxes under the operator's master key.
//!
//! A box is text, `v1.<key id>.<Base64 of nonce and ciphertext>`. It is bound to the place that it
//! was made for ([`Place`]): moved to another row or column, it does not open. The key id is a
//! fingerprint, so that a box of a key that we do not have is told apart from a damaged one.
//!
//! A master key is changed in two steps, host by host each time. First every host is given the new key as
//! the next one: it opens, and the old one still seals. Then every host is given the new key as its own
//! and the old one as the previous: both open, only the new one seals, and [`reseal`] moves what is there
//! to the new key at start-up. So no host ever meets a box that it can't open.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use hmac::{Hmac, Mac};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::random;

mod reseal;
mod signature;

pub use self::reseal::{ResealError, reseal};

/// Bytes of a master key.
const KEY_BYTES: usize = 32;

/// Bytes of a nonce. Random ones of this length are safe for 2^32 boxes under one key; a box is made
/// only when somebody sets a secret, an event outlives its deliveries or a token is fetched: ten
/// thousand accounts, a token each hour, take 49 years.
const NONCE_BYTES: usize = 12;

const FORMAT: &str = "v1";

/// Why a master key was refused.
#[derive(Debug, thiserror::Error)]
#[error("a master key is 32 bytes, written as 64 hex digits or in Base64")]
pub struct KeyError;

/// Why a box could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The box was made under a key that we do not have.
    #[error("sealed under the master key {key_id}, which this host does not have")]
    UnknownKey {
        /// The fingerprint in the box.
        key_id: String,
    },
    /// The box is damaged or stands in the wrong place.
    #[error("the sealed value is damaged or was moved")]
    Damaged,
}

/// Where a box stands. It opens only there.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    table: &'static str,
    column: &'static str,
    row: &'a str,
    sub_row: &'a str,
}

impl<'a> Place<'a> {
    /// An account's callback token.
    pub fn token(app_id: &'a str) -> Self {
        Self::of("accounts", "token_sealed", app_id, "")
    }

    /// An account's EncodingAESKey.
    pub fn aes_key(app_id: &'a str) -> Self {
        Self::of("accounts", "aes_key_sealed", app_id, "")
    }

    /// An account's EncodingAESKey before the last change. A key that was let go must not come back as
    /// the present one by a copied box.
    pub fn former_aes_key(app_id: &'a str) -> Self {
        Self::of("accounts", "former_aes_key_sealed", app_id, "")
    }

    /// An account's AppSecret.
    pub fn app_secret(app_id: &'a str) -> Self {
        Self::of("accounts", "secret_sealed", app_id, "")
    }

    /// A secret of a third-party platform; `column` without `_sealed`.
    pub fn platform(platform: &'a str, column: &'static str) -> Self {
        Self::of("platforms", column, platform, "")
    }

    /// A ticket that WeChat has pushed to a platform, in the database and in the shared store.
    pub fn ticket(platform: &'a str) -> Self {
        Self::of("platform_tickets", "ticket_sealed", platform, "")
    }

    /// An event of a platform.
    pub fn platform_event(platform: &'a str, id: &'a str) -> Self {
        Self::of("platform_events", "body_sealed", platform, id)
    }

    /// What an account's next access token is got with.
    pub fn refresh_token(app_id: &'a str, platform: &'a str) -> Self {
        Self::of("authorisations", "refresh_token_sealed", app_id, platform)
    }

    /// An access token or a ticket of an account, in the shared store.
    pub fn credential(app_id: &'a str, credential: &'a str) -> Self {
        Self::of("redis", "token", app_id, credential)
    }

    /// The secrets of a deployment; `version` in decimal.
    pub fn secrets(app_id: &'a str, version: &'a str) -> Self {
        Self::of("deployments", "secrets_sealed", app_id, version)
    }

    /// What a tenant's system signs its requests with.
    pub fn signing_secret(key_id: &'a str) -> Self {
        Self::of("api_keys", "signing_secret_sealed", key_id, "")
    }

    /// What came of a login, by the hash of its state.
    pub fn login(app_id: &'a str, state_hash: &'a str) -> Self {
        Self::of("logins", "result_sealed", app_id, state_hash)
    }

    /// The token by which a user's profile is read.
    pub fn user_token(app_id: &'a str, open_id: &'a str) -> Self {
        Self::of("user_grants", "access_token_sealed", app_id, open_id)
    }

    /// What a user's next token is got with.
    pub fn user_refresh_token(app_id: &'a str, open_id: &'a str) -> Self {
        Self::of("user_grants", "refresh_token_sealed", app_id, open_id)
    }

    /// A merchant's APIv3 keys.
    pub fn v3_keys(mch_id: &'a str) -> Self {
        Self::of("merchants", "v3_keys_sealed", mch_id, "")
    }

    /// The private key of a merchant's API certificate.
    pub fn merchant_key(mch_id: &'a str, serial: &'a str) -> Self {
        Self::of("merchant_certificates", "key_sealed", mch_id, serial)
    }

    /// What WeChat Pay has told that contradicts the ledger.
    pub fn pay_notice(app_id: &'a str, fact: &'a str) -> Self {
        Self::of("pay_notices", "body_sealed", app_id, fact)
    }

    /// An event that waits for its run.
    pub fn event(app_id: &'a str, event_id: &'a str) -> Self {
        Self::of("inbox", "event", app_id, event_id)
    }

    fn of(table: &'static str, column: &'static str, row: &'a str, sub_row: &'a str) -> Self {
        Self {
            table,
            column,
            row,
            sub_row,
        }
    }

    /// What is authenticated along with the text. None of the parts can hold a zero byte.
    fn associated_data(&self) -> Vec<u8> {
        [self.table, self.column, self.row, self.sub_row]
            .join("\0")
            .into_bytes()
    }
}

/// A key that seals and opens boxes.
#[derive(Clone)]
pub struct MasterKey {
    id: String,
    cipher: Aes256Gcm,
    /// For the keys that are derived from it.
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl MasterKey {
    /// Reads a key of 32 bytes, written in hex or Base64.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if text.len() == 2 * KEY_BYTES {
            hex::decode_to_slice(text, bytes.as_mut()).map_err(|_| KeyError)?;
        } else {
            let decoded = BASE64_STANDARD_NO_PAD
                .decode(text.trim_end_matches('='))
                .map(Zeroizing::new)
                .map_err(|_| KeyError)?;
            if decoded.len() != KEY_BYTES {
                return Err(KeyError);
            }
            bytes.copy_from_slice(&decoded);
        }
        Ok(Self::from_bytes(&bytes))
    }

    /// The key of these bytes.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let fingerprint = Sha256::new()
            .chain_update(b"wxhost master key id")
            .chain_update(bytes)
            .finalize();
        Self {
            id: hex::encode(&fingerprint[..4]),
            cipher: Aes256Gcm::new(bytes.into()),
            bytes: Zeroizing::new(*bytes),
        }
    }

    /// Its fingerprint: safe to show.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.bytes.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The master key, and those before and after it while a change is under way.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// Seals with `current`, opens with any.
    pub fn new(current: MasterKey, others: impl IntoIterator<Item = MasterKey>) -> Self {
        Self {
            current,
            others: others.into_iter().collect(),
        }
    }

    /// A key for another `purpose`: it tells nothing of the master key, and changes with it.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        self.current.derive(purpose)
    }

    /// Puts bytes into a box for `place`.
    pub fn seal(&self, place: Place<'_>, clear: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce);
        let payload = Payload {
            msg: clear,
            aad: &place.associated_data(),
        };
        // The one reason to fail is a text of 64 GiB.
        let ciphertext = self
            .current
            .cipher
            .encrypt(&nonce.into(), payload)
            .map_err(|_| SealError::Damaged)?;
        let mut boxed = nonce.to_vec();
        boxed.extend_from_slice(&ciphertext);
        let boxed = BASE64_STANDARD.encode(boxed);
        Ok(format!("{FORMAT}.{}.{boxed}", self.current.id))
    }

    /// Takes the bytes out of the box that stands at `place`.
    pub fn open(&self, place: Place<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (key_id, boxed) = parts(sealed).ok_or(SealError::Damaged)?;
        let key = std::iter::once(&self.current)
            .chain(&self.others)
            .find(|key| key.id == key_id)
            .ok_or_else(|| SealError::UnknownKey {
                key_id: key_id.to_owned(),
            })?;
        let boxed = BASE64_STANDARD
            .decode(boxed)
            .map_err(|_| SealError::Damaged)?;
        let (nonce, ciphertext) = boxed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Damaged)?;
        let payload = Payload {
            msg: ciphertext,
            aad: &place.associated_data(),
        };
        key.cipher
            .decrypt(&(*nonce).into(), payload)
            .map(Zeroizing::new)
            .map_err(|_| SealError::Damaged)
    }

    /// Takes text out of the box that stands at `place`.
    pub fn open_text(&self, place: Place<'_>, sealed: &str) -> Result<SecretString, SealError> {
        let mut bytes = self.open(place, sealed)?;
        match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Ok(SecretString::from(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                Err(SealError::Damaged)
            }
        }
    }

    /// The box of an EncodingAESKey that is the present one no more.
    pub fn as_former_aes_key(&self, app_id: &str, present: &str) -> Result<String, SealError> {
        let key = self.open(Place::aes_key(app_id), present)?;
        self.seal(Place::former_aes_key(app_id), &key)
    }

    /// Tells whether a box should be made anew: it was not sealed by the current key.
    fn is_outdated(&self, sealed: &str) -> bool {
        parts(sealed).is_none_or(|(key_id, _)| key_id != self.current.id)
    }

    pub(super) fn reseal(&self, place: Place<'_>, sealed: &mut String) -> Result<(), SealError> {
        if self.is_outdated(sealed) {
            *sealed = self.seal(place, &self.open(place, sealed)?)?;
        }
        Ok(())
    }
}

fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed
        .strip_prefix(FORMAT)?
        .strip_prefix('.')?
        .split_once('.')
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes(&[byte; KEY_BYTES])
    }

    #[test]
    fn a_box_opens_in_its_place_and_nowhere_else() {
        let keys = MasterKeys::new(key(1), None);
        let sealed = keys.seal(Place::token("wx01"), b"secret").unwrap();
        assert!(sealed.starts_with(&format!("v1.{}.", key(1).id())));
        let opened = keys.open_text(Place::token("wx01"), &sealed).unwrap();
        assert_eq!(opened.expose_secret(), "secret");
        for place in [
            Place::token("wx02"),
            Place::aes_key("wx01"),
            Place::former_aes_key("wx01"),
            Place::secrets("wx01", "1"),
        ] {
            assert!(matches!(keys.open(place, &sealed), Err(SealError::Damaged)));
        }
    }

    #[test]
    fn two_boxes_of_one_text_differ() {
        let keys = MasterKeys::new(key(1), None);
        let seal = || keys.seal(Place::token("wx01"), b"secret").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_damaged_box_does_not_open() {
        let keys = MasterKeys::new(key(1), None);
        let sealed = keys.seal(Place::token("wx01"), b"secret").unwrap();
        let id = key(1).id().to_owned();
        let flipped = match sealed.chars().last().unwrap() {
            'A' => format!("{}B", &sealed[..sealed.len() - 1]),
            _ => format!("{}A", &sealed[..sealed.len() - 1]),
        };
        for damaged in [
            String::new(),
            "v1".into(),
            format!("v1.{id}"),
            format!("v1.{id}."),
            format!("v1.{id}.AAAA"),
            format!("v2{}", &sealed[2..]),
            flipped,
        ] {
            let answer = keys.open(Place::token("wx01"), &damaged);
            assert!(matches!(answer, Err(SealError::Damaged)), "{damaged}");
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_named() {
        let sealed = MasterKeys::new(key(1), None)
            .seal(Place::token("wx01"), b"secret")
            .unwrap();
        let other = MasterKeys::new(key(2), None);
        let error = other.open(Place::token("wx01"), &sealed).unwrap_err();
        assert!(error.to_string().contains(key(1).id()), "{error}");
        let both = MasterKeys::new(key(2), Some(key(1)));
        assert!(both.open(Place::token("wx01"), &sealed).is_ok());
    }

    #[test]
    fn keys_are_read_from_hex_and_base64_and_nothing_else() {
        let hex = "01".repeat(KEY_BYTES);
        let base64 = BASE64_STANDARD.encode([1; KEY_BYTES]);
        for text in [hex.as_str(), &base64, base64.trim_end_matches('=')] {
            assert_eq!(MasterKey::parse(text).unwrap().id(), key(1).id());
        }
        for text in ["", "short", &hex[2..], &"zz".repeat(KEY_BYTES)] {
            assert!(MasterKey::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", MasterKeys::new(key(1), None));
        assert_eq!(
            shown,
            format!(
                "MasterKeys {{ current: MasterKey({}), others: [] }}",
                key(1).id()
            )
        );
    }
}
