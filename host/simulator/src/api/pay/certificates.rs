//! Platform certificates (下载平台证书).

use serde_json::{Value, json};

use super::keys::seal;
use super::merchant::Merchant;
use super::refusal::Refusal;

/// Sealed for the merchant, with this nonce.
pub(crate) fn list(merchant: &Merchant, nonce: &str) -> Result<Value, Refusal> {
    if merchant.platform.is_empty() {
        let said = "无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥";
        return Err(Refusal::new(404, "RESOURCE_NOT_EXISTS", said));
    }
    let data = merchant.platform.iter().map(|key| {
        let pem = key.certificate_pem.as_deref().unwrap_or_default();
        json!({
            "serial_no": key.name,
            "effective_time": "2018-06-08T10:34:56+08:00",
            "expire_time": "2099-12-08T10:34:56+08:00",
            "encrypt_certificate": {
                "algorithm": "AEAD_AES_256_GCM",
                "nonce": nonce,
                "associated_data": "certificate",
                "ciphertext": seal(&merchant.v3_key, nonce, "certificate", pem.as_bytes()),
            },
        })
    });
    Ok(json!({ "data": data.collect::<Vec<_>>() }))
}
