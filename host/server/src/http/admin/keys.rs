//! `/api/v1/keys`: what tenants' own systems call the host with.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{JsonBody, PageSize, Path, Query, Read, Write, permission::Everything};
use crate::{
    db::keys::{self, KeyFilter, KeyRow},
    http::error::{ApiError, ErrorBody},
    keys::{DEFAULT_RATE, KeyGrants, NewKey},
};

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyToAdd {
    /// Whose systems will use it.
    tenant_id: String,
    /// For people.
    #[serde(default)]
    name: String,
    /// The accounts that it reaches; every account of the tenant, later ones included, if absent.
    app_ids: Option<Vec<String>>,
    /// What it may do: `access-token` (be given the access token), `jsapi-ticket` (be given tickets), `push`
    /// (have something sent to people), `jssdk-signature` (have pages signed), `login` (learn who has logged in
    /// to the accounts' pages), `forward` (have any request passed on to WeChat) or `forward:<path prefix>`.
    #[schema(example = json!(["forward:/cgi-bin/message", "jssdk-signature"]))]
    grants: Vec<String>,
    /// Requests a minute, 1 to 60000; 600 if absent.
    rate_per_minute: Option<u32>,
}

/// A key, without itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Key {
    /// Names it, here and in the audit.
    id: String,
    /// Whose systems use it.
    tenant_id: String,
    /// For people.
    name: String,
    /// The accounts that it reaches; every account of the tenant if `null`.
    app_ids: Option<Vec<String>>,
    /// What it may do.
    grants: Vec<String>,
    /// Requests a minute.
    rate_per_minute: i64,
    /// Unix milliseconds.
    created_at: i64,
    /// Unix milliseconds; `null` while it is good.
    revoked_at: Option<i64>,
    /// Unix milliseconds, up to a minute late.
    last_used_at: Option<i64>,
}

impl TryFrom<KeyRow> for Key {
    type Error = ApiError;

    fn try_from(row: KeyRow) -> Result<Self, ApiError> {
        let list = |text: &str| serde_json::from_str(text).map_err(ApiError::internal);
        Ok(Self {
            app_ids: row.app_ids.as_deref().map(list).transpose()?,
            grants: list(&row.grants)?,
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            rate_per_minute: row.rate_per_minute,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
        })
    }
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewlyMadeKey {
    /// What is known of it from now on.
    #[serde(flatten)]
    about: Key,
    /// The key itself. It is not shown again.
    #[schema(example = "wxk_…", format = Password)]
    key: String,
    /// What requests are signed with that do not bear the key. It is not shown again.
    #[schema(example = "wxs_…", format = Password)]
    signing_secret: String,
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    /// Newest first, revoked ones included.
    keys: Vec<Key>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KeyQuery {
    /// Of this tenant only.
    tenant: Option<String>,
    /// Older than the key of this id.
    before: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Makes a key. Its texts are in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = KeyToAdd, responses(
    (status = 201, body = NewlyMadeKey),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add(
    write: Write<Everything>,
    JsonBody(body): JsonBody<KeyToAdd>,
) -> Result<(StatusCode, Json<NewlyMadeKey>), ApiError> {
    let key = NewKey {
        tenant_id: body.tenant_id,
        name: body.name,
        app_ids: body.app_ids,
        grants: KeyGrants::parse(&body.grants).map_err(|e| ApiError::invalid("grants", e))?,
        rate_per_minute: body.rate_per_minute.unwrap_or(DEFAULT_RATE),
    };
    let services = write.services();
    let by = (&*services.keys, &write.author());
    let (row, texts) = services.api_keys.add(key, by).await?;
    write.announce().await;
    let made = NewlyMadeKey {
        about: row.try_into()?,
        key: texts.key.expose().to_owned(),
        signing_secret: texts.signing_secret.expose().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Lists keys.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(KeyQuery), responses(
    (status = 200, body = Keys),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<Everything>,
    Query(query): Query<KeyQuery>,
) -> Result<Json<Keys>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let filter = KeyFilter {
        tenant_id: query.tenant.as_deref(),
        before: query.before.as_deref(),
        limit: size.rows(),
    };
    let rows = keys::list(&read.services().db, &filter).await?;
    let page = size.page(rows, |row| row.id.clone());
    let keys = page.items.into_iter().map(Key::try_from);
    Ok(Json(Keys {
        keys: keys.collect::<Result<_, _>>()?,
        next: page.next,
    }))
}

/// Revokes a key, on every host at once. There is no way back.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), responses(
    (status = 200, body = Key),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn revoke(
    write: Write<Everything>,
    Path(id): Path<String>,
) -> Result<Json<Key>, ApiError> {
    let api_keys = &write.services().api_keys;
    let row = api_keys.revoke(&id, &write.author()).await?;
    write.announce().await;
    Ok(Json(row.try_into()?))
}
