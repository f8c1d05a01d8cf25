//! `…/accounts/{app_id}/push/{kind}` and `…/pushes`: what a tenant's system has sent to many people.

mod forecast;
mod request;
mod schedules;
mod table;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::request::PushToMake;
// With what `routes!` finds beside each handler.
pub(super) use self::forecast::*;
pub(super) use self::schedules::*;
use super::{Caller, TenantState};
use crate::audit::Action;
use crate::db::push::{self, Arrival, Outcome, PushRow, Turn};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{JsonBody, Path, Query};
use crate::http::page::PageSize;
use crate::keys::Grant;

/// Bytes of a request's body.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// A push. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Push {
    /// Names it.
    id: String,
    /// What kind it is.
    kind: String,
    /// What the caller called the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// `running` (also before it begins), `paused`, `cancelled` or `done`.
    state: String,
    /// Recipients; more come while an audience is taken over.
    recipients: i64,
    /// Whether all of the audience is among them.
    is_complete: bool,
    /// Those who wait.
    queued: i64,
    /// Those who waited when it was cancelled.
    cancelled: i64,
    /// Those that WeChat took it for, or holds it for review.
    sent: i64,
    /// Of these, those that WeChat tells it was delivered to. It tells of templates only.
    delivered: i64,
    /// Of these, those that WeChat tells it was not delivered to: they block the account, or WeChat failed.
    undelivered: i64,
    /// Those that WeChat refused it for.
    failed: i64,
    /// Those that were not tried.
    skipped: i64,
    /// Those of whom nobody knows whether it was sent.
    unknown: i64,
    /// Whether it does not wait for the account's quiet hours to end.
    urgent: bool,
    /// When it begins.
    starts_at: i64,
    /// When those who still wait are not sent to any more.
    expires_at: i64,
    /// When it came.
    created_at: i64,
    /// When it ended.
    ended_at: Option<i64>,
}

impl From<PushRow> for Push {
    fn from(row: PushRow) -> Self {
        let (queued, cancelled) = match is_cancelled(&row) {
            false => (row.open(), 0),
            true => (0, row.open()),
        };
        Self {
            queued,
            cancelled,
            is_complete: row.audience.is_none(),
            id: row.id,
            kind: row.kind,
            reference: row.reference,
            state: row.state,
            recipients: row.recipients,
            sent: row.sent,
            delivered: row.delivered,
            undelivered: row.undelivered,
            failed: row.failed,
            skipped: row.skipped,
            unknown: row.unsure,
            urgent: row.is_urgent == Some(1),
            starts_at: row.starts_at,
            expires_at: row.expires_at,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

fn is_cancelled(push: &PushRow) -> bool {
    push.state == push::CANCELLED
}

/// A page of pushes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pushes {
    /// The newest first.
    pushes: Vec<Push>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which pushes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PushQuery {
    /// Older than this one.
    before: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// What became of one recipient.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recipient {
    /// Who.
    open_id: String,
    /// `queued`, `sent`, `delivered`, `undelivered`, `held` (WeChat reviews it), `failed`, `skipped`,
    /// `unknown` or `cancelled`.
    state: &'static str,
    /// Which message was sent, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<u32>,
    /// WeChat's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    msgid: Option<String>,
    /// WeChat's code, or why it was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Recipient {
    fn of(open_id: String, outcome: Outcome, is_cancelled: bool) -> Self {
        let state = match is_cancelled && outcome.is_open() {
            true => push::CANCELLED,
            false => outcome.state(),
        };
        let (way, msgid, reason) = match outcome {
            Outcome::Sent {
                way,
                msgid,
                arrival,
            } => {
                let reason = match arrival {
                    Arrival::Undelivered(words) => Some(words),
                    Arrival::Untold | Arrival::Delivered => None,
                };
                (Some(way), msgid, reason)
            }
            Outcome::Held { msgid } => (None, msgid, None),
            Outcome::Failed(why) | Outcome::Skipped(why) => (None, None, Some(why)),
            Outcome::Open { .. } | Outcome::Unsure => (None, None, None),
        };
        Self {
            open_id,
            state,
            way,
            msgid,
            reason,
        }
    }
}

/// What is to be recalled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recall {
    /// As the pushes were given it.
    reference: String,
}

/// What was recalled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recalled {
    /// The pushes that are cancelled now; those that had ended are not among them.
    ids: Vec<String>,
}

/// A page of recipients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recipients {
    /// In the order in which they are sent to; up to 500.
    recipients: Vec<Recipient>,
    /// Give it as `cursor` for the next page; absent on the last one so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which recipients to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RecipientQuery {
    /// `next` of the page before.
    cursor: Option<i64>,
}

/// Has something sent to one person or to many. It is durable when it is answered. A repetition with the
/// same `Idempotency-Key` and body is answered with the same push; another body under that key is refused.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/push/{kind}", tag = "for tenants' systems", params(("app_id" = String, Path), ("kind" = String, Path, description = "`text`, `template`, `text-or-template`, or a kind of the plugin's"), ("Idempotency-Key" = Option<String>, Header)), request_body = PushToMake, security(("api_key" = [])), responses(
    (status = 202, body = Push),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn make(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, kind)): Path<(String, String)>,
    headers: HeaderMap,
    JsonBody(wanted): JsonBody<PushToMake>,
) -> Result<(StatusCode, Json<Push>), ApiError> {
    let made = request::add(&state, &caller, (&app_id, &kind), (&headers, wanted)).await;
    let object = made.as_ref().map_or(&kind, |push| &push.id);
    let result = made.as_ref().map(|_| "ok");
    caller.note(&state, (Action::PushMake, &app_id, object), result);
    made.map(|push| (StatusCode::ACCEPTED, Json(push.into())))
}

async fn find(
    state: &TenantState,
    caller: &Caller,
    (app_id, id): (&str, &str),
) -> Result<PushRow, ApiError> {
    caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let push = push::find(&state.services.db, app_id, id).await?;
    push.ok_or_else(|| ApiError::not_found("push", id))
}

/// Lists an account's pushes.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pushes", tag = "for tenants' systems", params(("app_id" = String, Path), PushQuery), security(("api_key" = [])), responses(
    (status = 200, body = Pushes),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    Query(query): Query<PushQuery>,
) -> Result<Json<Pushes>, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Push)?;
    let size = PageSize::of(query.limit)?;
    let before = query.before.as_deref();
    let rows = push::list(&state.services.db, &app_id, before, size.rows()).await?;
    let page = size.page(rows, |row| row.id.clone());
    Ok(Json(Pushes {
        pushes: page.items.into_iter().map(Push::from).collect(),
        next: page.next,
    }))
}

/// Shows a push and how far it has come.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pushes/{id}", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Push),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Push>, ApiError> {
    Ok(Json(find(&state, &caller, (&app_id, &id)).await?.into()))
}

/// Lists what became of a push's recipients.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pushes/{id}/recipients", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path), RecipientQuery), security(("api_key" = [])), responses(
    (status = 200, body = Recipients),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn recipients_of(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
    Query(query): Query<RecipientQuery>,
) -> Result<Json<Recipients>, ApiError> {
    let push = find(&state, &caller, (&app_id, &id)).await?;
    let number = query.cursor.unwrap_or_default();
    let page = (&*app_id, &*id);
    let block = push::recipients(&state.services.db, page, number).await?;
    let next = push::recipients(&state.services.db, page, number.saturating_add(1)).await?;
    let recipients = block.map_or_else(Vec::new, |block| {
        let recipients = block.open_ids.into_iter().zip(block.outcomes);
        recipients
            .map(|(open_id, outcome)| Recipient::of(open_id, outcome, is_cancelled(&push)))
            .collect()
    });
    Ok(Json(Recipients {
        recipients,
        next: next.map(|block| block.number.to_string()),
    }))
}

/// Gives what became of a push's recipients as a table (CSV), a row each.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/pushes/{id}/recipients.csv", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = String, content_type = "text/csv"),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn table_of(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let push = find(&state, &caller, (&app_id, &id)).await?;
    Ok(table::answer(state.services.db.clone(), push))
}

/// Recalls what has not left yet of all pushes under a reference.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pushes/recall", tag = "for tenants' systems", params(("app_id" = String, Path)), request_body = Recall, security(("api_key" = [])), responses(
    (status = 200, body = Recalled),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn recall(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    JsonBody(wanted): JsonBody<Recall>,
) -> Result<Json<Recalled>, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Push)?;
    request::check_reference(&wanted.reference)?;
    let db = &state.services.db;
    let recalled = push::recall(db, (&app_id, &wanted.reference), db.now_ms()).await;
    let recalled = recalled.map_err(ApiError::from);
    let result = recalled.as_ref().map(|_| "ok");
    let object = format!("{}: recalled", wanted.reference);
    caller.note(&state, (Action::PushTurn, &app_id, &object), result);
    Ok(Json(Recalled { ids: recalled? }))
}

/// Pauses a push: nothing more leaves until it is resumed.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pushes/{id}/pause", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Push),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn pause(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Push>, ApiError> {
    turn(&state, &caller, (&app_id, &id), Turn::Pause).await
}

/// Lets a push that was paused go on.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pushes/{id}/resume", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Push),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn resume(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Push>, ApiError> {
    turn(&state, &caller, (&app_id, &id), Turn::Resume).await
}

/// Ends a push: nothing more leaves.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/pushes/{id}/cancel", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Push),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn cancel(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Push>, ApiError> {
    turn(&state, &caller, (&app_id, &id), Turn::Cancel).await
}

async fn turn(
    state: &TenantState,
    caller: &Caller,
    (app_id, id): (&str, &str),
    turn: Turn,
) -> Result<Json<Push>, ApiError> {
    let turned = turned(state, caller, (app_id, id), turn).await;
    let object = format!("{id}: {}", turn.state());
    let result = turned.as_ref().map(|_| "ok");
    caller.note(state, (Action::PushTurn, app_id, &object), result);
    turned.map(|push| Json(push.into()))
}

async fn turned(
    state: &TenantState,
    caller: &Caller,
    (app_id, id): (&str, &str),
    turn: Turn,
) -> Result<PushRow, ApiError> {
    find(state, caller, (app_id, id)).await?;
    if !push::turn(
        &state.services.db,
        (app_id, id),
        turn,
        state.services.db.now_ms(),
    )
    .await?
    {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "push-ended",
            "the push has ended",
        ));
    }
    state.services.push.notify_one();
    find(state, caller, (app_id, id)).await
}
