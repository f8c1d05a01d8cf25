//! Web authorisation (网页授权) for systems that log their users in by themselves, with their key in the place of
//! the AppSecret. What they get in the place of a user's tokens names the key and holds the token, signed: it is
//! brought back as `access_token` or `refresh_token`, opens these calls only, and ends with the key.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::oauth::{CheckGrant, UserGrant, UserInfo};
use wxhost_wechat::api::user::Language;
use wxhost_wechat::api::{Call, InvalidCall, Request};
use wxhost_wechat::errcode::ApiError as Refusal;
use wxhost_wechat::id::OpenId;

use super::{Answered, request::ForwardRequest};
use crate::{
    accounts::Account,
    client::CallError,
    http::{
        error::ApiError,
        tenant::{Caller, TenantState, access_token::NO_STORE},
    },
    keys::Grant,
    seal::MasterKeys,
};

/// How long WeChat's answer is waited for: a user waits.
const PATIENCE: Duration = Duration::from_secs(8);

/// WeChat's own answer.
const JSON: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];

/// A call of web authorisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginCall {
    /// `/sns/oauth2/access_token`
    Exchange,
    /// `/sns/oauth2/refresh_token`
    Refresh,
    /// `/sns/userinfo`
    UserInfo,
    /// `/sns/auth`
    Check,
}

impl LoginCall {
    /// Of a path in small letters.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/sns/oauth2/access_token" => Self::Exchange,
            "/sns/oauth2/refresh_token" => Self::Refresh,
            "/sns/userinfo" => Self::UserInfo,
            "/sns/auth" => Self::Check,
            _ => return None,
        })
    }

    /// The parameter in which a user's token is brought back.
    pub(super) fn token_name(self) -> Option<&'static str> {
        match self {
            Self::Exchange => None,
            Self::Refresh => Some("refresh_token"),
            Self::UserInfo | Self::Check => Some("access_token"),
        }
    }

    /// Whether it gives out tokens.
    pub(super) fn gives_tokens(self) -> bool {
        matches!(self, Self::Exchange | Self::Refresh)
    }
}

/// A user's token as it was given out.
#[derive(Serialize, Deserialize)]
pub(super) struct GivenToken {
    /// The key that it was given to.
    pub(super) key: String,
    app_id: String,
    token: String,
}

impl GivenToken {
    fn given(self, keys: &MasterKeys, name: &str) -> String {
        // A struct of texts always is JSON.
        let clear = serde_json::to_vec(&self).unwrap_or_default();
        keys.sign(&purpose(name), &clear)
    }

    /// What was brought back in that parameter, if it was given out for this account.
    pub(super) fn brought(keys: &MasterKeys, name: &str, app_id: &str, text: &str) -> Option<Self> {
        let clear = keys.verified(&purpose(name), text)?;
        let given: Self = serde_json::from_slice(&clear).ok()?;
        (given.app_id == app_id).then_some(given)
    }

    /// WeChat's.
    pub(super) fn into_token(self) -> SecretString {
        self.token.into()
    }
}

fn purpose(name: &str) -> String {
    format!("user's {name}")
}

/// Makes a call with what the request brings.
pub(super) async fn answer(
    state: &TenantState,
    caller: &Caller,
    account: &Arc<Account>,
    (call, request): (LoginCall, ForwardRequest),
) -> Result<Answered, ApiError> {
    caller.expect(&Grant::Login)?;
    let named = request.parameter("appid");
    if named.is_some_and(|app_id| app_id != request.app_id) {
        return Err(ApiError::invalid(
            "appid",
            "is another account than the one of the address",
        ));
    }
    let client = &state.services.client;
    let deadline = Instant::now() + PATIENCE;
    match call {
        LoginCall::Exchange => {
            let code = secret("code", request.parameter("code"))?;
            let granted = client.exchange_code(account, &code, deadline).await;
            granted_to(state, caller, account, granted)
        }
        LoginCall::Refresh => {
            let token = user_token(call, &request)?;
            let granted = client.refresh_grant(account, &token, deadline).await;
            granted_to(state, caller, account, granted)
        }
        LoginCall::UserInfo => {
            let open_id = open_id(&request)?;
            let language = request
                .parameter("lang")
                .map_or(Ok(Language::default()), |lang| {
                    let read = serde_json::from_value(Value::from(lang));
                    read.map_err(|_| ApiError::invalid("lang", "must be zh_CN, zh_TW or en"))
                })?;
            let asked = UserInfo {
                open_id: &open_id,
                language,
            };
            let token = user_token(call, &request)?;
            relay(state, &token, (asked.request(), deadline)).await
        }
        LoginCall::Check => {
            let open_id = open_id(&request)?;
            let asked = CheckGrant { open_id: &open_id };
            let token = user_token(call, &request)?;
            relay(state, &token, (asked.request(), deadline)).await
        }
    }
}

fn secret(name: &str, text: Option<&str>) -> Result<Secret, ApiError> {
    let secret = Secret::parse(text.unwrap_or_default());
    secret.map_err(|error| ApiError::invalid(name, error))
}

fn user_token(call: LoginCall, request: &ForwardRequest) -> Result<Secret, ApiError> {
    let token = request.user_token.as_ref().map(ExposeSecret::expose_secret);
    secret(call.token_name().unwrap_or_default(), token)
}

fn open_id(request: &ForwardRequest) -> Result<OpenId, ApiError> {
    let open_id = OpenId::parse(request.parameter("openid").unwrap_or_default());
    open_id.map_err(|error| ApiError::invalid("openid", error))
}

/// What a user has granted, in WeChat's words, or WeChat's refusal.
fn granted_to(
    state: &TenantState,
    caller: &Caller,
    account: &Account,
    granted: Result<UserGrant, CallError>,
) -> Result<Answered, ApiError> {
    let granted = match granted {
        Ok(granted) => granted,
        Err(CallError::Refused(refusal)) => return Ok(refused(&refusal)),
        Err(error) => return Err(error.into()),
    };
    let given = |name: &str, token: &Secret| {
        let token = GivenToken {
            key: caller.key.id.to_string(),
            app_id: account.app_id.as_str().to_owned(),
            token: token.expose().to_owned(),
        };
        token.given(&state.services.keys, name)
    };
    let mut told = json!({
        "access_token": given("access_token", &granted.access_token),
        "expires_in": granted.expires_in,
        "openid": granted.open_id,
        "scope": granted.scope,
    });
    if let Some(token) = &granted.refresh_token {
        told["refresh_token"] = given("refresh_token", token).into();
    }
    if granted.is_snapshot_user() {
        told["is_snapshotuser"] = 1.into();
    }
    if let Some(union_id) = &granted.union_id {
        told["unionid"] = union_id.as_str().into();
    }
    Ok(Answered::here((NO_STORE, Json(told)).into_response()))
}

fn refused(refusal: &Refusal) -> Answered {
    let told = json!({"errcode": refusal.errcode.0, "errmsg": refusal.errmsg});
    let response: Response = (NO_STORE, Json(told)).into_response();
    Answered {
        response,
        result: format!("200 errcode {}", refusal.errcode.0),
    }
}

/// WeChat's answer as it came.
async fn relay(
    state: &TenantState,
    token: &Secret,
    (request, deadline): (Result<Request, InvalidCall>, Instant),
) -> Result<Answered, ApiError> {
    let request = request.map_err(CallError::Invalid)?;
    let client = &state.services.client;
    let answer = client.send_with(token, &request, deadline).await?;
    Ok(Answered::here((NO_STORE, JSON, answer).into_response()))
}
