//! `/api/v1/accounts/{app_id}/events`: callbacks that were acknowledged and are not ended, among them
//! the dead letters, which somebody has to look at.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Path, Query, Read, Write};
use crate::{
    audit::Action,
    db::{
        accounts::AccountRow,
        inbox::{self, Letter, LetterState},
    },
    http::{
        error::{ApiError, ErrorBody},
        page::PageSize,
    },
};

/// A callback that was acknowledged and is not ended. Times are Unix milliseconds. Its body is sealed,
/// and not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Event {
    /// Names it within the account.
    event_id: String,
    /// `pending`: it waits for its run; `dead`: it is given up until somebody resumes it.
    state: String,
    /// Why it is dead: `never-ended` (its run was begun again and again, and never ended) or `too-old`.
    reason: Option<String>,
    /// Runs that were begun and never ended.
    attempts: i64,
    /// When it is tried next.
    due_at: Option<i64>,
    /// When it was acknowledged.
    created_at: i64,
}

impl From<Letter> for Event {
    fn from(letter: Letter) -> Self {
        let waits = letter.state == LetterState::Pending.as_str();
        Self {
            event_id: letter.event_id,
            state: letter.state,
            reason: letter.reason,
            attempts: letter.attempts,
            due_at: waits.then_some(letter.due_at),
            created_at: letter.created_at,
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    /// In the order of their ids.
    events: Vec<Event>,
    /// Give it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which events.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum EventState {
    /// Those that are given up.
    #[default]
    Dead,
    /// Those that wait for their run.
    Pending,
}

/// What to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// `dead`, if absent, or `pending`.
    #[serde(default)]
    #[param(inline)]
    state: EventState,
    /// `next` of the page before.
    after: Option<String>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Lists callbacks that were acknowledged and are not ended.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/events", tag = "events", params(("app_id" = String, Path), EventsQuery), responses(
    (status = 200, body = Events),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<AccountRow>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<Events>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let state = match query.state {
        EventState::Dead => LetterState::Dead,
        EventState::Pending => LetterState::Pending,
    };
    let letters = inbox::letters(
        &read.services().db,
        &read.object.app_id,
        state,
        query.after.as_deref(),
        size.rows(),
    );
    let page = size.page(letters.await?, |letter| letter.event_id.clone());
    Ok(Json(Events {
        events: page.items.into_iter().map(Event::from).collect(),
        next: page.next,
    }))
}

/// Has a dead letter run again, with all its attempts before it.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/events/{event_id}/resume", tag = "events", params(("app_id" = String, Path), ("event_id" = String, Path)), responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn resume(
    write: Write<AccountRow>,
    Path((_app_id, event_id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    note(&write, Action::EventResume, &event_id).await?;
    let resumed = inbox::resume(&write.services().db, &write.object.app_id, &event_id).await?;
    done(resumed, &event_id)
}

/// Drops a dead letter with its body. Its event stays known, and is not run any more.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/events/{event_id}", tag = "events", params(("app_id" = String, Path), ("event_id" = String, Path)), responses(
    (status = 204),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn discard(
    write: Write<AccountRow>,
    Path((_app_id, event_id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    note(&write, Action::EventDrop, &event_id).await?;
    let dropped = inbox::drop_letter(&write.services().db, &write.object.app_id, &event_id).await?;
    done(dropped, &event_id)
}

/// Notes a change in the audit before it is made.
async fn note(write: &Write<AccountRow>, action: Action, event_id: &str) -> Result<(), ApiError> {
    let app_id = Some(&*write.object.app_id);
    let entry = write.author().entry(action, app_id, event_id, "ok");
    Ok(write.services().audit.write(entry).await?)
}

fn done(found: bool, event_id: &str) -> Result<StatusCode, ApiError> {
    if found {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("dead letter", event_id))
    }
}
