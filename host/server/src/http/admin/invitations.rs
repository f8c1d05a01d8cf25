//! `/api/v1/platforms/{platform}/invitations`: links by which tenants' customers let a platform serve their
//! accounts.

use std::time::Duration;

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::id::AppId;

use super::platforms::known;
use super::{JsonBody, PageSize, Path, Query, Read, Write};
use crate::db::invitations::{self, InvitationRow};
use crate::db::platforms::PlatformRow;
use crate::http::error::{ApiError, ErrorBody};
use crate::platform::{self, NewInvitation};

/// How long an invitation is good for, where nobody says.
const GOOD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// An invitation to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InvitationToMake {
    /// Whose the account becomes.
    tenant_id: String,
    /// For people: the customer sees who invites them.
    #[serde(default)]
    name: String,
    /// The one account that is meant; without it, any that its visitor administers.
    app_id: Option<String>,
    /// The account whose settings, plugin and quotas the new one gets; the tenant's `like` if absent.
    like: Option<String>,
    /// 1 to 7776000 (90 days); a week if absent.
    expires_in_seconds: Option<u64>,
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invitation {
    /// Names it; not what stands in the link.
    id: String,
    /// Whose the account becomes.
    tenant_id: String,
    /// For people.
    name: String,
    /// The account that is meant, or that has come by it.
    app_id: Option<String>,
    /// The account whose settings the new one gets.
    like: Option<String>,
    /// `open`, `used` or `revoked`.
    state: String,
    /// Unix milliseconds.
    expires_at: i64,
    /// Unix milliseconds.
    created_at: i64,
    /// Unix milliseconds.
    used_at: Option<i64>,
}

impl From<InvitationRow> for Invitation {
    fn from(row: InvitationRow) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            app_id: row.app_id.or(row.biz_app_id),
            like: row.like_app_id,
            state: row.state,
            expires_at: row.expires_at,
            created_at: row.created_at,
            used_at: row.used_at,
        }
    }
}

/// An invitation that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewlyMadeInvitation {
    /// What is known of it from now on.
    #[serde(flatten)]
    about: Invitation,
    /// The page that the customer opens. It is not shown again.
    #[schema(example = "https://wx.example/component/wx0123456789abcdef/invitations/…")]
    url: String,
    /// A picture of it, to be scanned (SVG).
    qr_url: String,
}

/// A page of invitations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invitations {
    /// In order of their ids.
    invitations: Vec<Invitation>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which invitations to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct InvitationQuery {
    /// Of this tenant only.
    tenant: Option<String>,
    /// After this id.
    after: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Makes an invitation. Its link is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/platforms/{platform}/invitations", tag = "platforms", params(("platform" = String, Path)), request_body = InvitationToMake, responses(
    (status = 201, body = NewlyMadeInvitation),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn make(
    write: Write<PlatformRow>,
    JsonBody(body): JsonBody<InvitationToMake>,
) -> Result<(StatusCode, Json<NewlyMadeInvitation>), ApiError> {
    let app_id = body.app_id.as_deref().map(AppId::parse).transpose();
    let wanted = NewInvitation {
        tenant_id: body.tenant_id,
        name: body.name,
        biz_app_id: app_id.map_err(|e| ApiError::invalid("app_id", e))?,
        like_app_id: body.like,
        good_for: body
            .expires_in_seconds
            .map_or(GOOD_FOR, Duration::from_secs),
    };
    let services = write.services();
    let known = known(services, &write.object)?;
    let made = platform::invite(services, &known, wanted, &write.author()).await?;
    let made = NewlyMadeInvitation {
        about: made.row.into(),
        qr_url: format!("{}/qr.svg", made.url),
        url: made.url,
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Lists invitations.
#[utoipa::path(get, path = "/api/v1/platforms/{platform}/invitations", tag = "platforms", params(("platform" = String, Path), InvitationQuery), responses(
    (status = 200, body = Invitations),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<PlatformRow>,
    Query(query): Query<InvitationQuery>,
) -> Result<Json<Invitations>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let after = (query.after.as_deref().unwrap_or_default(), size.rows());
    let tenant = query.tenant.as_deref();
    let db = &read.services().db;
    let rows = invitations::list(db, &read.object.app_id, tenant, after).await?;
    let page = size.page(rows, |row| row.id.clone());
    Ok(Json(Invitations {
        invitations: page.items.into_iter().map(Invitation::from).collect(),
        next: page.next,
    }))
}

/// Takes an invitation back; one that was used stays so.
#[utoipa::path(delete, path = "/api/v1/platforms/{platform}/invitations/{id}", tag = "platforms", params(("platform" = String, Path), ("id" = String, Path)), responses(
    (status = 200, body = Invitation),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn revoke(
    write: Write<PlatformRow>,
    Path((platform, id)): Path<(String, String)>,
) -> Result<Json<Invitation>, ApiError> {
    let db = &write.services().db;
    let row = platform::revoke(db, &platform, &id, &write.author()).await?;
    Ok(Json(row.into()))
}
