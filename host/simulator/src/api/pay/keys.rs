//! RSA keys and their certificates, signatures and seals.

use std::convert::Infallible;
use std::fmt;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_core::{TryCryptoRng, TryRng};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, SerialNumber};
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

/// Bits of a key.
const BITS: usize = 2048;

/// The operating system's randomness, as the makers of keys want it.
struct Chance;

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
        Ok(())
    }
}

impl TryCryptoRng for Chance {}

/// A key that signs, and what others verify it by.
pub(crate) struct Signer {
    /// What names it: a certificate's serial number, or a public key's id.
    pub(crate) name: String,
    /// PKCS#8.
    pub(crate) private_pem: String,
    /// A certificate; none of a bare public key.
    pub(crate) certificate_pem: Option<String>,
    /// SubjectPublicKeyInfo.
    pub(crate) public_pem: String,
    pair: RsaKeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

/// Why there is no key: a fault of ours.
pub(crate) type KeyFault = Box<dyn std::error::Error + Send + Sync>;

impl Signer {
    /// A new key with a certificate of this common name.
    pub(crate) fn with_certificate(common_name: &str) -> Result<Self, KeyFault> {
        let mut serial = [0; 20];
        getrandom::fill(&mut serial)?;
        // Positive, and not shorter than it looks.
        serial[0] = serial[0] & 0x3f | 0x40;
        let (der, public_pem) = fresh()?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &PKCS_RSA_SHA256)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.self_signed(&pair)?;
        Ok(Self {
            name: hex_upper(&serial),
            certificate_pem: Some(certificate.pem()),
            ..Self::of(&der, public_pem)?
        })
    }

    /// A new platform certificate of WeChat Pay's.
    pub(crate) fn of_platform() -> Result<Self, KeyFault> {
        Self::with_certificate("Tenpay.com Root CA")
    }

    /// A new public key of WeChat Pay's for a merchant.
    pub(crate) fn public_of(mch_id: &str) -> Result<Self, KeyFault> {
        Self::with_id(&format!("PUB_KEY_ID_01{mch_id:0>32}"))
    }

    /// A new key that is known by an id.
    pub(crate) fn with_id(id: &str) -> Result<Self, KeyFault> {
        let (der, public_pem) = fresh()?;
        Ok(Self {
            name: id.to_owned(),
            ..Self::of(&der, public_pem)?
        })
    }

    fn of(der: &[u8], public_pem: String) -> Result<Self, KeyFault> {
        Ok(Self {
            name: String::new(),
            private_pem: pem("PRIVATE KEY", der),
            certificate_pem: None,
            public_pem,
            pair: RsaKeyPair::from_pkcs8(der).map_err(|error| error.to_string())?,
        })
    }

    /// Signs, in Base64.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        let signed = self.pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        );
        signed.map_or_else(|_| String::new(), |()| STANDARD.encode(signature))
    }

    /// Whether it has signed this.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public());
        key.verify(message, &signature).is_ok()
    }
}

fn fresh() -> Result<(Vec<u8>, String), KeyFault> {
    let key = rsa::PrivateKey::new(&mut Chance, BITS)?;
    let public = key.to_public_key().to_public_key_der()?;
    let der = key.to_pkcs8_der()?;
    Ok((
        der.as_bytes().to_vec(),
        pem("PUBLIC KEY", public.as_bytes()),
    ))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Seals for a merchant (AEAD_AES_256_GCM). `key` has 32 bytes, `nonce` 12.
pub(crate) fn seal(key: &str, nonce: &str, associated_data: &str, clear: &[u8]) -> String {
    let (Ok(key), Ok(nonce)) = (
        <[u8; 32]>::try_from(key.as_bytes()),
        <[u8; 12]>::try_from(nonce.as_bytes()),
    ) else {
        return String::new();
    };
    let payload = Payload {
        msg: clear,
        aad: associated_data.as_bytes(),
    };
    let sealed = Aes256Gcm::new(&key.into()).encrypt(&Nonce::from(nonce), payload);
    sealed.map_or_else(|_| String::new(), |sealed| STANDARD.encode(sealed))
}
