//! Each rule of an answer, with an answer that breaks it.

use std::time::Duration;

use wxhost_wechat::id::{OpenId, OriginalId};

use super::*;
use crate::{SeededEnvironment, UserAction};

const USER: &str = "oTester1";
const ORIGINAL_ID: &str = "gh_1";

fn account(mode: Mode) -> SimulatedAccount {
    let stage = SeededEnvironment::new(Duration::from_secs(1_700_000_000), 1);
    SimulatedAccount {
        original_id: OriginalId::parse(ORIGINAL_ID).unwrap(),
        ..SimulatedAccount::register("http://host", mode, &stage)
    }
}

/// What WeChat makes of `body` as the answer to `action`; the account knows the media id `known`.
fn answer(
    account: &SimulatedAccount,
    action: &UserAction,
    body: &str,
) -> Result<Option<Reply>, Flaw> {
    let stage = SeededEnvironment::new(Duration::from_secs(1_700_000_000), 2);
    let user = OpenId::parse(USER).unwrap();
    let callback = Callback::compose(account, &user, action, &stage);
    read(account, &callback, body.as_bytes(), |id| id == "known")
}

/// The same for a text to an account in plain mode.
fn plain_answer(body: &str) -> Result<Option<Reply>, Flaw> {
    answer(&account(Mode::Plain), &UserAction::text("hi"), body)
}

fn reply(kind: &str, fields: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{USER}]]></ToUserName>\
         <FromUserName><![CDATA[{ORIGINAL_ID}]]></FromUserName>\
         <CreateTime>1700000000</CreateTime><MsgType><![CDATA[{kind}]]></MsgType>{fields}</xml>"
    )
}

fn text(content: &str) -> String {
    reply("text", &format!("<Content><![CDATA[{content}]]></Content>"))
}

fn news(count: usize) -> String {
    let items = "<item><Title>t</Title><Description>d</Description><PicUrl>p</PicUrl>\
                 <Url>u</Url></item>"
        .repeat(count);
    let fields = format!("<ArticleCount>{count}</ArticleCount><Articles>{items}</Articles>");
    reply("news", &fields)
}

fn sealed(account: &SimulatedAccount, app_id: &str, plain: &str) -> String {
    let encrypt =
        MessageCipher::new(&account.aes_key).encrypt([b'r'; 16], plain.as_bytes(), app_id);
    let signature = signature::message_signature(&account.token, "1700000000", "12345", &encrypt);
    format!(
        "<xml><Encrypt><![CDATA[{encrypt}]]></Encrypt>\
         <MsgSignature><![CDATA[{signature}]]></MsgSignature>\
         <TimeStamp>1700000000</TimeStamp><Nonce><![CDATA[12345]]></Nonce></xml>"
    )
}

#[test]
fn success_and_nothing_are_no_reply_and_no_other_word_is() {
    assert_eq!(plain_answer(""), Ok(None));
    assert_eq!(plain_answer("success"), Ok(None));
    for body in [
        "success\n",
        "Success",
        "SUCCESS",
        "ok",
        "<html></html>",
        " ",
    ] {
        assert!(
            matches!(plain_answer(body), Err(Flaw::NotAReply(_))),
            "{body:?}"
        );
    }
}

#[test]
fn json_to_an_xml_account_is_no_reply() {
    let body = r#"{"ToUserName":"oTester1","FromUserName":"gh_1","CreateTime":1,"MsgType":"text","Content":"a"}"#;
    assert!(matches!(plain_answer(body), Err(Flaw::NotAReply(_))));
    let mut account = account(Mode::Plain);
    account.format = Format::Json;
    let reply = answer(&account, &UserAction::text("hi"), body);
    assert_eq!(reply, Ok(Some(Reply::Text("a".to_owned()))));
}

#[test]
fn every_kind_of_reply_is_understood() {
    let of = |kind, fields| {
        plain_answer(&reply(kind, fields))
            .expect(kind)
            .expect("a reply")
    };
    assert_eq!(
        of("text", "<Content>a</Content>"),
        Reply::Text("a".to_owned())
    );
    assert_eq!(
        of("image", "<Image><MediaId>known</MediaId></Image>"),
        Reply::Image("known".to_owned())
    );
    assert_eq!(
        of("voice", "<Voice><MediaId>known</MediaId></Voice>"),
        Reply::Voice("known".to_owned())
    );
    let video = "<Video><MediaId>known</MediaId><Title>t</Title></Video>";
    assert!(matches!(of("video", video), Reply::Video(video) if video.title == "t"));
    let bare = "<Music><MusicUrl>u</MusicUrl></Music>";
    assert!(matches!(of("music", bare), Reply::Music(music) if music.thumb_media_id.is_empty()));
    let music = "<Music><MusicUrl>u</MusicUrl><ThumbMediaId>known</ThumbMediaId></Music>";
    assert!(matches!(of("music", music), Reply::Music(music) if music.music_url == "u"));
    assert_eq!(
        of("transfer_customer_service", ""),
        Reply::TransferCustomerService(None)
    );
    let agent = "<TransInfo><KfAccount>a@b</KfAccount></TransInfo>";
    assert_eq!(
        of("transfer_customer_service", agent),
        Reply::TransferCustomerService(Some("a@b".to_owned()))
    );
}

#[test]
fn a_reply_must_go_to_the_user_from_the_account() {
    let check = |body: &str, flaw: Flaw| assert_eq!(plain_answer(body), Err(flaw));
    let right = text("a");
    check(
        &right.replace(USER, "oOther"),
        Flaw::WrongTo("oOther".to_owned()),
    );
    check(
        &right.replace(ORIGINAL_ID, "gh_2"),
        Flaw::WrongFrom("gh_2".to_owned()),
    );
    let unswapped = right
        .replace(USER, "#")
        .replace(ORIGINAL_ID, USER)
        .replace('#', ORIGINAL_ID);
    check(&unswapped, Flaw::WrongTo(ORIGINAL_ID.to_owned()));
    check(
        &right.replace("<CreateTime>1700000000</CreateTime>", ""),
        Flaw::Missing("CreateTime"),
    );
    check(
        &right.replace("1700000000", "now"),
        Flaw::NotANumber("CreateTime"),
    );
}

#[test]
fn what_a_reply_needs_must_be_there() {
    let check = |kind, fields, flaw| {
        assert_eq!(plain_answer(&reply(kind, fields)), Err(flaw));
    };
    check("text", "", Flaw::Missing("Content"));
    check("text", "<Content></Content>", Flaw::Missing("Content"));
    check(
        "image",
        "<MediaId>known</MediaId>",
        Flaw::Missing("Image.MediaId"),
    );
    check(
        "music",
        "<Music><ThumbMediaId></ThumbMediaId></Music>",
        Flaw::Missing("Music.ThumbMediaId"),
    );
    check("news", "", Flaw::Missing("Articles"));
    check("markdown", "", Flaw::UnknownKind("markdown".to_owned()));
    check("", "", Flaw::Missing("MsgType"));
}

#[test]
fn a_text_has_at_most_2048_bytes_of_utf_8() {
    assert!(plain_answer(&text(&"a".repeat(2048))).is_ok());
    let flaw = plain_answer(&text(&"字".repeat(683))).unwrap_err();
    assert_eq!(flaw, Flaw::TextTooLong { bytes: 2049 });
    assert!(!flaw.shows_fault());
}

#[test]
fn news_has_one_article_for_a_message_and_eight_for_an_event() {
    let plain = account(Mode::Plain);
    let check = |action: &UserAction, count, expected| {
        let read = answer(&plain, action, &news(count));
        let articles = read.map(|reply| match reply {
            Some(Reply::News(articles)) => articles.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(articles, expected);
    };
    let too_many = |articles, limit| Err(Flaw::TooManyArticles { articles, limit });
    check(&UserAction::text("hi"), 1, Ok(1));
    check(&UserAction::text("hi"), 2, too_many(2, 1));
    check(&UserAction::click("K"), 8, Ok(8));
    check(&UserAction::click("K"), 9, too_many(9, 8));
}

#[test]
fn an_article_count_must_count() {
    let body = news(1).replace("<ArticleCount>1", "<ArticleCount>2");
    let flaw = Flaw::Miscounted {
        declared: 2,
        found: 1,
    };
    assert_eq!(plain_answer(&body), Err(flaw));
}

#[test]
fn a_media_id_that_the_account_never_had_is_not_shown() {
    let body = reply("image", "<Image><MediaId>stolen</MediaId></Image>");
    let flaw = plain_answer(&body).unwrap_err();
    assert_eq!(flaw, Flaw::UnknownMedia("stolen".to_owned()));
    assert!(!flaw.shows_fault());
}

#[test]
fn each_mode_takes_the_replies_of_the_documentation() {
    for (mode, clear, encrypted) in [
        (Mode::Plain, Ok(()), Err(Flaw::Encrypted)),
        (Mode::Compatible, Ok(()), Ok(())),
        (Mode::Safe, Err(Flaw::NotEncrypted), Ok(())),
    ] {
        let account = account(mode);
        let check = |body: &str, expected: Result<(), Flaw>| {
            let read = answer(&account, &UserAction::text("hi"), body);
            let reply = Some(Reply::Text("a".to_owned()));
            assert_eq!(read, expected.map(|()| reply), "{mode:?}");
        };
        check(&text("a"), clear);
        let app_id = account.app_id.as_str();
        check(&sealed(&account, app_id, &text("a")), encrypted);
        assert_eq!(
            answer(&account, &UserAction::text("hi"), "success"),
            Ok(None)
        );
    }
}

#[test]
fn an_encrypted_reply_is_checked_before_it_is_believed() {
    let account = account(Mode::Safe);
    let app_id = account.app_id.as_str();
    let right = sealed(&account, app_id, &text("a"));
    let check = |body: &str, flaw: Flaw| {
        assert_eq!(answer(&account, &UserAction::text("hi"), body), Err(flaw));
    };
    check(&right.replace("12345", "54321"), Flaw::WrongSignature);
    check(
        &right.replace("1700000000", "1700000001"),
        Flaw::WrongSignature,
    );
    check(
        &right.replace("<Nonce><![CDATA[12345]]></Nonce>", ""),
        Flaw::Missing("Nonce"),
    );
    check(
        &sealed(&account, "wxanother", &text("a")),
        Flaw::Undecipherable,
    );
    check(
        &sealed(&account, app_id, &text("a").replace(USER, "oOther")),
        Flaw::WrongTo("oOther".to_owned()),
    );
    let inside = answer(
        &account,
        &UserAction::text("hi"),
        &sealed(&account, app_id, "success"),
    );
    assert!(
        matches!(inside, Err(Flaw::NotAReply(_))),
        "success travels in clear: {inside:?}"
    );
}

#[test]
fn an_endless_answer_is_cut() {
    let body = text(&"a".repeat(MAX_ANSWER_BYTES));
    assert_eq!(plain_answer(&body), Err(Flaw::TooLarge));
}
