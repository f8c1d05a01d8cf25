//! `/oauth/{app_id}/…`: where users log in to an account's pages. `start` leads to WeChat, `back` from there on to
//! the page. What a browser keeps of a login that has begun, and of a session, are cookies.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use reqwest::Url;
use serde::Deserialize;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::oauth::Scope;

use super::html::{self, Cookie};
use crate::login::{Give, Led, LoginError, LoginLane, Return};

/// How long a browser keeps what a login that has begun belongs to, in seconds: longer than a code is good for.
const ATTEMPT_SECONDS: u32 = 600;

/// Characters of the state by which a browser tells logins apart that it has begun at the same time.
const NAMED_BY: usize = 8;

/// The routes, on the listener that WeChat reaches.
pub fn routes(lane: Arc<LoginLane>) -> Router {
    Router::new()
        .route("/oauth/{app_id}/start", get(start))
        .route("/oauth/{app_id}/back", get(back))
        .with_state(lane)
}

/// What a page asks for.
#[derive(Debug, Deserialize)]
struct Start {
    /// Where the user is led on to.
    return_to: String,
    /// `snsapi_base`, if absent, or `snsapi_userinfo`.
    scope: Option<String>,
    /// `cookie` or `ticket`.
    give: Option<Give>,
}

async fn start(
    State(lane): State<Arc<LoginLane>>,
    Path(app_id): Path<String>,
    query: Result<Query<Start>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refused(&Refused::Query);
    };
    let scope = query.scope.as_deref().map_or(Some(Scope::Base), Scope::of);
    let Some(scope) = scope else {
        return refused(&Refused::Query);
    };
    let begun = match lane.begin(&app_id, (&query.return_to, scope), query.give) {
        Ok(begun) => begun,
        Err(error) => return refused(&error.into()),
    };
    let path = format!("{}/oauth/{app_id}/back", path_of(&begun.site));
    let cookie = Cookie {
        name: &attempt_name(&begun.state),
        value: &begun.attempt,
        path: &path,
        seconds: ATTEMPT_SECONDS,
        is_secure: begun.site.starts_with("https://"),
    };
    html::redirect(&begun.url, Some(&cookie))
}

/// What WeChat brings back.
#[derive(Debug, Deserialize)]
struct Back {
    /// Absent where the user has refused.
    code: Option<String>,
    state: String,
}

async fn back(
    State(lane): State<Arc<LoginLane>>,
    Path(app_id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<Back>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refused(&Refused::Query);
    };
    let code = query.code.filter(|code| !code.is_empty());
    let Ok(code) = code.as_deref().map(Secret::parse).transpose() else {
        return refused(&Refused::Query);
    };
    let attempt = html::cookie(&headers, &attempt_name(&query.state));
    let brought = Return {
        app_id: &app_id,
        state: &query.state,
        code: code.as_ref(),
        attempt: attempt.unwrap_or_default(),
    };
    match lane.end(brought).await {
        Ok(Led::Out(page)) => html::redirect(page.as_str(), None),
        Ok(Led::In(entry)) => {
            let cookie = Cookie {
                name: &format!("wxhost-session-{app_id}"),
                value: &entry.cookie,
                path: "/",
                seconds: entry.cookie_seconds,
                is_secure: entry.site.starts_with("https://"),
            };
            html::redirect(entry.return_to.as_str(), Some(&cookie))
        }
        Err(error) => refused(&error.into()),
    }
}

fn attempt_name(state: &str) -> String {
    let named_by: String = state.chars().take(NAMED_BY).collect();
    format!("wxhost-login-{named_by}")
}

/// The path under which a site's addresses lie, as a browser sees it.
fn path_of(site: &str) -> String {
    Url::parse(site).map_or_else(
        |_| String::new(),
        |site| site.path().trim_end_matches('/').to_owned(),
    )
}

/// Why a page leads nowhere.
enum Refused {
    /// The address is not complete.
    Query,
    Login(LoginError),
}

impl From<LoginError> for Refused {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

/// The page of a login that leads nowhere.
fn refused(why: &Refused) -> Response {
    let (status, said, english) = match why {
        Refused::Query => (
            StatusCode::BAD_REQUEST,
            "登录地址不完整，或 scope 不是 snsapi_base 或 snsapi_userinfo。",
            "The address lacks return_to, or its scope or give is not one that there is.",
        ),
        Refused::Login(LoginError::NotSetUp | LoginError::NoSite) => (
            StatusCode::NOT_FOUND,
            "这个公众号没有开通网页登录。",
            "Nobody logs in to pages of this account here.",
        ),
        Refused::Login(LoginError::ReturnAddress) => (
            StatusCode::BAD_REQUEST,
            "返回地址不在公众号的白名单里。",
            "The address to return to is not on the account's list.",
        ),
        Refused::Login(
            LoginError::NotBegun | LoginError::StateUsed | LoginError::CodeRefused(_),
        ) => (
            StatusCode::BAD_REQUEST,
            "登录已经过期，或不是在这个浏览器里开始的。请返回原来的页面，再登录一次。",
            "The login has ended, or was begun elsewhere. Go back to the page and log in again.",
        ),
        Refused::Login(LoginError::Call(error)) if !error.is_silence() => (
            StatusCode::BAD_GATEWAY,
            "微信拒绝了这次登录。请联系公众号的运营者。",
            "WeChat refuses the login; the account's operator can see why.",
        ),
        Refused::Login(
            LoginError::Plugin(_)
            | LoginError::HeldUp
            | LoginError::UnderWay
            | LoginError::Overloaded
            | LoginError::Call(_)
            | LoginError::Database(_)
            | LoginError::Seal(_),
        ) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "现在无法登录。请过一会儿再试。",
            "Nobody can log in now. Try again in a while.",
        ),
    };
    let code = match why {
        Refused::Query => "invalid-query",
        Refused::Login(error) => error.code(),
    };
    if status.is_server_error()
        && let Refused::Login(error) = why
    {
        tracing::warn!(error = %error, code, "a user can't log in now");
    }
    let body = format!(
        "<h1>无法登录</h1><p>{said}</p><p class=\"dim\" lang=\"en\">{english}</p>\
         <p class=\"dim\"><code>{code}</code></p>"
    );
    html::page(status, "无法登录", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_lie_where_a_browser_sees_the_host() {
        assert_eq!(path_of("https://login.shop.example"), "");
        assert_eq!(path_of("https://shop.example/wechat"), "/wechat");
    }

    #[test]
    fn logins_at_the_same_time_are_told_apart() {
        assert_eq!(attempt_name("0123456789abcdef"), "wxhost-login-01234567");
        // What a stranger writes there is only compared with what a browser has kept.
        assert_eq!(attempt_name("茶=;"), "wxhost-login-茶=;");
    }
}
