//! `GET /api/v1/accounts/{app_id}/access-token`: the host as a company's central token server (中控服务器).

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use serde::Serialize;
use tokio::time::{Duration, Instant};
use utoipa::ToSchema;

use super::{Caller, TenantState};
use crate::{
    audit::Action,
    clock::Clock,
    http::{
        error::{ApiError, ErrorBody},
        extract::Path,
    },
    keys::Grant,
    tokens::{Credential, Token},
};

/// How long a caller waits for a token that has to be fetched first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps tokens out of caches.
pub(super) type NoStore = [(HeaderName, &'static str); 1];
pub(super) const NO_STORE: NoStore = [(header::CACHE_CONTROL, "no-store")];

/// An access token, as WeChat answers it.
#[derive(Serialize, ToSchema)]
pub(super) struct AccessToken {
    /// For WeChat's API. It may be asked for again at any time; nothing is made anew by that.
    access_token: String,
    /// Seconds that it is good for.
    #[schema(example = 7188)]
    expires_in: i64,
}

/// Gives out an account's access token, in the words of WeChat's `cgi-bin/token`. A system that uses it
/// must not call `cgi-bin/token` itself, and asks here again when WeChat refuses it.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/access-token", tag = "for tenants' systems", params(("app_id" = String, Path)), security(("api_key" = [])), responses(
    (status = 200, body = AccessToken),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn give(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
) -> Result<(NoStore, Json<AccessToken>), ApiError> {
    let given = token(&state, &caller, &app_id).await;
    let act = (Action::TokenExport, &*app_id, "");
    caller.note(&state, act, given.as_ref().map(|_| "ok"));
    Ok((NO_STORE, Json(given?)))
}

async fn token(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
) -> Result<AccessToken, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::AccessToken)?;
    let tokens = state.client.tokens();
    let deadline = Instant::now() + PATIENCE;
    let token = tokens
        .get(&account, Credential::AccessToken, deadline)
        .await?;
    Ok(AccessToken {
        access_token: token.expose().to_owned(),
        expires_in: seconds_left(&token, state.clock),
    })
}

/// Whole seconds that a token may still be used for; at least one.
pub(super) fn seconds_left(token: &Token, clock: Clock) -> i64 {
    ((token.expires_at_ms - clock.now_ms()) / 1000).max(1)
}
