//! Replies: each kind reads back as WeChat's own example of it, and every limit holds.

use serde_json::Value;
use wxhost_wechat::id::{OpenId, OriginalId};
use wxhost_wechat::message::{Content, Text};
use wxhost_wechat::reply::{Addressing, Article, Music, Reply, ReplyError, Video};
use wxhost_wechat::xml;

use crate::data;

fn article() -> Article {
    Article {
        title: "title".into(),
        description: "description".into(),
        pic_url: "picUrl".into(),
        url: "url".into(),
    }
}

/// Writes a reply with the addresses of the sample and compares the trees.
fn check(sample: &str, reply: &Reply) {
    let expected = &data::json("samples/expected.json")["samples"][sample]["fields"];
    let (to, from) = (text(expected, "ToUserName"), text(expected, "FromUserName"));
    let (to, from) = (OpenId::parse(to).unwrap(), OriginalId::parse(from).unwrap());
    let create_time = text(expected, "CreateTime").parse().unwrap();
    let addressing = Addressing {
        to: &to,
        from: &from,
        create_time,
    };

    let written = reply.to_xml(&addressing, None).unwrap();
    assert_eq!(
        xml::parse(written.as_bytes()).unwrap().to_json(),
        *expected,
        "{sample}"
    );

    let written: Value = serde_json::from_str(&reply.to_json(&addressing, None).unwrap()).unwrap();
    assert_eq!(written["CreateTime"], create_time, "{sample}");
    for name in [
        "ToUserName",
        "FromUserName",
        "MsgType",
        "Content",
        "Image",
        "Voice",
        "Video",
    ] {
        assert_eq!(written.get(name), expected.get(name), "{sample}: {name}");
    }
    for name in ["Music", "TransInfo"] {
        assert_eq!(written.get(name), expected.get(name), "{sample}: {name}");
    }
}

fn text<'v>(fields: &'v Value, name: &str) -> &'v str {
    fields[name].as_str().unwrap()
}

#[test]
fn every_kind_reads_back_as_its_sample() {
    check("reply-text.xml", &Reply::Text("content".into()));
    check("reply-image.xml", &Reply::Image("ddfefesfsdfef".into()));
    check("reply-voice.xml", &Reply::Voice("ddfefesfsdfef".into()));
    let video = Video {
        media_id: "media_id".into(),
        title: "title".into(),
        description: "ddfff".into(),
        thumb_media_id: "not in a passive reply".into(),
    };
    check("reply-video.xml", &Reply::Video(video));
    let music = Music {
        title: "title".into(),
        description: "ddfff".into(),
        music_url: "musicUrl".into(),
        hq_music_url: "hQMusicUrl".into(),
        thumb_media_id: "thumbMediaId".into(),
    };
    check("reply-music.xml", &Reply::Music(music));
    check("reply-news.xml", &Reply::News(vec![article(), article()]));
    check(
        "reply-transfer-customer-service.xml",
        &Reply::TransferCustomerService(None),
    );
    check(
        "reply-transfer-customer-service-account.xml",
        &Reply::TransferCustomerService(Some("test1@test".into())),
    );
}

#[test]
fn text_is_written_as_wechat_documents_it() {
    let (to, from) = (
        OpenId::parse("oUser").unwrap(),
        OriginalId::parse("gh_1").unwrap(),
    );
    let addressing = Addressing {
        to: &to,
        from: &from,
        create_time: 7,
    };
    let reply = Reply::Text("a <b> & \"c\" 你好\n]]>".into());
    assert_eq!(
        reply.to_xml(&addressing, None).unwrap(),
        "<xml><ToUserName><![CDATA[oUser]]></ToUserName><FromUserName><![CDATA[gh_1]]></FromUserName>\
         <CreateTime>7</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[a <b> & \"c\" 你好\n]]]]><![CDATA[>]]></Content></xml>"
    );
    let json = reply.to_json(&addressing, None).unwrap();
    assert!(
        json.contains(r#""Content":"a <b> & \"c\" 你好\n]]>""#),
        "{json}"
    );
}

#[test]
fn every_limit_names_the_field_and_the_value() {
    let message = Content::Text(Text::default());
    let event = Content::Click("KEY".into());
    let articles = |count| Reply::News(vec![article(); count]);
    let check = |reply: Reply, trigger: Option<&Content>, expected: Result<(), &str>| {
        let checked = reply.check(trigger).map_err(|error| error.to_string());
        assert_eq!(checked, expected.map_err(str::to_owned), "{reply:?}");
    };
    check(Reply::Text("x".repeat(2048)), None, Ok(()));
    check(
        Reply::Text("你".repeat(683)),
        None,
        Err("Content of the reply has 2049 bytes, at most 2048 are allowed"),
    );
    check(
        Reply::Text(String::new()),
        None,
        Err("Content of the reply is empty"),
    );
    check(
        Reply::Text("\0\u{b}\u{ffff}".into()),
        None,
        Err("Content of the reply is empty"),
    );
    check(
        Reply::Image(String::new()),
        None,
        Err("MediaId of the reply is empty"),
    );
    check(
        Reply::Voice(String::new()),
        None,
        Err("MediaId of the reply is empty"),
    );
    check(
        Reply::Video(Video::default()),
        None,
        Err("MediaId of the reply is empty"),
    );
    // In practice music plays without a cover.
    check(Reply::Music(Music::default()), None, Ok(()));
    check(
        Reply::TransferCustomerService(Some(String::new())),
        None,
        Err("KfAccount of the reply is empty"),
    );
    check(articles(0), None, Err("Articles of the reply is empty"));
    check(articles(1), Some(&message), Ok(()));
    check(articles(8), Some(&event), Ok(()));
    check(articles(8), None, Ok(()));
    check(
        articles(2),
        Some(&message),
        Err("the reply has 2 articles, at most 1 are allowed here"),
    );
    check(
        articles(9),
        Some(&event),
        Err("the reply has 9 articles, at most 8 are allowed here"),
    );
    let long = Article {
        url: "u".repeat(4097),
        ..article()
    };
    check(
        Reply::News(vec![long]),
        None,
        Err("Url of the reply has 4097 bytes, at most 4096 are allowed"),
    );
}

#[test]
fn articles_that_would_not_be_shown_are_cut_and_told() {
    let message = Content::Text(Text::default());
    let event = Content::Click("KEY".into());
    for (articles, trigger, shown, told) in [
        (1, &message, 1, None),
        (
            3,
            &message,
            1,
            Some("the reply has 3 articles, WeChat shows 1 here: the rest was cut"),
        ),
        (8, &event, 8, None),
        (
            9,
            &event,
            8,
            Some("the reply has 9 articles, WeChat shows 8 here: the rest was cut"),
        ),
    ] {
        let mut reply = Reply::News(vec![article(); articles]);
        let cut = reply.cut_articles(Some(trigger)).map(|cut| cut.to_string());
        assert_eq!(cut.as_deref(), told);
        assert_eq!(reply, Reply::News(vec![article(); shown]));
        assert_eq!(reply.check(Some(trigger)), Ok(()));
    }
    assert_eq!(Reply::Text("a".into()).cut_articles(Some(&message)), None);
}

#[test]
fn reply_is_for_one_person_only() {
    let id = |text: &str| OpenId::parse(text).unwrap();
    let (from, to) = (OriginalId::parse("gh_1").unwrap(), id("oA]]>"));
    let addressing = Addressing {
        to: &to,
        from: &from,
        create_time: 7,
    };
    let text = "<ToUserName><![CDATA[oB]]></ToUserName>";
    let reply = Reply::Text(text.into());
    for written in [
        reply.to_xml(&addressing, None).unwrap(),
        reply.to_json(&addressing, None).unwrap(),
    ] {
        assert!(wxhost_wechat::reply::is_for(&written, &to), "{written}");
        for other in ["oB", "oA", "oA]]>x"] {
            assert!(!wxhost_wechat::reply::is_for(&written, &id(other)));
        }
    }
    for strange in ["", "success", "<xml>", "{}", "<xml><Content/></xml>"] {
        assert!(!wxhost_wechat::reply::is_for(strange, &to), "{strange}");
    }
}

#[test]
fn nothing_is_written_beyond_a_limit() {
    let (to, from) = (
        OpenId::parse("oUser").unwrap(),
        OriginalId::parse("gh_1").unwrap(),
    );
    let addressing = Addressing {
        to: &to,
        from: &from,
        create_time: 7,
    };
    let reply = Reply::News(vec![article(); 2]);
    let trigger = Content::Text(Text::default());
    let refused = ReplyError::TooManyArticles {
        articles: 2,
        limit: 1,
    };
    assert_eq!(
        reply.to_xml(&addressing, Some(&trigger)),
        Err(refused.clone())
    );
    assert_eq!(reply.to_json(&addressing, Some(&trigger)), Err(refused));
}
