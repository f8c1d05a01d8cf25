//! What an account must keep to itself: the callback token, the AES key and the AppSecret.
//!
//! All are wiped from memory when dropped and never show themselves in `Debug`. Sealing them at rest
//! is the server's work.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Most characters of a callback token.
pub const MAX_TOKEN_LENGTH: usize = 32;
/// Fewest characters of a callback token.
pub const MIN_TOKEN_LENGTH: usize = 3;
/// Characters of an EncodingAESKey.
pub const AES_KEY_LENGTH: usize = 43;
/// Fewest characters of an AppSecret. WeChat gives out 32; its documents promise no number.
pub const MIN_APP_SECRET_LENGTH: usize = 16;
/// Most characters of an AppSecret.
pub const MAX_APP_SECRET_LENGTH: usize = 64;

/// The last of the 43 characters carries four bits; WeChat's console gives out keys whose two spare
/// bits are set, so they must be allowed.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why a text is not a secret of that kind. It never repeats the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// A callback token is 3 to 32 letters and digits.
    #[error("a callback token has 3 to 32 letters and digits")]
    Token,
    /// An EncodingAESKey is 43 letters and digits.
    #[error("an EncodingAESKey has exactly 43 letters and digits")]
    AesKey,
    /// An AppSecret is 16 to 64 letters and digits.
    #[error("an AppSecret has 16 to 64 letters and digits")]
    AppSecret,
}

/// The token that signs callbacks (Token of 服务器配置): 3 to 32 letters and digits.
#[derive(Clone)]
pub struct CallbackToken(SecretString);

impl CallbackToken {
    /// Checks length and characters.
    ///
    /// # Errors
    ///
    /// [`SecretError::Token`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let fits = (MIN_TOKEN_LENGTH..=MAX_TOKEN_LENGTH).contains(&text.len());
        if !fits || !is_alphanumeric(text) {
            return Err(SecretError::Token);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The token itself, for signing and for sealing at rest.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for CallbackToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackToken(…)")
    }
}

/// The key that encrypts callbacks (EncodingAESKey): 43 letters and digits that stand for 32 bytes.
#[derive(Clone)]
pub struct EncodingAesKey {
    text: SecretString,
    bytes: Zeroizing<[u8; 32]>,
}

impl EncodingAesKey {
    /// Checks length and characters, and decodes the 32 bytes.
    ///
    /// # Errors
    ///
    /// [`SecretError::AesKey`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        if text.len() != AES_KEY_LENGTH || !is_alphanumeric(text) {
            return Err(SecretError::AesKey);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        match LENIENT.decode_slice(text, bytes.as_mut_slice()) {
            Ok(32) => Ok(Self {
                text: SecretString::from(text),
                bytes,
            }),
            _ => Err(SecretError::AesKey),
        }
    }

    /// The 43 characters, for sealing at rest.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The 32 bytes of the AES key.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for EncodingAesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodingAesKey(…)")
    }
}

/// The secret that access tokens are got with (AppSecret): 16 to 64 letters and digits, 32 as a rule.
#[derive(Clone)]
pub struct AppSecret(SecretString);

impl AppSecret {
    /// Checks length and characters.
    ///
    /// # Errors
    ///
    /// [`SecretError::AppSecret`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let fits = (MIN_APP_SECRET_LENGTH..=MAX_APP_SECRET_LENGTH).contains(&text.len());
        if !fits || !is_alphanumeric(text) {
            return Err(SecretError::AppSecret);
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The secret itself, for the token calls and for sealing at rest.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecret(…)")
    }
}

fn is_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_takes_3_to_32_letters_and_digits() {
        for good in ["abc", "RMNlACHlV5ThzfRlVS4D4", &"a".repeat(32)] {
            assert_eq!(CallbackToken::parse(good).unwrap().expose(), good);
        }
        for bad in ["", "ab", &"a".repeat(33), "to ken", "tok-en", "令牌令牌"] {
            assert_eq!(
                CallbackToken::parse(bad).unwrap_err(),
                SecretError::Token,
                "{bad}"
            );
        }
    }

    #[test]
    fn aes_key_takes_43_characters_with_spare_bits() {
        let key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
        assert_eq!(EncodingAesKey::parse(key).unwrap().expose(), key);
        for bad in [
            &key[1..],
            &format!("{key}A"),
            &key.replace('a', "+"),
            &key.replace('G', "="),
        ] {
            assert_eq!(
                EncodingAesKey::parse(bad).unwrap_err(),
                SecretError::AesKey,
                "{bad}"
            );
        }
    }

    #[test]
    fn app_secret_takes_16_to_64_letters_and_digits() {
        let usual = "0123456789abcdef0123456789abcdef";
        for good in [usual, &usual[16..], &usual.repeat(2)] {
            assert_eq!(AppSecret::parse(good).unwrap().expose(), good);
        }
        for bad in [
            "",
            &usual[17..],
            &format!("{usual}{usual}0"),
            &usual.replace('0', "&"),
        ] {
            let error = AppSecret::parse(bad).unwrap_err();
            assert_eq!(error, SecretError::AppSecret, "{bad}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let token = CallbackToken::parse("topsecret").unwrap();
        let key = EncodingAesKey::parse(&"k".repeat(43)).unwrap();
        let secret = AppSecret::parse(&"s".repeat(32)).unwrap();
        assert_eq!(
            format!("{token:?} {key:?} {secret:?}"),
            "CallbackToken(…) EncodingAesKey(…) AppSecret(…)"
        );
    }
}
