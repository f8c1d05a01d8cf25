//! What a redirect makes of a request, as browsers do it (the Fetch standard, "HTTP-redirect fetch").

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use reqwest::Url;

use super::EgressError;
use super::target::{self, Target};

/// A request as it goes out.
#[derive(Debug, Clone)]
pub(super) struct OutboundRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Those that hold a secret are marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the body holds a secret.
    pub(super) secret_body: bool,
}

/// Fields that say what a body is; they go where the body goes.
const ABOUT_THE_BODY: &[&str] = &[
    "content-encoding",
    "content-language",
    "content-location",
    "content-type",
];

/// Fields that prove who asks; another host must not learn them.
const CREDENTIALS: &[&str] = &["authorization", "cookie"];

impl OutboundRequest {
    /// The request that follows an answer; none where the answer is the last one.
    ///
    /// # Errors
    /// [`EgressError::RedirectRefused`] if the location is none, or a secret would go to another host.
    pub(super) fn redirected(
        &self,
        status: StatusCode,
        location: Option<&HeaderValue>,
    ) -> Result<Option<Self>, EgressError> {
        let Some(location) = location else {
            return Ok(None);
        };
        let keeps_method = match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            StatusCode::SEE_OTHER => self.method == Method::GET || self.method == Method::HEAD,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
            _ => return Ok(None),
        };
        let mut next = Self {
            url: self.location(location)?,
            ..self.clone()
        };
        if !keeps_method {
            next.method = Method::GET;
            next.body = Bytes::new();
            next.secret_body = false;
            without(&mut next.headers, |name, _| {
                ABOUT_THE_BODY.contains(&name.as_str())
            });
        }
        if next.url.origin() != self.url.origin() {
            if next.secret_body {
                return Err(EgressError::RedirectRefused);
            }
            without(&mut next.headers, |name, value| {
                value.is_sensitive() || CREDENTIALS.contains(&name.as_str())
            });
        }
        Ok(Some(next))
    }

    fn location(&self, location: &HeaderValue) -> Result<Url, EgressError> {
        let text = std::str::from_utf8(location.as_bytes()).ok();
        let url = text.and_then(|text| self.url.join(text).ok());
        let url = url.ok_or(EgressError::RedirectRefused)?;
        // The same rules as for a URL that the plugin gives.
        target::parse(url.as_str()).map_err(|_| EgressError::RedirectRefused)
    }

    /// Where it goes.
    pub(super) fn target(&self) -> Result<Target<'_>, EgressError> {
        Target::of(&self.url).ok_or(EgressError::RedirectRefused)
    }
}

fn without(fields: &mut HeaderMap, unwanted: impl Fn(&HeaderName, &HeaderValue) -> bool) {
    let names: Vec<HeaderName> = fields
        .iter()
        .filter(|(name, value)| unwanted(name, value))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    fn request(method: Method, secret_body: bool) -> OutboundRequest {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::from_static("Basic eDp5"),
        );
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut key = HeaderValue::from_static("s3cr3t");
        key.set_sensitive(true);
        headers.insert("x-key", key);
        OutboundRequest {
            method,
            url: Url::parse("https://erp.example.com/a/b").expect("a URL"),
            headers,
            body: Bytes::from_static(b"body"),
            secret_body,
        }
    }

    fn redirect(
        from: &OutboundRequest,
        status: u16,
        location: &str,
    ) -> Result<Option<OutboundRequest>, EgressError> {
        let status = StatusCode::from_u16(status).expect("a status");
        let location = HeaderValue::from_str(location).expect("a value");
        from.redirected(status, Some(&location))
    }

    #[track_caller]
    fn followed(from: &OutboundRequest, status: u16, location: &str) -> OutboundRequest {
        redirect(from, status, location)
            .expect("allowed")
            .expect("followed")
    }

    #[test]
    fn methods_are_rewritten_as_browsers_do() {
        for (status, method, expected) in [
            (301, Method::POST, Method::GET),
            (302, Method::POST, Method::GET),
            (301, Method::PUT, Method::PUT),
            (302, Method::HEAD, Method::HEAD),
            (303, Method::POST, Method::GET),
            (303, Method::DELETE, Method::GET),
            (303, Method::HEAD, Method::HEAD),
            (307, Method::POST, Method::POST),
            (308, Method::PATCH, Method::PATCH),
        ] {
            let next = followed(&request(method.clone(), false), status, "/c");
            assert_eq!(next.method, expected, "{status} {method}");
            let kept = method == expected;
            assert_eq!(next.body.is_empty(), !kept, "{status} {method}");
            assert_eq!(
                next.headers.contains_key("content-type"),
                kept,
                "{status} {method}"
            );
            assert_eq!(next.url.as_str(), "https://erp.example.com/c");
            assert!(
                next.headers.contains_key("x-key"),
                "the same host may have it again"
            );
        }
    }

    #[test]
    fn other_answers_are_final() {
        for status in [200, 300, 304, 305, 306, 404] {
            let next = redirect(&request(Method::GET, false), status, "/c").expect("fine");
            assert!(next.is_none(), "{status}");
        }
        let next = request(Method::GET, false).redirected(StatusCode::FOUND, None);
        assert!(next.expect("fine").is_none());
    }

    #[test]
    fn secrets_and_credentials_do_not_follow_to_another_host() {
        for elsewhere in [
            "https://evil.example/",
            "//evil.example/",
            "http://erp.example.com/",
            "https://erp.example.com:8443/",
        ] {
            let next = followed(&request(Method::GET, false), 302, elsewhere);
            let left: Vec<_> = next.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(left, ["content-type", "accept"], "{elsewhere}");
        }
    }

    #[test]
    fn bodies_with_secrets_do_not_follow_to_another_host() {
        let from = request(Method::POST, true);
        let refused = redirect(&from, 307, "https://evil.example/");
        assert_eq!(refused.err(), Some(EgressError::RedirectRefused));
        assert!(
            followed(&from, 302, "https://evil.example/")
                .body
                .is_empty()
        );
        assert_eq!(followed(&from, 307, "/again").body, "body");
    }

    #[test]
    fn redirects_to_other_schemes_or_with_users_are_refused() {
        for location in [
            "file:///etc/passwd",
            "gopher://erp.example.com/",
            "https://user@erp.example.com/",
            "https://",
            "http://[::1",
        ] {
            let refused = redirect(&request(Method::GET, false), 302, location);
            assert_eq!(
                refused.err(),
                Some(EgressError::RedirectRefused),
                "{location}"
            );
        }
    }
}
