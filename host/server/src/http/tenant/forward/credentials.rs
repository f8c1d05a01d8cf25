//! Paths of WeChat's that give out tokens or secrets: answered here, or refused.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::Instant;

use super::asked::Asked;
use crate::{
    accounts::Account,
    grants,
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

/// What a path gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// The account's access token.
    AccountToken,
    /// Its tickets.
    Ticket,
    /// Another token or secret; why it is not passed on.
    Secret(&'static str),
    /// Nothing of the kind.
    Data,
}

impl Gives {
    /// Of a path as it was asked for, in whatever spelling.
    pub(super) fn of(path: &str) -> Self {
        match &*path.to_ascii_lowercase() {
            "/cgi-bin/token" | "/cgi-bin/stable_token" => Self::AccountToken,
            "/cgi-bin/ticket/getticket" => Self::Ticket,
            path => grants::never(path).map_or(Self::Data, Self::Secret),
        }
    }
}

/// The key itself, in the words of `cgi-bin/token`: an SDK sends it as `access_token` from now on, and
/// the host puts the real one there.
pub(super) fn pseudo_token(caller: &Caller, asked: &Asked) -> Result<Response, ApiError> {
    if !caller.key.grants.forwards() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not-granted",
            "the key has no grant forward",
        ));
    }
    let named = asked.token_for.as_deref();
    if named.is_some_and(|app_id| app_id != asked.app_id) {
        return Err(ApiError::invalid(
            "appid",
            "is another account than the one of the address",
        ));
    }
    let token = json!({
        "access_token": asked.key(),
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
    let tokens = state.client.tokens();
    let ticket = tokens
        .get(account, credential, Instant::now() + PATIENCE)
        .await?;
    let body = json!({
        "errcode": 0,
        "errmsg": "ok",
        "ticket": ticket.expose(),
        "expires_in": seconds_left(&ticket, state.clock),
    });
    Ok((NO_STORE, Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_path_gets_a_secret_out() {
        for (path, expected) in [
            ("/cgi-bin/token", "account token"),
            ("/CGI-BIN/Stable_Token", "account token"),
            ("/cgi-bin/ticket/getticket", "ticket"),
            ("/cgi-bin/ticket/GetTicket", "ticket"),
            ("/cgi-bin/ticket/other", "secret"),
            ("/cgi-bin/tokens", "secret"),
            ("/sns/oauth2/access_token", "secret"),
            ("/SNS/jscode2session", "secret"),
            ("/cgi-bin/component/api_component_token", "secret"),
            ("/cgi-bin/openapi/rid/get", "secret"),
            ("/cgi-bin/clear_quota/v2", "secret"),
            ("/cgi-bin/clear_quota", "data"),
            ("/cgi-bin/user/info", "data"),
            ("/snsx", "data"),
        ] {
            let gives = match Gives::of(path) {
                Gives::AccountToken => "account token",
                Gives::Ticket => "ticket",
                Gives::Secret(_) => "secret",
                Gives::Data => "data",
            };
            assert_eq!(gives, expected, "{path}");
        }
    }
}
