//! Which header fields pass: outward what a plugin may say, inward what it may hear.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::secrets::SecretFiller;
use super::{EgressError, Part};

/// Fields of one request.
const MAX_FIELDS: usize = 64;

/// Names and values together, of a request and of an answer, in bytes.
const MAX_BYTES: usize = 32 * 1024;

/// Parts of one value.
const MAX_PARTS: usize = 64;

/// Fields that belong to the connection, which is the host's (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// More fields of requests that the host sets itself, or that change how the answer is framed.
const OURS: &[&str] = &["host", "content-length", "expect"];

/// Fields that do not go together with a secret: a part of an answer may hold a part of it, which could
/// not be taken out.
const NOT_WITH_A_SECRET: &[&str] = &["range", "if-range"];

/// The fields of a request, with secrets filled in. Values that hold one are marked as sensitive.
pub(super) fn outward(
    given: Vec<(String, Vec<Part>)>,
    filler: &mut SecretFiller<'_>,
) -> Result<HeaderMap, EgressError> {
    let invalid = |reason: String| EgressError::InvalidArgument(format!("headers: {reason}"));
    if given.len() > MAX_FIELDS {
        return Err(invalid(format!("more than {MAX_FIELDS}")));
    }
    let mut fields = HeaderMap::new();
    let mut left = MAX_BYTES;
    for (name, value) in given {
        // Errors show the name at most: a value may hold a secret by now.
        let shown: String = name.chars().take(64).collect();
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| invalid(format!("{shown:?} is not a name")))?;
        if HOP_BY_HOP.contains(&parsed.as_str()) || OURS.contains(&parsed.as_str()) {
            return Err(invalid(format!("{parsed} is the host's to set")));
        }
        let too_many = || invalid(format!("more than {MAX_BYTES} bytes"));
        left = left.checked_sub(name.len()).ok_or_else(too_many)?;
        if value.len() > MAX_PARTS {
            return Err(invalid(format!("{parsed} has more than {MAX_PARTS} parts")));
        }
        let filled = filler.fill("headers", value, left)?;
        left -= filled.bytes.len();
        let value = HeaderValue::from_bytes(&filled.bytes);
        let mut value = value.map_err(|_| invalid(format!("the value of {parsed} is not one")))?;
        value.set_sensitive(filled.secret);
        fields.append(parsed, value);
    }
    Ok(fields)
}

/// Sees to it that the answer to a request with a secret can be searched for it: whole and uncompressed.
pub(super) fn demand_legible(fields: &mut HeaderMap) -> Result<(), EgressError> {
    for name in NOT_WITH_A_SECRET {
        if fields.contains_key(*name) {
            let reason = format!("headers: {name} does not go together with a secret");
            return Err(EgressError::InvalidArgument(reason));
        }
    }
    fields.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    Ok(())
}

/// Whether an answer is whole and uncompressed.
pub(super) fn is_legible(status: StatusCode, fields: &HeaderMap) -> bool {
    let mut encodings = fields.get_all(header::CONTENT_ENCODING).iter();
    let identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    status != StatusCode::PARTIAL_CONTENT && encodings.all(identity)
}

/// The fields of an answer that a plugin hears: all but those of the connection, and those that are not
/// text. Echoed secrets become names again.
pub(super) fn inward(
    fields: &HeaderMap,
    filler: &SecretFiller<'_>,
) -> Result<Vec<(String, String)>, EgressError> {
    let mut heard = Vec::with_capacity(fields.len());
    let mut bytes = 0;
    for (name, value) in fields {
        bytes += name.as_str().len() + value.len();
        if bytes > MAX_BYTES {
            return Err(EgressError::TooLarge);
        }
        if HOP_BY_HOP.contains(&name.as_str()) {
            continue;
        }
        if let Ok(value) = String::from_utf8(filler.mask(value.as_bytes().to_vec())) {
            heard.push((name.as_str().to_owned(), value));
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Target;
    use crate::secrets::{GivenSecret, Secrets};

    const ERP: Target<'static> = Target {
        tls: true,
        host: "erp.example",
        port: 443,
    };

    fn secrets() -> Secrets {
        let given = [("key", "s3cr3t-value"), ("split", "a\r\nx-forged: yes")];
        let given = given.map(|(name, value)| {
            let origins = Some(vec!["https://erp.example".to_owned()]);
            let value = value.into();
            (name.to_owned(), GivenSecret { value, origins })
        });
        Secrets::of(given.into(), &wxhost_runtime::Wanted::default()).expect("secrets")
    }

    fn secret(name: &str) -> Part {
        Part::Secret(name.to_owned())
    }

    fn outward_of(given: &[(&str, &str)]) -> Result<HeaderMap, EgressError> {
        let given = given.iter();
        let given = given.map(|(name, value)| (*name, vec![Part::Bytes((*value).into())]));
        outward_parts(given.collect())
    }

    fn outward_parts(given: Vec<(&str, Vec<Part>)>) -> Result<HeaderMap, EgressError> {
        let secrets = secrets();
        let given = given.into_iter();
        let given = given.map(|(name, value)| (name.to_owned(), value));
        outward(given.collect(), &mut SecretFiller::new(&secrets, ERP))
    }

    #[track_caller]
    fn refused(given: &[(&str, &str)], part: &str) {
        match outward_of(given) {
            Err(EgressError::InvalidArgument(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{given:?}: {other:?}"),
        }
    }

    #[test]
    fn fields_pass_in_order_and_more_than_once() {
        let fields = outward_of(&[("X-A", "1"), ("x-b", "你好"), ("X-a", "2")]).expect("fields");
        let values: Vec<_> = fields.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(fields["x-b"].as_bytes(), "你好".as_bytes());
    }

    #[test]
    fn secrets_are_filled_in_and_hidden_from_debug() {
        let value = vec![Part::Bytes(b"Bearer ".to_vec()), secret("key")];
        let fields = outward_parts(vec![("authorization", value)]).expect("fields");
        assert_eq!(fields["authorization"].as_bytes(), b"Bearer s3cr3t-value");
        let shown = format!("{fields:?}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn fields_of_the_connection_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Expect",
        ] {
            refused(&[(name, "x")], "is the host's to set");
        }
    }

    #[test]
    fn split_fields_are_refused() {
        refused(&[("x-a", "1\r\nhost: evil")], "the value of x-a");
        refused(&[("x-a\r\nhost", "evil")], "is not a name");
        refused(&[("x-a:", "1")], "is not a name");
        refused(&[("", "1")], "is not a name");
        let refused = outward_parts(vec![("x-a", vec![secret("split")])]);
        let reason = "headers: the value of x-a is not one".to_owned();
        assert_eq!(refused, Err(EgressError::InvalidArgument(reason)));
    }

    #[test]
    fn too_many_or_too_large_fields_are_refused() {
        refused(&[("x-a", "1"); 65], "more than 64");
        let large = "x".repeat(17 * 1024);
        refused(&[("x-a", &large), ("x-b", &large)], "secrets included");
        refused(&[("x-a", &"x".repeat(MAX_BYTES - 2))], "secrets included");
        assert!(outward_of(&[("x-a", &"x".repeat(MAX_BYTES - 3))]).is_ok());
        refused(
            &[("x-a", &"x".repeat(MAX_BYTES - 3)), ("x-b", "")],
            "more than 32768",
        );
        let many = outward_parts(vec![("x-a", vec![secret("key"); 65])]);
        let reason = "headers: x-a has more than 64 parts".to_owned();
        assert_eq!(many, Err(EgressError::InvalidArgument(reason)));
    }

    #[test]
    fn a_secret_asks_for_a_whole_and_plain_answer() {
        let fields = &mut outward_of(&[("accept-encoding", "gzip")]).expect("fields");
        demand_legible(fields).expect("legible");
        let asked: Vec<_> = fields.get_all("accept-encoding").iter().collect();
        assert_eq!(asked, ["identity"]);
        for name in ["range", "If-Range"] {
            let mut fields = outward_of(&[(name, "bytes=0-3")]).expect("fields");
            assert!(demand_legible(&mut fields).is_err(), "{name}");
        }
        for (status, encoding, legible) in [
            (200, None, true),
            (206, None, false),
            (200, Some("gzip"), false),
            (200, Some("Identity"), true),
            (404, Some("br"), false),
        ] {
            let mut fields = HeaderMap::new();
            if let Some(encoding) = encoding {
                fields.insert("content-encoding", HeaderValue::from_static(encoding));
            }
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(
                is_legible(status, &fields),
                legible,
                "{status} {encoding:?}"
            );
        }
    }

    #[test]
    fn answers_lose_fields_of_the_connection_and_echoed_secrets() {
        let secrets = secrets();
        let mut filler = SecretFiller::new(&secrets, ERP);
        filler
            .fill("body", vec![secret("key")], 64)
            .expect("filled");
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
            ("x-echo", "got s3cr3t-value"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ] {
            let value = HeaderValue::from_static(value);
            fields.append(HeaderName::from_static(name), value);
        }
        let odd = HeaderValue::from_bytes(b"\xff").expect("allowed in HTTP");
        fields.append("x-odd", odd);
        let expected = [
            ("content-type", "text/plain"),
            ("x-echo", "got [secret:key]"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(inward(&fields, &filler), Ok(expected.to_vec()));
    }

    #[test]
    fn answers_with_huge_fields_are_refused() {
        let mut fields = HeaderMap::new();
        let huge = HeaderValue::from_str(&"x".repeat(MAX_BYTES)).expect("a value");
        fields.append("x-huge", huge);
        let none = Secrets::default();
        assert_eq!(
            inward(&fields, &SecretFiller::new(&none, ERP)),
            Err(EgressError::TooLarge)
        );
    }
}
