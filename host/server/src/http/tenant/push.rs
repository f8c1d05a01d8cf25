//! `…/accounts/{app_id}/push/{kind}` and `…/pushes`: what a tenant's system has sent to many people.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::id::OpenId;

use super::{Caller, TenantState};
use crate::audit::Action;
use crate::db::push::{self, Added, Outcome, PushRow, Turn};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{JsonBody, Path, Query};
use crate::http::page::PageSize;
use crate::keys::Grant;
use crate::push::{BuiltIn, Content};
use crate::random;

/// Recipients that a request may name.
const MAX_RECIPIENTS: usize = 10_000;
/// Bytes of a request's body.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// Characters of an idempotency key.
const MAX_KEY: usize = 128;
/// How long a push is tried, where the request does not say.
const USUAL_LIFE_MS: i64 = 24 * 3_600_000;
/// The longest that it may be.
const LONGEST_LIFE_MS: i64 = 7 * 24 * 3_600_000;
/// The header that makes a repetition harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Whom a push goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Audience {
    /// All followers that the host knows.
    Followers,
}

/// What is to be sent to whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PushToMake {
    /// Open ids, 10,000 at most; one that comes twice gets it once.
    #[serde(default)]
    recipients: Vec<String>,
    /// In place of `recipients`.
    audience: Option<Audience>,
    /// What is sent. `text`: `{content}`. `template`: `{template_id, fields, url}`. `text-or-template`:
    /// `{text, template}`, where the template goes to whom WeChat takes no customer-service message for.
    #[schema(value_type = Object, example = json!({"content": "Your order has left."}))]
    data: Value,
    /// When those who still wait are not sent to any more, Unix milliseconds; a day from now if absent, a
    /// week at most.
    expires_at: Option<i64>,
}

/// A push. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Push {
    /// Names it.
    id: String,
    /// What kind it is.
    kind: String,
    /// `running`, `paused`, `cancelled` or `done`.
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
    /// Those that WeChat refused it for.
    failed: i64,
    /// Those that were not tried.
    skipped: i64,
    /// Those of whom nobody knows whether it was sent.
    unknown: i64,
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
            state: row.state,
            recipients: row.recipients,
            sent: row.sent,
            failed: row.failed,
            skipped: row.skipped,
            unknown: row.unsure,
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
    /// `queued`, `sent`, `held` (WeChat reviews it), `failed`, `skipped`, `unknown` or `cancelled`.
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
            Outcome::Sent { way, msgid } => (Some(way), msgid, None),
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
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/push/{kind}", tag = "for tenants' systems", params(("app_id" = String, Path), ("kind" = String, Path, description = "`text`, `template` or `text-or-template`"), ("Idempotency-Key" = Option<String>, Header)), request_body = PushToMake, security(("api_key" = [])), responses(
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
    let made = add(&state, &caller, (&app_id, &kind), (&headers, wanted)).await;
    let object = made.as_ref().map_or(&kind, |push| &push.id);
    let result = made.as_ref().map(|_| "ok");
    caller.note(&state, (Action::PushMake, &app_id, object), result);
    made.map(|push| (StatusCode::ACCEPTED, Json(push.into())))
}

async fn add(
    state: &TenantState,
    caller: &Caller,
    (app_id, kind): (&str, &str),
    (headers, wanted): (&HeaderMap, PushToMake),
) -> Result<PushRow, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let built_in = BuiltIn::named(kind).ok_or_else(|| ApiError::not_found("kind of push", kind))?;
    let content =
        Content::read(built_in, &wanted.data).map_err(|error| ApiError::invalid("data", error))?;
    let open_ids = recipients(&wanted)?;
    let now_ms = state.services.db.now_ms();
    let expires_at = wanted.expires_at.unwrap_or(now_ms + USUAL_LIFE_MS);
    if !(now_ms..=now_ms + LONGEST_LIFE_MS).contains(&expires_at) {
        return Err(ApiError::invalid(
            "expires_at",
            "must lie in the future, and within a week",
        ));
    }
    let content = serde_json::to_string(&content).map_err(ApiError::internal)?;
    let mut digest = Sha256::new();
    for part in [kind, &content, &open_ids.join("\n")] {
        digest.update(part);
        digest.update([0]);
    }
    digest.update(wanted.expires_at.unwrap_or_default().to_be_bytes());
    let row = PushRow {
        app_id: account.app_id.as_str().to_owned(),
        id: format!("{:012x}{:016x}", now_ms.max(0), random::version()),
        kind: kind.to_owned(),
        content,
        state: "running".to_owned(),
        idempotency_key: idempotency_key(headers)?,
        request_digest: hex::encode(digest.finalize()),
        audience: wanted.audience.map(|_| "followers".to_owned()),
        taken_to: Vec::new(),
        expires_at,
        recipients: i64::try_from(open_ids.len()).unwrap_or(i64::MAX),
        sent: 0,
        failed: 0,
        skipped: 0,
        unsure: 0,
        created_at: now_ms,
        ended_at: None,
    };
    let db = &state.services.db;
    // A repetition needs no room of its own.
    if let Some(key) = &row.idempotency_key
        && let Some(before) = push::find_by_key(db, app_id, key).await?
    {
        return repeated(before, &row);
    }
    let quotas = &state.services.quotas;
    let room = quotas.take_messages(account.holders(), open_ids.len());
    let room = room.await?.map_err(|over| {
        let message = over.to_string();
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "over-quota", message)
    })?;
    match push::add(db, &row, &open_ids).await? {
        Added::New => {
            room.used();
            state.services.push.notify_one();
            Ok(row)
        }
        Added::Before(before) => repeated(*before, &row),
    }
}

/// The push of before, if it is the same.
fn repeated(before: PushRow, wanted: &PushRow) -> Result<PushRow, ApiError> {
    if before.request_digest == wanted.request_digest {
        return Ok(before);
    }
    let message = format!(
        "the Idempotency-Key belongs to push {} with another kind or body",
        before.id
    );
    let code = "idempotency-key-reused";
    Err(ApiError::new(StatusCode::CONFLICT, code, message))
}

/// The recipients that a request names, each once.
fn recipients(wanted: &PushToMake) -> Result<Vec<&str>, ApiError> {
    if wanted.recipients.is_empty() == wanted.audience.is_none() {
        return Err(ApiError::invalid(
            "recipients",
            "name either recipients or an audience",
        ));
    }
    if wanted.recipients.len() > MAX_RECIPIENTS {
        return Err(ApiError::invalid(
            "recipients",
            format_args!(
                "has {} open ids; {MAX_RECIPIENTS} at most",
                wanted.recipients.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    let mut open_ids = Vec::with_capacity(wanted.recipients.len());
    for (index, open_id) in wanted.recipients.iter().enumerate() {
        OpenId::parse(open_id)
            .map_err(|error| ApiError::invalid(&format!("recipients[{index}]"), error))?;
        if seen.insert(open_id) {
            open_ids.push(open_id.as_str());
        }
    }
    Ok(open_ids)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    if (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(text.to_owned()));
    }
    Err(ApiError::invalid(
        "Idempotency-Key",
        format_args!("must be 1 to {MAX_KEY} visible ASCII characters"),
    ))
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
