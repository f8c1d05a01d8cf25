//! `/api/v1/accounts/{app_id}/outbox`: what an account has to send, and what came of it.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Look, PageSize, Query, Read, Write, permission};
use crate::{
    audit::Action,
    db::{
        accounts::AccountRow,
        outbox::{self, OutboxFilter, OutboxRow},
    },
    http::error::{ApiError, ErrorBody},
    services::Services,
};

/// Something that was to be sent. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutboxEntry {
    /// Names it.
    id: String,
    /// The event that it comes from.
    event_id: String,
    /// Where it stands among those of its event; 0 is the event's own answer.
    ordinal: i64,
    /// `late-answer`, `customer-message`, `template`, `subscription`, `tags` or `remark`.
    kind: String,
    /// Whom it concerns.
    open_id: String,
    /// `waiting`, `sending`, `sent`, `failed` (WeChat refused it), `dead` (tried too often or for too
    /// long), `skipped` (not tried: in vain, or not wanted), `unknown` (nobody knows whether it was sent)
    /// or `held` (WeChat reviews it, and delivers or blocks it by itself).
    state: String,
    /// Why it ended so or waits: `opted-out`, `expired`, `window-closed`, `allowance-used-up`, `no-right`,
    /// `wechat-refused`, `timeout`, `repeated-after-unknown-outcome` …
    reason: Option<String>,
    /// When the first try began of which nobody knows what came; the contact may have been sent it then.
    unsure_at: Option<i64>,
    /// When it ends if it was not sent until then; absent once it has ended.
    expires_at: Option<i64>,
    /// When it is looked at next; absent once it has ended.
    due_at: Option<i64>,
    /// Tries so far.
    attempts: i64,
    /// WeChat's code.
    errcode: Option<i64>,
    /// WeChat's text.
    errmsg: Option<String>,
    /// WeChat's id of the message.
    msgid: Option<String>,
    /// The trace of the event.
    trace_id: String,
    /// When it was decided.
    created_at: i64,
    /// When it ended.
    settled_at: Option<i64>,
}

impl From<OutboxRow> for OutboxEntry {
    fn from(row: OutboxRow) -> Self {
        Self {
            due_at: row.settled_at.is_none().then_some(row.due_at),
            unsure_at: row.unsure_at,
            expires_at: row.expires_at.filter(|_| row.settled_at.is_none()),
            id: row.id,
            event_id: row.event_id,
            ordinal: row.ordinal,
            kind: row.kind,
            open_id: row.open_id,
            state: row.state,
            reason: row.reason,
            attempts: row.attempts,
            errcode: row.errcode,
            errmsg: row.errmsg,
            msgid: row.msgid,
            trace_id: row.trace_id,
            created_at: row.created_at,
            settled_at: row.settled_at,
        }
    }
}

/// A page of the outbox.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outbox {
    /// Newest first.
    outbox: Vec<OutboxEntry>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OutboxQuery {
    /// In this state only.
    state: Option<String>,
    /// Of this contact only.
    open_id: Option<String>,
    /// `next` of the page before.
    before: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Lists what an account has to send, and what was sent.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/outbox", tag = "outbox", params(("app_id" = String, Path), OutboxQuery), responses(
    (status = 200, body = Outbox),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    look: Look<permission::Outbox, AccountRow>,
    Query(query): Query<OutboxQuery>,
) -> Result<Json<Outbox>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let filter = OutboxFilter {
        app_id: &look.object.app_id,
        state: query.state.as_deref(),
        open_id: query.open_id.as_deref(),
        before: query.before.as_deref(),
        limit: size.rows(),
    };
    let rows = outbox::list(&look.services().db, filter).await?;
    let page = size.page(rows, |row| row.id.clone());
    Ok(Json(Outbox {
        outbox: page.items.into_iter().map(OutboxEntry::from).collect(),
        next: page.next,
    }))
}

/// Something for which nothing is sent until a time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pause {
    /// The API, such as `/cgi-bin/message/template/send`; empty for all of the account's.
    path: String,
    /// Unix milliseconds.
    until_at: i64,
    /// Why: `wechat-refused`, `no-right`, `no-answers`, `account-blocked`, `account-disabled` …
    reason: String,
    /// WeChat's code.
    errcode: Option<i64>,
    /// Whether messages end meanwhile rather than wait.
    ends: bool,
}

/// The pauses of an account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pauses {
    /// By API.
    pauses: Vec<Pause>,
}

/// Which pause.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PauseQuery {
    /// The API; absent for the pause of the whole account.
    path: Option<String>,
}

/// Lists what of an account's messages rests, and until when.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/outbox/pauses", tag = "outbox", params(("app_id" = String, Path)), responses(
    (status = 200, body = Pauses),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn pauses(read: Read<AccountRow>) -> Result<Json<Pauses>, ApiError> {
    pauses_of(read.services(), &read.object.app_id).await
}

/// Lifts a pause: what waits is tried again at once. If WeChat refuses still, it begins anew.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/outbox/pauses", tag = "outbox", params(("app_id" = String, Path), PauseQuery), responses(
    (status = 200, body = Pauses),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn lift(
    write: Write<AccountRow>,
    Query(query): Query<PauseQuery>,
) -> Result<Json<Pauses>, ApiError> {
    let (services, app_id) = (write.services(), &*write.object.app_id);
    let path = query.path.unwrap_or_default();
    let mut change = services.db.change().await?;
    if !outbox::lift(&services.db, &mut change, app_id, &path).await? {
        return Err(ApiError::new(
            axum::http::StatusCode::NOT_FOUND,
            "no-such-pause",
            "nothing of this account rests for that API",
        ));
    }
    let author = write.author();
    author
        .note(&mut change, Action::PauseLift, Some(app_id), &path)
        .await?;
    change.commit().await?;
    pauses_of(services, app_id).await
}

async fn pauses_of(services: &Services, app_id: &str) -> Result<Json<Pauses>, ApiError> {
    let pauses = outbox::pauses(&services.db, app_id, services.db.now_ms()).await?;
    let pauses = pauses.into_iter().map(|pause| Pause {
        path: pause.path,
        until_at: pause.until_at,
        reason: pause.reason,
        errcode: pause.errcode,
        ends: pause.ends == Some(1),
    });
    Ok(Json(Pauses {
        pauses: pauses.collect(),
    }))
}
