//! `GET /api/v1/accounts/{app_id}/access-token`: the host as a company's central token server (中控服务器).
//!
//! A system that WeChat refuses with the token that it was given asks again and says which one that was,
//! by its hash: the host then gives that one up, if it holds it still, and answers with what WeChat gives
//! out now. WeChat may stand by it, as an API sometimes says 40001 by mistake; the system then tries once
//! more, and says the same hash again if it is refused again: only that makes the host force another.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};

use super::{Caller, TenantState};
use crate::{
    audit::Action,
    http::{
        error::{ApiError, ErrorBody},
        extract::{Path, Query},
    },
    keys::Grant,
    tokens::{Credential, Token},
};

/// How long a caller waits for a token that has to be fetched first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hex digits that a hash may have: enough to tell tokens apart, up to all of SHA-256.
const HASH_DIGITS: std::ops::RangeInclusive<usize> = 16..=64;

/// What the caller knows of the token before.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TokenQuery {
    /// The token that WeChat refused with 40001, 40014 or 42001: its SHA-256 in hex, or 16 digits of the
    /// beginning. Another one is given out, if WeChat gives another one.
    refused: Option<String>,
}

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
/// must not call `cgi-bin/token` itself, and asks here again, with `refused`, when WeChat refuses it.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/access-token", tag = "for tenants' systems", params(("app_id" = String, Path), TokenQuery), security(("api_key" = [])), responses(
    (status = 200, body = AccessToken),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn give(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    Query(query): Query<TokenQuery>,
) -> Result<(NoStore, Json<AccessToken>), ApiError> {
    let given = token(&state, &caller, &app_id, query.refused.as_deref()).await;
    let object = if query.refused.is_some() {
        "refused"
    } else {
        ""
    };
    let act = (Action::TokenExport, &*app_id, object);
    let result = given.as_ref().map(|_| "ok");
    caller.note_first(&state, act, result).await?;
    Ok((NO_STORE, Json(given?)))
}

async fn token(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
    refused: Option<&str>,
) -> Result<AccessToken, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::AccessToken)?;
    let tokens = state.services.client.tokens();
    if let Some(hash) = refused {
        let is_hash =
            HASH_DIGITS.contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash {
            return Err(ApiError::invalid(
                "refused",
                "is not the SHA-256 of a token in hex, or 16 digits of its beginning",
            ));
        }
        tokens
            .expire_hash(&account, &hash.to_ascii_lowercase())
            .await;
    }
    let deadline = Instant::now() + PATIENCE;
    let token = tokens
        .get(&account, Credential::AccessToken, deadline)
        .await?;
    Ok(AccessToken {
        access_token: token.expose().to_owned(),
        expires_in: seconds_left(&token, state.services.db.now_ms()),
    })
}

/// Whole seconds that a token may still be used for; at least one.
pub(super) fn seconds_left(token: &Token, now_ms: i64) -> i64 {
    ((token.expires_at_ms - now_ms) / 1000).max(1)
}
