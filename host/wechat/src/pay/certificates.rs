//! WeChat Pay's platform certificates (下载平台证书): what it signs with, for merchants that do not use its public key.

use serde::Deserialize;

use super::call::PayRequest;
use super::key::{ApiV3Key, PlatformKey};
use super::notice::NoticeError;
use super::{AnswerError, aead};

/// Asks for them.
pub fn request() -> PayRequest {
    PayRequest::get("/v3/certificates".to_owned())
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    encrypt_certificate: Sealed,
}

#[derive(Deserialize)]
struct Sealed {
    nonce: String,
    #[serde(default)]
    associated_data: String,
    ciphertext: String,
}

/// Reads the answer.
///
/// # Errors
/// It is not sealed with this key, or not what WeChat Pay documents.
pub fn read(body: &[u8], key: &ApiV3Key) -> Result<Vec<PlatformKey>, NoticeError> {
    let body: Body = super::read(body)?;
    let keys = body.data.into_iter().map(|entry| {
        let Sealed {
            nonce,
            associated_data,
            ciphertext,
        } = entry.encrypt_certificate;
        let pem = aead::open(key, &nonce, &associated_data, &ciphertext)?;
        let pem = std::str::from_utf8(&pem).map_err(|_| AnswerError("it is no text".to_owned()))?;
        let key = PlatformKey::from_certificate_pem(pem);
        Ok(key.map_err(|error| AnswerError(error.to_string()))?)
    });
    keys.collect()
}
