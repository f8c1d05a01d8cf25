//! `/api/v1/accounts`.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::{
    component::permission,
    id::{AppId, OriginalId},
    secret::{AppSecret, CallbackToken, EncodingAesKey},
};

use super::{
    JsonBody, PageSize, Query, Read, SecretText, Write, addresses::AddressRefusal,
    authorizers::PermissionSet, permission::Everything,
};
use crate::{
    accounts::{AccountChange, LoginSettings, NewAccount, QuietHours, Status},
    credentials::{self, CredentialChange, TokenLine},
    db::{
        accounts::{self, AccountFilter, AccountRow},
        addresses, deployments,
    },
    grants::OperatorGrants,
    http::error::{ApiError, ErrorBody},
    inbox::{CallbackChange, KeyChange, NewCallbacks, OptOutWords, mode_of},
    services::Services,
    tokens::{Credential, TokenState},
};

/// Seconds that a callback's timestamp may be off, where the operator does not say.
const WINDOW_SECONDS: u32 = 300;

/// An account to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountToAdd {
    /// The AppId.
    #[schema(example = "wx0123456789abcdef")]
    app_id: String,
    /// Whose it is.
    tenant_id: String,
    /// For people.
    #[serde(default)]
    name: String,
    /// 原始 ID; callbacks for another one are refused.
    #[schema(example = "gh_0a1b2c3d4e5f")]
    original_id: String,
    /// `plain`, `compatible` or `safe`, as set in WeChat's console.
    mode: String,
    /// Token of WeChat's console: 3 to 32 letters and digits.
    #[schema(value_type = String, format = Password)]
    token: SecretText,
    /// EncodingAESKey of WeChat's console: 43 letters and digits. Needed for compatible and safe.
    #[schema(value_type = Option<String>, format = Password)]
    encoding_aes_key: Option<SecretText>,
    /// How far a callback's timestamp may be off: 10 to 86400 seconds, 300 if absent.
    window_seconds: Option<u32>,
    /// What the user gets when the plugin fails; nothing if absent.
    fallback_text: Option<String>,
    /// AppSecret of WeChat's console: 32 letters and digits. Without it the host cannot call WeChat.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<SecretText>,
    /// `stable` (the default) or `classic`: which of WeChat's token calls is used.
    token_line: Option<String>,
    /// What its plugin may reach; nothing if absent.
    grants: Option<OperatorGrants>,
    /// Origins whose pages may have JS-SDK signatures.
    jssdk_origins: Option<Vec<String>>,
    /// How users log in to its pages; nobody does if absent.
    login: Option<LoginSettings>,
    /// When its pushes rest.
    quiet_hours: Option<QuietHours>,
}

/// What is to be changed of an account; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountToChange {
    /// For people.
    name: Option<String>,
    /// `plain`, `compatible` or `safe`.
    mode: Option<String>,
    /// 10 to 86400 seconds.
    window_seconds: Option<u32>,
    /// What the user gets when the plugin fails; `null` for nothing.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<String>)]
    fallback_text: Option<Option<String>>,
    /// The words that stop and resume messages, answered before the plugin; `null` for none.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<OptOutWords>)]
    opt_out_words: Option<Option<OptOutWords>>,
    /// `active` or `disabled`.
    status: Option<String>,
    /// A new AppSecret; what the owner had to mend counts as mended. `null` takes it away.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<Option<SecretText>>,
    /// `stable` or `classic`.
    token_line: Option<String>,
    /// `null`: no third-party platform serves it any more, and it calls WeChat by its own AppSecret. That one
    /// does is said by claiming its authorisation.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<String>)]
    platform: Option<Option<String>>,
    /// What its plugin may reach.
    grants: Option<OperatorGrants>,
    /// Origins whose pages may have JS-SDK signatures.
    jssdk_origins: Option<Vec<String>>,
    /// How users log in to its pages; `null`: nobody does any more.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<LoginSettings>)]
    login: Option<Option<LoginSettings>>,
    /// When its pushes rest; `null`: never.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<QuietHours>)]
    quiet_hours: Option<Option<QuietHours>>,
}

/// New keys of an account. At least one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysToRotate {
    /// Takes the place of the old token at once.
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretText>,
    /// Takes the place of the old key, which still opens callbacks until the next change.
    #[schema(value_type = Option<String>, format = Password)]
    encoding_aes_key: Option<SecretText>,
}

/// An account, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Account {
    /// The AppId.
    app_id: String,
    /// Whose it is.
    tenant_id: String,
    /// For people.
    name: String,
    /// 原始 ID.
    original_id: String,
    /// `plain`, `compatible` or `safe`.
    mode: String,
    /// How far a callback's timestamp may be off.
    window_seconds: i64,
    /// What the user gets when the plugin fails.
    fallback_text: Option<String>,
    /// The words that stop and resume messages.
    opt_out_words: Option<OptOutWords>,
    /// `active` or `disabled`.
    status: String,
    /// The path of the URL to be set in WeChat's console.
    #[schema(example = "/callback/wx0123456789abcdef")]
    callback_path: String,
    /// Whether it has an EncodingAESKey.
    has_encoding_aes_key: bool,
    /// Whether the EncodingAESKey before still opens callbacks.
    has_previous_encoding_aes_key: bool,
    /// The version of the deployment that serves it.
    active_version: Option<i64>,
    /// The component that serves it; only where a single account is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_digest: Option<String>,
    /// Unix milliseconds.
    created_at: i64,
    /// Unix milliseconds.
    updated_at: i64,
    /// Whether it has an AppSecret.
    has_secret: bool,
    /// `stable` or `classic`.
    token_line: String,
    /// The third-party platform by which it calls WeChat, in the place of its AppSecret.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// What its owner lets that platform do; only where a single account is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorisation: Option<Authorisation>,
    /// What its owner must mend before WeChat gives it tokens again.
    attention: Option<Attention>,
    /// Hosts whose address WeChat refuses for it.
    address_refusals: Vec<AddressRefusal>,
    /// What its plugin may reach.
    grants: OperatorGrants,
    /// Origins whose pages may have JS-SDK signatures.
    jssdk_origins: Vec<String>,
    /// How users log in to its pages, if they do.
    login: Option<LoginSettings>,
    /// When its pushes rest, if they do.
    quiet_hours: Option<QuietHours>,
    /// Its access token as this host holds it; only where a single account is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<TokenState>,
}

/// What an account's owner must mend.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attention {
    /// WeChat's code.
    errcode: i64,
    /// What WeChat said, and what to do.
    message: String,
    /// Unix milliseconds.
    since: i64,
}

impl Attention {
    pub(super) fn of(stored: &str) -> Option<Self> {
        let attention = credentials::Attention::read(stored).ok()??;
        Some(Self {
            errcode: attention.errcode,
            message: attention.message,
            since: attention.since_ms,
        })
    }
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Self {
            callback_path: match &row.credentials.platform {
                None => format!("/callback/{}", row.app_id),
                Some(platform) => format!("/component/{platform}/callback/{}", row.app_id),
            },
            platform: row.credentials.platform,
            app_id: row.app_id,
            tenant_id: row.tenant_id,
            name: row.name,
            original_id: row.original_id,
            mode: row.callbacks.mode,
            window_seconds: row.callbacks.window_seconds,
            fallback_text: row.callbacks.fallback_text,
            // Written by this host only, so it parses.
            opt_out_words: row
                .callbacks
                .opt_out_words
                .and_then(|words| serde_json::from_str(&words).ok()),
            status: row.status,
            has_encoding_aes_key: row.callbacks.aes_key_sealed.is_some(),
            has_previous_encoding_aes_key: row.callbacks.previous_aes_key_sealed.is_some()
                || row.callbacks.former_aes_key_sealed.is_some(),
            active_version: row.plugin.active_version,
            active_digest: None,
            created_at: row.created_at,
            updated_at: row.updated_at,
            has_secret: row.credentials.secret_sealed.is_some(),
            token_line: row.credentials.token_line,
            authorisation: None,
            attention: row.credentials.attention.as_deref().and_then(Attention::of),
            address_refusals: Vec::new(),
            grants: serde_json::from_str(&row.plugin.grants).unwrap_or_default(),
            jssdk_origins: serde_json::from_str(&row.credentials.jssdk_origins).unwrap_or_default(),
            login: row
                .login
                .and_then(|login| serde_json::from_str(&login).ok()),
            quiet_hours: row
                .quiet_hours
                .and_then(|hours| serde_json::from_str(&hours).ok()),
            access_token: None,
        }
    }
}

/// What an account's owner lets a third-party platform do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Authorisation {
    /// Whether it stands; the account rests where it was withdrawn.
    is_standing: bool,
    /// The permission sets that are granted.
    permission_sets: Vec<PermissionSet>,
    /// Those that the account's plugin needs and does not have: its calls fail with 61007.
    missing: Vec<PermissionSet>,
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accounts {
    /// In order of their app ids.
    accounts: Vec<Account>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AccountQuery {
    /// Of this tenant only.
    tenant: Option<String>,
    /// Those that want attention only: of their `owner`, because WeChat refuses a host's `address`, or
    /// `any` of these.
    attention: Option<String>,
    /// After this app id.
    after: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Adds an account.
#[utoipa::path(post, path = "/api/v1/accounts", tag = "accounts", request_body = AccountToAdd, responses(
    (status = 201, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add(
    write: Write<Everything>,
    JsonBody(body): JsonBody<AccountToAdd>,
) -> Result<(StatusCode, Json<Account>), ApiError> {
    let account = NewAccount {
        app_id: AppId::parse(&body.app_id).map_err(|e| ApiError::invalid("app_id", e))?,
        tenant_id: body.tenant_id,
        name: body.name,
        original_id: OriginalId::parse(&body.original_id)
            .map_err(|e| ApiError::invalid("original_id", e))?,
        callbacks: NewCallbacks {
            mode: mode_of(&body.mode).map_err(|e| ApiError::invalid("mode", e))?,
            token: token(&body.token)?,
            aes_key: body.encoding_aes_key.as_ref().map(aes_key).transpose()?,
            window_seconds: body.window_seconds.unwrap_or(WINDOW_SECONDS),
            fallback_text: body.fallback_text,
        },
        credentials: CredentialChange {
            secret: body.secret.as_ref().map(secret).transpose()?.map(Some),
            token_line: token_line(body.token_line.as_deref())?,
            jssdk_origins: body.jssdk_origins,
            leaves_platform: false,
        },
        grants: body.grants,
        login: body.login,
        quiet_hours: body.quiet_hours,
    };
    let accounts = &write.services().accounts;
    let row = accounts.add_account(account, &write.author()).await?;
    write.announce().await;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Lists accounts.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", params(AccountQuery), responses(
    (status = 200, body = Accounts),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<Everything>,
    Query(query): Query<AccountQuery>,
) -> Result<Json<Accounts>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let after = query.after.as_deref().unwrap_or_default();
    let attention = query.attention.as_deref();
    if attention.is_some_and(|word| !["owner", "address", "any"].contains(&word)) {
        return Err(ApiError::invalid(
            "attention",
            "must be owner, address or any",
        ));
    }
    let filter = AccountFilter {
        tenant: query.tenant.as_deref(),
        attention,
    };
    let rows = accounts::list(&read.services().db, &filter, after, size.rows()).await?;
    let page = size.page(rows, |row| row.app_id.clone());
    let mut accounts: Vec<_> = page.items.into_iter().map(Account::from).collect();
    add_refusals(read.services(), &mut accounts).await?;
    Ok(Json(Accounts {
        accounts,
        next: page.next,
    }))
}

/// Shows an account.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(read: Read<AccountRow>) -> Result<Json<Account>, ApiError> {
    let services = read.services();
    let app_id = &read.object.app_id;
    let mut account = Account::from(read.object.clone());
    add_refusals(services, std::slice::from_mut(&mut account)).await?;
    if let Some(version) = account.active_version {
        let deployment = deployments::find(&services.db, app_id, version).await?;
        account.active_digest = deployment.map(|deployment| deployment.digest);
    }
    if let Some(known) = services.accounts.get(app_id) {
        account.access_token = services
            .client
            .tokens()
            .state(&known, Credential::AccessToken);
        account.authorisation = known.authorisation.as_ref().map(|by| Authorisation {
            is_standing: by.is_standing,
            permission_sets: by
                .permission_sets
                .iter()
                .copied()
                .map(PermissionSet::of)
                .collect(),
            missing: missing_sets(&known)
                .into_iter()
                .map(PermissionSet::of)
                .collect(),
        });
    }
    Ok(Json(account))
}

/// Changes an account.
#[utoipa::path(patch, path = "/api/v1/accounts/{app_id}", tag = "accounts", params(("app_id" = String, Path)), request_body = AccountToChange, responses(
    (status = 200, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change(
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<AccountToChange>,
) -> Result<Json<Account>, ApiError> {
    if let Some(Some(platform)) = &body.platform {
        let how = format!(
            "must be null; claim the account: /api/v1/platforms/{platform}/authorizers/{}/claim",
            write.object.app_id
        );
        return Err(ApiError::invalid("platform", how));
    }
    let mode = body.mode.as_deref().map(mode_of).transpose();
    let status = body.status.as_deref().map(str::parse::<Status>).transpose();
    let change = AccountChange {
        name: body.name,
        status: status.map_err(|e| ApiError::invalid("status", e))?,
        callbacks: CallbackChange {
            mode: mode.map_err(|e| ApiError::invalid("mode", e))?,
            window_seconds: body.window_seconds,
            fallback_text: body.fallback_text,
            opt_out_words: body.opt_out_words,
        },
        credentials: CredentialChange {
            secret: match &body.secret {
                None => None,
                Some(given) => Some(given.as_ref().map(secret).transpose()?),
            },
            token_line: token_line(body.token_line.as_deref())?,
            jssdk_origins: body.jssdk_origins,
            leaves_platform: body.platform.is_some(),
        },
        grants: body.grants,
        login: body.login,
        quiet_hours: body.quiet_hours,
    };
    let app_id = &write.object.app_id;
    let accounts = &write.services().accounts;
    let row = accounts
        .change_account(app_id, change, &write.author())
        .await?;
    write.announce().await;
    Ok(Json(row.into()))
}

/// The permission sets that an account's plugin needs for what it is granted, and lacks.
fn missing_sets(account: &crate::accounts::Account) -> Vec<u32> {
    let (Some(by), Some(deployment)) = (&account.authorisation, &account.plugin.deployment) else {
        return Vec::new();
    };
    let granted = &by.permission_sets;
    let wanted = deployment.wanted.api.iter();
    let mut missing: Vec<u32> = wanted
        .filter_map(|path| permission::missing(path.as_path(), granted))
        .collect();
    if !granted.contains(&permission::MESSAGES) {
        missing.push(permission::MESSAGES);
    }
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Gives an account new keys.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/rotate-key", tag = "accounts", params(("app_id" = String, Path)), request_body = KeysToRotate, responses(
    (status = 200, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn rotate_key(
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<KeysToRotate>,
) -> Result<Json<Account>, ApiError> {
    if body.token.is_none() && body.encoding_aes_key.is_none() {
        return Err(ApiError::invalid(
            "encoding_aes_key",
            "give a new encoding_aes_key, a new token, or both",
        ));
    }
    let keys = KeyChange {
        token: body.token.as_ref().map(token).transpose()?,
        aes_key: body.encoding_aes_key.as_ref().map(aes_key).transpose()?,
    };
    let app_id = &write.object.app_id;
    let accounts = &write.services().accounts;
    let row = accounts.rotate_keys(app_id, keys, &write.author()).await?;
    write.announce().await;
    Ok(Json(row.into()))
}

/// Adds to accounts, in the order of their app ids, which hosts' addresses WeChat refuses.
async fn add_refusals(services: &Services, accounts: &mut [Account]) -> Result<(), ApiError> {
    let (Some(first), Some(last)) = (accounts.first(), accounts.last()) else {
        return Ok(());
    };
    for row in addresses::between(&services.db, &first.app_id, &last.app_id).await? {
        let found = accounts
            .iter_mut()
            .find(|account| account.app_id == row.app_id);
        if let Some(account) = found {
            account.address_refusals.push(row.into());
        }
    }
    Ok(())
}

pub(super) fn token(text: &SecretText) -> Result<CallbackToken, ApiError> {
    CallbackToken::parse(text.expose()).map_err(|e| ApiError::invalid("token", e))
}

pub(super) fn aes_key(text: &SecretText) -> Result<EncodingAesKey, ApiError> {
    EncodingAesKey::parse(text.expose()).map_err(|e| ApiError::invalid("encoding_aes_key", e))
}

pub(super) fn secret(text: &SecretText) -> Result<AppSecret, ApiError> {
    AppSecret::parse(text.expose()).map_err(|e| ApiError::invalid("secret", e))
}

fn token_line(word: Option<&str>) -> Result<Option<TokenLine>, ApiError> {
    word.map(str::parse)
        .transpose()
        .map_err(|e: String| ApiError::invalid("token_line", e))
}

/// Tells `null` from absence.
pub(super) fn even_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
