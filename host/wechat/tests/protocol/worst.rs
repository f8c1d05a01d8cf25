//! Bodies made to cost a reader as much as they can: reading takes time in proportion to their size.
//!
//! No time is asserted: the bodies are of the largest size, and a reader that took the square of it would
//! not end within minutes.

use std::time::Instant;

use wxhost_wechat::body::MAX_BODY_BYTES;
use wxhost_wechat::message::Message;

const HEAD: &str = "<xml><ToUserName>gh_1</ToUserName><FromUserName>oA</FromUserName>\
    <MsgType>text</MsgType>";

/// A body of the largest size with this again and again in it.
fn filled(unit: &str, tail: &str) -> String {
    let room = MAX_BODY_BYTES - HEAD.len() - tail.len();
    let mut body = HEAD.to_owned();
    body.push_str(&unit.repeat(room / unit.len()));
    body.push_str(tail);
    body
}

#[test]
fn hostile_bodies_are_read_in_one_go() {
    let units = [
        "<",
        "&",
        "&a;",
        "&#1;",
        "<a",
        "<a ",
        "</a",
        "</Content",
        "</Content>",
        " </Content >",
        "<!--",
        "<![CDATA[",
        "]]>",
        "]",
        "]]></",
        "]]></Content",
        "<Content><![CDATA[",
        "<Content><![CDATA[]]>",
        "<b><![CDATA[",
        "<b><![CDATA[]]></c>",
        "]]> ",
        "\0",
        "\u{1}",
        "字",
    ];
    for unit in units {
        let inside = format!("{unit}<Title><![CDATA[");
        for (unit, tail) in [
            (unit, ""),
            (unit, "]]></Content></xml>"),
            (&inside, "]]></Content></xml>"),
        ] {
            let body = filled(unit, tail);
            let begun = Instant::now();
            let _ = Message::read(body.as_bytes());
            println!("{:5} ms {unit:?} {tail:?}", begun.elapsed().as_millis());
        }
    }
    let many = (0..4000).map(|name| format!("<a{name}><![CDATA[ ]]> "));
    let many = many.collect::<String>();
    let body = format!(
        "{HEAD}{many}{}",
        "x".repeat(MAX_BODY_BYTES - many.len() - 200)
    );
    let _ = Message::read(body.as_bytes());
}

#[test]
fn hostile_json_is_read_in_one_go() {
    for unit in [
        "\\", "\\u", "\\ud83d", "\"", "\n", "\0", "{\"a\":", "[", "\\\"", "\u{1f}",
    ] {
        let mut body = "{\"ToUserName\":\"gh_1\",\"a\":\"".to_owned();
        body.push_str(&unit.repeat((MAX_BODY_BYTES - 100) / unit.len()));
        for tail in ["", "\"}"] {
            let _ = Message::read(format!("{body}{tail}").as_bytes());
        }
    }
    let _ = Message::read(&vec![0xff; MAX_BODY_BYTES]);
}
