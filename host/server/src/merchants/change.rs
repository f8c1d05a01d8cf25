//! Adding and changing merchants: checked, sealed, stored, noted in the audit.

use std::sync::Arc;

use reqwest::Url;
use wxhost_wechat::pay::{ApiV3Key, Certificate, MchId, MerchantKey, PlatformKey, Serial};

use super::merchant::platform_key;
use super::{Merchants, PayGrants};
use crate::audit::{Action, Author};
use crate::db::merchants::{self as rows, BindingRow, CertificateRow, MerchantRow, PlatformKeyRow};
use crate::db::{self, Change, DbError};
use crate::seal::Place;
use crate::settings::{ChangeError, check_name};

/// API certificates of a merchant at once (WeChat Pay's limit).
const MAX_CERTIFICATES: i64 = 3;

/// An API certificate, and its private key.
pub struct NewCertificate {
    /// PEM of the private key (apiclient_key.pem).
    pub private_key: String,
    /// PEM of the certificate (apiclient_cert.pem); where it is absent, `serial` is not.
    pub certificate: Option<String>,
    /// The certificate's serial number.
    pub serial: Option<String>,
}

/// A merchant to be added.
pub struct NewMerchant {
    /// Its number.
    pub mch_id: MchId,
    /// Whose it is.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// Where this host is reached from the internet.
    pub public_url: String,
    /// APIv3密钥.
    pub v3_key: ApiV3Key,
    /// Its first API certificate.
    pub certificate: NewCertificate,
}

/// What is to be done to the APIv3 keys.
pub enum V3KeyTurn {
    /// Another one is tried beside the present one.
    Stage(ApiV3Key),
    /// The newest one stays, alone.
    Settle,
}

/// How an account is to be bound.
pub struct NewBinding {
    /// The account.
    pub app_id: String,
    /// For whom a partner (服务商) collects.
    pub sub_mch_id: Option<MchId>,
    /// Under which app id of the partner's, where it is not the account's.
    pub partner_app_id: Option<String>,
    /// What the account may do.
    pub grants: PayGrants,
}

impl Merchants {
    /// Adds a merchant, with what WeChat Pay signs with where that is given: PEM, and of a public key its id.
    ///
    /// # Errors
    /// A field that does not hold what it should, a number that is taken, the database.
    pub async fn add(
        &self,
        new: NewMerchant,
        platform_key: Option<(Option<&str>, &str)>,
        by: &Author,
    ) -> Result<MerchantRow, ChangeError> {
        check_name(&new.name)?;
        let mch_id = new.mch_id.to_string();
        let now_ms = self.db().now_ms();
        let row = MerchantRow {
            v3_keys_sealed: self.sealed_keys(&mch_id, &[new.v3_key.expose()])?,
            tenant_id: new.tenant_id,
            name: new.name,
            status: "active".to_owned(),
            public_url: public_url(&new.public_url)?,
            answers_by: None,
            created_at: now_ms,
            updated_at: now_ms,
            mch_id,
        };
        let platform_key = platform_key.map(|key| self.platform_key_row(&row.mch_id, key));
        let platform_key = platform_key.transpose()?;
        let row = MerchantRow {
            answers_by: platform_key.as_ref().and_then(public_key_id),
            ..row
        };
        let certificate = self.certificate(&row.mch_id, &new.certificate)?;
        let mut change = self.db().change().await?;
        match rows::insert(&mut change, &row).await {
            Err(DbError::Duplicate(_)) => {
                return Err(ChangeError::Exists {
                    what: "a merchant",
                    id: row.mch_id,
                });
            }
            Err(DbError::MissingReference(_)) => {
                let said = format_args!("there is no tenant {}", row.tenant_id);
                return Err(ChangeError::invalid("tenant_id", said));
            }
            inserted => inserted?,
        }
        rows::put_certificate(&mut change, &certificate).await?;
        if let Some(key) = &platform_key {
            rows::put_platform_key(&mut change, key).await?;
        }
        note(change, by, Action::MerchantAdd, &row.mch_id).await?;
        Ok(row)
    }

    /// Changes a merchant's name, status or address.
    ///
    /// # Errors
    /// A field that does not hold what it should, no such merchant, the database.
    pub async fn change(
        &self,
        mch_id: &str,
        (name, status, url): (Option<String>, Option<String>, Option<String>),
        by: &Author,
    ) -> Result<MerchantRow, ChangeError> {
        let edit = |row: &mut MerchantRow| {
            if let Some(name) = name {
                check_name(&name)?;
                row.name = name;
            }
            if let Some(status) = status {
                if !matches!(&*status, "active" | "disabled") {
                    return Err(ChangeError::invalid("status", "must be active or disabled"));
                }
                row.status = status;
            }
            if let Some(url) = url {
                row.public_url = public_url(&url)?;
            }
            Ok(())
        };
        self.edit(mch_id, edit, (by, Action::MerchantChange, "settings"))
            .await
    }

    /// Stages another APIv3 key, or lets the older one go.
    ///
    /// # Errors
    /// Two are staged already, no such merchant, the database.
    pub async fn turn_v3_key(
        &self,
        mch_id: &str,
        turn: V3KeyTurn,
        by: &Author,
    ) -> Result<MerchantRow, ChangeError> {
        let edit = |row: &mut MerchantRow| {
            let mut keys = self.opened_keys(row)?;
            match &turn {
                V3KeyTurn::Stage(key) => {
                    keys.retain(|known| known != key.expose());
                    keys.insert(0, key.expose().to_owned());
                    keys.truncate(2);
                }
                V3KeyTurn::Settle => keys.truncate(1),
            }
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            row.v3_keys_sealed = self.sealed_keys(&row.mch_id, &keys)?;
            Ok(())
        };
        self.edit(mch_id, edit, (by, Action::MerchantRotateKey, "v3-key"))
            .await
    }

    /// Adds an API certificate, which signs from now on.
    ///
    /// # Errors
    /// It is none, three are there already, no such merchant, the database.
    pub async fn add_certificate(
        &self,
        mch_id: &str,
        new: &NewCertificate,
        by: &Author,
    ) -> Result<String, ChangeError> {
        let certificate = self.certificate(mch_id, new)?;
        let mut change = self.db().change().await?;
        let row = found(&mut change, mch_id).await?;
        if rows::put_certificate(&mut change, &certificate).await? > MAX_CERTIFICATES {
            let said = format_args!(
                "{MAX_CERTIFICATES} are there already, which is the most: remove one first"
            );
            return Err(ChangeError::invalid("certificate", said));
        }
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} certificate {}", certificate.serial);
        note(change, by, Action::MerchantRotateKey, &object).await?;
        Ok(certificate.serial)
    }

    /// Removes an API certificate.
    ///
    /// # Errors
    /// It is the last one, or there is none of that serial; the database.
    pub async fn remove_certificate(
        &self,
        (mch_id, serial): (&str, &str),
        by: &Author,
    ) -> Result<(), ChangeError> {
        let mut change = self.db().change().await?;
        let row = found(&mut change, mch_id).await?;
        match rows::remove_certificate(&mut change, (mch_id, serial)).await? {
            None => {
                return Err(ChangeError::NotFound {
                    what: "certificate",
                    id: serial.to_owned(),
                });
            }
            Some(0) => {
                return Err(ChangeError::invalid(
                    "serial",
                    "it is the merchant's last one",
                ));
            }
            Some(_) => {}
        }
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} certificate {serial} removed");
        note(change, by, Action::MerchantRotateKey, &object).await
    }

    /// Adds something that WeChat Pay signs with: its public key of that id, or a platform certificate. With a
    /// public key, WeChat Pay is asked to sign its answers by it from now on.
    ///
    /// # Errors
    /// It is none, no such merchant, the database.
    pub async fn add_platform_key(
        &self,
        mch_id: &str,
        key: (Option<&str>, &str),
        by: &Author,
    ) -> Result<String, ChangeError> {
        let stored = self.platform_key_row(mch_id, key)?;
        let mut change = self.db().change().await?;
        let mut row = found(&mut change, mch_id).await?;
        rows::put_platform_key(&mut change, &stored).await?;
        if let Some(id) = public_key_id(&stored) {
            row.answers_by = Some(id);
        }
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} platform-key {}", stored.serial);
        note(change, by, Action::MerchantRotateKey, &object).await?;
        Ok(stored.serial)
    }

    /// Keeps platform certificates that WeChat Pay has given; those that are known stay as they are.
    ///
    /// # Errors
    /// The database failed.
    pub async fn keep_certificates(
        &self,
        mch_id: &MchId,
        keys: &[Arc<PlatformKey>],
    ) -> Result<(), DbError> {
        let known = self.get(mch_id.as_str());
        let is_known = |key: &Arc<PlatformKey>| {
            let merchant = known.as_ref();
            merchant.is_some_and(|it| it.platform_key(key.serial().as_str()).is_some())
        };
        if keys.iter().all(is_known) {
            return Ok(());
        }
        let mut change = self.db().change().await?;
        let Some(row) = rows::find_for_change(&mut change, mch_id.as_str()).await? else {
            return Ok(());
        };
        for key in keys {
            let stored = PlatformKeyRow {
                mch_id: mch_id.to_string(),
                serial: key.serial().to_string(),
                pem: key.pem().to_owned(),
                ends_at: key.ends_at_s().map(|seconds| seconds.saturating_mul(1000)),
                added_at: self.db().now_ms(),
            };
            rows::put_platform_key(&mut change, &stored).await?;
        }
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} platform certificates");
        Author::host()
            .note(&mut change, Action::MerchantRotateKey, None, &object)
            .await?;
        change.commit().await?;
        self.refresh().await
    }

    /// Removes something that WeChat Pay signs with no more. Of a public key that it was asked to sign its answers
    /// by, it is asked so no more.
    ///
    /// # Errors
    /// There is none of that serial, no such merchant, the database.
    pub async fn remove_platform_key(
        &self,
        (mch_id, serial): (&str, &str),
        by: &Author,
    ) -> Result<(), ChangeError> {
        let mut change = self.db().change().await?;
        let mut row = found(&mut change, mch_id).await?;
        if !rows::remove_platform_key(&mut change, (mch_id, serial)).await? {
            return Err(ChangeError::NotFound {
                what: "platform key",
                id: serial.to_owned(),
            });
        }
        row.answers_by = row.answers_by.filter(|answers_by| answers_by != serial);
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} platform-key {serial} removed");
        note(change, by, Action::MerchantRotateKey, &object).await
    }

    /// Binds an account to a merchant, or changes what it may do there.
    ///
    /// # Errors
    /// The account is another tenant's, a sum that can't be meant, no such merchant, the database.
    pub async fn bind(
        &self,
        mch_id: &str,
        new: NewBinding,
        by: &Author,
    ) -> Result<BindingRow, ChangeError> {
        new.grants
            .check()
            .map_err(|reason| ChangeError::invalid("grants", reason))?;
        if new.partner_app_id.is_some() && new.sub_mch_id.is_none() {
            let said = "only with sub_mch_id: it is the partner's own app id";
            return Err(ChangeError::invalid("partner_app_id", said));
        }
        let mut change = self.db().change().await?;
        let row = found(&mut change, mch_id).await?;
        let account = db::accounts::find_for_change(&mut change, &new.app_id).await?;
        if account.is_none_or(|account| account.tenant_id != row.tenant_id) {
            let said = format_args!("tenant {} has no account {}", row.tenant_id, new.app_id);
            return Err(ChangeError::invalid("app_id", said));
        }
        let binding = BindingRow {
            app_id: new.app_id,
            mch_id: mch_id.to_owned(),
            sub_mch_id: new.sub_mch_id.map(|id| id.to_string()),
            partner_app_id: new.partner_app_id,
            grants: serde_json::to_string(&new.grants)
                .map_err(|error| ChangeError::invalid("grants", error))?,
        };
        rows::bind(&mut change, &binding).await?;
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} {}", binding.app_id);
        note(change, by, Action::MerchantBind, &object).await?;
        Ok(binding)
    }

    /// Takes an account from a merchant.
    ///
    /// # Errors
    /// It was not bound, money is under way, no such merchant, the database.
    pub async fn unbind(
        &self,
        (mch_id, app_id): (&str, &str),
        by: &Author,
    ) -> Result<(), ChangeError> {
        let mut change = self.db().change().await?;
        let row = found(&mut change, mch_id).await?;
        if rows::is_in_use(&mut change, (app_id, mch_id)).await? {
            let said =
                "orders can still be paid, or refunds have not ended: close and await them first";
            return Err(ChangeError::invalid("app_id", said));
        }
        if !rows::unbind(&mut change, (app_id, mch_id)).await? {
            return Err(ChangeError::no_account(app_id));
        }
        rows::update(&mut change, &self.touched(row)).await?;
        let object = format!("{mch_id} {app_id} unbound");
        note(change, by, Action::MerchantBind, &object).await
    }

    async fn edit(
        &self,
        mch_id: &str,
        edit: impl FnOnce(&mut MerchantRow) -> Result<(), ChangeError>,
        (by, action, object): (&Author, Action, &str),
    ) -> Result<MerchantRow, ChangeError> {
        let mut change = self.db().change().await?;
        let mut row = found(&mut change, mch_id).await?;
        edit(&mut row)?;
        let row = self.touched(row);
        rows::update(&mut change, &row).await?;
        note(change, by, action, &format!("{mch_id} {object}")).await?;
        Ok(row)
    }

    fn touched(&self, row: MerchantRow) -> MerchantRow {
        MerchantRow {
            updated_at: self.db().now_ms(),
            ..row
        }
    }

    /// What WeChat Pay signs with, as it is stored.
    fn platform_key_row(
        &self,
        mch_id: &str,
        (id, pem): (Option<&str>, &str),
    ) -> Result<PlatformKeyRow, ChangeError> {
        let key = platform_key(id.unwrap_or_default(), pem)?;
        Ok(PlatformKeyRow {
            mch_id: mch_id.to_owned(),
            serial: key.serial().to_string(),
            pem: pem.to_owned(),
            ends_at: key.ends_at_s().map(|seconds| seconds.saturating_mul(1000)),
            added_at: self.db().now_ms(),
        })
    }

    fn sealed_keys(&self, mch_id: &str, keys: &[&str]) -> Result<String, ChangeError> {
        let json =
            serde_json::to_string(keys).map_err(|error| ChangeError::invalid("v3_key", error))?;
        Ok(self.keys.seal(Place::v3_keys(mch_id), json.as_bytes())?)
    }

    fn opened_keys(&self, row: &MerchantRow) -> Result<Vec<String>, ChangeError> {
        let json = self
            .keys
            .open(Place::v3_keys(&row.mch_id), &row.v3_keys_sealed)?;
        serde_json::from_slice(&json).map_err(|error| ChangeError::invalid("v3_key", error))
    }

    /// A certificate as it is stored, if the key is its own.
    fn certificate(
        &self,
        mch_id: &str,
        new: &NewCertificate,
    ) -> Result<CertificateRow, ChangeError> {
        let certificate = new.certificate.as_deref().map(Certificate::parse_pem);
        let certificate = certificate
            .transpose()
            .map_err(|error| ChangeError::invalid("certificate", error))?;
        let serial = match (&certificate, &new.serial) {
            (Some(certificate), _) => certificate.serial.clone(),
            (None, Some(serial)) => {
                Serial::parse(serial).map_err(|error| ChangeError::invalid("serial", error))?
            }
            (None, None) => {
                let said = "give the certificate (apiclient_cert.pem), or its serial number";
                return Err(ChangeError::invalid("certificate", said));
            }
        };
        let key = MerchantKey::from_pem(serial.clone(), &new.private_key)
            .map_err(|error| ChangeError::invalid("private_key", error))?;
        if let Some(certificate) = &certificate {
            if !certificate.matches(&key) {
                let said = "it is not the key of this certificate";
                return Err(ChangeError::invalid("private_key", said));
            }
            if certificate.common_name != mch_id {
                let said = format_args!(
                    "it is the certificate of the merchant {:?}",
                    certificate.common_name
                );
                return Err(ChangeError::invalid("certificate", said));
            }
        }
        let place = Place::merchant_key(mch_id, serial.as_str());
        let ends_at = certificate.map(|certificate| certificate.ends_at_s.saturating_mul(1000));
        Ok(CertificateRow {
            mch_id: mch_id.to_owned(),
            key_sealed: self.keys.seal(place, new.private_key.as_bytes())?,
            serial: serial.to_string(),
            ends_at,
            added_at: self.db().now_ms(),
        })
    }
}

/// The id of a public key; a platform certificate ends one day, and has none.
fn public_key_id(key: &PlatformKeyRow) -> Option<String> {
    key.ends_at.is_none().then(|| key.serial.clone())
}

async fn found(change: &mut Change, mch_id: &str) -> Result<MerchantRow, ChangeError> {
    let row = rows::find_for_change(change, mch_id).await?;
    row.ok_or_else(|| ChangeError::NotFound {
        what: "merchant",
        id: mch_id.to_owned(),
    })
}

async fn note(
    mut change: Change,
    by: &Author,
    action: Action,
    object: &str,
) -> Result<(), ChangeError> {
    by.note(&mut change, action, None, object).await?;
    Ok(change.commit().await?)
}

/// An address at which WeChat Pay can reach this host, without a slash at the end. It takes none with a query.
fn public_url(text: &str) -> Result<String, ChangeError> {
    let refused = || {
        let said = "must be an http:// or https:// address without a query";
        ChangeError::invalid("public_url", said)
    };
    let url: Url = text.parse().map_err(|_| refused())?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match is_plain {
        true => Ok(url.as_str().trim_end_matches('/').to_owned()),
        false => Err(refused()),
    }
}
