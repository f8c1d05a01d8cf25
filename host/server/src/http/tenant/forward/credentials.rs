//! Answers in the place of those of WeChat's that give out tokens and tickets.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    accounts::Account,
    http::{
        error::ApiError,
        tenant::{
            Caller, TenantState,
            access_token::{NO_STORE, seconds_left},
        },
    },
    keys::Grant,
    tokens::Credential,
};

/// How long an SDK may take its key for its token before it asks again: as long as WeChat's are good.
const PSEUDO_TOKEN_SECONDS: u32 = 7200;

/// How long a caller waits for a ticket that has to be fetched first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The key itself, in the words of `cgi-bin/token`: an SDK sends it as `access_token` from now on, and
/// the host puts the real one there.
pub(super) fn pseudo_token(caller: &Caller, key: Option<&str>) -> Result<Response, ApiError> {
    if !caller.key.grants.forwards() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not-granted",
            "the key has no grant forward",
        ));
    }
    let token = json!({
        "access_token": key,
        "expires_in": PSEUDO_TOKEN_SECONDS,
    });
    Ok((NO_STORE, Json(token)).into_response())
}

/// A ticket, in the words of `cgi-bin/ticket/getticket`: the one that the host keeps.
pub(super) async fn ticket(
    state: &TenantState,
    caller: &Caller,
    account: &Arc<Account>,
    kind: Option<&str>,
) -> Result<Response, ApiError> {
    caller.expect(&Grant::JsapiTicket)?;
    let credential = match kind {
        Some("jsapi") => Credential::JsapiTicket,
        Some("wx_card") => Credential::CardTicket,
        _ => return Err(ApiError::invalid("type", "must be jsapi or wx_card")),
    };
    let tokens = state.services.client.tokens();
    let ticket = tokens
        .get(account, credential, Instant::now() + PATIENCE)
        .await?;
    let body = json!({
        "errcode": 0,
        "errmsg": "ok",
        "ticket": ticket.expose(),
        "expires_in": seconds_left(&ticket, state.services.db.now_ms()),
    });
    Ok((NO_STORE, Json(body)).into_response())
}
