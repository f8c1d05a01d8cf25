//! Customer-service messages, typing, and human service.

use super::*;

#[tokio::test]
async fn a_message_allows_five_within_two_days() {
    let sim = Sim::start().await;
    sim.stage("followers", json!({ "open_ids": ["oA"] })).await;
    let say = async || sim.say("oA", "text", json!({ "content": "你好" })).await;
    assert_eq!(say().await, 45015, "never did anything");
    sim.does("oA", "message").await;
    for _ in 0..5 {
        assert_eq!(say().await, 0);
    }
    assert_eq!(say().await, 45047);
    sim.does("oA", "menu").await;
    for _ in 0..3 {
        assert_eq!(say().await, 0);
    }
    assert_eq!(say().await, 45047);
    sim.does("oA", "message").await;
    sim.advance(48 * 3600).await;
    assert_eq!(say().await, 45015);
    sim.does("oA", "follow").await;
    assert_eq!(say().await, 0);
    sim.advance(60).await;
    assert_eq!(say().await, 45015);
    sim.does("oA", "message").await;
    sim.does("oA", "unfollow").await;
    assert_eq!(say().await, 45015);
    assert_eq!(
        sim.say("oNobody", "text", json!({ "content": "x" })).await,
        40003
    );
    let user = sim
        .control("GET", &format!("/apps/{APP}/followers/oA"), Value::Null)
        .await;
    assert_eq!(user["messages_left"], 0);
}

#[tokio::test]
async fn twenty_messages_where_the_account_is_of_that_time() {
    let sim = Sim::start().await;
    sim.change(json!({ "messages_per_interaction": 20 })).await;
    sim.does("oA", "message").await;
    for _ in 0..20 {
        assert_eq!(sim.say("oA", "text", json!({ "content": "x" })).await, 0);
    }
    assert_eq!(
        sim.say("oA", "text", json!({ "content": "x" })).await,
        45047
    );
}

#[tokio::test]
async fn each_kind_of_message_has_its_fields() {
    let sim = Sim::start().await;
    sim.change(json!({
        "messages_per_interaction": 1000, "mini_programs": ["wxmini"], "cards": ["c1"],
    }))
    .await;
    sim.does("oA", "message").await;
    for kind in ["image", "voice", "video", "thumb"] {
        sim.stage(
            "media",
            json!({ "media_id": format!("m-{kind}"), "kind": kind }),
        )
        .await;
    }
    let article = json!({ "title": "t", "description": "d", "url": "https://a.example" });
    let music = json!({
        "musicurl": "https://a.example", "hqmusicurl": "https://a.example", "thumb_media_id": "m-thumb",
    });
    let entry = json!({ "id": "101", "content": "满意" });
    let page =
        json!({ "title": "t", "appid": "wxmini", "pagepath": "p", "thumb_media_id": "m-image" });
    for (kind, content, expected) in [
        ("text", json!({ "content": "x".repeat(2048) }), 0),
        ("text", json!({ "content": "x".repeat(2049) }), 45002),
        ("text", json!({ "content": "好".repeat(683) }), 45002),
        ("text", json!({ "content": "" }), 44004),
        ("text", json!({}), 44004),
        ("text", json!({ "content": 1 }), 47001),
        ("text", json!("x"), 47001),
        ("image", json!({ "media_id": "m-image" }), 0),
        ("image", json!({ "media_id": "m-voice" }), 40007),
        ("image", json!({ "media_id": "nothing" }), 40007),
        ("image", json!({}), 41006),
        ("voice", json!({ "media_id": "m-voice" }), 0),
        (
            "video",
            json!({ "media_id": "m-video", "thumb_media_id": "m-thumb" }),
            0,
        ),
        ("video", json!({ "media_id": "m-video" }), 41006),
        (
            "video",
            json!({ "media_id": "m-video", "thumb_media_id": "m-video" }),
            40007,
        ),
        ("music", music.clone(), 0),
        ("music", json!({ "thumb_media_id": "m-thumb" }), 40066),
        ("news", json!({ "articles": [article] }), 0),
        ("news", json!({ "articles": [article, article] }), 45008),
        ("news", json!({ "articles": [] }), 44003),
        ("news", json!({ "articles": [{}] }), 44003),
        ("news", json!({}), 44003),
        ("mpnews", json!({ "media_id": "m-image" }), 40007),
        ("mpnewsarticle", json!({ "article_id": "a" }), 53600),
        (
            "msgmenu",
            json!({ "head_content": "?", "list": [entry], "tail_content": "!" }),
            0,
        ),
        ("msgmenu", json!({ "head_content": "?", "list": [] }), 44005),
        ("msgmenu", json!({ "list": [entry] }), 44004),
        ("wxcard", json!({ "card_id": "c1" }), 0),
        ("wxcard", json!({ "card_id": "c2" }), 40073),
        ("miniprogrampage", page, 0),
        (
            "miniprogrampage",
            json!({ "title": "t", "appid": "wxother" }),
            40013,
        ),
        ("location", json!({}), 40008),
        ("", json!({}), 40008),
    ] {
        assert_eq!(
            sim.say("oA", kind, content.clone()).await,
            expected,
            "{kind} {content}"
        );
    }
    let at = sim.open().await;
    let path = at("/cgi-bin/message/custom/send");
    for (body, expected) in [
        ("", 44002),
        ("{", 47001),
        ("[]", 47001),
        ("{}", 40003),
        (r#"{"touser":7}"#, 47001),
        (r#"{"touser":"oA"}"#, 40008),
        (r#"{"touser":"oA","msgtype":"text"}"#, 44004),
    ] {
        assert_eq!(code(&sim.post_text(&path, body).await), expected, "{body}");
    }
}

#[tokio::test]
async fn an_escape_is_shown_to_the_user_as_typed() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.does("oA", "message").await;
    let path = at("/cgi-bin/message/custom/send");
    let body = r#"{"touser":"oA","msgtype":"text","text":{"content":"\u4f60好"}}"#;
    assert_eq!(code(&sim.post_text(&path, body).await), 0);
    let path = format!("/apps/{APP}/messages?open_id=oA");
    let shown = sim.control("GET", &path, Value::Null).await;
    assert_eq!(shown[0]["message"]["text"]["content"], r"\u4f60好");
    assert_eq!(shown[0]["shown_escaped"], true);
    let records = sim
        .control("GET", "/requests?path=/cgi-bin/message", Value::Null)
        .await;
    assert_eq!(records[0]["shown_escaped"], true);
    assert_eq!(records[0]["body"], body);
}

#[tokio::test]
async fn typing_shows_for_a_while_after_a_message() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA"] })).await;
    let path = at("/cgi-bin/message/custom/typing");
    let typing = async |command: &str| {
        let body = json!({ "touser": "oA", "command": command });
        code(&sim.post(&path, &body).await)
    };
    assert_eq!(typing("Typing").await, 45080);
    sim.does("oA", "message").await;
    assert_eq!(typing("typing").await, 45072);
    assert_eq!(typing("CancelTyping").await, 45081);
    assert_eq!(typing("Typing").await, 0);
    assert_eq!(typing("Typing").await, 45081);
    assert_eq!(typing("CancelTyping").await, 0);
    assert_eq!(typing("Typing").await, 0);
    sim.advance(15).await;
    assert_eq!(typing("Typing").await, 0, "it stopped by itself");
    sim.advance(16).await;
    assert_eq!(typing("Typing").await, 45080);
}

#[tokio::test]
async fn human_service_has_accounts_and_sessions() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.does("oA", "message").await;
    let post = async |path: &str, body: Value| {
        let path = at(&format!("/customservice/{path}"));
        code(&sim.post(&path, &body).await)
    };
    let account = "test1@test";
    for (name, nickname, expected) in [
        (account, "客服", 0),
        (account, "客服", 61453),
        ("test1", "客服", 61452),
        ("elevenchars@test", "客服", 61454),
        ("te-st@test", "客服", 61455),
        ("test2@test", "", 65403),
        ("test2@test", "12345678901234567", 65403),
    ] {
        let body = json!({ "kf_account": name, "nickname": nickname });
        assert_eq!(
            post("kfaccount/add", body.clone()).await,
            expected,
            "{body}"
        );
    }
    let session = json!({ "kf_account": account, "openid": "oA" });
    assert_eq!(post("kfsession/create", session.clone()).await, 65415);
    let invite = json!({ "kf_account": account, "invite_wx": "worker" });
    assert_eq!(post("kfaccount/inviteworker", invite.clone()).await, 0);
    assert_eq!(post("kfaccount/inviteworker", invite).await, 65407);
    assert_eq!(post("kfsession/create", session.clone()).await, 0);
    let online = sim.get(&at("/cgi-bin/customservice/getonlinekflist")).await;
    assert_eq!(online["kf_online_list"][0]["accepted_case"], 1);
    let list = sim.get(&at("/cgi-bin/customservice/getkflist")).await;
    assert_eq!(list["kf_list"][0]["kf_nick"], "客服");
    let path = format!("{}&openid=oA", at("/customservice/kfsession/getsession"));
    assert_eq!(sim.get(&path).await["kf_account"], account);
    assert_eq!(post("kfsession/close", session.clone()).await, 0);
    assert_eq!(post("kfsession/close", session).await, 65413);
    let path = format!(
        "{}&kf_account={account}",
        at("/customservice/kfsession/getsessionlist")
    );
    assert_eq!(sim.get(&path).await["sessionlist"], json!([]));
    let path = format!(
        "{}&kf_account={account}",
        at("/customservice/kfaccount/uploadheadimg")
    );
    let picture =
        |bytes: &'static [u8]| super::content::form(Some(("a.jpg", "image/jpeg", bytes)), &[]);
    assert_eq!(code(&sim.upload(&path, picture(b"\xff\xd8x")).await), 0);
    assert_eq!(code(&sim.upload(&path, picture(b"GIF89a")).await), 61457);
    let wait = sim.get(&at("/customservice/kfsession/getwaitcase")).await;
    assert_eq!(wait["count"], 0);
    let history = |end: u64, msg_id: u64, number: u64| json!({ "starttime": 0, "endtime": end, "msgid": msg_id, "number": number });
    assert_eq!(
        post("msgrecord/getmsglist", history(86_400, 1, 10_000)).await,
        0
    );
    assert_eq!(
        post("msgrecord/getmsglist", history(86_401, 1, 1)).await,
        65417
    );
    assert_eq!(post("msgrecord/getmsglist", history(1, 0, 1)).await, 65416);
    assert_eq!(
        post("msgrecord/getmsglist", history(1, 1, 10_001)).await,
        65416
    );
    let from = async |account: &str| {
        let body = json!({
            "touser": "oA", "msgtype": "text", "text": { "content": "x" },
            "customservice": { "kf_account": account },
        });
        code(&sim.post(&at("/cgi-bin/message/custom/send"), &body).await)
    };
    assert_eq!(from(account).await, 0);
    assert_eq!(from("other@test").await, 61452);
    assert_eq!(
        post("kfaccount/del", json!({ "kf_account": account })).await,
        0
    );
    assert_eq!(
        post("kfaccount/del", json!({ "kf_account": account })).await,
        61452
    );
}
