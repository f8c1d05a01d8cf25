//! Opening callbacks in the three modes, and every code with which one is refused.

use wxhost_wechat::envelope::{
    self, CallbackQuery, Format, KeySlot, Mode, OpenError, Opened, Receiver, ReceiverError, Refusal,
};
use wxhost_wechat::id::AppId;
use wxhost_wechat::message::{Content, Text};
use wxhost_wechat::secret::EncodingAesKey;

use crate::data::{self, NOW, TEXT};

fn open(mode: Mode, query: &CallbackQuery<'_>, body: &str) -> Result<Opened, OpenError> {
    envelope::open(&data::receiver(mode), query, body.as_bytes(), NOW)
}

fn says_hello(opened: &Opened) -> bool {
    opened.message.content
        == Content::Text(Text {
            content: "你好".into(),
            menu_id: None,
        })
}

#[test]
fn plain_callback_opens_in_plain_and_compatible_mode() {
    for mode in [Mode::Plain, Mode::Compatible] {
        for encrypt_type in [None, Some("raw".into())] {
            let query = CallbackQuery {
                encrypt_type,
                ..data::plain_query()
            };
            let opened = open(mode, &query, TEXT).unwrap();
            assert!(says_hello(&opened));
            assert_eq!(opened.format, Format::Xml);
            assert_eq!(opened.sealing, None);
            assert_eq!(opened.clear, TEXT.as_bytes());
            assert_eq!(opened.message.event_id(), "m:1:1700000000:0f3b0de0d1fa0cd8");
        }
    }
}

#[test]
fn sealed_callback_opens_in_every_mode() {
    let (query, body) = data::sealed(TEXT);
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let opened = open(mode, &query, &body).unwrap();
        assert!(says_hello(&opened));
        assert_eq!(opened.sealing, Some(KeySlot::Current));
        assert_eq!(opened.clear, TEXT.as_bytes());
    }
}

#[test]
fn compatible_callback_counts_as_what_was_sealed() {
    let (query, body) = data::sealed(TEXT);
    let forged = body.replace(
        "<Encrypt>",
        "<FromUserName>oOther</FromUserName><MsgType>text</MsgType><Content>forged</Content><Encrypt>",
    );
    let opened = open(Mode::Compatible, &query, &forged).unwrap();
    assert!(says_hello(&opened));
    assert_eq!(opened.message.from_user.as_str(), "oUser");
}

#[test]
fn json_callback_opens_and_its_reply_is_json() {
    let clear = r#"{"ToUserName":"gh_0a1b2c3d4e5f","FromUserName":"oUser","CreateTime":1700000000,
        "MsgType":"text","Content":"你好","MsgId":24306089600000001}"#;
    let opened = open(Mode::Plain, &data::plain_query(), clear).unwrap();
    assert!(says_hello(&opened));
    assert_eq!(opened.format, Format::Json);
    assert_eq!(
        opened.message.event_id(),
        "m:24306089600000001:1700000000:0f3b0de0d1fa0cd8"
    );

    let encrypt = data::cipher(data::AES_KEY).encrypt([0; 16], clear.as_bytes(), data::APP_ID);
    let body = format!(r#"{{"ToUserName":"gh_0a1b2c3d4e5f","Encrypt":"{encrypt}"}}"#);
    let opened = open(Mode::Safe, &data::sealed_query(&encrypt), &body).unwrap();
    assert!(says_hello(&opened));
    assert_eq!(opened.format, Format::Json);

    let receiver = data::receiver(Mode::Safe);
    let (slot, format) = (opened.sealing.unwrap(), opened.format);
    let sealed = envelope::seal(&receiver, slot, format, "{}", "1700000000", "n\"", [1; 16]);
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    assert_eq!(sealed["TimeStamp"], 1_700_000_000);
    assert_eq!(sealed["Nonce"], "n\"");
    let encrypt = sealed["Encrypt"].as_str().unwrap();
    assert_eq!(
        data::cipher(data::AES_KEY)
            .decrypt(encrypt, data::APP_ID)
            .unwrap(),
        b"{}"
    );
}

#[test]
fn after_a_key_change_both_keys_open_and_each_seals_its_reply() {
    let mut settings = data::settings(Mode::Safe);
    settings.keys.current = Some(EncodingAesKey::parse(data::OTHER_AES_KEY).unwrap());
    settings.keys.previous = Some(EncodingAesKey::parse(data::AES_KEY).unwrap());
    let receiver = Receiver::new(settings).unwrap();
    for (key, slot) in [
        (data::AES_KEY, KeySlot::Previous),
        (data::OTHER_AES_KEY, KeySlot::Current),
    ] {
        let encrypt = data::cipher(key).encrypt([0; 16], TEXT.as_bytes(), data::APP_ID);
        let body = data::sealed_body(&encrypt);
        let query = data::sealed_query(&encrypt);
        let opened = envelope::open(&receiver, &query, body.as_bytes(), NOW).unwrap();
        assert!(says_hello(&opened));
        assert_eq!(opened.sealing, Some(slot));

        let reply = envelope::seal(&receiver, slot, Format::Xml, "<xml/>", "1", "2", [3; 16]);
        let tree = wxhost_wechat::xml::parse(reply.as_bytes()).unwrap();
        let encrypt = tree.text("Encrypt").unwrap();
        assert_eq!(
            data::cipher(key).decrypt(encrypt, data::APP_ID).unwrap(),
            b"<xml/>"
        );
    }
}

#[test]
fn receiver_without_a_key_never_answers_in_clear() {
    let mut settings = data::settings(Mode::Plain);
    settings.keys.current = None;
    let receiver = Receiver::new(settings.clone()).unwrap();
    let sealed = envelope::seal(
        &receiver,
        KeySlot::Current,
        Format::Xml,
        "<xml>private</xml>",
        "1",
        "2",
        [0; 16],
    );
    assert_eq!(sealed, "success");
    for mode in [Mode::Compatible, Mode::Safe] {
        settings.mode = mode;
        assert_eq!(
            Receiver::new(settings.clone()).unwrap_err(),
            ReceiverError::NoAesKey(mode)
        );
    }
}

#[test]
fn url_check_answers_the_echo_string() {
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let receiver = data::receiver(mode);
        let query = CallbackQuery {
            echostr: Some("5927782489".into()),
            ..data::plain_query()
        };
        assert_eq!(
            envelope::verify_url(&receiver, &query, NOW),
            Ok("5927782489")
        );
        for missing in ["signature", "timestamp", "nonce", "echostr"] {
            let query = without(&query, missing);
            let refused = envelope::verify_url(&receiver, &query, NOW);
            assert_eq!(refused, Err(OpenError::MissingParameter(missing)));
            assert_eq!(
                OpenError::MissingParameter(missing).class(),
                Refusal::Malformed
            );
        }
        let forged = CallbackQuery {
            nonce: Some("4321".into()),
            ..query.clone()
        };
        let refused = envelope::verify_url(&receiver, &forged, NOW);
        assert_eq!(refused, Err(OpenError::BadSignature));
        let late = envelope::verify_url(&receiver, &query, NOW + 301);
        assert_eq!(late, Err(OpenError::StaleTimestamp));
    }
}

fn without<'q>(query: &CallbackQuery<'q>, name: &str) -> CallbackQuery<'q> {
    let mut query = query.clone();
    match name {
        "signature" => query.signature = None,
        "timestamp" => query.timestamp = None,
        "nonce" => query.nonce = None,
        "echostr" => query.echostr = None,
        "msg_signature" => query.msg_signature = None,
        _ => panic!("no parameter {name}"),
    }
    query
}

/// Code and status of a refusal.
fn refused(result: Result<Opened, OpenError>) -> (&'static str, u16) {
    let error = result.unwrap_err();
    (error.code(), error.class().status())
}

#[test]
fn every_missing_parameter_is_forbidden() {
    for missing in ["signature", "timestamp", "nonce"] {
        let query = without(&data::plain_query(), missing);
        assert_eq!(
            refused(open(Mode::Plain, &query, TEXT)),
            ("missing-parameter", 403)
        );
    }
    let (query, body) = data::sealed(TEXT);
    for missing in ["msg_signature", "timestamp", "nonce"] {
        let query = without(&query, missing);
        assert_eq!(
            refused(open(Mode::Safe, &query, &body)),
            ("missing-parameter", 403)
        );
    }
}

#[test]
fn forged_signatures_are_forbidden() {
    let (query, body) = data::sealed(TEXT);
    let tampered = body
        .replacen("<![CDATA[jn", "<![CDATA[jm", 1)
        .replace("wx", "wy");
    let plain = data::plain_query();
    let upper = plain.signature.as_deref().unwrap().to_uppercase();
    for (mode, query, body) in [
        (
            Mode::Plain,
            CallbackQuery {
                signature: Some("".into()),
                ..plain.clone()
            },
            TEXT,
        ),
        (
            Mode::Plain,
            CallbackQuery {
                signature: Some(upper.into()),
                ..plain.clone()
            },
            TEXT,
        ),
        (
            Mode::Plain,
            CallbackQuery {
                nonce: Some("4321".into()),
                ..plain.clone()
            },
            TEXT,
        ),
        (
            Mode::Safe,
            CallbackQuery {
                msg_signature: plain.signature,
                ..query.clone()
            },
            &body,
        ),
        (
            Mode::Safe,
            CallbackQuery {
                nonce: Some("4321".into()),
                ..query.clone()
            },
            &body,
        ),
        (
            Mode::Safe,
            query.clone(),
            &tampered.replace("</Encrypt>", "A</Encrypt>"),
        ),
    ] {
        assert_eq!(refused(open(mode, &query, body)), ("bad-signature", 403));
    }
}

#[test]
fn timestamp_outside_the_window_is_forbidden() {
    let (sealed_query, sealed_body) = data::sealed(TEXT);
    for (query, body) in [
        (data::plain_query(), TEXT),
        (sealed_query, sealed_body.as_str()),
    ] {
        let receiver = data::receiver(Mode::Compatible);
        for (now, fits) in [
            (NOW - 301, false),
            (NOW - 300, true),
            (NOW + 300, true),
            (NOW + 301, false),
        ] {
            let opened = envelope::open(&receiver, &query, body.as_bytes(), now);
            assert_eq!(opened.is_ok(), fits, "{now}");
            if !fits {
                assert_eq!(refused(opened), ("stale-timestamp", 403));
            }
        }
        for now in [i64::MIN, i64::MAX] {
            let opened = envelope::open(&receiver, &query, body.as_bytes(), now);
            assert_eq!(refused(opened), ("stale-timestamp", 403));
        }
    }
}

#[test]
fn signed_timestamp_that_is_no_number_is_forbidden() {
    let token = data::token(data::TOKEN);
    for timestamp in ["", "now", "1e9", "99999999999999999999", "-1"] {
        let signature = wxhost_wechat::signature::callback_signature(&token, timestamp, "1234");
        let query = CallbackQuery {
            signature: Some(signature.into()),
            timestamp: Some(timestamp.into()),
            ..data::plain_query()
        };
        assert_eq!(
            refused(open(Mode::Plain, &query, TEXT)),
            ("stale-timestamp", 403)
        );
    }
}

#[test]
fn downgrade_to_clear_is_forbidden_in_safe_mode() {
    let (query, body) = data::sealed(TEXT);
    let raw = |query: &CallbackQuery<'static>| CallbackQuery {
        encrypt_type: Some("raw".into()),
        ..query.clone()
    };
    let absent = CallbackQuery {
        encrypt_type: None,
        ..query.clone()
    };
    for (query, body) in [
        (data::plain_query(), TEXT),
        (raw(&query), TEXT),
        (raw(&query), &body),
        (absent, &body),
        (query, TEXT),
    ] {
        assert_eq!(
            refused(open(Mode::Safe, &query, body)),
            ("plaintext-refused", 403)
        );
    }
}

#[test]
fn sealed_callback_without_a_key_or_of_an_unknown_kind_is_malformed() {
    let (query, body) = data::sealed(TEXT);
    let mut settings = data::settings(Mode::Plain);
    settings.keys.current = None;
    let receiver = Receiver::new(settings).unwrap();
    let opened = envelope::open(&receiver, &query, body.as_bytes(), NOW);
    assert_eq!(refused(opened), ("no-aes-key", 400));
    let query = CallbackQuery {
        encrypt_type: Some("sm4".into()),
        ..query
    };
    assert_eq!(
        refused(open(Mode::Safe, &query, &body)),
        ("unknown-encrypt-type", 400)
    );
}

#[test]
fn signed_nonsense_is_malformed() {
    let foreign =
        data::cipher(data::AES_KEY).encrypt([0; 16], TEXT.as_bytes(), "wx0000000000000000");
    let other_key =
        data::cipher(data::OTHER_AES_KEY).encrypt([0; 16], TEXT.as_bytes(), data::APP_ID);
    for (encrypt, code) in [
        ("not base64 at all", "bad-base64"),
        ("", "bad-envelope"),
        ("eHh4", "bad-envelope"),
        (&foreign, "bad-envelope"),
        (&other_key, "bad-envelope"),
    ] {
        let (query, body) = (data::sealed_query(encrypt), data::sealed_body(encrypt));
        assert_eq!(
            refused(open(Mode::Safe, &query, &body)),
            (code, 400),
            "{encrypt}"
        );
    }
}

#[test]
fn foreign_app_id_is_told_to_the_log_only() {
    let encrypt =
        data::cipher(data::AES_KEY).encrypt([0; 16], TEXT.as_bytes(), "wx0000000000000000");
    let mut settings = data::settings(Mode::Safe);
    settings.keys.previous = Some(EncodingAesKey::parse(data::OTHER_AES_KEY).unwrap());
    let receiver = Receiver::new(settings.clone()).unwrap();
    let (query, body) = (data::sealed_query(&encrypt), data::sealed_body(&encrypt));
    let error = envelope::open(&receiver, &query, body.as_bytes(), NOW).unwrap_err();
    assert_eq!(error, OpenError::ForeignAppId);
    assert_eq!(error.to_string(), "the envelope names another app id");
    assert_eq!(error.code(), OpenError::BadEnvelope.code());
    assert_eq!(error.class(), OpenError::BadEnvelope.class());

    settings.app_id = AppId::parse("wx0000000000000000").unwrap();
    let receiver = Receiver::new(settings).unwrap();
    assert!(envelope::open(&receiver, &query, body.as_bytes(), NOW).is_ok());
}

#[test]
fn message_to_another_account_is_malformed() {
    let body = TEXT.replace(data::ORIGINAL_ID, "gh_other");
    let opened = open(Mode::Plain, &data::plain_query(), &body);
    assert_eq!(refused(opened), ("wrong-receiver", 400));
    let mut settings = data::settings(Mode::Plain);
    settings.original_id = None;
    let receiver = Receiver::new(settings).unwrap();
    assert!(envelope::open(&receiver, &data::plain_query(), body.as_bytes(), NOW).is_ok());
}

#[test]
fn attack_on_xml_in_clear_is_refused() {
    let (query, sealed) = data::sealed(TEXT);
    for (head, code) in [
        ("<!DOCTYPE xml>", "doctype-refused"),
        ("<?xml version='1.0'?>\n<!DOCTYPE xml>", "doctype-refused"),
        ("<?php ?>", "instruction-refused"),
    ] {
        let body = format!("{head}<xml/>");
        let opened = open(Mode::Plain, &data::plain_query(), &body);
        assert_eq!(refused(opened), (code, 400), "{body}");
        let body = format!("{head}{sealed}");
        for mode in [Mode::Compatible, Mode::Safe] {
            assert_eq!(refused(open(mode, &query, &body)), (code, 400), "{body}");
        }
    }
    let opened = open(Mode::Plain, &data::plain_query(), "<xml><?php ?></xml>");
    assert_eq!(refused(opened), ("instruction-refused", 400));
}

/// WeChat would send the same again, and tell the person that the service is broken.
#[test]
fn authentic_body_that_cannot_be_read_is_acknowledged() {
    for (body, code) in [
        ("", "malformed-xml"),
        ("hello", "malformed-xml"),
        ("<xml><ToUserName>a</ToUserName>", "malformed-xml"),
        ("<xml><ToUserName>a</xml>", "malformed-message"),
        ("<xml><a>&bomb;</a></xml>", "entity-refused"),
        ("{\"ToUserName\":", "malformed-json"),
        ("{\"a\":1,\"a\":2}", "malformed-json"),
        ("<xml/>", "malformed-message"),
        (
            "<xml><ToUserName>gh 1</ToUserName></xml>",
            "malformed-message",
        ),
        (
            "<xml><ToUserName>gh_1</ToUserName><FromUserName>o</FromUserName></xml>",
            "malformed-message",
        ),
    ] {
        let opened = open(Mode::Plain, &data::plain_query(), body);
        assert_eq!(refused(opened), (code, 200), "{body}");
        let (query, sealed) = data::sealed(body);
        for mode in [Mode::Compatible, Mode::Safe] {
            assert_eq!(refused(open(mode, &query, &sealed)), (code, 200), "{body}");
        }
    }
    // Sealed, it is WeChat's, whatever it is.
    let (query, sealed) = data::sealed("<!DOCTYPE xml><xml/>");
    let opened = open(Mode::Safe, &query, &sealed);
    assert_eq!(refused(opened), ("doctype-refused", 200));
}

#[test]
fn nothing_of_a_plain_body_is_read_before_its_signature() {
    let forged = CallbackQuery {
        signature: Some("0".repeat(40).into()),
        ..data::plain_query()
    };
    let opened = open(Mode::Plain, &forged, "<!DOCTYPE xml>");
    assert_eq!(refused(opened), ("bad-signature", 403));
}

#[test]
fn oversized_body_is_refused_before_anything_else() {
    let body = "x".repeat((1 << 20) + 1);
    let opened = open(Mode::Safe, &CallbackQuery::default(), &body);
    assert_eq!(refused(opened), ("body-too-large", 413));
}
