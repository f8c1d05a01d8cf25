//! The pages of an invitation: what a tenant's customer sees before and after WeChat's own. Plain, for a phone
//! and for a desk, without a script; Chinese first, since their readers are.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use qrcode::{QrCode, render::svg};
use serde::Deserialize;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::component::link::Form;

use std::sync::Arc;

use super::ComponentState;
use crate::accounts::Platform;
use crate::platform::{InvitationError, Visit};

/// Pixels of a QR code's side, at least.
const QR_SIDE: u32 = 240;

/// What a browser may do with these pages: nothing but show them. WeChat demands to see by the referrer that
/// its link stood on the platform's domain.
const POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

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
    let secure = match platform.public_url.starts_with("https://") {
        true => "; Secure",
        false => "",
    };
    let cookie = format!(
        "{COOKIE}={}; Path=/component/{}/back/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax{secure}",
        begun.state, platform.app_id
    );
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    for (name, value) in [(header::LOCATION, begun.url), (header::SET_COOKIE, cookie)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    guarded(response)
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
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut cookies = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='));
    cookies.any(|(name, value)| name == COOKIE && value == state)
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

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><link rel=\"icon\" href=\"data:,\"><style>\
         :root{{color-scheme:light dark}}\
         body{{font:17px/1.6 system-ui,sans-serif;max-width:34em;margin:0 auto;padding:2em 1.2em}}\
         h1{{font-size:1.4em;line-height:1.3}}.dim{{opacity:.7;font-size:.9em}}\
         .button{{display:block;text-align:center;padding:.8em 1em;border-radius:.5em;\
         background:#07803f;color:#fff;text-decoration:none;font-weight:600}}\
         img{{background:#fff;padding:.5em;border-radius:.5em}}\
         </style><body>{body}</body></html>"
    );
    let html_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    guarded((status, html_type, html).into_response())
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Text as it stands in HTML, where it is no address.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_text() {
        assert_eq!(
            escaped("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;"
        );
    }

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
