//! What a call is: a request that can be described without sending it, and the type of its answer.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::answer::{self, AnswerError};
use super::json;
use super::limit::{self, InvalidCall};

/// Most bytes of the path of a [`generic`] call.
pub const MAX_PATH_BYTES: usize = 256;

/// A call of WeChat's API.
pub trait Call {
    /// What WeChat answers.
    type Answer: DeserializeOwned;

    /// Describes the request.
    ///
    /// # Errors
    ///
    /// The first limit of WeChat's that it breaks.
    fn request(&self) -> Result<Request, InvalidCall>;

    /// Reads the answer, errors included. A client that looks for an errcode before loses the few
    /// answers that hold data beside one, see [`crate::errcode::Class`].
    ///
    /// # Errors
    ///
    /// WeChat's refusal, or an answer that is not what its document promises.
    fn answer(body: &[u8]) -> Result<Self::Answer, AnswerError> {
        answer::read(body)
    }
}

/// A request, to be completed with a base address and, mostly, with a token.
#[derive(Clone, Eq, PartialEq)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// Such as `/cgi-bin/tags/get`.
    pub path: Cow<'static, str>,
    /// Query parameters, not yet URL-encoded, without `access_token`.
    pub query: Vec<(Cow<'static, str>, String)>,
    /// What is posted.
    pub body: Body,
    /// Whether doing it twice is the same as doing it once, so that it may be repeated after an
    /// unknown outcome.
    pub idempotent: bool,
    /// Whether an `access_token` belongs into the query. The token calls have none.
    pub needs_token: bool,
    /// The parameter in which that token stands.
    pub token_name: &'static str,
}

/// Where a token stands on nearly all calls.
const TOKEN_NAME: &str = "access_token";

/// A request's method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// What a request posts.
#[derive(Clone, Default, Eq, PartialEq)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// A JSON document in real UTF-8.
    Json(String),
    /// A form with one file; the file's bytes are the client's to stream.
    Multipart(Multipart),
}

/// A form (`multipart/form-data`) with one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Multipart {
    /// Name of the file's field.
    pub field: &'static str,
    /// The file's name; WeChat refuses a file without one.
    pub file_name: String,
    /// The file's type, such as `image/jpeg`.
    pub content_type: String,
    /// Most bytes of the file that WeChat takes.
    pub max_bytes: u64,
    /// Fields beside the file.
    pub texts: Vec<(&'static str, String)>,
}

impl Method {
    /// In capitals.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

impl Request {
    /// A GET: a question, which may be repeated.
    pub(super) fn get(path: &'static str) -> Self {
        Self {
            method: Method::Get,
            path: path.into(),
            query: Vec::new(),
            body: Body::Empty,
            idempotent: true,
            needs_token: true,
            token_name: TOKEN_NAME,
        }
    }

    /// A POST that does something each time.
    pub(super) fn post(path: &'static str, body: &impl Serialize) -> Result<Self, InvalidCall> {
        Ok(Self {
            method: Method::Post,
            body: Body::Json(json::to_string(body)?),
            idempotent: false,
            ..Self::get(path)
        })
    }

    /// A POST that may be repeated: a question, or a change that ends the same.
    pub(super) fn ask(path: &'static str, body: &impl Serialize) -> Result<Self, InvalidCall> {
        Ok(Self {
            idempotent: true,
            ..Self::post(path, body)?
        })
    }

    /// A POST of a file.
    pub(super) fn upload(path: &'static str, form: Multipart) -> Self {
        Self {
            method: Method::Post,
            body: Body::Multipart(form),
            idempotent: false,
            ..Self::get(path)
        }
    }

    /// With a query parameter more.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// With its token in another parameter.
    pub(super) fn with_token_in(self, token_name: &'static str) -> Self {
        Self { token_name, ..self }
    }

    /// Without a token.
    pub(super) fn without_token(self) -> Self {
        Self {
            needs_token: false,
            ..self
        }
    }

    /// The JSON that is posted; None for a GET or a file.
    pub fn json(&self) -> Option<&str> {
        match &self.body {
            Body::Json(json) => Some(json),
            Body::Empty | Body::Multipart(_) => None,
        }
    }
}

/// A call that has no type here. `body` is a JSON document, or empty for none. Its characters are sent as
/// themselves, also those that it escapes: WeChat shows an escape as it was typed, or refuses it.
///
/// The path is taken as it is and must be in its shortest form, so that a grant for a prefix of it
/// can't be walked around.
///
/// # Errors
///
/// What is malformed: the path, a token in the query, a body that is not JSON or does not belong to a
/// GET.
pub fn generic(
    method: Method,
    path: &str,
    query: Vec<(String, String)>,
    body: String,
) -> Result<Request, InvalidCall> {
    limit::bytes("path", path, 1..=MAX_PATH_BYTES)?;
    limit::demand(is_plain_path(path), "path", "is not /segment/segment…")?;
    let names_token = query.iter().any(|(name, _)| name == "access_token");
    limit::demand(!names_token, "query", "must not hold access_token")?;
    let body = if body.is_empty() {
        Body::Empty
    } else {
        let is_json = serde_json::from_str::<IgnoredAny>(&body).is_ok();
        limit::demand(is_json, "body", "is not JSON")?;
        limit::demand(method == Method::Post, "body", "does not belong to a GET")?;
        Body::Json(json::plain(body))
    };
    Ok(Request {
        method,
        path: path.to_owned().into(),
        query: query
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
        body,
        idempotent: method == Method::Get,
        needs_token: true,
        token_name: TOKEN_NAME,
    })
}

/// Whether a path is one of whole segments of letters, digits, `-` and `_`, as all of WeChat's are: no
/// escape, no dot and no empty segment that could make it mean another one.
pub fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(is_plain);
    match path.strip_prefix('/') {
        Some(segments) => segments.split('/').all(is_segment),
        None => false,
    }
}

// Queries and bodies hold secrets and what users write.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.query.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("query", &names)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Json(json) => write!(f, "Json({} bytes)", json.len()),
            Body::Multipart(form) => write!(f, "Multipart({})", form.field),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(path: &str, body: &str) -> Result<Request, InvalidCall> {
        generic(Method::Post, path, Vec::new(), body.into())
    }

    #[test]
    fn generic_call_is_taken_as_it_is() {
        let request = any("/cgi-bin/x_y-1/get", r#"{"a":"你"}"#).unwrap();
        assert_eq!(request.json(), Some(r#"{"a":"你"}"#));
        assert!(request.needs_token && !request.idempotent);
        let query = vec![("b".to_owned(), "c d".to_owned())];
        let request = generic(Method::Get, "/a", query, String::new()).unwrap();
        assert_eq!(request.query, [("b".into(), "c d".to_owned())]);
        assert!(request.idempotent && request.body == Body::Empty);
    }

    #[test]
    fn path_that_walks_around_a_grant_is_refused() {
        let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        for path in [
            "",
            "/",
            "a",
            "//a",
            "/a//b",
            "/a/",
            "/a/../token",
            "/a/./b",
            "/a.b",
            "/a/get.",
            "/a/%2e%2e/b",
            "/a?b=c",
            "/a#b",
            "/a\\b",
            "/a b",
            "/a;b",
            "/标签",
            "https://a.example/",
            "/a@b",
            &long,
        ] {
            assert!(any(path, "").is_err(), "{path}");
        }
    }

    #[test]
    fn token_of_ones_own_and_broken_body_are_refused() {
        let query = vec![("access_token".to_owned(), "t".to_owned())];
        assert!(generic(Method::Get, "/a", query, String::new()).is_err());
        assert!(generic(Method::Get, "/a", Vec::new(), "{}".into()).is_err());
        assert!(any("/a", "{").is_err());
        assert!(any("/a", &"[".repeat(100_000)).is_err());
    }

    #[test]
    fn debug_shows_neither_query_nor_body() {
        let request = any("/a", r#""hush""#).unwrap().with("secret", "hush");
        assert_eq!(
            format!("{request:?}"),
            "Request { method: Post, path: \"/a\", query: [\"secret\"], body: Json(6 bytes), .. }"
        );
    }
}
