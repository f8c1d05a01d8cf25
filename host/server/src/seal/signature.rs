//! What a browser keeps for a while and brings back unchanged: readable by who has it, signed under a key that
//! is derived from the master key. Unlike boxes, signatures need nothing that could run out.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{MasterKey, MasterKeys};

const FORMAT: &str = "s1";

impl MasterKeys {
    /// A text that tells `clear` and bears its signature: letters, digits, `.`, `-` and `_`.
    pub fn sign(&self, purpose: &str, clear: &[u8]) -> String {
        let body = BASE64_URL_SAFE_NO_PAD.encode(clear);
        let tag = signature(&self.current, purpose, &body).finalize();
        let tag = BASE64_URL_SAFE_NO_PAD.encode(tag.into_bytes());
        format!("{FORMAT}.{body}.{tag}")
    }

    /// What a signed text tells; None where it was not signed for this purpose, under any of the keys.
    pub fn verified(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let (body, tag) = text
            .strip_prefix(FORMAT)?
            .strip_prefix('.')?
            .split_once('.')?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        let mut keys = std::iter::once(&self.current).chain(&self.others);
        keys.any(|key| signature(key, purpose, body).verify_slice(&tag).is_ok())
            .then(|| BASE64_URL_SAFE_NO_PAD.decode(body).ok())?
    }
}

fn signature(key: &MasterKey, purpose: &str, body: &str) -> Hmac<Sha256> {
    let new = |bytes: &[u8]| -> Hmac<Sha256> {
        KeyInit::new_from_slice(bytes).expect("HMAC takes a key of any length")
    };
    let mut mac = new(&key.derive(&format!("signature: {purpose}")));
    mac.update(body.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_is_believed() {
        let key = |byte| MasterKey::from_bytes(&[byte; 32]);
        let keys = MasterKeys::new(key(1), None);
        let text = keys.sign("login", b"hello");
        assert_eq!(
            keys.verified("login", &text).as_deref(),
            Some(&b"hello"[..])
        );
        assert_eq!(keys.verified("session", &text), None);
        let (body, tag) = text.rsplit_once('.').unwrap();
        let other = keys.sign("login", b"hullo");
        let (other_body, _) = other.rsplit_once('.').unwrap();
        for forged in [
            format!("{other_body}.{tag}"),
            format!("{body}."),
            body.to_owned(),
            String::new(),
            format!("{text}x"),
        ] {
            assert_eq!(keys.verified("login", &forged), None, "{forged}");
        }
        // A host whose key was changed believes what the others still sign.
        let changed = MasterKeys::new(key(2), Some(key(1)));
        assert!(changed.verified("login", &text).is_some());
        assert_eq!(MasterKeys::new(key(2), None).verified("login", &text), None);
    }
}
