//! Pages that people see in a browser: plain, for a phone and for a desk, without a script but where a payer pays.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a browser may do with these pages: nothing but show them. WeChat demands to see by the referrer that
/// its link stood on the platform's domain.
const POLICY: &str = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/// The same with scripts of the host's own, which may ask the host.
const POLICY_WITH_SCRIPT: &str = "default-src 'none'; img-src 'self' data:; \
     style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
     frame-ancestors 'none'; form-action 'none'";

/// What a browser is to keep. Scripts do not see it, and other sites' forms do not bring it.
#[derive(Debug)]
pub(super) struct Cookie<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    /// Where it is brought back to.
    pub(super) path: &'a str,
    /// For how long.
    pub(super) seconds: u32,
    /// Over TLS only.
    pub(super) is_secure: bool,
}

impl Cookie<'_> {
    fn header(&self) -> String {
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!(
            "{}={}; Path={}; Max-Age={}; HttpOnly; SameSite=Lax{secure}",
            self.name, self.value, self.path, self.seconds
        )
    }
}

/// Leads a browser on, and may give it something to keep.
pub(super) fn redirect(url: &str, cookie: Option<&Cookie<'_>>) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    let cookie = cookie.map(|cookie| (header::SET_COOKIE, cookie.header()));
    for (name, value) in [(header::LOCATION, url.to_owned())]
        .into_iter()
        .chain(cookie)
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    guarded(response, POLICY)
}

/// What a browser has kept under a name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut cookies = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find_map(|(given, value)| (given == name).then_some(value))
}

/// A whole page of the body's HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
    whole((status, title, body), POLICY)
}

/// The same, where the body names scripts of the host's own.
pub(super) fn page_with_script(status: StatusCode, title: &str, body: &str) -> Response {
    whole((status, title, body), POLICY_WITH_SCRIPT)
}

fn whole((status, title, body): (StatusCode, &str, &str), policy: &'static str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><link rel=\"icon\" href=\"data:,\"><style>\
         :root{{color-scheme:light dark}}\
         body{{font:17px/1.6 system-ui,sans-serif;max-width:34em;margin:0 auto;padding:2em 1.2em}}\
         h1{{font-size:1.4em;line-height:1.3}}.dim{{opacity:.7;font-size:.9em}}\
         .button{{display:block;text-align:center;padding:.8em 1em;border-radius:.5em;\
         background:#07803f;color:#fff;text-decoration:none;font-weight:600}}\
         button.button{{width:100%;border:0;font:inherit;font-weight:600}}\
         button.button:disabled{{opacity:.5}}[hidden]{{display:none!important}}\
         .sum{{font-size:2.2em;margin:.2em 0}}\
         img{{background:#fff;padding:.5em;border-radius:.5em}}\
         </style><body>{body}</body></html>"
    );
    let html_type = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    guarded((status, html_type, html).into_response(), policy)
}

fn guarded(mut response: Response, policy: &'static str) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Text as it stands in HTML, where it is no address.
pub(super) fn escaped(text: &str) -> String {
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
    fn a_cookie_comes_back_as_it_was_given() {
        let given = Cookie {
            name: "a",
            value: "1.x_y",
            path: "/p",
            seconds: 60,
            is_secure: true,
        };
        assert_eq!(
            given.header(),
            "a=1.x_y; Path=/p; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers, "a"), None);
        headers.append(header::COOKIE, HeaderValue::from_static("ab=2; b=a=3"));
        headers.append(header::COOKIE, HeaderValue::from_static("a=1.x_y"));
        assert_eq!(cookie(&headers, "a"), Some("1.x_y"));
        assert_eq!(cookie(&headers, "b"), Some("a=3"));
    }
}
