//! `GET` or `POST /wechat/{app_id}/{path}`: WeChat's API with the account's token added, so that a tenant's own
//! system, or a published SDK with its base address changed, needs none.
//!
//! What WeChat answers goes back as it came, status and body; an answer of the host's own has the
//! header `x-wxhost-error`. An SDK that asks for a token first (`cgi-bin/token`, `cgi-bin/stable_token`
//! with the app id and, for the secret, its API key) is given the key as its token and brings it back
//! as `access_token`, where the real one takes its place. So neither token nor secret leaves the host.
//!
//! WeChat's API takes GET and POST; what passes either way is on a list of headers. An answer that
//! redirects, or that repeats the real token, is not passed on.
//!
//! - [`request`]: a request, with the key that it brings.
//! - [`endpoint`]: what a path of WeChat's gives out: data, or tokens and secrets.
//! - [`credentials`]: answers in the place of those that give out tokens.
//! - [`login`]: web authorisation, by the same key.
//! - [`passed`]: what of a request and of an answer passes, and how much.

mod credentials;
mod endpoint;
mod login;
mod passed;
mod request;

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use self::{endpoint::Endpoint, request::ForwardRequest};
use super::{Caller, TenantState, caller::Asked};
use crate::{
    accounts::Account,
    audit::Action,
    client::{RawRequest, RawResponse},
    grants::ApiPath,
    http::error::ApiError,
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
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Ok(wrong_method());
    }
    let mut request = ForwardRequest::read(app_id, path, request).await?;
    let key = request.bearer(&state.services);
    let object = format!("{} {}", request.method, request.path);
    let asked = Asked {
        id: &request.request_id,
        what: &format!(
            "{} /wechat/{}{}",
            request.method, request.app_id, request.path
        ),
        peer: request.peer,
    };
    let caller = Caller::admit(&state, key, asked).await?;
    let app_id = request.app_id.clone();
    let action = match Endpoint::of(&request.path) {
        Endpoint::Ticket => Action::TicketExport,
        Endpoint::Login(call) if call.gives_tokens() => Action::TokenExport,
        _ => Action::Forward,
    };
    let answered = answer(&state, &caller, request).await;
    let result = answered.as_ref().map(|answered| &*answered.result);
    let act = (action, &*app_id, &*object);
    match action {
        Action::TicketExport | Action::TokenExport => {
            caller.note_first(&state, act, result).await?
        }
        _ => caller.note(&state, act, result),
    }
    Ok(answered?.response)
}

/// TRACE would show the token; the rest WeChat does not know.
fn wrong_method() -> Response {
    let refused = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        "WeChat's API takes GET and POST",
    );
    let mut response = refused.into_response();
    let allowed = HeaderValue::from_static("GET, POST");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

async fn answer(
    state: &TenantState,
    caller: &Caller,
    request: ForwardRequest,
) -> Result<Answered, ApiError> {
    let account = caller.account(state, &request.app_id)?;
    let path = ApiPath::parse(&request.path).map_err(|e| ApiError::invalid("path", e))?;
    match Endpoint::of(&request.path) {
        Endpoint::AccessToken => {
            let named = request.token_for.as_deref();
            if named.is_some_and(|app_id| app_id != request.app_id) {
                return Err(ApiError::invalid(
                    "appid",
                    "is another account than the one of the address",
                ));
            }
            credentials::pseudo_token(caller, request.key()).map(Answered::here)
        }
        Endpoint::Ticket => {
            let kind = request.parameter("type");
            let ticket = credentials::ticket(state, caller, &account, kind);
            ticket.await.map(Answered::here)
        }
        Endpoint::Login(call) => login::answer(state, caller, &account, (call, request)).await,
        Endpoint::Secret(why) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "path-refused",
            format!("{path} is not passed on: it {why}"),
        )),
        Endpoint::Data => pass(state, caller, &account, (path, request)).await,
    }
}

async fn pass(
    state: &TenantState,
    caller: &Caller,
    account: &Arc<Account>,
    (path, request): (ApiPath, ForwardRequest),
) -> Result<Answered, ApiError> {
    if !caller.key.grants.allows_forward(&path) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not-granted",
            format!("the key has no grant forward:{path}"),
        ));
    }
    let mut headers = request.headers;
    let body = passed::payload(&mut headers, request.body).await?;
    let deadline = passed::deadline(&body);
    let request = RawRequest {
        method: request.method,
        path: path.as_str().to_owned(),
        query: request.query,
        headers,
        body,
    };
    let answer = state
        .services
        .client
        .raw(account, request, deadline)
        .await?;
    if answer.status.is_redirection() {
        return Err(ApiError::new(
            StatusCode::BAD_GATEWAY,
            "redirect-refused",
            "WeChat answers with a redirect, which is neither followed nor passed on",
        ));
    }
    Ok(Answered {
        result: outcome(&answer),
        response: passed::response(answer, Arc::clone(&caller.places)),
    })
}

/// WeChat's status and, where it is to be had without waiting, its errcode.
fn outcome(answer: &RawResponse) -> String {
    let status = answer.status.as_u16();
    match &answer.refusal {
        None => status.to_string(),
        Some(refusal) => format!("{status} errcode {}", refusal.errcode.0),
    }
}
