//! Attacks on the readers and the writer; each test is named for the attack.

use wxhost_wechat::body::{Format, MAX_BODY_BYTES, MAX_DEPTH, MAX_ELEMENTS, MAX_NAMES};
use wxhost_wechat::message::Message;
use wxhost_wechat::{json, xml};

use crate::data;

fn refused(body: &str) -> &'static str {
    Format::of(body.as_bytes())
        .parse(body.as_bytes())
        .unwrap_err()
        .code()
}

#[test]
fn billion_laughs() {
    let body = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
        <!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]><xml><a>&lol2;</a></xml>"#;
    assert_eq!(refused(body), "doctype-refused");
    assert_eq!(refused("<xml><a>&lol2;</a></xml>"), "entity-refused");
}

#[test]
fn external_entity() {
    let body =
        r#"<!DOCTYPE xml [<!ENTITY xxe SYSTEM "file:///etc/passwd">]><xml><a>&xxe;</a></xml>"#;
    assert_eq!(refused(body), "doctype-refused");
    assert_eq!(
        refused(r#"<!DOCTYPE xml SYSTEM "http://evil.example/x.dtd"><xml/>"#),
        "doctype-refused"
    );
    assert_eq!(refused("<xml><!doctype html><a/></xml>"), "doctype-refused");
}

#[test]
fn processing_instruction() {
    assert_eq!(
        refused(r#"<?xml-stylesheet href="x"?><xml/>"#),
        "instruction-refused"
    );
    assert_eq!(
        refused(r#"<xml><?xml version="1.0"?></xml>"#),
        "instruction-refused"
    );
}

#[test]
fn encoding_confusion() {
    assert!(xml::parse(br#"<?xml version="1.0" encoding="UTF-8"?><xml/>"#).is_ok());
    assert_eq!(
        refused(r#"<?xml version="1.0" encoding="UTF-7"?><xml/>"#),
        "malformed-xml"
    );
    let utf16: Vec<u8> = "<xml/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(xml::parse(&utf16).unwrap_err().code(), "malformed-xml");
}

#[test]
fn deep_nesting() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(xml::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(refused(&nested(MAX_DEPTH + 1)), "too-deep");
    assert_eq!(refused(&"<a>".repeat(MAX_BODY_BYTES / 3)), "too-deep");

    let nested = |depth: usize| format!(r#"{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(json::parse(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
    assert_eq!(refused(&nested(MAX_DEPTH)), "too-deep");
    let arrays = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&arrays), "too-deep");
}

#[test]
fn element_flood() {
    let flood = |count: usize| format!("<xml>{}</xml>", "<a/>".repeat(count));
    assert!(xml::parse(flood(MAX_ELEMENTS - 1).as_bytes()).is_ok());
    assert_eq!(refused(&flood(MAX_ELEMENTS)), "too-many-elements");
    let flood = |count: usize| format!(r#"{{"a":[0{}]}}"#, ",0".repeat(count - 1));
    assert!(json::parse(flood(MAX_ELEMENTS - 2).as_bytes()).is_ok());
    assert_eq!(refused(&flood(MAX_ELEMENTS - 1)), "too-many-elements");
}

#[test]
fn flood_of_different_names() {
    let names = |count: usize| {
        (0..count)
            .map(|name| format!("<a{name}/>"))
            .collect::<String>()
    };
    assert!(xml::parse(format!("<xml>{}</xml>", names(MAX_NAMES)).as_bytes()).is_ok());
    assert_eq!(
        refused(&format!("<xml>{}</xml>", names(MAX_NAMES + 1))),
        "too-many-elements"
    );
    let names = |count: usize| {
        let members: Vec<_> = (0..count).map(|name| format!(r#""a{name}":0"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(json::parse(names(MAX_NAMES).as_bytes()).is_ok());
    assert_eq!(refused(&names(MAX_NAMES + 1)), "too-many-elements");
}

#[test]
fn malformed_xml() {
    for body in [
        "<xml>",
        "<xml></lmx>",
        "</xml>",
        "<xml/><xml/>",
        "<xml/>trailing",
        "leading<xml/>",
        "<xml>text</xml>",
        "<xml>text<a/></xml>",
        "<xml><b>text<a/></b></xml>",
        "<xml><b><a/>text</b></xml>",
        "<xml><a/>text</xml>",
        "<xml><a/><![CDATA[text]]></xml>",
        "<xml><a>1 & 2</a></xml>",
        "<xml><![CDATA[open</xml>",
        "<xml><a>&#0;</a></xml>",
        "<xml><a>&#xFFFF;</a></xml>",
        "<xml><a>&#xD800;</a></xml>",
        "<xml><a>&#x110000;</a></xml>",
        "<![CDATA[x]]>",
    ] {
        assert_eq!(refused(body), "malformed-xml", "{body}");
    }
}

#[test]
fn white_space_counts_inside_a_text_only() {
    for (inside, expected) in [
        ("\n 1 &amp; 2 \t", "1 & 2"),
        ("x <![CDATA[ y ]]> z ", "x  y  z"),
        (" <![CDATA[ y ]]> ", " y "),
        ("<![CDATA[a]]>\n<![CDATA[b]]><!-- c -->", "a\nb"),
        ("\u{3000}x\u{a0}", "\u{3000}x\u{a0}"),
        (" \n ", ""),
        ("&#32;x&#10;", " x\n"),
    ] {
        let body = format!("<xml><a>{inside}</a></xml>");
        let tree = xml::parse(body.as_bytes()).unwrap();
        assert_eq!(tree.text("a"), Some(expected), "{inside:?}");
    }
}

#[test]
fn malformed_json() {
    for body in [
        "{",
        "{}x",
        "{}{}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":01}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\u0000"}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":nul}"#,
    ] {
        assert_eq!(refused(body), "malformed-json", "{body}");
    }
}

/// The first counts, and the others are seen.
#[test]
fn repeated_element_does_not_replace_the_first() {
    let body = data::TEXT.replace("<Content>", "<Content>first</Content><Content>");
    let body = body.replace("</xml>", "<FromUserName>oOther</FromUserName></xml>");
    let message = Message::from_tree(xml::parse(body.as_bytes()).unwrap()).unwrap();
    assert_eq!(message.from_user.as_str(), "oUser");
    assert!(format!("{:?}", message.content).contains("\"first\""));
    let extra: Vec<_> = message
        .extra
        .iter()
        .map(|(path, value)| (&**path, &**value))
        .collect();
    for expected in [
        ("FromUserName[0]", "oUser"),
        ("FromUserName[1]", "oOther"),
        ("Content[0]", "first"),
        ("Content[1]", "你好"),
    ] {
        assert!(
            extra.contains(&expected),
            "{expected:?} is not in {extra:?}"
        );
    }
    assert_eq!(
        refused(r#"{"FromUserName":"a","FromUserName":"b"}"#),
        "malformed-json"
    );
}

#[test]
fn numbers_are_never_rounded() {
    let body =
        br#"{"a":24306089600000001,"b":1.10,"c":-0,"d":123456789012345678901234567890,"e":1E400}"#;
    let tree = json::parse(body).unwrap();
    for (name, text) in [
        ("a", "24306089600000001"),
        ("b", "1.10"),
        ("c", "-0"),
        ("d", "123456789012345678901234567890"),
        ("e", "1E400"),
    ] {
        assert_eq!(tree.text(name), Some(text));
    }
}

fn cdata(value: &str) -> String {
    let mut out = String::new();
    xml::cdata(&mut out, value);
    out
}

/// What a reader gets back from an element that holds `value`.
fn through_xml(value: &str) -> String {
    let body = format!("<xml><a>{}</a></xml>", cdata(value));
    let tree = xml::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(tree.flatten().len(), 1, "{body}");
    tree.text("a").unwrap().to_owned()
}

#[test]
fn end_of_cdata_is_injected() {
    assert_eq!(cdata("a]]>b"), "<![CDATA[a]]]]><![CDATA[>b]]>");
    for value in [
        "]]>",
        "]]]]>>",
        "]]]>",
        "]]>]]>",
        "]]",
        "]",
        ">",
        "<![CDATA[",
        "]]></Content><Content>forged",
        "&amp; &#0; <a/>",
        "  spaces\r\n\t ",
    ] {
        assert_eq!(through_xml(value), value);
    }
}

/// A forbidden character between the brackets must not leave `]]>` behind when it is dropped.
#[test]
fn end_of_cdata_is_injected_around_a_forbidden_character() {
    for forbidden in [
        '\0', '\u{1}', '\u{8}', '\u{b}', '\u{1f}', '\u{fffe}', '\u{ffff}',
    ] {
        for value in [
            format!("]]{forbidden}>"),
            format!("]{forbidden}]>"),
            format!("{forbidden}]]>{forbidden}"),
            format!("]{forbidden}]{forbidden}><a/>"),
        ] {
            let expected: String = value.chars().filter(|&own| own != forbidden).collect();
            assert_eq!(through_xml(&value), expected, "{value:?}");
        }
    }
}

#[test]
fn forbidden_characters_are_left_out_and_no_others() {
    let forbidden = ('\0'..' ').filter(|own| !"\t\n\r".contains(*own));
    let forbidden: String = forbidden.chain(['\u{fffe}', '\u{ffff}']).collect();
    assert_eq!(cdata(&forbidden), "<![CDATA[]]>");
    let allowed = "\t\n\r ~\u{7f}\u{85}\u{2028}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}😀";
    assert_eq!(cdata(allowed), format!("<![CDATA[{allowed}]]>"));
}

#[test]
fn event_id_is_bounded_and_printable() {
    let huge = "键:#".repeat(10_000);
    let fields = [
        ("MsgType", "event"),
        ("Event", huge.as_str()),
        ("EventKey", huge.as_str()),
        ("CreateTime", huge.as_str()),
        ("FromUserName", &"o".repeat(128)),
        ("ToUserName", "gh_1"),
    ];
    let mut body = "<xml>".to_owned();
    for (name, value) in fields {
        body.push_str(&format!("<{name}>{}</{name}>", cdata(value)));
    }
    body.push_str("</xml>");
    let id = Message::from_tree(xml::parse(body.as_bytes()).unwrap())
        .unwrap()
        .event_id();
    assert!(id.len() <= 200, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
}
