//! A merchant as this host knows it, and how an account is bound to it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use secrecy::ExposeSecret;
use wxhost_wechat::id::AppId;
use wxhost_wechat::pay::{ApiV3Key, MchId, MerchantKey, PlatformKey, Seller, Serial, SubMerchant};

use super::PayGrants;
use crate::db::merchants::{BindingRow, CertificateRow, MerchantRow, PlatformKeyRow};
use crate::seal::{MasterKeys, Place};
use crate::settings::{StoredError, column};

/// A merchant.
pub struct Merchant {
    /// Its number.
    pub mch_id: MchId,
    /// Whose it is.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// Where WeChat Pay notifies, without a slash at the end.
    pub public_url: String,
    /// The serial of the key that WeChat Pay is asked to sign its answers with.
    pub answers_by: Option<Serial>,
    is_active: bool,
    v3_keys: Vec<ApiV3Key>,
    /// The newest first.
    signing_keys: Vec<Arc<MerchantKey>>,
    platform_keys: HashMap<String, Arc<PlatformKey>>,
}

impl fmt::Debug for Merchant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merchant")
            .field("mch_id", &self.mch_id)
            .finish_non_exhaustive()
    }
}

impl Merchant {
    pub(super) fn from_rows(
        row: &MerchantRow,
        (certificates, platform_keys): (&[CertificateRow], &[PlatformKeyRow]),
        keys: &MasterKeys,
    ) -> Result<Self, StoredError> {
        let v3_keys = keys.open_text(Place::v3_keys(&row.mch_id), &row.v3_keys_sealed)?;
        let v3_keys: Vec<String> = serde_json::from_str(v3_keys.expose_secret())
            .map_err(|_| column("v3_keys_sealed")("it is no list"))?;
        let v3_keys = v3_keys.iter().map(|text| ApiV3Key::parse(text));
        let signing_keys = certificates.iter().map(|certificate| {
            let place = Place::merchant_key(&row.mch_id, &certificate.serial);
            let pem = keys.open_text(place, &certificate.key_sealed)?;
            let serial = Serial::parse(&certificate.serial).map_err(column("serial"))?;
            let key = MerchantKey::from_pem(serial, pem.expose_secret());
            Ok(Arc::new(key.map_err(column("key_sealed"))?))
        });
        let platform_keys = platform_keys.iter().map(|row| {
            let key = platform_key(&row.serial, &row.pem)?;
            Ok((row.serial.clone(), Arc::new(key)))
        });
        Ok(Self {
            mch_id: MchId::parse(&row.mch_id).map_err(column("mch_id"))?,
            tenant_id: row.tenant_id.clone(),
            name: row.name.clone(),
            public_url: row.public_url.clone(),
            answers_by: row
                .answers_by
                .as_deref()
                .map(|serial| Serial::parse(serial).map_err(column("answers_by")))
                .transpose()?,
            is_active: row.status == "active",
            v3_keys: v3_keys
                .collect::<Result<_, _>>()
                .map_err(column("v3_keys_sealed"))?,
            signing_keys: signing_keys.collect::<Result<_, StoredError>>()?,
            platform_keys: platform_keys.collect::<Result<_, StoredError>>()?,
        })
    }

    /// Whether it is served.
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// What opens WeChat Pay's words: all are tried.
    pub fn v3_keys(&self) -> &[ApiV3Key] {
        &self.v3_keys
    }

    /// What signs: the key of the newest certificate.
    pub fn signing_key(&self) -> Option<&Arc<MerchantKey>> {
        self.signing_keys.first()
    }

    /// What verifies WeChat Pay's words, by what stands in `Wechatpay-Serial`.
    pub fn platform_key(&self, serial: &str) -> Option<&Arc<PlatformKey>> {
        self.platform_keys.get(serial)
    }

    /// Whether WeChat Pay's platform certificates are in use: no public key is.
    pub fn uses_certificates(&self) -> bool {
        self.answers_by.is_none()
    }

    /// Where WeChat Pay notifies of an account's money.
    pub fn notify_url(&self, app_id: &AppId) -> String {
        format!("{}/notify/{app_id}/{}", self.public_url, self.mch_id)
    }
}

/// A platform certificate or a public key, whichever it is.
pub(super) fn platform_key(serial: &str, pem: &str) -> Result<PlatformKey, StoredError> {
    let key = match pem.contains("BEGIN CERTIFICATE") {
        true => PlatformKey::from_certificate_pem(pem),
        false => {
            let serial = Serial::parse(serial).map_err(column("serial"))?;
            PlatformKey::from_public_key_pem(serial, pem)
        }
    };
    key.map_err(column("pem"))
}

/// That an account's orders are paid to a merchant.
#[derive(Debug)]
pub struct Binding {
    /// The merchant.
    pub merchant: Arc<Merchant>,
    /// What the account may do there.
    pub grants: PayGrants,
    /// Who sells, as WeChat Pay sees it.
    pub seller: Seller,
}

impl Binding {
    pub(super) fn from_row(
        row: &BindingRow,
        merchant: &Arc<Merchant>,
    ) -> Result<Self, StoredError> {
        let app_id = AppId::parse(&row.app_id).map_err(column("app_id"))?;
        let partner = row.partner_app_id.as_deref();
        let partner = partner
            .map(|id| AppId::parse(id).map_err(column("partner_app_id")))
            .transpose()?;
        let sub = match &row.sub_mch_id {
            None => None,
            Some(mch_id) => Some(SubMerchant {
                mch_id: MchId::parse(mch_id).map_err(column("sub_mch_id"))?,
                app_id: partner.is_some().then(|| app_id.clone()),
            }),
        };
        Ok(Self {
            merchant: Arc::clone(merchant),
            grants: serde_json::from_str(&row.grants).map_err(column("grants"))?,
            seller: Seller {
                app_id: partner.unwrap_or(app_id),
                mch_id: merchant.mch_id.clone(),
                sub,
            },
        })
    }
}
