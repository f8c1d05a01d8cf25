//! How WeChat Pay seals what it tells (AEAD_AES_256_GCM): with the merchant's APIv3 key.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::key::ApiV3Key;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 12;

/// It is not sealed with this key, or not sealed at all. There is one value on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it does not open with this APIv3 key")]
pub struct AeadError;

/// Opens what WeChat Pay has sealed: `ciphertext` is the Base64 of the ciphertext and its tag.
///
/// # Errors
/// [`AeadError`].
pub fn open(
    key: &ApiV3Key,
    nonce: &str,
    associated_data: &str,
    ciphertext: &str,
) -> Result<Zeroizing<Vec<u8>>, AeadError> {
    let nonce: [u8; NONCE_BYTES] = nonce.as_bytes().try_into().map_err(|_| AeadError)?;
    let sealed = STANDARD.decode(ciphertext).map_err(|_| AeadError)?;
    let payload = Payload {
        msg: &sealed,
        aad: associated_data.as_bytes(),
    };
    Aes256Gcm::new(key.bytes().into())
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| AeadError)
}

/// Seals as WeChat Pay does.
///
/// # Errors
/// The nonce has not 12 bytes.
pub fn seal(
    key: &ApiV3Key,
    nonce: &str,
    associated_data: &str,
    plaintext: &[u8],
) -> Result<String, AeadError> {
    let nonce: [u8; NONCE_BYTES] = nonce.as_bytes().try_into().map_err(|_| AeadError)?;
    let payload = Payload {
        msg: plaintext,
        aad: associated_data.as_bytes(),
    };
    let sealed = Aes256Gcm::new(key.bytes().into()).encrypt(&Nonce::from(nonce), payload);
    sealed
        .map(|sealed| STANDARD.encode(sealed))
        .map_err(|_| AeadError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_own_key_nonce_and_data_only() {
        let key = ApiV3Key::parse(&"k".repeat(32)).unwrap();
        let other = ApiV3Key::parse(&"o".repeat(32)).unwrap();
        let sealed = seal(&key, "0123456789ab", "transaction", b"{}").unwrap();
        let opened = open(&key, "0123456789ab", "transaction", &sealed).unwrap();
        assert_eq!(&**opened, b"{}");
        let refused = [
            open(&other, "0123456789ab", "transaction", &sealed),
            open(&key, "0123456789ac", "transaction", &sealed),
            open(&key, "0123456789ab", "refund", &sealed),
            open(&key, "0123456789ab", "transaction", &sealed[4..]),
            open(&key, "", "transaction", &sealed),
            open(&key, "0123456789abc", "transaction", &sealed),
            open(&key, "0123456789ab", "transaction", ""),
            open(&key, "0123456789ab", "transaction", "AAAA"),
            open(&key, "0123456789ab", "transaction", "not base64!"),
        ];
        assert!(refused.iter().all(|opened| opened.is_err()));
        assert!(seal(&key, "short", "", b"").is_err());
    }
}
