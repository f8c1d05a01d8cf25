//! Making and revoking keys: checked, stored, noted in the audit.

use super::{
    ApiKeys,
    grants::KeyGrants,
    key::{Fingerprint, KeyText},
    signing::SigningSecret,
};
use crate::{
    audit::{Action, Author},
    clock::Clock,
    db::{self, Change, DbError, keys::KeyRow},
    random,
    seal::{MasterKeys, Place},
    settings::{ChangeError, check_name},
};

/// Requests a minute of a key, where the operator does not say.
pub const DEFAULT_RATE: u32 = 600;

/// Requests a minute of a key at most: 1,000 a second.
pub const MAX_RATE: u32 = 60_000;

/// Good keys of one tenant: all of them are in the memory of every host.
const MAX_KEYS: i64 = 200;

/// Accounts that one key names; more are better reached by a key for all.
const MAX_APP_IDS: usize = 500;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose systems will use it.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// The accounts that it reaches; all of the tenant's if absent.
    pub app_ids: Option<Vec<String>>,
    /// What it may do.
    pub grants: KeyGrants,
    /// Requests a minute.
    pub rate_per_minute: u32,
}

/// What is shown of a key when it is made, and never again.
#[derive(Clone, Debug)]
pub struct NewTexts {
    /// The key itself.
    pub key: KeyText,
    /// What requests are signed with that do not bear it.
    pub signing_secret: SigningSecret,
}

impl ApiKeys {
    /// Makes a key. This is the only time that its texts are to be had.
    ///
    /// # Errors
    /// A field that does not hold what it should, a tenant with too many keys, the database.
    pub async fn add(
        &self,
        key: NewKey,
        (seals, by): (&MasterKeys, &Author),
    ) -> Result<(KeyRow, NewTexts), ChangeError> {
        check(&key)?;
        let texts = NewTexts {
            key: KeyText::generate(),
            signing_secret: SigningSecret::generate(),
        };
        let mut row = row_of(key, &texts.key)?;
        let place = Place::signing_secret(&row.id);
        let secret = texts.signing_secret.expose().as_bytes();
        row.signing_secret_sealed = Some(seals.seal(place, secret)?);
        let mut change = self.db().change().await?;
        match db::keys::insert(&mut change, &row).await {
            Err(DbError::MissingReference(_)) => {
                return Err(ChangeError::invalid(
                    "tenant_id",
                    format_args!("there is no tenant {}", row.tenant_id),
                ));
            }
            inserted => inserted?,
        }
        check_accounts(&mut change, &row).await?;
        if db::keys::count_good(&mut change, &row.tenant_id).await? > MAX_KEYS {
            return Err(ChangeError::invalid(
                "tenant_id",
                format_args!("has {MAX_KEYS} keys already, which is the most: revoke one first"),
            ));
        }
        by.note(&mut change, Action::KeyAdd, None, &row.id).await?;
        change.commit().await?;
        Ok((row, texts))
    }

    /// Revokes a key; revoking it again changes nothing.
    ///
    /// # Errors
    /// There is no such key, or the database failed.
    pub async fn revoke(&self, id: &str, by: &Author) -> Result<KeyRow, ChangeError> {
        let mut change = self.db().change().await?;
        let row = db::keys::revoke(&mut change, id, Clock.now_ms())
            .await?
            .ok_or_else(|| ChangeError::NotFound {
                what: "key",
                id: id.to_owned(),
            })?;
        by.note(&mut change, Action::KeyRevoke, None, id).await?;
        change.commit().await?;
        Ok(row)
    }
}

fn check(key: &NewKey) -> Result<(), ChangeError> {
    check_name(&key.name)?;
    if key.grants.is_empty() {
        return Err(ChangeError::invalid("grants", "a key needs at least one"));
    }
    if !(1..=MAX_RATE).contains(&key.rate_per_minute) {
        return Err(ChangeError::invalid(
            "rate_per_minute",
            format_args!("must be 1 to {MAX_RATE}"),
        ));
    }
    let app_ids = key.app_ids.as_ref().map(Vec::len);
    if app_ids.is_some_and(|count| !(1..=MAX_APP_IDS).contains(&count)) {
        return Err(ChangeError::invalid(
            "app_ids",
            format_args!(
                "must name 1 to {MAX_APP_IDS} accounts; leave it out for all of the tenant's"
            ),
        ));
    }
    Ok(())
}

fn row_of(key: NewKey, text: &KeyText) -> Result<KeyRow, ChangeError> {
    let json = |field, list: &[String]| {
        serde_json::to_string(list).map_err(|error| ChangeError::invalid(field, error))
    };
    let digest = Fingerprint::of(text.expose()).map(Fingerprint::to_hex);
    Ok(KeyRow {
        id: format!("key-{}", random::unique_name()),
        tenant_id: key.tenant_id,
        name: key.name,
        digest: digest.unwrap_or_default(),
        app_ids: key
            .app_ids
            .map(|app_ids| json("app_ids", &app_ids))
            .transpose()?,
        grants: json("grants", &key.grants.words())?,
        rate_per_minute: key.rate_per_minute.into(),
        created_at: Clock.now_ms(),
        revoked_at: None,
        last_used_at: None,
        signing_secret_sealed: None,
    })
}

/// Refuses a key for accounts that are not the tenant's: it would be good for nothing, or so it seemed.
async fn check_accounts(change: &mut Change, row: &KeyRow) -> Result<(), ChangeError> {
    let app_ids: Vec<String> = match &row.app_ids {
        None => return Ok(()),
        Some(list) => {
            serde_json::from_str(list).map_err(|error| ChangeError::invalid("app_ids", error))?
        }
    };
    for app_id in app_ids {
        let account = db::accounts::find_for_change(change, &app_id).await?;
        if account.is_none_or(|account| account.tenant_id != row.tenant_id) {
            return Err(ChangeError::invalid(
                "app_ids",
                format_args!("tenant {} has no account {app_id}", row.tenant_id),
            ));
        }
    }
    Ok(())
}
