//! `/api/v1/calls` and `/api/v1/accounts/{app_id}/calls`: what came of the calls of plugins.

use std::borrow::Cow;

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Look, PageSize, Query, permission};
use crate::{
    db::{
        accounts::AccountRow,
        calls::{self, CallFilter},
    },
    http::error::{ApiError, ErrorBody},
};

/// A call of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Call {
    /// Names it.
    id: String,
    /// The account.
    app_id: String,
    /// The event that it was about.
    event_id: String,
    /// The kind of the event, such as `text`.
    event_kind: String,
    /// The component.
    digest: String,
    /// The deployment.
    version: i64,
    /// `replied`, `no-reply`, `late`, or what went wrong: `timeout`, `trap`, `plugin-error` …
    outcome: String,
    /// Why it failed.
    error: Option<String>,
    /// Microseconds from the event's arrival to its outcome.
    duration_us: i64,
    /// How often the handler ran: more than once when what it read was changed meanwhile.
    runs: i64,
    /// The trace that it belongs to.
    trace_id: String,
    /// Unix milliseconds.
    created_at: i64,
    /// What the plugin wrote, and the backtrace of a trap; only where a single call is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

impl From<calls::Call> for Call {
    fn from(call: calls::Call) -> Self {
        let entry = call.entry;
        Self {
            id: call.id,
            app_id: call.app_id,
            event_id: entry.event_id.into_owned(),
            event_kind: entry.event_kind.into_owned(),
            digest: call.digest,
            version: call.version,
            outcome: entry.outcome.into_owned(),
            error: entry.error.map(Cow::into_owned),
            duration_us: entry.duration_us,
            runs: entry.runs,
            trace_id: entry.trace_id.into_owned(),
            created_at: entry.created_at,
            log: None,
        }
    }
}

/// A page of calls.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Calls {
    /// Newest first.
    calls: Vec<Call>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which calls to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CallQuery {
    /// Of this outcome only.
    outcome: Option<String>,
    /// Older than the call of this id.
    before: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Lists the calls of an account's plugins.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/calls", tag = "calls", params(("app_id" = String, Path), CallQuery), responses(
    (status = 200, body = Calls),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    look: Look<permission::Calls, AccountRow>,
    Query(query): Query<CallQuery>,
) -> Result<Json<Calls>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let filter = CallFilter {
        app_id: &look.object.app_id,
        outcome: query.outcome.as_deref(),
        before: query.before.as_deref(),
        limit: size.rows(),
    };
    let calls = calls::list(&look.services().db, &filter).await?;
    let page = size.page(calls, |call| call.id.clone());
    Ok(Json(Calls {
        calls: page.items.into_iter().map(Call::from).collect(),
        next: page.next,
    }))
}

/// Shows a call with the plugin's log.
#[utoipa::path(get, path = "/api/v1/calls/{id}", tag = "calls", params(("id" = String, Path)), responses(
    (status = 200, body = Call),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(
    look: Look<permission::Calls, calls::Call>,
) -> Result<Json<Call>, ApiError> {
    let mut call = look.object;
    let log = call.entry.log.take().unwrap_or_default().into_owned();
    Ok(Json(Call {
        log: Some(log),
        ..Call::from(call)
    }))
}
