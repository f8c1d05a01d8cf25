//! `/api/v1/platforms`: third-party platforms.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wxhost_wechat::id::AppId;

use super::accounts::{Attention, aes_key, secret, token};
use super::{JsonBody, Read, SecretText, Write, permission::Everything};
use crate::accounts::{NewPlatform, Platform as Known, PlatformChange, PlatformKeys, Status};
use crate::audit::Action;
use crate::credentials::Credential;
use crate::db::platforms::{self, PlatformRow};
use crate::db::{platform_events, platform_imports};
use crate::http::error::{ApiError, ErrorBody};
use crate::platform;
use crate::services::Services;
use crate::tokens::TokenState;

/// Events that are shown with a platform.
const EVENTS_SHOWN: u32 = 20;

/// A platform to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformToAdd {
    /// The component appid.
    #[schema(example = "wx0123456789abcdef")]
    app_id: String,
    /// For people; customers see it.
    #[serde(default)]
    name: String,
    /// Where the platform's start-page domain (授权发起页域名) leads: to this host.
    #[schema(example = "https://wx.example")]
    public_url: String,
    /// AppSecret of the platform.
    #[schema(value_type = String, format = Password)]
    secret: SecretText,
    /// 消息校验Token.
    #[schema(value_type = String, format = Password)]
    token: SecretText,
    /// 消息加解密Key.
    #[schema(value_type = String, format = Password)]
    encoding_aes_key: SecretText,
}

/// What is to be changed of a platform; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformToChange {
    /// For people.
    name: Option<String>,
    /// Where the platform's start-page domain leads.
    public_url: Option<String>,
    /// `active` or `disabled`: all its accounts rest then.
    status: Option<String>,
    /// A new AppSecret; what had to be mended counts as mended.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<SecretText>,
}

/// New keys of a platform. At least one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformKeysToRotate {
    /// Takes the place of the old token at once.
    #[schema(value_type = Option<String>, format = Password)]
    token: Option<SecretText>,
    /// Takes the place of the old key, which still opens what comes until the next change.
    #[schema(value_type = Option<String>, format = Password)]
    encoding_aes_key: Option<SecretText>,
}

/// A third-party platform, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Platform {
    /// The component appid.
    app_id: String,
    /// For people.
    name: String,
    /// `active` or `disabled`.
    status: String,
    /// Where the platform's start-page domain leads.
    public_url: String,
    /// To be set in WeChat's console: 授权事件接收URL.
    #[schema(example = "https://wx.example/component/wx0123456789abcdef/events")]
    event_url: String,
    /// To be set in WeChat's console: 消息与事件接收URL.
    #[schema(example = "https://wx.example/component/wx0123456789abcdef/callback/$APPID$")]
    message_url: String,
    /// Whether the EncodingAESKey before still opens what comes.
    has_previous_encoding_aes_key: bool,
    /// What must be mended before WeChat gives the platform tokens again.
    attention: Option<Attention>,
    /// When the newest ticket came, Unix milliseconds; one comes every ten minutes.
    ticket_received_at: Option<i64>,
    /// Its token as this host holds it.
    component_token: Option<TokenState>,
    /// WeChat's words, where it refuses this host's address for the platform.
    address_refused: Option<String>,
    /// Unix milliseconds.
    created_at: i64,
    /// Unix milliseconds.
    updated_at: i64,
}

/// All platforms.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Platforms {
    /// In order of their app ids.
    platforms: Vec<Platform>,
}

/// Something that WeChat told a platform; tickets aside.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlatformEvent {
    /// InfoType.
    kind: String,
    /// The account that it is about.
    app_id: Option<String>,
    /// WeChat's time, Unix milliseconds.
    told_at: i64,
    /// Unix milliseconds.
    received_at: i64,
    /// `due`, `done` or `failed`.
    state: String,
    /// How often it was begun.
    attempts: i64,
    /// Why it is not done.
    error: Option<String>,
}

/// The newest of what WeChat told a platform.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlatformEvents {
    /// Newest first.
    events: Vec<PlatformEvent>,
}

async fn shown(services: &Services, row: PlatformRow) -> Result<Platform, ApiError> {
    let tickets = platforms::tickets(&services.db, &row.app_id).await?;
    let known = services.accounts.platform(&row.app_id);
    let base = format!("{}/component/{}", row.public_url, row.app_id);
    let token = |platform: &Known| {
        let slot = platform.slots.of(Credential::ComponentToken);
        slot.current().map(|token| TokenState::from(&*token))
    };
    let refusal = |platform: &Known| platform.slots.address.refusal();
    Ok(Platform {
        event_url: format!("{base}/events"),
        message_url: format!("{base}/callback/$APPID$"),
        ticket_received_at: tickets.map(|tickets| tickets.received_at),
        component_token: known.as_deref().and_then(token),
        address_refused: known.as_deref().and_then(refusal).map(|r| r.message),
        app_id: row.app_id,
        name: row.name,
        status: row.status,
        public_url: row.public_url,
        has_previous_encoding_aes_key: row.former_aes_key_sealed.is_some(),
        attention: row.attention.as_deref().and_then(Attention::of),
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

/// Adds a platform.
#[utoipa::path(post, path = "/api/v1/platforms", tag = "platforms", request_body = PlatformToAdd, responses(
    (status = 201, body = Platform),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add(
    write: Write<Everything>,
    JsonBody(body): JsonBody<PlatformToAdd>,
) -> Result<(StatusCode, Json<Platform>), ApiError> {
    let platform = NewPlatform {
        app_id: AppId::parse(&body.app_id).map_err(|e| ApiError::invalid("app_id", e))?,
        name: body.name,
        public_url: body.public_url,
        secret: secret(&body.secret)?,
        token: token(&body.token)?,
        aes_key: aes_key(&body.encoding_aes_key)?,
    };
    let services = write.services();
    let author = write.author();
    let row = services.accounts.add_platform(platform, &author).await?;
    write.announce().await;
    Ok((StatusCode::CREATED, Json(shown(services, row).await?)))
}

/// Lists all platforms.
#[utoipa::path(get, path = "/api/v1/platforms", tag = "platforms", responses(
    (status = 200, body = Platforms),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(read: Read<Everything>) -> Result<Json<Platforms>, ApiError> {
    let services = read.services();
    let mut platforms = Vec::new();
    for row in platforms::changed_after(&services.db, -1).await? {
        platforms.push(shown(services, row).await?);
    }
    Ok(Json(Platforms { platforms }))
}

/// Shows a platform.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 200, body = Platform),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(read: Read<PlatformRow>) -> Result<Json<Platform>, ApiError> {
    Ok(Json(shown(read.services(), read.object.clone()).await?))
}

/// Changes a platform.
#[utoipa::path(patch, path = "/api/v1/platforms/{platform}", tag = "platforms", params(("platform" = String, Path)), request_body = PlatformToChange, responses(
    (status = 200, body = Platform),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change(
    write: Write<PlatformRow>,
    JsonBody(body): JsonBody<PlatformToChange>,
) -> Result<Json<Platform>, ApiError> {
    let status = body.status.as_deref().map(str::parse::<Status>).transpose();
    let change = PlatformChange {
        name: body.name,
        status: status.map_err(|e| ApiError::invalid("status", e))?,
        public_url: body.public_url,
        secret: body.secret.as_ref().map(secret).transpose()?,
    };
    let (services, id) = (write.services(), &write.object.app_id);
    let author = write.author();
    let row = services
        .accounts
        .change_platform(id, change, &author)
        .await?;
    mended(&write).await;
    Ok(Json(shown(services, row).await?))
}

/// Gives a platform new keys.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/rotate-key", tag = "platforms", params(("platform" = String, Path)), request_body = PlatformKeysToRotate, responses(
    (status = 200, body = Platform),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn rotate_key(
    write: Write<PlatformRow>,
    JsonBody(body): JsonBody<PlatformKeysToRotate>,
) -> Result<Json<Platform>, ApiError> {
    if body.token.is_none() && body.encoding_aes_key.is_none() {
        return Err(ApiError::invalid(
            "encoding_aes_key",
            "give a new encoding_aes_key, a new token, or both",
        ));
    }
    let keys = PlatformKeys {
        token: body.token.as_ref().map(token).transpose()?,
        aes_key: body.encoding_aes_key.as_ref().map(aes_key).transpose()?,
    };
    let (services, id) = (write.services(), &write.object.app_id);
    let author = write.author();
    let row = services
        .accounts
        .rotate_platform_keys(id, keys, &author)
        .await?;
    write.announce().await;
    Ok(Json(shown(services, row).await?))
}

/// Says that what the platform's `attention` names is mended: WeChat is asked for tokens again.
#[utoipa::path(delete, path = "/api/v1/platforms/{platform}/attention", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 200, body = Platform),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn clear_attention(write: Write<PlatformRow>) -> Result<Json<Platform>, ApiError> {
    let (services, id) = (write.services(), &write.object.app_id);
    let author = write.author();
    let row = services
        .accounts
        .clear_platform_attention(id, &author)
        .await?;
    mended(&write).await;
    Ok(Json(shown(services, row).await?))
}

/// Asks WeChat to push tickets again, if it has stopped: also a way to see whether the secret is right.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/start-tickets", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn start_tickets(write: Write<PlatformRow>) -> Result<StatusCode, ApiError> {
    let known = known(write.services(), &write.object)?;
    note(&write, Action::PlatformCall, "start-tickets").await?;
    platform::start_tickets(&write.services().client, &known).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begins the day of a platform's own calls anew. WeChat allows ten a month.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/clear-quota", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn clear_quota(write: Write<PlatformRow>) -> Result<StatusCode, ApiError> {
    let services = write.services();
    let known = known(services, &write.object)?;
    note(&write, Action::PlatformCall, "clear-quota").await?;
    platform::clear_quota(&services.client, &known).await?;
    services.client.tokens().clear_platform_backoff(&known);
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the newest of what WeChat told a platform; tickets aside.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}/events", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 200, body = PlatformEvents),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn events(read: Read<PlatformRow>) -> Result<Json<PlatformEvents>, ApiError> {
    let all = (i64::MAX, EVENTS_SHOWN);
    let rows = platform_events::list(&read.services().db, &read.object.app_id, all).await?;
    let events = rows.into_iter().map(|row| PlatformEvent {
        kind: row.kind,
        app_id: row.app_id,
        told_at: row.told_at,
        received_at: row.received_at,
        state: row.state,
        attempts: row.attempts,
        error: row.error,
    });
    Ok(Json(PlatformEvents {
        events: events.collect(),
    }))
}

/// Authorisers to be imported: by a table, or from WeChat's own list.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportToStart {
    /// Whose the accounts become; without one they wait to be claimed.
    tenant_id: Option<String>,
    /// A table with the columns `app_id`, `refresh_token` and, if need be, `tenant_id`. Without it, WeChat's
    /// list is read.
    csv: Option<String>,
}

/// How far an import has come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlatformImport {
    /// `running`, `done` or `failed`.
    state: String,
    /// Authorisers that WeChat has said there are.
    total: i64,
    /// Authorisers that were listed.
    listed: i64,
    /// Of these, ones that were not known before.
    added: i64,
    /// Why it is not done.
    error: Option<String>,
    /// Unix milliseconds.
    started_at: i64,
    /// Unix milliseconds.
    updated_at: i64,
}

/// Imports the accounts of a platform that was run by other software. Each is looked at then, as if it had
/// just been authorised.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/import", tag = "platforms", params(("platform" = String, Path)), request_body = ImportToStart, responses(
    (status = 202, body = PlatformImport),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn import(
    write: Write<PlatformRow>,
    JsonBody(body): JsonBody<ImportToStart>,
) -> Result<(StatusCode, Json<PlatformImport>), ApiError> {
    let (services, id) = (write.services(), &*write.object.app_id);
    let tenant = body.tenant_id.as_deref();
    if let Some(tenant) = tenant
        && crate::db::tenants::find(&services.db, tenant)
            .await?
            .is_none()
    {
        return Err(ApiError::not_found("tenant", tenant));
    }
    if let Some(csv) = &body.csv {
        let known = known(services, &write.object)?;
        let given = (tenant, &**csv);
        let taken = platform::import_csv(services, &known, given, &write.author()).await?;
        let now_ms = services.db.now_ms();
        return Ok((
            StatusCode::ACCEPTED,
            Json(PlatformImport {
                state: "done".to_owned(),
                total: taken.lines,
                listed: taken.lines,
                added: taken.added,
                error: None,
                started_at: now_ms,
                updated_at: now_ms,
            }),
        ));
    }
    note(
        &write,
        Action::PlatformImport,
        tenant.unwrap_or("unclaimed"),
    )
    .await?;
    platform_imports::start(&services.db, id, tenant).await?;
    Ok((StatusCode::ACCEPTED, Json(import_of(services, id).await?)))
}

/// Shows how far the last import has come.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}/import", tag = "platforms", params(("platform" = String, Path)), responses(
    (status = 200, body = PlatformImport),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show_import(read: Read<PlatformRow>) -> Result<Json<PlatformImport>, ApiError> {
    let import = import_of(read.services(), &read.object.app_id).await?;
    Ok(Json(import))
}

async fn import_of(services: &Services, platform: &str) -> Result<PlatformImport, ApiError> {
    let row = platform_imports::find(&services.db, platform).await?;
    let row = row.ok_or_else(|| ApiError::not_found("import of platform", platform))?;
    Ok(PlatformImport {
        state: row.state,
        total: row.total,
        listed: row.listed,
        added: row.added,
        error: row.error,
        started_at: row.started_at,
        updated_at: row.updated_at,
    })
}

async fn mended(write: &Write<PlatformRow>) {
    write.announce().await;
    let services = write.services();
    if let Some(known) = services.accounts.platform(&write.object.app_id) {
        services.client.tokens().clear_platform_backoff(&known);
    }
}

async fn note(write: &Write<PlatformRow>, action: Action, object: &str) -> Result<(), ApiError> {
    let entry = write
        .author()
        .entry(action, Some(&write.object.app_id), object, "asked");
    // What WeChat will do can't be taken back when the audit can't be written.
    Ok(write.services().audit.write(entry).await?)
}

pub(super) fn known(
    services: &Services,
    row: &PlatformRow,
) -> Result<std::sync::Arc<Known>, ApiError> {
    let known = services.accounts.platform(&row.app_id);
    known.ok_or_else(|| ApiError::not_found("platform", &row.app_id))
}
