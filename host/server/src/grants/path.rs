//! Paths of WeChat's API: one form for plugins' calls, for keys' grants and for what is passed on.

use std::fmt;

use wxhost_wechat::api::{MAX_PATH_BYTES, is_plain_path};

/// Why a text is no path of WeChat's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a path begins with / and has segments of letters, digits, - and _, none of them empty, \
     {MAX_PATH_BYTES} bytes at most"
)]
pub struct PathError;

/// A path of WeChat's API, such as `/cgi-bin/user/info`: plain characters, nothing escaped, no empty
/// segment, no dots that lead elsewhere. So what is compared is what WeChat gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPath(String);

impl ApiPath {
    /// Reads a path.
    ///
    /// # Errors
    /// [`PathError`] for anything that could mean another path than it says.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() <= MAX_PATH_BYTES && is_plain_path(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PathError)
        }
    }

    /// The path, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `prefix` or lies below it; whole segments only.
    pub fn lies_under(&self, prefix: &Self) -> bool {
        self.0
            .strip_prefix(&prefix.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for ApiPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_paths() {
        for (text, good) in [
            ("/cgi-bin/user/info", true),
            ("/wxa/business/getuserphonenumber", true),
            ("/a-b_c/1", true),
            ("/a.b", false),
            ("/cgi-bin/token.", false),
            ("", false),
            ("/", false),
            ("cgi-bin/user", false),
            ("/cgi-bin/", false),
            ("//cgi-bin", false),
            ("/cgi-bin//token", false),
            ("/cgi-bin/./token", false),
            ("/cgi-bin/../token", false),
            ("/cgi-bin/user/%2e%2e/token", false),
            ("/cgi-bin%2Ftoken", false),
            ("/cgi-bin\\token", false),
            ("/cgi-bin/token;x", false),
            ("/cgi-bin/token?x", false),
            ("/cgi-bin/token#x", false),
            ("/cgi-bin/token\0", false),
            ("/cgi-bin/ token", false),
            ("/cgi-bin/tok\u{ff45}n", false),
            ("/@evil.example/", false),
        ] {
            assert_eq!(ApiPath::parse(text).is_ok(), good, "{text}");
            // What a manifest may ask for is written in the same form.
            assert_eq!(wxhost_runtime::is_plain_path(text), good, "{text}");
        }
        assert!(ApiPath::parse(&format!("/{}", "a".repeat(MAX_PATH_BYTES))).is_err());
    }
}
