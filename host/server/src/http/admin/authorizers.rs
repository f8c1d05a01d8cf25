//! `/api/v1/platforms/{platform}/authorizers`: the accounts that have let a platform serve them.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::api::component::AuthorizerInfo;
use wxhost_wechat::component::permission;

use super::{JsonBody, PageSize, Path, Query, Read, Write};
use crate::audit::Action;
use crate::db::authorisations::{self, AuthorisationFilter, AuthorisationRow};
use crate::db::platforms::PlatformRow;
use crate::db::{accounts, tenants};
use crate::http::error::{ApiError, ErrorBody};

/// A permission set (权限集).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct PermissionSet {
    /// WeChat's number.
    #[schema(example = 7)]
    id: u32,
    /// WeChat's word, where it is known.
    #[schema(example = "群发与通知")]
    name: Option<&'static str>,
}

impl PermissionSet {
    pub(super) fn of(id: u32) -> Self {
        Self {
            id,
            name: permission::name(id),
        }
    }
}

/// An account that has let a platform serve it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Authorizer {
    /// The account.
    app_id: String,
    /// `standing` or `withdrawn`.
    state: String,
    /// Whose the account is; nobody has claimed it where it is absent.
    tenant_id: Option<String>,
    /// The account's name.
    name: String,
    /// Who owns it.
    principal_name: String,
    /// Address of its picture at WeChat's.
    head_img: String,
    /// `subscription` or `service`.
    #[schema(example = "service")]
    kind: Option<&'static str>,
    /// Whether WeChat has verified it.
    is_verified: Option<bool>,
    /// 原始 ID.
    original_id: String,
    /// What the platform may do.
    permission_sets: Vec<PermissionSet>,
    /// Whether the next token can be got.
    has_refresh_token: bool,
    /// WeChat's time of its last word about it, Unix milliseconds.
    told_at: i64,
    /// When the host last read what it is, Unix milliseconds.
    facts_at: Option<i64>,
    /// Why it is not served.
    error: Option<String>,
}

impl From<AuthorisationRow> for Authorizer {
    fn from(row: AuthorisationRow) -> Self {
        // Written by this host only, so they parse.
        let info: AuthorizerInfo = row
            .facts
            .as_deref()
            .and_then(|facts| serde_json::from_str(facts).ok())
            .unwrap_or_default();
        let sets: Vec<u32> = serde_json::from_str(&row.permission_sets).unwrap_or_default();
        Self {
            app_id: row.app_id,
            state: row.state,
            tenant_id: row.tenant_id,
            kind: info.service_type_info.id.map(|id| match id {
                2 => "service",
                _ => "subscription",
            }),
            // Verified by Weibo alone gives no rights.
            is_verified: info.verify_type_info.id.map(|id| matches!(id, 0 | 3 | 4)),
            name: info.nick_name,
            principal_name: info.principal_name,
            head_img: info.head_img,
            original_id: info.user_name,
            permission_sets: sets.into_iter().map(PermissionSet::of).collect(),
            has_refresh_token: row.refresh_token_sealed.is_some(),
            told_at: row.told_at,
            facts_at: row.facts_at,
            error: row.error,
        }
    }
}

/// A page of authorisers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Authorizers {
    /// In order of their app ids.
    authorizers: Vec<Authorizer>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which authorisers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuthorizerQuery {
    /// `standing`, `withdrawn` or `unclaimed`.
    state: Option<String>,
    /// Of this tenant only.
    tenant: Option<String>,
    /// After this app id.
    after: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// For whom an account is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// The tenant.
    tenant_id: String,
}

/// Lists the accounts that have let a platform serve them.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}/authorizers", tag = "platforms", params(("platform" = String, Path), AuthorizerQuery), responses(
    (status = 200, body = Authorizers),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<PlatformRow>,
    Query(query): Query<AuthorizerQuery>,
) -> Result<Json<Authorizers>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let state = query.state.as_deref();
    if state.is_some_and(|word| !["standing", "withdrawn", "unclaimed"].contains(&word)) {
        let reason = "must be standing, withdrawn or unclaimed";
        return Err(ApiError::invalid("state", reason));
    }
    let filter = AuthorisationFilter {
        state,
        tenant_id: query.tenant.as_deref(),
    };
    let after = (query.after.as_deref().unwrap_or_default(), size.rows());
    let db = &read.services().db;
    let rows = authorisations::list(db, &read.object.app_id, filter, after).await?;
    let page = size.page(rows, |row| row.app_id.clone());
    Ok(Json(Authorizers {
        authorizers: page.items.into_iter().map(Authorizer::from).collect(),
        next: page.next,
    }))
}

/// Shows one of them.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}/authorizers/{app_id}", tag = "platforms", params(("platform" = String, Path), ("app_id" = String, Path)), responses(
    (status = 200, body = Authorizer),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(
    read: Read<PlatformRow>,
    Path((platform, app_id)): Path<(String, String)>,
) -> Result<Json<Authorizer>, ApiError> {
    let found = authorisations::find(&read.services().db, &app_id, &platform).await?;
    let row = found.ok_or_else(|| ApiError::not_found("authorizer", &app_id))?;
    Ok(Json(row.into()))
}

/// Gives an account to a tenant: one that has come without an invitation, or is to change from its own
/// AppSecret to the platform.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/authorizers/{app_id}/claim", tag = "platforms", params(("platform" = String, Path), ("app_id" = String, Path)), request_body = Claim, responses(
    (status = 202, body = Authorizer),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn claim(
    write: Write<PlatformRow>,
    Path((platform, app_id)): Path<(String, String)>,
    JsonBody(body): JsonBody<Claim>,
) -> Result<(StatusCode, Json<Authorizer>), ApiError> {
    let db = &write.services().db;
    if tenants::find(db, &body.tenant_id).await?.is_none() {
        return Err(ApiError::not_found("tenant", &body.tenant_id));
    }
    let found = authorisations::find(db, &app_id, &platform).await?;
    if found.is_none() {
        return Err(ApiError::not_found("authorizer", &app_id));
    }
    let another = || {
        ApiError::new(
            StatusCode::CONFLICT,
            "account-of-another-tenant",
            "the account belongs to another tenant, or its authorisation was withdrawn",
        )
    };
    if let Some(account) = accounts::find(db, &app_id).await?
        && account.tenant_id != body.tenant_id
    {
        return Err(another());
    }
    let mut change = db.change().await?;
    let key = (&*app_id, &*platform);
    if !authorisations::claim(&mut change, key, &body.tenant_id, db.now_ms()).await? {
        return Err(another());
    }
    let object = format!("claimed for {}", body.tenant_id);
    write
        .author()
        .note(&mut change, Action::PlatformImport, Some(&app_id), &object)
        .await?;
    change.commit().await?;
    let row = authorisations::find(db, &app_id, &platform).await?;
    let row = row.ok_or_else(|| ApiError::not_found("authorizer", &app_id))?;
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}
