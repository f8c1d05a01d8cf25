//! `/api/v1/tenants`.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JsonBody, Read, Write, accounts::even_null, permission::Everything};
use crate::{
    accounts::NewTenant,
    audit::Action,
    db::tenants::{self, TenantRow},
    http::error::{ApiError, ErrorBody},
};

/// Calls of a tenant at the same time, where the operator does not say.
const MAX_CONCURRENT_CALLS: u32 = 64;

/// A tenant to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantToAdd {
    /// 1 to 64 of `[a-z0-9_-]`.
    #[schema(example = "acme")]
    id: String,
    /// For people.
    #[serde(default)]
    name: String,
    /// How many of its plugins' calls may run at the same time; 64 if absent.
    max_concurrent_calls: Option<u32>,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tenant {
    /// Its name in the API.
    id: String,
    /// For people.
    name: String,
    /// How many of its plugins' calls may run at the same time.
    max_concurrent_calls: i64,
    /// The account whose settings, plugin and quotas accounts get that come by an invitation.
    like: Option<String>,
    /// Unix milliseconds.
    created_at: i64,
}

/// What is to be changed of a tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantToChange {
    /// The account whose settings, plugin and quotas accounts get that come by an invitation; `null` for none.
    #[serde(default, deserialize_with = "even_null")]
    #[schema(value_type = Option<String>)]
    like: Option<Option<String>>,
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            max_concurrent_calls: row.max_concurrent_calls,
            like: row.like_app_id,
            created_at: row.created_at,
        }
    }
}

/// All tenants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tenants {
    /// Oldest first.
    tenants: Vec<Tenant>,
}

/// Adds a tenant.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = TenantToAdd, responses(
    (status = 201, body = Tenant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add(
    write: Write<Everything>,
    JsonBody(body): JsonBody<TenantToAdd>,
) -> Result<(StatusCode, Json<Tenant>), ApiError> {
    let tenant = NewTenant {
        id: body.id,
        name: body.name,
        max_concurrent_calls: body.max_concurrent_calls.unwrap_or(MAX_CONCURRENT_CALLS),
    };
    let accounts = &write.services().accounts;
    let row = accounts.add_tenant(tenant, &write.author()).await?;
    write.announce().await;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Lists all tenants.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", responses(
    (status = 200, body = Tenants),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(read: Read<Everything>) -> Result<Json<Tenants>, ApiError> {
    let rows = tenants::changed_after(&read.services().db, -1).await?;
    let tenants = rows.into_iter().map(Tenant::from).collect();
    Ok(Json(Tenants { tenants }))
}

/// Shows a tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path)), responses(
    (status = 200, body = Tenant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(read: Read<TenantRow>) -> Result<Json<Tenant>, ApiError> {
    Ok(Json(read.object.into()))
}

/// Changes a tenant.
#[utoipa::path(patch, path = "/api/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path)), request_body = TenantToChange, responses(
    (status = 200, body = Tenant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change(
    write: Write<TenantRow>,
    JsonBody(body): JsonBody<TenantToChange>,
) -> Result<Json<Tenant>, ApiError> {
    let services = write.services();
    let mut row = write.object.clone();
    if let Some(like) = body.like {
        if let Some(app_id) = &like
            && services.accounts.get(app_id).is_none()
        {
            return Err(ApiError::not_found("account", app_id));
        }
        let mut change = services.db.change().await?;
        tenants::set_like(&mut change, &row.id, like.as_deref()).await?;
        let object = format!("{} like {}", row.id, like.as_deref().unwrap_or("nothing"));
        write
            .author()
            .note(&mut change, Action::TenantChange, None, &object)
            .await?;
        change.commit().await?;
        row.like_app_id = like;
    }
    Ok(Json(row.into()))
}
