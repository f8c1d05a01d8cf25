//! The shape of a request to WeChat's API. Whether its path is granted is not known here; `Capabilities`
//! decides that, and all about other systems.

use crate::wechat_api;

/// The longest path of WeChat's API, in bytes; the longest that it has is below 80.
const MAX_PATH_BYTES: usize = 512;
/// The most query parameters.
const MAX_QUERY: usize = 32;
/// All names and values of a query, in bytes.
const MAX_QUERY_BYTES: usize = 8 << 10;
/// The largest body of a request.
const MAX_BODY_BYTES: usize = 256 << 10;

/// Checks a call of WeChat's API.
pub(crate) fn check_call(request: &wechat_api::Request) -> Result<(), String> {
    check_path("path", &request.path)?;
    let query = &request.query;
    check_sizes("query", query, MAX_QUERY, MAX_QUERY_BYTES)?;
    for (name, _) in query {
        // The host adds the token; a second one could be somebody else's.
        if name.to_ascii_lowercase().ends_with("access_token") {
            return Err(format!("query: {name} is the host's to add"));
        }
    }
    let body = &request.body;
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("body: at most {MAX_BODY_BYTES} bytes"));
    }
    match request.method {
        wechat_api::Method::Get if !body.is_empty() => Err("body: a GET has none".into()),
        wechat_api::Method::Post if !body.is_empty() => {
            match serde_json::from_str::<serde::de::IgnoredAny>(body) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("body: not JSON: {error}")),
            }
        }
        wechat_api::Method::Get | wechat_api::Method::Post => Ok(()),
    }
}

/// Checks a path of WeChat's API, wherever one is named.
pub(crate) fn check_path(what: &str, path: &str) -> Result<(), String> {
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    if path.starts_with('/') && plain && path.len() <= MAX_PATH_BYTES {
        return Ok(());
    }
    Err(format!(
        "{what}: must begin with / and have at most {MAX_PATH_BYTES} printable ASCII characters"
    ))
}

fn check_sizes(
    what: &str,
    pairs: &[(String, String)],
    most: usize,
    most_bytes: usize,
) -> Result<(), String> {
    let bytes: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if pairs.len() > most || bytes > most_bytes {
        return Err(format!("{what}: at most {most}, {most_bytes} bytes in all"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat_api::Method;

    fn call(method: Method, path: &str, query: &[(&str, &str)], body: &str) -> Result<(), String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        check_call(&wechat_api::Request {
            method,
            path: path.into(),
            query: query.iter().map(owned).collect(),
            body: body.into(),
        })
    }

    #[test]
    fn calls_are_checked_before_they_leave() {
        let path = "/cgi-bin/tags/get";
        let fine = [
            call(Method::Get, path, &[], ""),
            call(Method::Get, path, &[("next_openid", "o 1&号")], ""),
            call(Method::Post, path, &[], ""),
            call(
                Method::Post,
                path,
                &[],
                r#"{"tag":{"id":18446744073709551615}}"#,
            ),
        ];
        assert!(fine.iter().all(Result::is_ok), "{fine:?}");
        let large = format!("\"{}\"", "x".repeat(256 << 10));
        let many = vec![("a", "b"); 33];
        for (refused, what) in [
            (call(Method::Get, "cgi-bin/tags/get", &[], ""), "path"),
            (call(Method::Get, "/a b", &[], ""), "path"),
            (call(Method::Get, "/a\r\nHost: b", &[], ""), "path"),
            (call(Method::Get, &"/a".repeat(300), &[], ""), "path"),
            (
                call(Method::Get, path, &[("access_token", "x")], ""),
                "query",
            ),
            (
                call(Method::Get, path, &[("Component_Access_Token", "x")], ""),
                "query",
            ),
            (call(Method::Get, path, &many, ""), "query"),
            (
                call(Method::Get, path, &[("a", &"b".repeat(9000))], ""),
                "query",
            ),
            (call(Method::Get, path, &[], "{}"), "body"),
            (call(Method::Post, path, &[], "{"), "body"),
            (call(Method::Post, path, &[], &large), "body"),
        ] {
            let reason = refused.unwrap_err();
            assert!(reason.starts_with(what), "{reason}");
        }
    }
}
