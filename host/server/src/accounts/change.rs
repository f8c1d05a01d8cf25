//! Changes to tenants and accounts: checked, sealed, stored. This host sees a change when it refreshes
//! its accounts, as every other one does.

use std::{fmt, ops::RangeInclusive};

use wxhost_wechat::{
    envelope::Mode,
    id::{AppId, OriginalId},
    secret::{AppSecret, CallbackToken, EncodingAesKey},
};

use super::{
    AccountError, Accounts, Status,
    account::{app_secret, mode_of, mode_word, receiver},
};
use crate::{
    audit::{Action, Author},
    clock::Clock,
    credentials::{Attention, TokenLine},
    db::{self, DbError, accounts::AccountRow, tenants::TenantRow},
    grants::OperatorGrants,
    seal::{Place, SealError},
};

/// How far a callback's timestamp may be off, in seconds. Less than ten seconds would turn away
/// honest clocks; a day is as good as no check.
pub const WINDOW_SECONDS: RangeInclusive<u32> = 10..=86_400;

/// Bytes of a fallback text: WeChat cuts passive text replies there.
pub const MAX_FALLBACK_BYTES: usize = 2048;

/// Characters of a name for people.
const MAX_NAME_CHARACTERS: usize = 128;

/// Characters of a tenant's id.
const MAX_TENANT_ID_BYTES: usize = 64;

/// Origins of an account's own web pages.
const MAX_ORIGINS: usize = 32;

/// Bytes of an origin: those of a host's name, a scheme and a port.
const MAX_ORIGIN_BYTES: usize = 280;

/// Calls of one tenant at the same time: the host's own maximum.
const CONCURRENT_CALLS: RangeInclusive<u32> = 1..=4096;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A value is not acceptable.
    #[error("{field}: {reason}")]
    Invalid {
        /// Its name in the API.
        field: &'static str,
        /// Why, for the caller.
        reason: String,
    },
    /// There is one of that id already.
    #[error("there is already {what} {id}")]
    Exists {
        /// "a tenant" or "an account".
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is none of that id.
    #[error("there is no {what} {id}")]
    NotFound {
        /// "tenant", "account", "deployment" …
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A secret could not be sealed or opened.
    #[error("a secret could not be sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl ChangeError {
    pub(crate) fn invalid(field: &'static str, reason: impl fmt::Display) -> Self {
        Self::Invalid {
            field,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn no_account(app_id: &str) -> Self {
        Self::NotFound {
            what: "account",
            id: app_id.to_owned(),
        }
    }
}

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
    pub mode: Mode,
    /// Signs its callbacks.
    pub token: CallbackToken,
    /// Encrypts its callbacks.
    pub aes_key: Option<EncodingAesKey>,
    /// How far a timestamp may be off.
    pub window_seconds: u32,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
    /// How it calls WeChat.
    pub api: ApiSettings,
}

/// How an account calls WeChat; what is absent stays as it is, or as it is by default.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// The AppSecret; a new one also ends what its owner had to mend. `Some(None)` takes it away.
    pub secret: Option<Option<AppSecret>>,
    /// How access tokens are got.
    pub token_line: Option<TokenLine>,
    /// What the plugin may reach.
    pub grants: Option<OperatorGrants>,
    /// Origins whose pages may have JS-SDK signatures.
    pub jssdk_origins: Option<Vec<String>>,
}

/// What is to be changed of an account; nothing else is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// For people.
    pub name: Option<String>,
    /// How its callbacks come.
    pub mode: Option<Mode>,
    /// How far a timestamp may be off.
    pub window_seconds: Option<u32>,
    /// What the user gets when the plugin fails; `Some(None)` for nothing.
    pub fallback_text: Option<Option<String>>,
    /// Whether it is served.
    pub status: Option<Status>,
    /// How it calls WeChat.
    pub api: ApiSettings,
}

/// New keys of an account.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// Takes the place of the old one at once.
    pub token: Option<CallbackToken>,
    /// The old one still opens callbacks until the next change.
    pub aes_key: Option<EncodingAesKey>,
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
            created_at: Clock.now_ms(),
        };
        let mut change = self.db.change().await?;
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
        let api = account.api.clone();
        let mut row = self.row_of(account)?;
        self.set_api(&mut row, api)?;
        self.check(&row)?;
        let mut change = self.db.change().await?;
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
            if let Some(mode) = wanted.mode {
                row.mode = mode_word(mode).to_owned();
            }
            if let Some(seconds) = wanted.window_seconds {
                row.window_seconds = seconds.into();
            }
            if let Some(text) = wanted.fallback_text {
                row.fallback_text = text;
            }
            if let Some(status) = wanted.status {
                row.status = status.as_str().to_owned();
            }
            self.set_api(row, wanted.api)
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
            let secret = app_secret(row, keys).ok().flatten();
            noted = secret.is_some_and(|secret| secret.expose() == failed.expose());
            if noted {
                let json = serde_json::to_string(attention);
                row.attention = Some(json.map_err(|e| ChangeError::invalid("attention", e))?);
            }
            Ok(())
        })
        .await?;
        Ok(noted)
    }

    /// Takes it that an account's owner has acted: WeChat is asked for tokens again.
    pub async fn clear_attention(
        &self,
        app_id: &str,
        by: &Author,
    ) -> Result<AccountRow, ChangeError> {
        self.update(app_id, (by, Action::AttentionClear), |row| {
            row.attention = None;
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
        let keys = &self.keys;
        self.update(app_id, (by, Action::AccountRotateKey), |row| {
            if let Some(token) = new.token {
                row.token_sealed = keys.seal(Place::token(app_id), token.expose().as_bytes())?;
            }
            if let Some(key) = new.aes_key {
                let sealed = keys.seal(Place::aes_key(app_id), key.expose().as_bytes())?;
                row.previous_aes_key_sealed = None;
                row.former_aes_key_sealed = match row.aes_key_sealed.replace(sealed) {
                    None => None,
                    Some(before) => Some(keys.as_former_aes_key(app_id, &before)?),
                };
            }
            Ok(())
        })
        .await
    }

    fn set_api(&self, row: &mut AccountRow, api: ApiSettings) -> Result<(), ChangeError> {
        if let Some(secret) = api.secret {
            let place = Place::app_secret(&row.app_id);
            row.secret_sealed = match secret {
                None => None,
                Some(secret) => Some(self.keys.seal(place, secret.expose().as_bytes())?),
            };
            row.attention = None;
        }
        if let Some(line) = api.token_line {
            row.token_line = line.as_str().to_owned();
        }
        if let Some(grants) = api.grants {
            grants
                .check()
                .map_err(|reason| ChangeError::invalid("grants", reason))?;
            let json = serde_json::to_string(&grants);
            row.grants = json.map_err(|error| ChangeError::invalid("grants", error))?;
        }
        if let Some(origins) = api.jssdk_origins {
            check_origins(&origins)?;
            let json = serde_json::to_string(&origins);
            row.jssdk_origins =
                json.map_err(|error| ChangeError::invalid("jssdk_origins", error))?;
        }
        Ok(())
    }

    async fn update(
        &self,
        app_id: &str,
        (by, action): (&Author, Action),
        edit: impl FnOnce(&mut AccountRow) -> Result<(), ChangeError>,
    ) -> Result<AccountRow, ChangeError> {
        let mut change = self.db.change().await?;
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

    fn row_of(&self, account: NewAccount) -> Result<AccountRow, SealError> {
        let app_id = account.app_id.as_str();
        let token = account.token.expose().as_bytes();
        let aes_key = account.aes_key.as_ref().map(|key| key.expose().as_bytes());
        let now = Clock.now_ms();
        Ok(AccountRow {
            token_sealed: self.keys.seal(Place::token(app_id), token)?,
            aes_key_sealed: aes_key
                .map(|key| self.keys.seal(Place::aes_key(app_id), key))
                .transpose()?,
            previous_aes_key_sealed: None,
            former_aes_key_sealed: None,
            app_id: app_id.to_owned(),
            tenant_id: account.tenant_id,
            name: account.name,
            original_id: account.original_id.as_str().to_owned(),
            mode: mode_word(account.mode).to_owned(),
            window_seconds: account.window_seconds.into(),
            fallback_text: account.fallback_text,
            status: Status::Active.as_str().to_owned(),
            active_version: None,
            created_at: now,
            updated_at: now,
            secret_sealed: None,
            token_line: TokenLine::Stable.as_str().to_owned(),
            attention: None,
            grants: String::from("{}"),
            jssdk_origins: String::from("[]"),
        })
    }

    /// Refuses what the host could not serve: a row that is stored can be used.
    fn check(&self, row: &AccountRow) -> Result<(), ChangeError> {
        check_name(&row.name)?;
        let seconds = u32::try_from(row.window_seconds).unwrap_or(0);
        if !WINDOW_SECONDS.contains(&seconds) {
            return Err(ChangeError::invalid(
                "window_seconds",
                format_args!("must be {}", span(&WINDOW_SECONDS)),
            ));
        }
        let text = row.fallback_text.as_deref();
        if text.is_some_and(|text| text.is_empty() || text.len() > MAX_FALLBACK_BYTES) {
            return Err(ChangeError::invalid(
                "fallback_text",
                format_args!("must have 1 to {MAX_FALLBACK_BYTES} bytes of UTF-8"),
            ));
        }
        let mode = mode_of(&row.mode).map_err(|error| ChangeError::invalid("mode", error))?;
        if mode != Mode::Plain && row.aes_key_sealed.is_none() {
            return Err(ChangeError::invalid(
                "encoding_aes_key",
                format_args!("{} mode needs one", row.mode),
            ));
        }
        let app_id =
            AppId::parse(&row.app_id).map_err(|error| ChangeError::invalid("app_id", error))?;
        match receiver(row, app_id, mode, &self.keys) {
            Ok(_) => Ok(()),
            Err(AccountError::Seal(error)) => Err(error.into()),
            Err(AccountError::Column { column, reason }) => {
                Err(ChangeError::invalid(column, reason))
            }
        }
    }
}

/// The names of what was changed, for the audit: of a secret no more than that.
fn changed_fields(before: &AccountRow, after: &AccountRow) -> String {
    let is_changed = [
        ("name", before.name != after.name),
        ("mode", before.mode != after.mode),
        ("token", before.token_sealed != after.token_sealed),
        (
            "encoding_aes_key",
            before.aes_key_sealed != after.aes_key_sealed,
        ),
        (
            "window_seconds",
            before.window_seconds != after.window_seconds,
        ),
        ("fallback_text", before.fallback_text != after.fallback_text),
        ("status", before.status != after.status),
        ("secret", before.secret_sealed != after.secret_sealed),
        ("token_line", before.token_line != after.token_line),
        ("attention", before.attention != after.attention),
        ("grants", before.grants != after.grants),
        ("jssdk_origins", before.jssdk_origins != after.jssdk_origins),
    ];
    let names = is_changed.iter().filter(|(_, changed)| *changed);
    names.map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// `1 to 9`.
fn span(range: &RangeInclusive<u32>) -> String {
    format!("{} to {}", range.start(), range.end())
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

pub(crate) fn check_name(name: &str) -> Result<(), ChangeError> {
    if name.chars().count() <= MAX_NAME_CHARACTERS && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ChangeError::invalid(
        "name",
        format_args!(
            "must have at most {MAX_NAME_CHARACTERS} characters and no control characters"
        ),
    ))
}

fn check_origins(origins: &[String]) -> Result<(), ChangeError> {
    let is_origin = |origin: &String| {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':');
        host.is_some_and(|host| !host.is_empty() && host.bytes().all(fits))
            && origin.len() <= MAX_ORIGIN_BYTES
    };
    if origins.len() > MAX_ORIGINS {
        return Err(ChangeError::invalid(
            "jssdk_origins",
            format_args!("must be at most {MAX_ORIGINS}"),
        ));
    }
    match origins.iter().find(|origin| !is_origin(origin)) {
        None => Ok(()),
        Some(origin) => Err(ChangeError::invalid(
            "jssdk_origins",
            format_args!("{origin:?} is not an origin such as https://shop.example"),
        )),
    }
}
