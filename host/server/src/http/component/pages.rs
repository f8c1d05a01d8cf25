//! The pages of an invitation: what a tenant's customer sees before and after WeChat's own. Plain, for a phone
//! and for a desk, without a script; Chinese first, since their readers are.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::{QrCode, render::svg};
use serde::Deserialize;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::component::link::Form;

use std::sync::Arc;

use super::ComponentState;
use crate::accounts::Platform;
use crate::http::html::{self, Cookie, escaped, page};
use crate::platform::{InvitationError, Visit};

/// Pixels of a QR code's side, at least.
const QR_SIDE: u32 = 240;

/// Keeps which visit a browser has begun.
const COOKIE: &str = "wxhost-visit";

/// How long a browser keeps it, in seconds: longer than a code is good for.
const COOKIE_SECONDS: u32 = 3600;

fn known(state: &ComponentState, id: &str) -> Result<Arc<Platform>, InvitationError> {
    let platform = state.lane.services().accounts.platform(id);
    platform
        .filter(|platform| platform.is_active())
        .ok_or(InvitationError::Unknown)
}

async fn visit(
    state: &ComponentState,
    (platform, secret): (&str, &str),
) -> Result<(Arc<Platform>, Visit), InvitationError> {
    let platform = known(state, platform)?;
    let visit = state.lane.visit(&platform, secret).await?;
    Ok((platform, visit))
}

/// The page behind an invitation's link.
pub(super) async fn invitation(
    State(state): State<ComponentState>,
    Path((platform, secret)): Path<(String, String)>,
) -> Response {
    let (platform, visit) = match visit(&state, (&platform, &secret)).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    let here = format!("/component/{}/invitations/{secret}", platform.app_id);
    let body = format!(
        "<h1>授权公众号</h1>\
         <p>“{}”邀请您把公众号授权给第三方平台“{}”。只有公众号的管理员可以授权，随时可以在公众平台取消。</p>\
         <p><a class=\"button\" href=\"{here}/pc\">在电脑上扫码授权</a></p>\
         <p><a class=\"button\" href=\"{here}/h5\">在微信中授权</a></p>\
         <p class=\"dim\">在电脑上打开了本页，想在手机上授权？用微信扫这个二维码：</p>\
         <p><img src=\"{here}/qr.svg\" width=\"200\" height=\"200\" alt=\"本页的二维码\"></p>\
         <p class=\"dim\" lang=\"en\">Let the platform serve your official account: scan on this computer, or \
         go on in WeChat. Only the account's administrator can, and can take it back at any time.</p>",
        escaped(&visit.host),
        escaped(platform.shown_name())
    );
    page(StatusCode::OK, "授权公众号", &body)
}

/// The QR code of that page.
pub(super) async fn qr_code(
    State(state): State<ComponentState>,
    Path((platform, secret)): Path<(String, String)>,
) -> Response {
    let platform = match visit(&state, (&platform, &secret)).await {
        Ok((platform, _)) => platform,
        Err(error) => return refused(&error),
    };
    let url = format!(
        "{}/component/{}/invitations/{secret}",
        platform.public_url, platform.app_id
    );
    match QrCode::new(url) {
        Ok(code) => {
            let picture = code.render::<svg::Color<'_>>();
            let picture = { picture }.min_dimensions(QR_SIDE, QR_SIDE).build();
            let headers = [
                (header::CONTENT_TYPE, "image/svg+xml"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, picture).into_response()
        }
        // An address is never too long for one.
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Goes on to WeChat.
pub(super) async fn begin(
    State(state): State<ComponentState>,
    Path((platform, secret, form)): Path<(String, String, String)>,
) -> Response {
    let Some(form) = Form::of(&form) else {
        return refused(&InvitationError::Unknown);
    };
    let (platform, visit) = match visit(&state, (&platform, &secret)).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    let begun = match state.lane.begin(&platform, &visit, form).await {
        Ok(begun) => begun,
        Err(error) => return refused(&error),
    };
    let cookie = Cookie {
        name: COOKIE,
        value: &begun.state,
        path: &format!("/component/{}/back/", platform.app_id),
        seconds: COOKIE_SECONDS,
        is_secure: platform.public_url.starts_with("https://"),
    };
    html::redirect(&begun.url, Some(&cookie))
}

/// What WeChat brings back.
#[derive(Debug, Deserialize)]
pub(super) struct Back {
    /// The authorisation code; absent where the administrator has refused.
    auth_code: Option<String>,
}

/// Comes back from WeChat. A browser may come twice, and is told the same.
pub(super) async fn back(
    State(state): State<ComponentState>,
    Path((platform, visit_state)): Path<(String, String)>,
    headers: HeaderMap,
    Query(back): Query<Back>,
) -> Response {
    let platform = match known(&state, &platform) {
        Ok(platform) => platform,
        Err(error) => return refused(&error),
    };
    // Only the browser that began the visit ends it: a link that somebody else was sent leads nowhere.
    if !holds_visit(&headers, &visit_state) {
        return refused(&InvitationError::Unknown);
    }
    let Some(Ok(code)) = back.auth_code.as_deref().map(Secret::parse) else {
        let body = "<h1>没有授权</h1><p>公众号没有授权给平台。请重新打开邀请链接。</p>\
             <p class=\"dim\" lang=\"en\">The account was not authorised. Open the invitation again.</p>";
        return page(StatusCode::BAD_REQUEST, "没有授权", body);
    };
    match state.lane.end(&platform, &visit_state, &code).await {
        Err(error) => refused(&error),
        Ok(ended) => {
            let name = match &*ended.name {
                "" => ended.app_id.as_str(),
                name => name,
            };
            let then = match ended.is_served {
                true => "从现在起，粉丝的消息由它来回复。可以关闭本页了。",
                false => "正在完成设置，一分钟之内生效。可以关闭本页了。",
            };
            let body = format!(
                "<h1>授权成功</h1><p>公众号“{}”已授权给“{}”。{then}</p>\
                 <p class=\"dim\" lang=\"en\">The account is authorised. You may close this page.</p>",
                escaped(name),
                escaped(platform.shown_name())
            );
            page(StatusCode::OK, "授权成功", &body)
        }
    }
}

fn holds_visit(headers: &HeaderMap, state: &str) -> bool {
    html::cookie(headers, COOKIE).is_some_and(|kept| kept == state)
}

/// Why a page leads nowhere.
fn refused(error: &InvitationError) -> Response {
    let (status, said, english) = match error {
        InvitationError::Unknown => (
            StatusCode::NOT_FOUND,
            "没有这个邀请。请核对链接，或向邀请您的人要一个新的。",
            "There is no such invitation.",
        ),
        InvitationError::Used => (
            StatusCode::CONFLICT,
            "这个邀请已经用过了。每个邀请只能用于一个公众号。",
            "The invitation was used before.",
        ),
        InvitationError::Revoked => (
            StatusCode::GONE,
            "这个邀请已被收回。请向邀请您的人要一个新的。",
            "The invitation was taken back.",
        ),
        InvitationError::Expired => (
            StatusCode::GONE,
            "这个邀请已经过期。请向邀请您的人要一个新的。",
            "The invitation has ended.",
        ),
        InvitationError::Exchange(crate::platform::ExchangeError::Refused(_)) => (
            StatusCode::CONFLICT,
            "微信不接受这个授权码。请重新打开邀请链接，再授权一次。",
            "WeChat does not take the code. Open the invitation again.",
        ),
        InvitationError::Call(_) | InvitationError::Exchange(_) | InvitationError::Database(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "现在连不上微信。请过一会儿刷新本页。",
            "WeChat can't be reached now. Reload this page in a while.",
        ),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(error = %error, code = error.code(), "a visitor of an invitation can't go on now");
    }
    let body = format!(
        "<h1>不能继续</h1><p>{said}</p><p class=\"dim\" lang=\"en\">{english}</p>\
         <p class=\"dim\"><code>{}</code></p>",
        error.code()
    );
    page(status, "不能继续", &body)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_visit_is_held_by_the_browser_that_began_it() {
        let mut headers = HeaderMap::new();
        assert!(!holds_visit(&headers, "abc"));
        headers.insert(
            header::COOKIE,
            HeaderValue::from_static("a=b; wxhost-visit=abc"),
        );
        assert!(holds_visit(&headers, "abc"));
        assert!(!holds_visit(&headers, "ab"));
    }
}
