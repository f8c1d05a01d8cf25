//! Manifests as authors write them, and what is wrong with those that are refused.

use super::*;

const WHOLE: &str = r#"
    name = "desk"
    version = "1.2.3"
    handlers = ["callback"]
    config_schema = "schema.json"
    [[push]]
    kind = "order-shipped"
    title = "An order has left"
    schema = '''{"type": "object"}'''
    [grants]
    api = ["/cgi-bin/tags/", "/cgi-bin/user/info"]
    egress = ["https://erp.example.com"]
"#;

#[test]
fn a_whole_manifest_is_read_and_survives_its_json_form() {
    let manifest = Manifest::parse(WHOLE).unwrap();
    assert_eq!(
        manifest.handlers.as_deref(),
        Some([Handler::Callback].as_slice())
    );
    assert_eq!(manifest.grants.api.len(), 2);
    assert_eq!(manifest.push[0].kind, "order-shipped");
    let json = serde_json::to_string(&manifest).unwrap();
    assert!(
        json.contains(r#""egress":["https://erp.example.com"]"#),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    let short = Manifest::parse("name = \"a\"\nversion = \"1\"").unwrap();
    assert_eq!((short.handlers, short.grants), (None, Wanted::default()));
}

#[test]
fn what_is_wrong_in_a_manifest_is_named() {
    let long = format!(
        "name = \"a\"\nversion = \"1\"\n#{}",
        "x".repeat(MAX_MANIFEST_BYTES)
    );
    let kinds: String = (0..33)
        .map(|number| format!("[[push]]\nkind = \"k{number}\"\n"))
        .collect();
    let many = format!("[grants]\napi = [{}]", "\"/a\",".repeat(65));
    for (text, named) in [
        ("name = \"a\"", "missing field `version`"),
        ("name = \"\"\nversion = \"1\"", "name must be 1 to 128"),
        ("name = \"a\\nb\"\nversion = \"1\"", "name must be 1 to 128"),
        ("nmae = \"a\"", "unknown field `nmae`"),
        ("handlers = [\"pull\"]", "unknown variant `pull`"),
        ("[[push]]\nkind = \"A\"", "push.kind must be 1 to 128"),
        (
            "[[push]]\nkind = \"a\"\n[[push]]\nkind = \"a\"",
            "\"a\" comes twice",
        ),
        ("[[push]]\nkind = \"text\"", "\"text\" is the host's own"),
        ("[[push]]\nkind = \"a\"\ntitle = \"\"", "push.title must be"),
        (&kinds, "push has 33 kinds; 32 are allowed"),
        ("[grants]\nurls = []", "unknown field `urls`"),
        (
            "[grants]\napi = [\"cgi-bin\"]",
            "\"cgi-bin\" is not a path prefix",
        ),
        (
            "[grants]\negress = [\"ftp://a.b\"]",
            "\"ftp://a.b\" is not an origin",
        ),
        (&many, "grants.api has 65 entries"),
        (&long, "more than 65536 bytes"),
        ("name = [[[", "unclosed array"),
    ] {
        let whole = if text.contains("name") || text.contains("nmae") {
            text.to_owned()
        } else {
            format!("name = \"a\"\nversion = \"1\"\n{text}")
        };
        let reason = Manifest::parse(&whole).unwrap_err();
        assert!(reason.contains(named), "{text}: {reason}");
    }
}

#[test]
fn a_prefix_covers_whole_segments() {
    let tags: PathPrefix = "/cgi-bin/tags/".parse().unwrap();
    let info: PathPrefix = "/cgi-bin/user/info".parse().unwrap();
    for (prefix, path, covered) in [
        (&tags, "/cgi-bin/tags/get", true),
        (&tags, "/cgi-bin/tags/members/batchtagging", true),
        (&tags, "/cgi-bin/tags", true),
        (&tags, "/cgi-bin/tagsx", false),
        (&tags, "/cgi-bin/tag", false),
        (&tags, "/cgi-bin/user/get", false),
        (&tags, "/CGI-BIN/tags/get", false),
        (&info, "/cgi-bin/user/info", true),
        (&info, "/cgi-bin/user/info/batchget", true),
        (&info, "/cgi-bin/user/infox", false),
    ] {
        assert_eq!(prefix.covers(path), covered, "{prefix} {path}");
    }
}

#[test]
fn a_path_that_could_mean_another_is_covered_by_nothing() {
    let prefix: PathPrefix = "/cgi-bin".parse().unwrap();
    assert!(prefix.covers("/cgi-bin/tags/get"));
    for path in [
        "/cgi-bin//token",
        "//cgi-bin/token",
        "/cgi-bin/./token",
        "/cgi-bin/tags/../token",
        "/cgi-bin/tags/..",
        "/cgi-bin/%74oken",
        "/cgi-bin/tags%2fget",
        "/cgi-bin/tags/%2e%2e/token",
        "/cgi-bin/tags\\..\\token",
        "/cgi-bin/tags/get?x=1",
        "/cgi-bin/tags/get#x",
        "/cgi-bin/tags/get;x",
        "/cgi-bin/tags/get/",
        "/cgi-bin/token.",
        "/cgi-bin/token\u{0}",
        "/cgi-bin/tоken",
        "cgi-bin/tags/get",
        "https://evil.example/cgi-bin/tags/get",
        "",
    ] {
        assert!(!prefix.covers(path), "{path}");
    }
}

#[test]
fn prefixes_that_cannot_be_meant_are_refused() {
    for text in [
        "", "/", "//", "cgi-bin/", "/a//b", "/a/*", "/a/..", "/a b", "/a?b", "/%61",
    ] {
        assert!(text.parse::<PathPrefix>().is_err(), "{text}");
    }
    assert!(
        format!("/{}", "a".repeat(256))
            .parse::<PathPrefix>()
            .is_err()
    );
}

#[test]
fn an_origin_covers_its_scheme_host_and_port() {
    for (origin, tls, host, port, covered) in [
        ("erp.example.com", true, "erp.example.com", 443, true),
        ("erp.example.com", false, "erp.example.com", 80, false),
        (
            "https://erp.example.com",
            true,
            "erp.example.com",
            443,
            true,
        ),
        (
            "https://erp.example.com",
            true,
            "erp.example.com",
            8443,
            false,
        ),
        (
            "https://erp.example.com",
            false,
            "erp.example.com",
            443,
            false,
        ),
        (
            "https://erp.example.com",
            true,
            "erp.example.com.",
            443,
            false,
        ),
        (
            "https://erp.example.com",
            true,
            "evil.erp.example.com",
            443,
            false,
        ),
        ("https://erp.example.com", true, "example.com", 443, false),
        (
            "http://erp.example.com:8080",
            false,
            "erp.example.com",
            8080,
            true,
        ),
        (
            "http://erp.example.com:*",
            false,
            "erp.example.com",
            9,
            true,
        ),
        ("http://erp.example.com:*", false, "evil.example", 9, false),
        (
            "https://[2001:db8::1]:444",
            true,
            "[2001:db8::1]",
            444,
            true,
        ),
        ("https://*", true, "any.example", 8443, true),
        ("https://*", false, "any.example", 80, false),
        ("https://*:443", true, "any.example", 8443, false),
    ] {
        let parsed: Origin = origin.parse().unwrap();
        assert_eq!(
            parsed.covers(tls, host, port),
            covered,
            "{origin} {host}:{port}"
        );
    }
}

#[test]
fn origins_that_cannot_be_meant_are_refused() {
    for text in [
        "",
        "HTTPS://erp.example.com",
        "ftp://erp.example.com",
        "https://",
        "https://Erp.example.com",
        "https://erp.example.com.",
        "https://erp..example.com",
        "https://erp.example.com/",
        "https://erp.example.com/path",
        "https://erp.example.com?x",
        "https://user@erp.example.com",
        "https://user:word@erp.example.com",
        "https://erp.example.com:",
        "https://erp.example.com:0",
        "https://erp.example.com:+1",
        "https://erp.example.com:0443",
        "https://erp.example.com:65536",
        "https://*.example.com",
        "https://[::1",
        "https://[0:0:0:0:0:0:0:1]",
        "https://[::1%25lo]",
        "https://例子.中国",
    ] {
        assert!(text.parse::<Origin>().is_err(), "{text}");
    }
}
