//! Signatures: SHA-1 over the sorted values, in lower-case hex (消息加解密说明, 验证消息的确来自微信服务器).
//!
//! They prove knowledge of the account's token. A plain callback's signature does not cover the body;
//! an encrypted one's covers the ciphertext.

use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use crate::secret::CallbackToken;

/// Sorts the values byte-wise, joins them without a separator and hashes them.
pub fn sha1_sorted_concat(values: &[&str]) -> [u8; 20] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sha1(&sorted)
}

/// The `signature` of a query: over token, timestamp and nonce.
pub fn callback_signature(token: &CallbackToken, timestamp: &str, nonce: &str) -> String {
    let mut values = [token.expose(), timestamp, nonce];
    values.sort_unstable();
    hex::encode(sha1(&values))
}

/// The `msg_signature` of an encrypted callback or reply: it covers `encrypt`, the Base64 text, too.
pub fn message_signature(
    token: &CallbackToken,
    timestamp: &str,
    nonce: &str,
    encrypt: &str,
) -> String {
    let mut values = [token.expose(), timestamp, nonce, encrypt];
    values.sort_unstable();
    hex::encode(sha1(&values))
}

/// Whether two signatures are equal, in a time that depends on their lengths only.
pub fn matches(expected: &str, given: &str) -> bool {
    expected.as_bytes().ct_eq(given.as_bytes()).into()
}

fn sha1(values: &[&str]) -> [u8; 20] {
    let mut hash = Sha1::new();
    for value in values {
        hash.update(value);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_bytes_and_not_by_number() {
        assert_eq!(
            sha1_sorted_concat(&["9", "10"]),
            sha1_sorted_concat(&["109"])
        );
        assert_eq!(
            sha1_sorted_concat(&["b", "B", "a"]),
            sha1_sorted_concat(&["Bab"])
        );
    }

    #[test]
    fn compares_whole_and_exactly() {
        assert!(matches("00ff", "00ff"));
        for other in ["", "00f", "00fe", "00FF", "00ff0"] {
            assert!(!matches("00ff", other), "{other}");
        }
    }
}
