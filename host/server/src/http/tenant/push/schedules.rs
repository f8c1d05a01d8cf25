//! `…/accounts/{app_id}/schedule/{kind}` and `…/schedules`: pushes that recur.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::request::{self, AudienceToPush};
use crate::audit::Action;
use crate::db::push::new_id;
use crate::db::push::schedules::{self, ScheduleRow};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::extract::{JsonBody, Path};
use crate::http::tenant::{Caller, TenantState};
use crate::keys::Grant;
use crate::push::{ONCE, Recurrence};

/// Schedules of an account.
const MAX_SCHEDULES: i64 = 100;
/// The time zone where the request names none.
const USUAL_ZONE: &str = "Asia/Shanghai";
/// What becomes of a firing that was missed, where the request does not say.
const SKIP: &str = "skip";

/// What is to be sent to whom, and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http::tenant) struct ScheduleToMake {
    /// Open ids, 10,000 at most.
    #[serde(default)]
    recipients: Vec<String>,
    /// In place of `recipients`; looked at anew each time.
    audience: Option<AudienceToPush>,
    /// What is sent, as for a push of the kind.
    #[schema(value_type = Object)]
    data: Value,
    /// What the caller calls the matter; the pushes that are made have it.
    reference: Option<String>,
    /// Minute, hour, day, month, day of the week.
    #[schema(example = "30 9 * * 1-5")]
    cron: String,
    /// IANA's name; `Asia/Shanghai` if absent.
    time_zone: Option<String>,
    /// What becomes of firings that no host was there for within ten minutes: `skip` (the default), or
    /// `once` for all of them together.
    missed: Option<String>,
}

/// A recurring push. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http::tenant) struct Schedule {
    /// Names it.
    id: String,
    /// What kind of pushes it makes.
    kind: String,
    /// What the caller called the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// When it fires.
    cron: String,
    /// The zone of that.
    time_zone: String,
    /// `skip` or `once`.
    missed: String,
    /// `active` or `paused`.
    state: String,
    /// When it fires next, if it is not paused; null if never again.
    next_at: Option<i64>,
    /// The push that it made last.
    last_push_id: Option<String>,
    /// When it came.
    created_at: i64,
}

impl From<ScheduleRow> for Schedule {
    fn from(row: ScheduleRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            reference: row.reference,
            cron: row.cron,
            time_zone: row.time_zone,
            missed: row.missed,
            state: row.state,
            next_at: row.next_at,
            last_push_id: row.last_push_id,
            created_at: row.created_at,
        }
    }
}

/// An account's schedules.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http::tenant) struct Schedules {
    /// The oldest first; 100 at most.
    schedules: Vec<Schedule>,
}

/// Has a push made again and again.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/schedule/{kind}", tag = "for tenants' systems", params(("app_id" = String, Path), ("kind" = String, Path, description = "as for a push")), request_body = ScheduleToMake, security(("api_key" = [])), responses(
    (status = 201, body = Schedule),
    (status = "4XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn schedule(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, kind)): Path<(String, String)>,
    JsonBody(wanted): JsonBody<ScheduleToMake>,
) -> Result<(StatusCode, Json<Schedule>), ApiError> {
    let made = add(&state, &caller, (&app_id, &kind), wanted).await;
    let object = made.as_ref().map_or(&kind, |row| &row.id);
    let result = made.as_ref().map(|_| "ok");
    caller.note(&state, (Action::ScheduleMake, &app_id, object), result);
    made.map(|row| (StatusCode::CREATED, Json(row.into())))
}

async fn add(
    state: &TenantState,
    caller: &Caller,
    (app_id, kind): (&str, &str),
    wanted: ScheduleToMake,
) -> Result<ScheduleRow, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let open_ids = request::recipients((&wanted.recipients, wanted.audience.is_some()))?;
    if let Some(reference) = &wanted.reference {
        request::check_reference(reference)?;
    }
    let missed = wanted.missed.unwrap_or_else(|| SKIP.to_owned());
    if ![SKIP, ONCE].contains(&&*missed) {
        return Err(ApiError::invalid("missed", "must be skip or once"));
    }
    let time_zone = wanted.time_zone.unwrap_or_else(|| USUAL_ZONE.to_owned());
    let recurrence = Recurrence::parse(&wanted.cron, &time_zone)
        .map_err(|(field, reason)| ApiError::invalid(field, reason))?;
    let now_ms = state.services.db.now_ms();
    let Some(next_at) = recurrence.next_after(now_ms) else {
        return Err(ApiError::invalid("cron", "never fires"));
    };
    let content = request::content(state, &account, (kind, &wanted.data)).await?;
    let row = ScheduleRow {
        app_id: app_id.to_owned(),
        id: new_id(now_ms),
        kind: kind.to_owned(),
        content: serde_json::to_string(&content).map_err(ApiError::internal)?,
        open_ids: open_ids.join("\n"),
        audience: request::audience(wanted.audience.as_ref())?,
        reference: wanted.reference,
        cron: wanted.cron,
        time_zone,
        missed,
        state: "active".to_owned(),
        next_at: Some(next_at),
        last_push_id: None,
        created_at: now_ms,
    };
    if !schedules::add(&state.services.db, &row, MAX_SCHEDULES).await? {
        let message = format!("the account has {MAX_SCHEDULES} schedules, which is the most");
        let (status, code) = (StatusCode::CONFLICT, "too-many-schedules");
        return Err(ApiError::new(status, code, message));
    }
    Ok(row)
}

/// Lists an account's recurring pushes.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/schedules", tag = "for tenants' systems", params(("app_id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Schedules),
    (status = "4XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn schedules_of(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
) -> Result<Json<Schedules>, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Push)?;
    let rows = schedules::list(&state.services.db, &app_id).await?;
    Ok(Json(Schedules {
        schedules: rows.into_iter().map(Schedule::from).collect(),
    }))
}

/// Has a recurring push rest: it fires no more until it is resumed.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/schedules/{id}/pause", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Schedule),
    (status = "4XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn pause_schedule(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Schedule>, ApiError> {
    turn(&state, &caller, (&app_id, &id), Turn::Pause).await
}

/// Lets a recurring push that was paused go on. What fell into the pause was not missed: nothing is made up
/// for.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/schedules/{id}/resume", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = Schedule),
    (status = "4XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn resume_schedule(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<Json<Schedule>, ApiError> {
    turn(&state, &caller, (&app_id, &id), Turn::Resume).await
}

/// What is asked of a schedule.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Pause,
    Resume,
}

async fn turn(
    state: &TenantState,
    caller: &Caller,
    (app_id, id): (&str, &str),
    turn: Turn,
) -> Result<Json<Schedule>, ApiError> {
    let turned = turned(state, caller, (app_id, id), turn).await;
    let object = match turn {
        Turn::Pause => format!("{id}: paused"),
        Turn::Resume => format!("{id}: active"),
    };
    let result = turned.as_ref().map(|_| "ok");
    caller.note(state, (Action::ScheduleTurn, app_id, &object), result);
    turned.map(Json)
}

async fn turned(
    state: &TenantState,
    caller: &Caller,
    (app_id, id): (&str, &str),
    turn: Turn,
) -> Result<Schedule, ApiError> {
    caller.account(state, app_id)?;
    caller.expect(&Grant::Push)?;
    let db = &state.services.db;
    let gone = || ApiError::not_found("schedule", id);
    let row = schedules::find(db, app_id, id).await?.ok_or_else(gone)?;
    match turn {
        Turn::Pause => {
            schedules::pause(db, app_id, id).await?;
        }
        Turn::Resume => {
            let recurrence = Recurrence::parse(&row.cron, &row.time_zone)
                .map_err(|(field, reason)| ApiError::invalid(field, reason))?;
            let next_at = recurrence.next_after(db.now_ms());
            schedules::resume(db, (app_id, id), next_at).await?;
        }
    }
    let row = schedules::find(db, app_id, id).await?.ok_or_else(gone)?;
    Ok(row.into())
}

/// Ends a recurring push. The pushes that it made go on.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/schedules/{id}", tag = "for tenants' systems", params(("app_id" = String, Path), ("id" = String, Path)), security(("api_key" = [])), responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
))]
pub(in crate::http::tenant) async fn unschedule(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    caller.account(&state, &app_id)?;
    caller.expect(&Grant::Push)?;
    let removed = schedules::remove(&state.services.db, &app_id, &id).await;
    let removed = removed.map_err(ApiError::from).and_then(|is_removed| {
        let gone = || ApiError::not_found("schedule", &id);
        is_removed
            .then_some(StatusCode::NO_CONTENT)
            .ok_or_else(gone)
    });
    let result = removed.as_ref().map(|_| "ok");
    caller.note(&state, (Action::ScheduleRemove, &app_id, &id), result);
    removed
}
