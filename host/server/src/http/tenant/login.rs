//! Who has logged in to an account's pages, and what users let it see of them.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::api::oauth::Profile;
use wxhost_wechat::api::user::Language;
use wxhost_wechat::id::OpenId;

use super::{Caller, TenantState, access_token::NO_STORE};
use crate::{
    audit::Action,
    http::{
        error::{ApiError, ErrorBody},
        extract::{JsonBody, Path, Query},
    },
    keys::Grant,
    login::{ProfileError, Session, SessionError},
};

/// What a browser has shown: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shown {
    /// The value of the cookie `wxhost-session-` and the app id.
    Cookie(String),
    /// The `login_ticket` of the address: good once, for five minutes.
    Ticket(String),
}

/// Tells who has logged in, by the browser's cookie or by a ticket.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/session", tag = "for tenants' systems", params(("app_id" = String, Path)), request_body = Shown, security(("api_key" = [])), responses(
    (status = 200, body = Session),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn session(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    JsonBody(shown): JsonBody<Shown>,
) -> Result<Response, ApiError> {
    let session = who(&state, &caller, &app_id, &shown).await;
    let object = match &session {
        Ok(session) => &*session.open_id,
        Err(_) => "",
    };
    let act = (Action::SessionRead, &*app_id, object);
    caller.note(&state, act, session.as_ref().map(|_| "ok"));
    Ok((NO_STORE, Json(session?)).into_response())
}

async fn who(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
    shown: &Shown,
) -> Result<Session, ApiError> {
    caller.account(state, app_id)?;
    caller.expect(&Grant::Login)?;
    let session = match shown {
        Shown::Cookie(cookie) => state.logins.session(app_id, cookie),
        Shown::Ticket(ticket) => state.logins.redeem(app_id, ticket).await,
    };
    Ok(session?)
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let refused = |status, code| Self::new(status, code, error.to_string());
        match error {
            SessionError::Unknown => refused(StatusCode::NOT_FOUND, "session-unknown"),
            SessionError::Ended => refused(StatusCode::GONE, "session-ended"),
            SessionError::Ticket => refused(StatusCode::NOT_FOUND, "ticket-refused"),
            SessionError::Database(error) => error.into(),
            SessionError::Seal(error) => error.into(),
        }
    }
}

/// In which language.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ProfileQuery {
    /// `zh_CN` (if absent), `zh_TW` or `en`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    lang: Language,
}

/// What a user lets the account see of them.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownProfile {
    open_id: String,
    /// Who, for all accounts of an Open Platform account.
    union_id: Option<String>,
    nickname: String,
    /// Empty where there is none.
    picture_url: String,
    /// 0 unknown, which it is of most; 1 male, 2 female.
    sex: u64,
    /// Empty for most, as what follows.
    country: String,
    province: String,
    city: String,
}

impl From<Profile> for ShownProfile {
    fn from(profile: Profile) -> Self {
        Self {
            open_id: profile.open_id,
            union_id: profile.union_id,
            nickname: profile.nickname,
            picture_url: profile.headimgurl,
            sex: profile.sex.unwrap_or(0),
            country: profile.country,
            province: profile.province,
            city: profile.city,
        }
    }
}

/// Reads the profile of a user who has logged in with `scope=snsapi_userinfo` within thirty days.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/users/{open_id}/profile", tag = "for tenants' systems", params(("app_id" = String, Path), ("open_id" = String, Path), ProfileQuery), security(("api_key" = [])), responses(
    (status = 200, body = ShownProfile),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn profile(
    caller: Caller,
    State(state): State<TenantState>,
    Path((app_id, open_id)): Path<(String, String)>,
    Query(query): Query<ProfileQuery>,
) -> Result<Response, ApiError> {
    let profile = profile_of(&state, &caller, (&app_id, &open_id), query.lang).await;
    let act = (Action::ProfileRead, &*app_id, &*open_id);
    caller
        .note_first(&state, act, profile.as_ref().map(|_| "ok"))
        .await?;
    Ok((NO_STORE, Json(ShownProfile::from(profile?))).into_response())
}

async fn profile_of(
    state: &TenantState,
    caller: &Caller,
    (app_id, open_id): (&str, &str),
    language: Language,
) -> Result<Profile, ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::Login)?;
    let open_id = OpenId::parse(open_id).map_err(|error| ApiError::invalid("open_id", error))?;
    Ok(state.logins.profile(&account, &open_id, language).await?)
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::LoginNeeded(_) => {
                Self::new(StatusCode::CONFLICT, "login-needed", error.to_string())
            }
            ProfileError::Call(error) => error.into(),
            ProfileError::Database(error) => error.into(),
            ProfileError::Seal(error) => error.into(),
        }
    }
}
