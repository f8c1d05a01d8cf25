//! Changes to tenants and accounts: checked, sealed, stored. This host sees a change when it refreshes
//! its accounts, as every other one does.

use std::ops::RangeInclusive;

use wxhost_wechat::{
    id::{AppId, OriginalId},
    secret::AppSecret,
};

use super::{Accounts, LoginSettings, QuietHours, Status};
use crate::{
    audit::{Action, Author},
    clock::Clock,
    credentials::{Attention, CredentialChange},
    db::{
        self, DbError, accounts::AccountRow, credential_settings::CredentialSettingsRow,
        plugin_settings::PluginSettingsRow, tenants::TenantRow,
    },
    grants::OperatorGrants,
    inbox::{CallbackChange, CallbackSettings, KeyChange, NewCallbacks},
    settings::{ChangeError, changed, check_name, span},
};

/// Characters of a tenant's id.
const MAX_TENANT_ID_BYTES: usize = 64;

/// Calls of one tenant at the same time: the host's own maximum.
const CONCURRENT_CALLS: RangeInclusive<u32> = 1..=4096;

/// A tenant to be added.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// 1 to 64 of `[a-z0-9_-]`.
    pub id: String,
    /// For people.
    pub name: String,
    /// How many of its calls may run at the same time.
    pub max_concurrent_calls: u32,
}

/// An account to be added.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The AppId.
    pub app_id: AppId,
    /// Whose it is.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// 原始 ID.
    pub original_id: OriginalId,
    /// How its callbacks come.
    pub callbacks: NewCallbacks,
    /// How it calls WeChat.
    pub credentials: CredentialChange,
    /// What its plugin may reach; nothing, unless said.
    pub grants: Option<OperatorGrants>,
    /// How users log in to its pages.
    pub login: Option<LoginSettings>,
    /// When its pushes rest.
    pub quiet_hours: Option<QuietHours>,
}

#[cfg(test)]
impl NewAccount {
    /// One of the tenant `acme` in clear text, for tests.
    pub(crate) fn plain(app_id: &str) -> Self {
        Self {
            app_id: AppId::parse(app_id).unwrap(),
            tenant_id: "acme".into(),
            name: String::new(),
            original_id: OriginalId::parse("gh_1").unwrap(),
            callbacks: NewCallbacks {
                mode: wxhost_wechat::envelope::Mode::Plain,
                token: wxhost_wechat::secret::CallbackToken::parse("token123").unwrap(),
                aes_key: None,
                window_seconds: 300,
                fallback_text: None,
            },
            credentials: CredentialChange::default(),
            grants: None,
            login: None,
            quiet_hours: None,
        }
    }
}

#[cfg(test)]
impl NewTenant {
    /// One of that id, for tests.
    pub(crate) fn plain(id: &str) -> Self {
        Self {
            id: id.into(),
            name: String::new(),
            max_concurrent_calls: 8,
        }
    }
}

/// What is to be changed of an account; nothing else is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// For people.
    pub name: Option<String>,
    /// Whether it is served.
    pub status: Option<Status>,
    /// How its callbacks come.
    pub callbacks: CallbackChange,
    /// How it calls WeChat.
    pub credentials: CredentialChange,
    /// What its plugin may reach.
    pub grants: Option<OperatorGrants>,
    /// How users log in to its pages; `Some(None)` ends that they do.
    pub login: Option<Option<LoginSettings>>,
    /// When its pushes rest; `Some(None)` ends that they do.
    pub quiet_hours: Option<Option<QuietHours>>,
}

impl Accounts {
    /// Adds a tenant.
    pub async fn add_tenant(
        &self,
        tenant: NewTenant,
        by: &Author,
    ) -> Result<TenantRow, ChangeError> {
        check_tenant_id(&tenant.id)?;
        check_name(&tenant.name)?;
        if !CONCURRENT_CALLS.contains(&tenant.max_concurrent_calls) {
            return Err(ChangeError::invalid(
                "max_concurrent_calls",
                format_args!("must be {}", span(&CONCURRENT_CALLS)),
            ));
        }
        let row = TenantRow {
            id: tenant.id,
            name: tenant.name,
            max_concurrent_calls: tenant.max_concurrent_calls.into(),
            like_app_id: None,
            created_at: Clock.now_ms(),
        };
        let mut change = self.db().change().await?;
        match db::tenants::insert(&mut change, &row).await {
            Err(DbError::Duplicate(_)) => {
                return Err(ChangeError::Exists {
                    what: "a tenant",
                    id: row.id,
                });
            }
            inserted => inserted?,
        }
        by.note(&mut change, Action::TenantAdd, None, &row.id)
            .await?;
        change.commit().await?;
        Ok(row)
    }

    /// Adds an account.
    pub async fn add_account(
        &self,
        account: NewAccount,
        by: &Author,
    ) -> Result<AccountRow, ChangeError> {
        let row = self.row_of(account)?;
        self.check(&row)?;
        let mut change = self.db().change().await?;
        match db::accounts::insert(&mut change, &row).await {
            Err(DbError::Duplicate(_)) => {
                return Err(ChangeError::Exists {
                    what: "an account",
                    id: row.app_id,
                });
            }
            Err(DbError::MissingReference(_)) => {
                return Err(ChangeError::invalid(
                    "tenant_id",
                    format_args!("there is no tenant {}", row.tenant_id),
                ));
            }
            inserted => inserted?,
        }
        let app_id = Some(&*row.app_id);
        by.note(&mut change, Action::AccountAdd, app_id, &row.tenant_id)
            .await?;
        change.commit().await?;
        Ok(row)
    }

    /// Changes an account.
    pub async fn change_account(
        &self,
        app_id: &str,
        wanted: AccountChange,
        by: &Author,
    ) -> Result<AccountRow, ChangeError> {
        self.update(app_id, (by, Action::AccountChange), |row| {
            if let Some(name) = wanted.name {
                row.name = name;
            }
            if let Some(status) = wanted.status {
                row.status = status.as_str().to_owned();
            }
            wanted.callbacks.apply(&mut row.callbacks);
            let credentials = &mut row.credentials;
            wanted.credentials.apply(app_id, credentials, &self.keys)?;
            if let Some(login) = &wanted.login {
                row.login = login.as_ref().map(stored_login).transpose()?;
            }
            if let Some(hours) = &wanted.quiet_hours {
                row.quiet_hours = hours.as_ref().map(stored_hours).transpose()?;
            }
            match &wanted.grants {
                None => Ok(()),
                Some(grants) => row.plugin.set_grants(grants),
            }
        })
        .await
    }

    /// Notes that WeChat gives an account no tokens before its owner has acted. An account that has got
    /// another secret than `failed` meanwhile is left as it is: false.
    pub async fn need_owner(
        &self,
        app_id: &str,
        failed: &AppSecret,
        attention: &Attention,
    ) -> Result<bool, ChangeError> {
        let keys = &self.keys;
        let mut noted = false;
        let by = (&Author::host(), Action::AttentionSet);
        self.update(app_id, by, |row| {
            let credentials = &mut row.credentials;
            noted = credentials.need_owner(app_id, failed, attention, keys)?;
            Ok(())
        })
        .await?;
        Ok(noted)
    }

    /// Notes that an account's owner must let a platform serve it again. A new authorisation takes that away.
    pub async fn need_authorisation(
        &self,
        app_id: &str,
        attention: &Attention,
    ) -> Result<bool, ChangeError> {
        let by = (&Author::host(), Action::AttentionSet);
        self.update(app_id, by, |row| {
            row.credentials.attention = Some(attention.to_json()?);
            Ok(())
        })
        .await?;
        Ok(true)
    }

    /// Takes it that an account's owner has acted: WeChat is asked for tokens again.
    pub async fn clear_attention(
        &self,
        app_id: &str,
        by: &Author,
    ) -> Result<AccountRow, ChangeError> {
        self.update(app_id, (by, Action::AttentionClear), |row| {
            row.credentials.attention = None;
            Ok(())
        })
        .await
    }

    /// Gives an account new keys. The AES key before still opens what WeChat sent under it.
    pub async fn rotate_keys(
        &self,
        app_id: &str,
        new: KeyChange,
        by: &Author,
    ) -> Result<AccountRow, ChangeError> {
        self.update(app_id, (by, Action::AccountRotateKey), |row| {
            Ok(new.apply(app_id, &mut row.callbacks, &self.keys)?)
        })
        .await
    }

    async fn update(
        &self,
        app_id: &str,
        (by, action): (&Author, Action),
        edit: impl FnOnce(&mut AccountRow) -> Result<(), ChangeError>,
    ) -> Result<AccountRow, ChangeError> {
        let mut change = self.db().change().await?;
        let mut row = db::accounts::find_for_change(&mut change, app_id)
            .await?
            .ok_or_else(|| ChangeError::no_account(app_id))?;
        let before = row.clone();
        edit(&mut row)?;
        self.check(&row)?;
        row.updated_at = Clock.now_ms();
        db::accounts::update(&mut change, &row).await?;
        let fields = changed_fields(&before, &row);
        if !fields.is_empty() {
            by.note(&mut change, action, Some(app_id), &fields).await?;
        }
        change.commit().await?;
        Ok(row)
    }

    fn row_of(&self, account: NewAccount) -> Result<AccountRow, ChangeError> {
        let app_id = account.app_id.as_str();
        let now = Clock.now_ms();
        let mut credentials = CredentialSettingsRow::default();
        account
            .credentials
            .apply(app_id, &mut credentials, &self.keys)?;
        let mut plugin = PluginSettingsRow::default();
        if let Some(grants) = &account.grants {
            plugin.set_grants(grants)?;
        }
        Ok(AccountRow {
            app_id: app_id.to_owned(),
            tenant_id: account.tenant_id,
            name: account.name,
            original_id: account.original_id.as_str().to_owned(),
            status: Status::Active.as_str().to_owned(),
            created_at: now,
            updated_at: now,
            callbacks: account.callbacks.into_row(app_id, &self.keys)?,
            credentials,
            plugin,
            login: account.login.as_ref().map(stored_login).transpose()?,
            quiet_hours: account.quiet_hours.as_ref().map(stored_hours).transpose()?,
        })
    }

    /// Refuses what the host could not serve: a row that is stored can be used.
    fn check(&self, row: &AccountRow) -> Result<(), ChangeError> {
        check_name(&row.name)?;
        row.callbacks.check()?;
        let app_id =
            AppId::parse(&row.app_id).map_err(|error| ChangeError::invalid("app_id", error))?;
        CallbackSettings::from_row(&app_id, &row.original_id, &row.callbacks, &self.keys)?;
        Ok(())
    }
}

/// The names of what was changed, for the audit.
fn changed_fields(before: &AccountRow, after: &AccountRow) -> String {
    let name = changed([("name", before.name != after.name)]);
    let status = changed([("status", before.status != after.status)]);
    let others = changed([
        ("grants", before.plugin.grants != after.plugin.grants),
        ("login", before.login != after.login),
        ("quiet_hours", before.quiet_hours != after.quiet_hours),
    ]);
    name.chain(before.callbacks.changed_in(&after.callbacks))
        .chain(status)
        .chain(before.credentials.changed_in(&after.credentials))
        .chain(others)
        .collect::<Vec<_>>()
        .join(" ")
}

fn stored_hours(hours: &QuietHours) -> Result<String, ChangeError> {
    hours.check()?;
    serde_json::to_string(hours).map_err(|error| ChangeError::invalid("quiet_hours", error))
}

fn stored_login(login: &LoginSettings) -> Result<String, ChangeError> {
    login.check()?;
    serde_json::to_string(login).map_err(|error| ChangeError::invalid("login", error))
}

fn check_tenant_id(id: &str) -> Result<(), ChangeError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=MAX_TENANT_ID_BYTES).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(ChangeError::invalid(
        "id",
        format_args!("must be 1 to {MAX_TENANT_ID_BYTES} of a-z, 0-9, _ and -"),
    ))
}
