//! Template messages and subscription notices.

use super::*;

const CONTENT: &str = "{{first.DATA}}\n商品：{{thing1.DATA}}\n金额：{{amount2.DATA}}";

fn data(thing: &str) -> Value {
    json!({
        "first": { "value": "你好" }, "thing1": { "value": thing }, "amount2": { "value": "¥10.00" },
    })
}

#[tokio::test]
async fn a_template_message_is_sent_once_per_client_msg_id() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB"] }))
        .await;
    sim.stage(
        "templates",
        json!({ "template_id": "T1", "content": CONTENT }),
    )
    .await;
    let path = at("/cgi-bin/message/template/send");
    let send = async |open_id: &str, id: &str| {
        let body = json!({
            "touser": open_id, "template_id": "T1", "data": data("茶"), "client_msg_id": id,
        });
        sim.post(&path, &body).await
    };
    let first = send("oA", "one").await;
    assert_eq!(first["errcode"], 0);
    assert!(first["msgid"].as_u64().unwrap() > 1 << 53);
    assert_eq!(send("oA", "one").await["msgid"], first["msgid"]);
    assert_ne!(send("oA", "two").await["msgid"], first["msgid"]);
    assert_ne!(send("oB", "one").await["msgid"], first["msgid"]);
    sim.advance(600).await;
    assert_ne!(send("oA", "one").await["msgid"], first["msgid"]);
    let path = format!("/apps/{APP}/messages?open_id=oA");
    let shown = sim.control("GET", &path, Value::Null).await;
    assert_eq!(shown.as_array().unwrap().len(), 3);
    assert_eq!(shown[0]["msg_id"], first["msgid"]);
}

#[tokio::test]
async fn a_template_message_is_checked_field_by_field() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.change(json!({ "mini_programs": ["wxmini"] })).await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB", "oC"] }))
        .await;
    sim.does("oB", "unfollow").await;
    let black = json!({ "openid_list": ["oC"] });
    sim.post(&at("/cgi-bin/tags/members/batchblacklist"), &black)
        .await;
    sim.stage(
        "templates",
        json!({ "template_id": "T1", "content": CONTENT }),
    )
    .await;
    let notice = json!({ "template_id": "S1", "content": CONTENT, "kind": "one-time" });
    sim.stage("templates", notice).await;
    let path = at("/cgi-bin/message/template/send");
    let good = json!({ "touser": "oA", "template_id": "T1", "data": data("茶") });
    let changed = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let mut suffixed = data("茶");
    suffixed["thing1.DATA"] = suffixed["thing1"].take();
    for (body, expected) in [
        (good.clone(), 0),
        (changed("touser", json!("oNobody")), 40003),
        (changed("touser", Value::Null), 40003),
        (changed("touser", json!("oB")), 43004),
        (changed("touser", json!("oC")), 43019),
        (changed("template_id", json!("T2")), 40037),
        (changed("template_id", json!("S1")), 40037),
        (changed("template_id", json!(1)), 47001),
        (changed("data", Value::Null), 47003),
        (changed("data", json!([])), 47001),
        (changed("data", suffixed), 47003),
        (changed("data", data("")), 47003),
        (changed("data", data(&"好".repeat(21))), 47003),
        (changed("url", json!("https://a.example/?q=1")), 0),
        (changed("url", json!("a.example")), 40066),
        (
            changed("url", json!(format!("https://a/{}", "x".repeat(1024)))),
            40039,
        ),
        (
            changed("miniprogram", json!({ "appid": "wxmini", "pagepath": "p" })),
            0,
        ),
        (changed("miniprogram", json!({ "appid": "wxother" })), 40013),
        (changed("miniprogram", json!("wxmini")), 47001),
    ] {
        let answer = sim.post(&path, &body).await;
        assert_eq!(code(&answer), expected, "{body} {answer}");
    }
    sim.change(json!({ "kind": "subscription" })).await;
    assert_eq!(code(&sim.post(&path, &good).await), 48001);
}

#[tokio::test]
async fn templates_are_added_listed_and_removed() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let add = json!({ "template_id_short": "TM00015", "keyword_name_list": ["商品", "金额"] });
    let added = sim
        .post(&at("/cgi-bin/template/api_add_template"), &add)
        .await;
    let id = text(&added, "template_id");
    let list = sim
        .get(&at("/cgi-bin/template/get_all_private_template"))
        .await;
    assert_eq!(list["template_list"][0]["template_id"], id);
    assert_eq!(
        list["template_list"][0]["content"],
        "商品:{{keyword1.DATA}}\n金额:{{keyword2.DATA}}"
    );
    let remove = json!({ "template_id": id });
    let path = at("/cgi-bin/template/del_private_template");
    assert_eq!(code(&sim.post(&path, &remove).await), 0);
    assert_eq!(code(&sim.post(&path, &remove).await), 40037);
    let path = at("/cgi-bin/template/api_add_template");
    for _ in 0..25 {
        assert_eq!(code(&sim.post(&path, &add).await), 0);
    }
    assert_eq!(code(&sim.post(&path, &add).await), 45026);
    let path = at("/cgi-bin/template/api_set_industry");
    let industry = json!({ "industry_id1": "1", "industry_id2": "4" });
    assert_eq!(code(&sim.post(&path, &industry).await), 0);
    assert_eq!(code(&sim.post(&path, &industry).await), 43100);
    let answer = sim.get(&at("/cgi-bin/template/get_industry")).await;
    assert!(answer["primary_industry"].is_object());
}

#[tokio::test]
async fn a_notice_uses_up_one_acceptance() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA"] })).await;
    for (id, kind) in [("ONE", "one-time"), ("LONG", "long-term")] {
        let template = json!({ "template_id": id, "content": CONTENT, "kind": kind });
        sim.stage("templates", template).await;
    }
    let path = at("/cgi-bin/message/subscribe/bizsend");
    let send = async |id: &str| {
        let body = json!({ "touser": "oA", "template_id": id, "data": data("茶") });
        code(&sim.post(&path, &body).await)
    };
    assert_eq!(send("ONE").await, 43101);
    sim.stage(
        "acceptances",
        json!({ "open_id": "oA", "template_id": "ONE", "count": 2 }),
    )
    .await;
    sim.stage(
        "acceptances",
        json!({ "open_id": "oA", "template_id": "LONG" }),
    )
    .await;
    assert_eq!(send("ONE").await, 0);
    assert_eq!(send("ONE").await, 0);
    assert_eq!(send("ONE").await, 43101);
    assert_eq!(send("LONG").await, 0);
    assert_eq!(send("LONG").await, 0);
    assert_eq!(send("OTHER").await, 40037);
    let wrong = json!({ "touser": "oA", "template_id": "LONG", "data": data(""), "page": "p" });
    assert_eq!(code(&sim.post(&path, &wrong).await), 47003);
    let wrong = json!({ "touser": "oA", "template_id": "LONG", "data": data("茶"), "page": "p" });
    assert_eq!(code(&sim.post(&path, &wrong).await), 41030);
    let path = at("/cgi-bin/message/subscribe/send");
    assert_eq!(
        code(&sim.post(&path, &wrong).await),
        48001,
        "of mini programs"
    );
    let link = json!({
        "touser": "oA", "template_id": "ONE", "url": "https://a.example", "scene": "1000",
        "title": "t", "data": { "content": { "value": "v", "color": "#000" } },
    });
    let path = at("/cgi-bin/message/template/subscribe");
    assert_eq!(code(&sim.post(&path, &link).await), 43101);
    sim.stage(
        "acceptances",
        json!({ "open_id": "oA", "template_id": "ONE" }),
    )
    .await;
    assert_eq!(code(&sim.post(&path, &link).await), 0);
}

#[tokio::test]
async fn notice_templates_are_chosen_from_the_public_ones() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let path = format!(
        "{}&ids=616&start=0&limit=30",
        at("/wxaapi/newtmpl/getpubtemplatetitles")
    );
    let titles = sim.get(&path).await;
    assert_eq!(titles["data"][0]["tid"], 99);
    let path = format!(
        "{}&ids=616&start=0&limit=31",
        at("/wxaapi/newtmpl/getpubtemplatetitles")
    );
    assert_eq!(code(&sim.get(&path).await), 40097);
    let path = format!("{}&tid=99", at("/wxaapi/newtmpl/getpubtemplatekeywords"));
    assert_eq!(sim.get(&path).await["count"], 2);
    let add = json!({ "tid": "99", "kidList": [1, 2], "sceneDesc": "测试" });
    let added = sim.post(&at("/wxaapi/newtmpl/addtemplate"), &add).await;
    let list = sim.get(&at("/wxaapi/newtmpl/gettemplate")).await;
    assert_eq!(list["data"][0]["priTmplId"], added["priTmplId"]);
    assert_eq!(list["data"][0]["type"], 2);
    let remove = json!({ "priTmplId": added["priTmplId"] });
    let path = at("/wxaapi/newtmpl/deltemplate");
    assert_eq!(code(&sim.post(&path, &remove).await), 0);
    assert!(sim.get(&at("/wxaapi/newtmpl/getcategory")).await["data"].is_array());
}
