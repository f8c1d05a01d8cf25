//! Inputs from the field: each is read as its `.right` file says.
//!
//! What of a case belongs to a host (who gets which answer, what is sent again) is tested where the host
//! is; here is what the bytes mean.

use std::collections::BTreeSet;
use std::fs;

use wxhost_wechat::api::{Call as _, Method, generic, user};
use wxhost_wechat::body::Format;
use wxhost_wechat::envelope::{self, Mode};
use wxhost_wechat::errcode::{self, Errcode, NotSent};
use wxhost_wechat::id::{OpenId, OriginalId};
use wxhost_wechat::message::{Content, Message};
use wxhost_wechat::reply::{self, Addressing, Music, Reply};

use crate::data::{self, NOW};

fn case(name: &str) -> Vec<u8> {
    data::bytes(&format!("cases/{name}"))
}

fn message(name: &str) -> Message {
    Message::read(&case(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn content(message: &Message) -> &str {
    match &message.content {
        Content::Text(text) => &text.content,
        other => panic!("{other:?}"),
    }
}

/// The same body, opened as it arrives in each mode: what is inside must not depend on how it came.
fn opened(name: &str, mode: Mode) -> Message {
    let body = case(name);
    let mut settings = data::settings(mode);
    settings.original_id = None;
    let receiver = envelope::Receiver::new(settings).unwrap();
    let (query, body) = match mode {
        Mode::Plain => (data::plain_query(), body),
        Mode::Compatible | Mode::Safe => {
            let encrypt = data::cipher(data::AES_KEY).encrypt([7; 16], &body, data::APP_ID);
            let beside = match (mode, Format::of(&body)) {
                (Mode::Safe, _) => data::sealed_body(&encrypt).into_bytes(),
                (_, Format::Xml) => {
                    let field = format!("<Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>");
                    let body = body.trim_ascii_end().strip_suffix(b"</xml>").unwrap();
                    [body, field.as_bytes()].concat()
                }
                (_, Format::Json) => {
                    let field = format!(r#","Encrypt":"{encrypt}"}}"#);
                    let body = body.trim_ascii_end().strip_suffix(b"}").unwrap();
                    [body, field.as_bytes()].concat()
                }
            };
            (data::sealed_query(&encrypt), beside)
        }
    };
    let opened = envelope::open(&receiver, &query, &body, NOW);
    opened
        .unwrap_or_else(|error| panic!("{name} {mode:?}: {error}"))
        .message
}

#[test]
fn every_case_is_tested_here_or_where_the_host_is() {
    let names: BTreeSet<_> = fs::read_dir(data::path("cases"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".right"))
        .collect();
    let mut known: Vec<_> = TEXTS.iter().map(|(name, _)| *name).collect();
    known.extend([
        "04-inject-msgid.xml",
        "09-music-without-thumb.json",
        // The client's tests and the forward lane's.
        "10-forward-40001-chunked.http",
        "11-forward-40001-image.http",
        "12-errcode-after-control.json",
        // The host's: how it came, not what it says.
        "15-resealed-same-nonce.txt",
        "16-nulls.json",
        "17-raw-ampersand.xml",
        "20-generic-escaped.json",
    ]);
    let known: BTreeSet<_> = known.into_iter().map(str::to_owned).collect();
    assert_eq!(names, known);
}

/// Texts, and what the person wrote.
const TEXTS: [(&str, &str); 9] = [
    ("01a-same-msgid.xml", "private of A"),
    ("01b-same-msgid.xml", "hello from B"),
    ("02-nested-cdata.xml", "<status><![CDATA[ok]]></status>"),
    ("03-cdata-end-in-code.xml", "if (a[b[0]]>1) return;"),
    ("05-json-raw-lf.json", "a\nb"),
    ("07-truncated-utf8.xml", "往后余生，\u{fffd}"),
    ("08-nul.xml", "ab"),
    ("13-same-msgid-later.xml", "second"),
    ("19-json-lone-surrogate.json", "a\u{fffd}"),
];

#[test]
fn texts_are_what_the_person_wrote_in_each_mode() {
    for (name, text) in TEXTS {
        for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
            let message = opened(name, mode);
            assert_eq!(content(&message), text, "{name} {mode:?}");
            let paths = message.extra.iter().map(|(path, _)| path.as_str());
            assert_eq!(paths.collect::<Vec<_>>(), ["MsgId"], "{name} {mode:?}");
        }
    }
}

#[test]
fn several_peoples_messages_of_one_id_are_several() {
    let (a, b) = (message("01a-same-msgid.xml"), message("01b-same-msgid.xml"));
    assert_eq!(a.msg_id, b.msg_id);
    assert_ne!(a.event_id(), b.event_id());
    // A re-send is the same.
    assert_eq!(a.event_id(), message("01a-same-msgid.xml").event_id());
    // The debugging tool repeats an id, not a time.
    let later = String::from_utf8(case("13-same-msgid-later.xml")).unwrap();
    let earlier = later.replace("1700000900", "1700000000");
    let earlier = Message::read(earlier.as_bytes()).unwrap();
    assert_ne!(
        earlier.event_id(),
        message("13-same-msgid-later.xml").event_id()
    );
}

#[test]
fn what_a_person_writes_adds_no_field_and_takes_no_ones_identity() {
    let injected = message("04-inject-msgid.xml");
    assert_eq!(injected.msg_id.as_deref(), Some("24000000000000004"));
    assert_eq!(injected.from_user.as_str(), "oHUNTbob000000000000000000B0");
    assert_eq!(
        injected.event_id(),
        "m:24000000000000004:1700000000:fb16d977f65bbbed"
    );
    assert_eq!(
        content(&injected),
        "x]]></Content>\n<MsgId>24000000000000001</MsgId>\n<Content><![CDATA[y"
    );
    for mode in [Mode::Compatible, Mode::Safe] {
        assert_eq!(opened("04-inject-msgid.xml", mode), injected);
    }
}

#[test]
fn ciphertext_that_a_person_writes_is_not_taken_for_wechats() {
    let body = case("04-inject-msgid.xml");
    let clear = String::from_utf8(body).unwrap();
    let forged = clear.replace(
        "<MsgId>24000000000000001</MsgId>",
        "<Encrypt><![CDATA[Zm9yZ2Vk]]></Encrypt>",
    );
    let encrypt = data::cipher(data::AES_KEY).encrypt([7; 16], forged.as_bytes(), data::APP_ID);
    let field = format!("<Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>");
    let mut settings = data::settings(Mode::Compatible);
    settings.original_id = None;
    let receiver = envelope::Receiver::new(settings).unwrap();
    let query = data::sealed_query(&encrypt);
    let last = forged.replace("</xml>", &field);
    let first = forged.replace("<xml>", &format!("<xml><Encrypt>{encrypt}</Encrypt>"));
    for body in [last, first] {
        let opened = envelope::open(&receiver, &query, body.as_bytes(), NOW).unwrap();
        assert!(content(&opened.message).contains("Zm9yZ2Vk"));
    }
}

#[test]
fn music_without_a_cover_has_no_element_for_one() {
    let asked: serde_json::Value =
        serde_json::from_slice(&case("09-music-without-thumb.json")).unwrap();
    let text = |name: &str| asked[name].as_str().unwrap().to_owned();
    let music = Reply::Music(Music {
        title: text("title"),
        music_url: text("music_url"),
        ..Music::default()
    });
    let (to, from) = (
        OpenId::parse("oA").unwrap(),
        OriginalId::parse("gh_1").unwrap(),
    );
    let addressing = Addressing {
        to: &to,
        from: &from,
        create_time: 7,
    };
    let xml = music.to_xml(&addressing, None).unwrap();
    let tree = wxhost_wechat::xml::parse(xml.as_bytes()).unwrap();
    let names: Vec<_> = tree.flatten().into_iter().map(|(path, _)| path).collect();
    assert_eq!(
        names[4..],
        [
            "Music.Title",
            "Music.Description",
            "Music.MusicUrl",
            "Music.HQMusicUrl"
        ]
    );
    let json = music.to_json(&addressing, None).unwrap();
    assert!(!xml.contains("ThumbMediaId") && !json.contains("ThumbMediaId"));
    assert!(reply::is_for(&xml, &to) && reply::is_for(&json, &to));
}

#[test]
fn code_behind_a_control_character_is_a_refusal() {
    let body = case("12-errcode-after-control.json");
    let refused = errcode::read(&body).unwrap_err();
    assert_eq!(refused.errcode, Errcode(45015));
    assert_eq!(errcode::sent(&body), Err(NotSent::Refused(refused)));
}

#[test]
fn refused_tokens_are_found_in_what_the_forward_lane_passes() {
    for name in [
        "10-forward-40001-chunked.http",
        "11-forward-40001-image.http",
    ] {
        let answer = case(name);
        let begins = answer.iter().position(|byte| *byte == b'{').unwrap();
        let refused = errcode::read(&answer[begins..]).unwrap_err();
        assert!(refused.errcode.on("/cgi-bin/media/get").names_bad_token());
        assert_eq!(refused.rid.as_deref(), Some("1-2-3"));
    }
}

#[test]
fn nulls_are_empty_fields() {
    let told = user::Info::answer(&case("16-nulls.json")).unwrap();
    assert_eq!((told.open_id.as_str(), told.subscribed), ("oA", true));
    assert!(told.language.is_empty() && told.remark.is_empty() && told.tags.is_empty());
    assert_eq!(told.scene(), None);
}

#[test]
fn ampersand_that_begins_nothing_is_itself() {
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let message = opened("17-raw-ampersand.xml", mode);
        let reason = message.extra.iter().find(|(path, _)| path == "reason");
        assert_eq!(reason.map(|(_, value)| value.as_str()), Some("r & d"));
    }
}

#[test]
fn generic_call_is_sent_in_real_utf8() {
    let body = String::from_utf8(case("20-generic-escaped.json")).unwrap();
    let request = generic(Method::Post, "/cgi-bin/menu/create", Vec::new(), body).unwrap();
    let sent = request.json().unwrap();
    assert!(sent.contains("菜单") && sent.contains("?x=1&y=2"), "{sent}");
    assert!(!sent.contains("\\u"), "{sent}");
}
