//! `ANY /wechat/{app_id}/{path}`: WeChat's API with the account's token added, so that a tenant's own
//! system, or a published SDK with its base address changed, needs none.
//!
//! What WeChat answers goes back as it came, status and body; an answer of the host's own has the
//! header `x-wxhost-error`. An SDK that asks for a token first (`cgi-bin/token`, `cgi-bin/stable_token`
//! with the app id and, for the secret, its API key) is given the key as its token and brings it back
//! as `access_token`, where the real one takes its place. So neither token nor secret leaves the host.
//!
//! - [`asked`]: a request, with the key that it brings.
//! - [`credentials`]: paths that give out tokens or secrets: answered here, or refused.
//! - [`passed`]: what of a request and of an answer passes, and how much.

mod asked;
mod credentials;
mod passed;

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use wxhost_wechat::errcode;

use self::{asked::Asked, credentials::Gives};
use super::{Caller, TenantState};
use crate::{
    accounts::Account,
    audit::Action,
    client::{RawRequest, RawResponse},
    http::error::ApiError,
    keys::ApiPath,
};

/// An answer, and what the audit says of it.
struct Answered {
    response: Response,
    result: String,
}

impl Answered {
    fn here(response: Response) -> Self {
        Self {
            response,
            result: "ok".to_owned(),
        }
    }
}

/// Passes a request on to WeChat, or answers in its place.
pub(super) async fn forward(
    State(state): State<TenantState>,
    Path((app_id, path)): Path<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(app_id, path, request).await?;
    let caller = Caller::admit(&state, asked.key(), &asked.request_id).await?;
    let object = format!("{} {}", asked.method, asked.path);
    let app_id = asked.app_id.clone();
    let action = match Gives::of(&asked.path) {
        Gives::Ticket => Action::TicketExport,
        _ => Action::Forward,
    };
    let answered = answer(&state, &caller, asked).await;
    let result = answered.as_ref().map(|answered| &*answered.result);
    caller.note(&state, (action, &app_id, &object), result);
    Ok(answered?.response)
}

async fn answer(state: &TenantState, caller: &Caller, asked: Asked) -> Result<Answered, ApiError> {
    let account = caller.account(state, &asked.app_id)?;
    let path = ApiPath::parse(&asked.path).map_err(|e| ApiError::invalid("path", e))?;
    match Gives::of(&asked.path) {
        Gives::AccountToken => credentials::pseudo_token(caller, &asked).map(Answered::here),
        Gives::Ticket => credentials::ticket(state, caller, &account, asked.parameter("type"))
            .await
            .map(Answered::here),
        Gives::Secret(why) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "path-refused",
            format!("{path} is not passed on: it {why}"),
        )),
        Gives::Data => pass(state, caller, &account, (path, asked)).await,
    }
}

async fn pass(
    state: &TenantState,
    caller: &Caller,
    account: &Arc<Account>,
    (path, asked): (ApiPath, Asked),
) -> Result<Answered, ApiError> {
    if !caller.key.grants.allows_forward(&path) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not-granted",
            format!("the key has no grant forward:{path}"),
        ));
    }
    let mut headers = asked.headers;
    let body = passed::payload(&mut headers, asked.body).await?;
    let deadline = passed::deadline(&body);
    let request = RawRequest {
        method: asked.method,
        path: path.as_str().to_owned(),
        query: asked.query,
        headers,
        body,
    };
    let answer = state.client.raw(account, request, deadline).await?;
    Ok(Answered {
        result: outcome(&answer),
        response: passed::response(answer, Arc::clone(&caller.places)),
    })
}

/// WeChat's status and, where it is to be had without waiting, its errcode.
fn outcome(answer: &RawResponse) -> String {
    let status = answer.status.as_u16();
    let body = answer.body.as_bytes().unwrap_or_default();
    match errcode::read(body) {
        Ok(()) => status.to_string(),
        Err(refusal) => format!("{status} errcode {}", refusal.errcode.0),
    }
}
