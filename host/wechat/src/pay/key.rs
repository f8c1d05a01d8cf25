//! The keys on both sides: what a merchant signs and opens with, and what WeChat Pay signs with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use ring::rand::SystemRandom;
use ring::signature::{self, RsaKeyPair, UnparsedPublicKey};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, DecodeRsaPublicKey as _};
use rsa::pkcs8::DecodePrivateKey as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha1::Sha1;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::id::Serial;

/// Characters of an APIv3 key.
pub const V3_KEY_LENGTH: usize = 32;
/// Bits of an RSA key at least.
const MIN_BITS: usize = 2048;

/// Why something is no key. It never repeats the text.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// An APIv3 key is exactly 32 letters and digits.
    #[error("an APIv3 key has exactly {V3_KEY_LENGTH} letters and digits")]
    V3Key,
    /// No PEM of this kind.
    #[error("it is no PEM of {0}")]
    Pem(&'static str),
    /// An RSA key that WeChat Pay does not take.
    #[error("it is no RSA key of {MIN_BITS} bits or more")]
    Rsa,
    /// No certificate.
    #[error("it is no X.509 certificate with an RSA key")]
    Certificate,
    /// What is to be sealed is too long for the key, or what is to be opened was not sealed for it.
    #[error("it can't be sealed or opened with this key")]
    Oaep,
}

/// What WeChat Pay seals its words to a merchant with (APIv3密钥): 32 letters and digits.
#[derive(Clone)]
pub struct ApiV3Key {
    text: SecretString,
    bytes: Zeroizing<[u8; V3_KEY_LENGTH]>,
}

impl ApiV3Key {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`KeyError::V3Key`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let bytes: Result<[u8; V3_KEY_LENGTH], _> = text.as_bytes().try_into();
        match bytes {
            Ok(bytes) if is_plain => Ok(Self {
                text: SecretString::from(text),
                bytes: Zeroizing::new(bytes),
            }),
            _ => Err(KeyError::V3Key),
        }
    }

    /// The key itself, for sealing at rest.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    pub(super) fn bytes(&self) -> &[u8; V3_KEY_LENGTH] {
        &self.bytes
    }
}

impl fmt::Debug for ApiV3Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiV3Key(…)")
    }
}

/// The private key of a merchant's API certificate (商户API私钥).
pub struct MerchantKey {
    serial: Serial,
    pair: RsaKeyPair,
    /// For what is sealed for the merchant; ring has no OAEP. Parsed when it is needed: that is rare.
    der: Zeroizing<Vec<u8>>,
    is_pkcs1: bool,
}

impl MerchantKey {
    /// Reads `apiclient_key.pem`.
    ///
    /// # Errors
    /// It is none, or no RSA key that WeChat Pay takes.
    pub fn from_pem(serial: Serial, pem: &str) -> Result<Self, KeyError> {
        let (der, is_pkcs1) = match der_of(pem, "PRIVATE KEY") {
            Some(der) => (der, false),
            None => {
                let der = der_of(pem, "RSA PRIVATE KEY");
                (der.ok_or(KeyError::Pem("a private key"))?, true)
            }
        };
        let der = Zeroizing::new(der);
        let pair = match is_pkcs1 {
            true => RsaKeyPair::from_der(&der),
            false => RsaKeyPair::from_pkcs8(&der),
        };
        Ok(Self {
            serial,
            pair: pair.map_err(|_| KeyError::Rsa)?,
            der,
            is_pkcs1,
        })
    }

    /// The serial number of its certificate.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// Signs (SHA256 with RSA), in Base64.
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        // PKCS#1 v1.5 is deterministic: ring takes the randomness for blinding only. It fails for no message.
        let signed = self.pair.sign(
            &signature::RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        );
        match signed {
            Ok(()) => STANDARD.encode(signature),
            Err(_) => String::new(),
        }
    }

    /// Opens what was sealed for the merchant (RSAES-OAEP, SHA-1): such as a complainer's phone number.
    ///
    /// # Errors
    /// [`KeyError::Oaep`].
    pub fn decrypt_oaep(&self, sealed: &str) -> Result<String, KeyError> {
        let sealed = STANDARD.decode(sealed).map_err(|_| KeyError::Oaep)?;
        let key = match self.is_pkcs1 {
            true => rsa::PrivateKey::from_pkcs1_der(&self.der).map_err(|_| KeyError::Rsa)?,
            false => rsa::PrivateKey::from_pkcs8_der(&self.der).map_err(|_| KeyError::Rsa)?,
        };
        let clear = key
            .oaep_decrypt::<Sha1>(&sealed)
            .map_err(|_| KeyError::Oaep)?;
        String::from_utf8(clear).map_err(|_| KeyError::Oaep)
    }
}

impl fmt::Debug for MerchantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerchantKey({})", self.serial)
    }
}

/// A merchant's API certificate (商户API证书), as far as it tells something.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its serial number, in upper-case hex.
    pub serial: Serial,
    /// Whose it is: the merchant's number.
    pub common_name: String,
    /// Unix seconds.
    pub starts_at_s: i64,
    /// Unix seconds.
    pub ends_at_s: i64,
    /// PKCS#1.
    public_key: Vec<u8>,
}

impl Certificate {
    /// Reads `apiclient_cert.pem`.
    ///
    /// # Errors
    /// It is none, or not of an RSA key.
    pub fn parse_pem(pem: &str) -> Result<Self, KeyError> {
        let der = der_of(pem, "CERTIFICATE").ok_or(KeyError::Pem("a certificate"))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| KeyError::Certificate)?;
        let serial = hex::encode_upper(certificate.tbs_certificate.raw_serial());
        // A leading zero byte is the sign of the number, and no part of it.
        let serial = match serial.strip_prefix("00") {
            Some(rest) if !rest.is_empty() => rest,
            _ => &serial,
        };
        let mut names = certificate.subject().iter_common_name();
        let name = names.next().and_then(|name| name.as_str().ok());
        let validity = certificate.validity();
        Ok(Self {
            serial: Serial::parse(serial).map_err(|_| KeyError::Certificate)?,
            common_name: name.unwrap_or_default().to_owned(),
            starts_at_s: validity.not_before.timestamp(),
            ends_at_s: validity.not_after.timestamp(),
            public_key: rsa_key_of(certificate.public_key())?,
        })
    }

    /// Whether it is the certificate of this key.
    pub fn matches(&self, key: &MerchantKey) -> bool {
        key.pair.public().as_ref() == self.public_key
    }
}

/// What WeChat Pay signs with: a platform certificate (平台证书) or its public key (微信支付公钥).
#[derive(Clone)]
pub struct PlatformKey {
    serial: Serial,
    pem: String,
    ends_at_s: Option<i64>,
    /// PKCS#1.
    public_key: Vec<u8>,
}

impl PlatformKey {
    /// Reads a platform certificate.
    ///
    /// # Errors
    /// It is none.
    pub fn from_certificate_pem(pem: &str) -> Result<Self, KeyError> {
        let certificate = Certificate::parse_pem(pem)?;
        Ok(Self {
            serial: certificate.serial,
            pem: pem.to_owned(),
            ends_at_s: Some(certificate.ends_at_s),
            public_key: certificate.public_key,
        })
    }

    /// Reads WeChat Pay's public key of that id.
    ///
    /// # Errors
    /// It is none.
    pub fn from_public_key_pem(id: Serial, pem: &str) -> Result<Self, KeyError> {
        let der = der_of(pem, "PUBLIC KEY").ok_or(KeyError::Pem("a public key"))?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| KeyError::Rsa)?;
        Ok(Self {
            serial: id,
            pem: pem.to_owned(),
            ends_at_s: None,
            public_key: rsa_key_of(&info)?,
        })
    }

    /// What stands in `Wechatpay-Serial`.
    pub fn serial(&self) -> &Serial {
        &self.serial
    }

    /// When it ends, Unix seconds; a public key does not.
    pub fn ends_at_s(&self) -> Option<i64> {
        self.ends_at_s
    }

    /// As it was given.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether WeChat Pay has signed this.
    pub fn verify(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        key.verify(message, &signature).is_ok()
    }

    /// Seals something for WeChat Pay (RSAES-OAEP, SHA-1): a name, the number of a bank card.
    ///
    /// # Errors
    /// [`KeyError::Oaep`]: it is too long.
    pub fn encrypt_oaep(
        &self,
        clear: &str,
        random: &mut impl CryptoRng,
    ) -> Result<String, KeyError> {
        let key = rsa::PublicKey::from_pkcs1_der(&self.public_key).map_err(|_| KeyError::Rsa)?;
        let sealed = key.oaep_encrypt_with_rng::<Sha1, _>(random, clear.as_bytes());
        sealed
            .map(|sealed| STANDARD.encode(sealed))
            .map_err(|_| KeyError::Oaep)
    }
}

impl fmt::Debug for PlatformKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlatformKey({})", self.serial)
    }
}

/// The PKCS#1 form of an RSA key that is long enough.
fn rsa_key_of(info: &SubjectPublicKeyInfo<'_>) -> Result<Vec<u8>, KeyError> {
    let der = info.subject_public_key.data.to_vec();
    let key = rsa::PublicKey::from_pkcs1_der(&der).map_err(|_| KeyError::Rsa)?;
    use rsa::traits::PublicKeyParts as _;
    match key.size() * 8 >= MIN_BITS {
        true => Ok(der),
        false => Err(KeyError::Rsa),
    }
}

/// What stands between the lines of a PEM of that kind.
fn der_of(pem: &str, kind: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(&format!("-----BEGIN {kind}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {kind}-----"))?;
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(base64).ok()
}
