//! `/api/v1/audit`: who did what.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{PageSize, Query, Read, permission::Everything};
use crate::{
    db::audit::{self, AuditFilter, AuditRow},
    http::error::{ApiError, ErrorBody},
};

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditEntry {
    /// Names the entry.
    id: String,
    /// Unix milliseconds.
    at: i64,
    /// `admin`, `host` (by itself), the id of an API key, or `unknown` (a failed sign-in).
    actor: String,
    /// What was done, such as `key.add`, `contacts.read`, `token.export`, `forward` or `sign-in`.
    action: String,
    /// The account that it was done to, if one.
    app_id: Option<String>,
    /// What else it was done to: a key, a deployment, a forwarded method and path.
    object: String,
    /// `ok`, or what came of it: an HTTP status, WeChat's errcode, the code of a refusal.
    result: String,
    /// The request, as in the host's log.
    request_id: String,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.created_at,
            actor: row.actor,
            action: row.action,
            app_id: row.app_id,
            object: row.object,
            result: row.result,
            request_id: row.request_id,
        }
    }
}

/// A page of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditEntries {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Of this account only.
    app_id: Option<String>,
    /// Of this actor only: `admin`, or the id of an API key.
    actor: Option<String>,
    /// Older than the entry of this id.
    before: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Lists what was done: changes, looks at what people wrote or did, failed sign-ins. What tenants' systems
/// had passed on shows up within a second.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), responses(
    (status = 200, body = AuditEntries),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<Everything>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditEntries>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let filter = AuditFilter {
        app_id: query.app_id.as_deref(),
        actor: query.actor.as_deref(),
        before: query.before.as_deref(),
        limit: size.rows(),
    };
    let rows = audit::list(&read.services().db, &filter).await?;
    let page = size.page(rows, |row| row.id.clone());
    Ok(Json(AuditEntries {
        entries: page.items.into_iter().map(AuditEntry::from).collect(),
        next: page.next,
    }))
}
