//! Properties over generated input: what was sealed opens, what was written reads back, and nothing
//! that arrives makes us panic.

use proptest::prelude::*;
use wxhost_wechat::body::Format;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::{self, CallbackQuery, KeySlot, Mode};
use wxhost_wechat::id::{OpenId, OriginalId};
use wxhost_wechat::message::{Content, Message};
use wxhost_wechat::reply::{Addressing, Reply};
use wxhost_wechat::secret::EncodingAesKey;
use wxhost_wechat::{signature, xml};

use crate::data::{self, NOW};

/// A callback's body with this content, in either format.
fn body(format: Format, content: &str) -> String {
    match format {
        Format::Xml => {
            let mut body = "<xml><ToUserName>gh_0a1b2c3d4e5f</ToUserName><FromUserName>oUser\
                </FromUserName><MsgType>text</MsgType><Content>"
                .to_owned();
            xml::cdata(&mut body, content);
            body + "</Content></xml>"
        }
        Format::Json => serde_json::json!({
            "ToUserName": "gh_0a1b2c3d4e5f",
            "FromUserName": "oUser",
            "MsgType": "text",
            "Content": content,
        })
        .to_string(),
    }
}

fn sealed_body(format: Format, encrypt: &str) -> String {
    match format {
        Format::Xml => data::sealed_body(encrypt),
        Format::Json => serde_json::json!({ "Encrypt": encrypt }).to_string(),
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Xml), Just(Format::Json)]
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Plain), Just(Mode::Compatible), Just(Mode::Safe)]
}

/// Texts without the characters that XML forbids.
fn texts() -> impl Strategy<Value = String> {
    "[\\t\\n\\r -\\u{d7ff}\\u{e000}-\\u{fffd}\\u{10000}-\\u{10ffff}]{0,200}"
}

/// Texts made of what parsers trip over.
fn markup() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("<xml>".to_owned()),
        Just("</xml>".to_owned()),
        Just("<a>".to_owned()),
        Just("</a>".to_owned()),
        Just("<a b='c'/>".to_owned()),
        Just("<![CDATA[".to_owned()),
        Just("]]>".to_owned()),
        Just("<!--".to_owned()),
        Just("-->".to_owned()),
        Just("<!DOCTYPE".to_owned()),
        Just("<?xml version='1.0'?>".to_owned()),
        Just("&#x".to_owned()),
        Just("&amp;".to_owned()),
        Just(";".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("{\"a\":".to_owned()),
        Just("[{".to_owned()),
        Just("}],".to_owned()),
        Just("\"\\ud83d".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// What people type to get out of a field.
fn typed() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("]]>".to_owned()),
        Just("</Content>".to_owned()),
        Just("]]></Content>".to_owned()),
        Just("<Content>".to_owned()),
        Just("<Content><![CDATA[".to_owned()),
        Just("<MsgId>1</MsgId>".to_owned()),
        Just("<FromUserName><![CDATA[oOther]]></FromUserName>".to_owned()),
        Just("</xml>".to_owned()),
        Just("<!DOCTYPE a>".to_owned()),
        Just("<?php ?>".to_owned()),
        Just("<!--".to_owned()),
        Just("&bomb;".to_owned()),
        Just("<a>".to_owned()),
        Just("\0".to_owned()),
        " ?[a-z你]{0,3}",
    ];
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn cipher_opens_what_it_sealed(
        key in "[A-Za-z0-9]{43}",
        random: [u8; 16],
        plain: Vec<u8>,
        receive_id in "[a-z0-9]{0,40}",
    ) {
        let cipher = MessageCipher::new(&EncodingAesKey::parse(&key).unwrap());
        let sealed = cipher.encrypt(random, &plain, &receive_id);
        prop_assert_eq!(cipher.decrypt(&sealed, &receive_id), Ok(plain));
        let other = receive_id + "x";
        prop_assert!(cipher.decrypt(&sealed, &other).is_err());
    }

    #[test]
    fn callback_opens_in_every_mode_and_format(
        mode in modes(),
        format in formats(),
        content in texts(),
        random: [u8; 16],
        sealed: bool,
    ) {
        let clear = body(format, &content);
        let sealed = sealed || mode == Mode::Safe;
        let (query, body) = if sealed {
            let encrypt = data::cipher(data::AES_KEY).encrypt(random, clear.as_bytes(), data::APP_ID);
            (data::sealed_query(&encrypt), sealed_body(format, &encrypt))
        } else {
            (data::plain_query(), clear.clone())
        };
        let opened = envelope::open(&data::receiver(mode), &query, body.as_bytes(), NOW).unwrap();
        prop_assert_eq!(opened.format, format);
        prop_assert_eq!(opened.sealing.is_some(), sealed);
        prop_assert_eq!(opened.clear, clear.into_bytes());
        match opened.message.content {
            Content::Text(text) => prop_assert_eq!(text.content, content),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn sealed_reply_opens_on_the_other_side(
        format in formats(),
        text in texts().prop_filter("WeChat takes no empty text", |text| !text.is_empty()),
        timestamp in "[0-9]{1,12}|[ -~]{0,20}",
        nonce in "[ -~]{0,20}",
        random: [u8; 16],
    ) {
        let (to, from) = (OpenId::parse("oUser").unwrap(), OriginalId::parse("gh_1").unwrap());
        let addressing = Addressing { to: &to, from: &from, create_time: 7 };
        let reply = Reply::Text(text.clone());
        let reply = match format {
            Format::Xml => reply.to_xml(&addressing, None).unwrap(),
            Format::Json => reply.to_json(&addressing, None).unwrap(),
        };
        let receiver = data::receiver(Mode::Safe);
        let sealed =
            envelope::seal(&receiver, KeySlot::Current, format, &reply, &timestamp, &nonce, random);

        let outer = format.parse(sealed.as_bytes()).unwrap();
        let encrypt = outer.text("Encrypt").unwrap();
        let token = data::token(data::TOKEN);
        let signature = signature::message_signature(&token, &timestamp, &nonce, encrypt);
        prop_assert_eq!(outer.text("MsgSignature"), Some(&*signature));
        prop_assert_eq!(outer.text("Nonce"), Some(&*nonce));
        let opened = data::cipher(data::AES_KEY).decrypt(encrypt, data::APP_ID).unwrap();
        prop_assert_eq!(&opened, reply.as_bytes());
        let inner = format.parse(&opened).unwrap();
        prop_assert_eq!(inner.text("Content"), Some(&*text));
    }

    #[test]
    fn cdata_reads_back_without_forbidden_characters(value in ".{0,60}|[\\]>\\u{0}]{0,20}") {
        let mut body = "<xml><a>".to_owned();
        xml::cdata(&mut body, &value);
        body += "</a></xml>";
        let tree = xml::parse(body.as_bytes()).unwrap();
        let allowed = |own: &char| !matches!(own, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
        let expected: String = value.chars().filter(allowed).collect();
        prop_assert_eq!(tree.text("a"), Some(&*expected));
    }

    #[test]
    fn json_agrees_with_serde(value in "\\PC{0,40}|[\\[\\]{}\":,0-9a\\\\ ]{0,40}") {
        let body = format!("{{\"a\":{value}}}");
        // Where both read it, they read the same.
        if let (Ok(tree), Ok(expected)) = (
            Format::Json.parse(body.as_bytes()),
            serde_json::from_str::<serde_json::Value>(&body),
        ) {
            prop_assert_eq!(tree.to_json(), expected);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        for format in [Format::Xml, Format::Json] {
            if let Ok(tree) = format.parse(&bytes) {
                let _ = Message::from_tree(tree);
            }
        }
    }

    #[test]
    fn no_markup_makes_a_reader_panic(body in markup()) {
        for format in [Format::Xml, Format::Json] {
            if let Ok(tree) = format.parse(body.as_bytes()) {
                let _ = Message::from_tree(tree);
            }
        }
    }

    /// Whatever a person types is what the plugin sees, and WeChat's own fields are WeChat's.
    #[test]
    fn text_that_a_person_typed_is_read_as_it_was_typed(typed in prop_oneof![markup(), typed()]) {
        // NUL has no place in a text.
        let expected = typed.replace('\0', "");
        let body = format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\n<FromUserName><![CDATA[oUser]]></FromUserName>\n\
             <CreateTime>1700000000</CreateTime>\n<MsgType><![CDATA[text]]></MsgType>\n\
             <Content><![CDATA[{typed}]]></Content>\n<MsgId>7</MsgId>\n</xml>"
        );
        let message = Message::read(body.as_bytes()).unwrap();
        prop_assert_eq!(message.from_user.as_str(), "oUser");
        prop_assert_eq!(message.event_id(), "m:7:1700000000:0f3b0de0d1fa0cd8");
        prop_assert_eq!(message.extra, [("MsgId".to_owned(), "7".to_owned())]);
        match message.content {
            Content::Text(text) => prop_assert_eq!(text.content, expected),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Reading leniently changes nothing of what can be read strictly and leaves no doubt.
    #[test]
    fn well_formed_body_is_read_as_it_is_written(
        format in formats(),
        content in texts().prop_filter("it leaves doubt", |text| !text.contains("]]>")),
    ) {
        let body = body(format, &content);
        let strict = Message::from_tree(format.parse(body.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!(&Message::read(body.as_bytes()).unwrap(), &strict);
        // A stray text makes the strict reader refuse it; the message is the same.
        if format == Format::Xml {
            let stray = body.replacen("<MsgType>", "stray<MsgType>", 1);
            prop_assert!(format.parse(stray.as_bytes()).is_err());
            prop_assert_eq!(&Message::read(stray.as_bytes()).unwrap(), &strict);
        }
    }

    #[test]
    fn nothing_makes_lenient_reading_panic(bytes: Vec<u8>, markup in markup(), cut in 0..200_usize) {
        let _ = Message::read(&bytes);
        let _ = Message::read(markup.as_bytes());
        let body = format!("<xml><ToUserName>gh_1</ToUserName>{markup}</xml>");
        let _ = Message::read(body.as_bytes());
        let _ = Message::read(&body.as_bytes()[..cut.min(body.len())]);
    }

    #[test]
    fn no_ciphertext_makes_the_cipher_panic(encrypt in "[A-Za-z0-9+/]{0,200}={0,2}", bytes: Vec<u8>) {
        use base64::Engine as _;
        let cipher = data::cipher(data::AES_KEY);
        prop_assert!(cipher.decrypt(&encrypt, data::APP_ID).is_err());
        let encrypt = base64::engine::general_purpose::STANDARD.encode(bytes);
        prop_assert!(cipher.decrypt(&encrypt, data::APP_ID).is_err());
    }

    #[test]
    fn no_query_or_body_makes_opening_panic(query in ".{0,200}", body: Vec<u8>, mode in modes()) {
        let query = CallbackQuery::parse(&query);
        prop_assert!(envelope::open(&data::receiver(mode), &query, &body, NOW).is_err());
        prop_assert!(envelope::verify_url(&data::receiver(mode), &query, NOW).is_err());
    }

    #[test]
    fn identifiers_are_what_they_were_parsed_from(text in ".{0,140}") {
        if let Ok(id) = OpenId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
