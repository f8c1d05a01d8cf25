//! Menus, codes, short keys and mass messages.

use super::*;

fn click(name: &str) -> Value {
    json!({ "type": "click", "name": name, "key": "K" })
}

#[tokio::test]
async fn a_menu_is_checked_button_by_button() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.change(json!({ "mini_programs": ["wxmini"] })).await;
    let create = at("/cgi-bin/menu/create");
    let subs = |count: usize| {
        let subs = vec![click("二级"); count];
        json!({ "name": "菜单", "sub_button": subs })
    };
    let view = |url: &str| json!({ "type": "view", "name": "页", "url": url });
    let program = |appid: &str| {
        json!({
            "type": "miniprogram", "name": "程序", "url": "https://a.example", "appid": appid,
            "pagepath": "p",
        })
    };
    let with = |name: &str, value: Value| {
        let mut button = click("按钮");
        button[name] = value;
        button
    };
    for (buttons, expected) in [
        (json!([click("今日歌曲"), subs(5), program("wxmini")]), 0),
        (json!([]), 40016),
        (json!(vec![click("x"); 4]), 40016),
        (json!([subs(6)]), 40023),
        (json!([with("name", json!("好".repeat(6)))]), 40018),
        (json!([with("name", json!(""))]), 40018),
        (json!([with("key", json!("k".repeat(129)))]), 40019),
        (json!([with("key", Value::Null)]), 40019),
        (json!([with("type", json!("clack"))]), 40017),
        (json!([with("type", Value::Null)]), 65308),
        (json!([with("sub_button", json!([click("x")]))]), 40017),
        (json!([with("sub_button", json!([]))]), 0),
        (json!([view("a.example")]), 40054),
        (
            json!([view(&format!("https://a/{}", "x".repeat(1024)))]),
            40020,
        ),
        (json!([program("wxother")]), 45064),
        (
            json!([{ "name": "n", "type": "media_id", "media_id": "x" }]),
            40007,
        ),
        (
            json!([{ "name": "n", "type": "article_id", "article_id": "x" }]),
            53600,
        ),
        (
            json!([{ "name": "n", "sub_button": [{ "name": "x" }] }]),
            40024,
        ),
        (
            json!([{ "name": "n", "sub_button": [{ "name": "好".repeat(21), "type": "click" }] }]),
            40025,
        ),
        (json!([{ "name": "n", "sub_button": [subs(1)] }]), 40022),
        (json!(["x"]), 47001),
    ] {
        let answer = sim.post(&create, &json!({ "button": buttons })).await;
        assert_eq!(code(&answer), expected, "{buttons} {answer}");
    }
    assert_eq!(code(&sim.post(&create, &json!({})).await), 40016);
    let escaped = r#"{"button":[{"type":"click","name":"\u4f60","key":"K"}]}"#;
    assert_eq!(code(&sim.post_text(&create, escaped).await), 40033);
}

#[tokio::test]
async fn menus_are_shown_and_individualised() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB"] }))
        .await;
    assert_eq!(code(&sim.get(&at("/cgi-bin/menu/get")).await), 46003);
    let info = at("/cgi-bin/get_current_selfmenu_info");
    assert_eq!(sim.get(&info).await["is_menu_open"], 0);
    let add = at("/cgi-bin/menu/addconditional");
    let body = json!({ "tag": { "name": "贵宾" } });
    let tag = sim.post(&at("/cgi-bin/tags/create"), &body).await["tag"]["id"].clone();
    let special = json!({ "button": [click("贵宾")], "matchrule": { "tag_id": tag.to_string() } });
    assert_eq!(code(&sim.post(&add, &special).await), 65303);
    let menu = json!({ "button": [{ "name": "菜单", "sub_button": [click("子")] }] });
    sim.post(&at("/cgi-bin/menu/create"), &menu).await;
    let id = text(&sim.post(&add, &special).await, "menuid").to_owned();
    for rule in [json!({}), json!({ "tag_id": "" })] {
        let body = json!({ "button": [click("x")], "matchrule": rule });
        assert_eq!(code(&sim.post(&add, &body).await), 65304);
    }
    let shown = sim.get(&at("/cgi-bin/menu/get")).await;
    assert_eq!(shown["menu"]["button"][0]["sub_button"][0]["name"], "子");
    assert_eq!(shown["conditionalmenu"][0]["menuid"].to_string(), id);
    let info = sim.get(&info).await;
    assert_eq!(
        info["selfmenu_info"]["button"][0]["sub_button"]["list"][0]["name"],
        "子"
    );
    let tagging = json!({ "openid_list": ["oA"], "tagid": tag });
    sim.post(&at("/cgi-bin/tags/members/batchtagging"), &tagging)
        .await;
    let matched = async |open_id: &str| {
        sim.post(
            &at("/cgi-bin/menu/trymatch"),
            &json!({ "user_id": open_id }),
        )
        .await
    };
    assert_eq!(matched("oA").await["button"][0]["name"], "贵宾");
    assert_eq!(matched("oB").await["button"][0]["name"], "菜单");
    assert_eq!(code(&matched("oNobody").await), 65302);
    let remove = at("/cgi-bin/menu/delconditional");
    assert_eq!(code(&sim.post(&remove, &json!({ "menuid": id })).await), 0);
    assert_eq!(
        code(&sim.post(&remove, &json!({ "menuid": id })).await),
        65301
    );
    sim.get(&at("/cgi-bin/menu/delete")).await;
    assert_eq!(code(&sim.get(&at("/cgi-bin/menu/get")).await), 46003);
}

#[tokio::test]
async fn codes_have_a_scene_and_an_end() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let path = at("/cgi-bin/qrcode/create");
    for (action, scene, expire, expected) in [
        ("QR_SCENE", json!({ "scene_id": 123 }), Some(604_800), 0),
        ("QR_SCENE", json!({ "scene_id": u32::MAX }), None, 0),
        ("QR_SCENE", json!({ "scene_id": 0 }), None, 40169),
        ("QR_SCENE", json!({ "scene_id": 1_u64 << 32 }), None, 40169),
        ("QR_SCENE", json!({ "scene_id": "1" }), None, 47001),
        ("QR_SCENE", json!({ "scene_id": 1 }), Some(2_592_001), 40097),
        (
            "QR_STR_SCENE",
            json!({ "scene_str": "x".repeat(64) }),
            Some(60),
            0,
        ),
        (
            "QR_STR_SCENE",
            json!({ "scene_str": "x".repeat(65) }),
            Some(60),
            40169,
        ),
        ("QR_STR_SCENE", json!({ "scene_str": "" }), Some(60), 40169),
        ("QR_LIMIT_SCENE", json!({ "scene_id": 100_000 }), None, 0),
        (
            "QR_LIMIT_SCENE",
            json!({ "scene_id": 100_001 }),
            None,
            40169,
        ),
        ("QR_LIMIT_STR_SCENE", json!({ "scene_str": "x" }), None, 0),
        ("QR_OTHER", json!({ "scene_str": "x" }), None, 40053),
    ] {
        let mut body = json!({ "action_name": action, "action_info": { "scene": scene } });
        if let Some(expire) = expire {
            body["expire_seconds"] = json!(expire);
        }
        let answer = sim.post(&path, &body).await;
        assert_eq!(code(&answer), expected, "{body} {answer}");
        if expected == 0 {
            let ends = !action.contains("LIMIT");
            assert_eq!(answer.get("expire_seconds").is_some(), ends, "{answer}");
            assert!(answer["ticket"].is_string() && answer["url"].is_string());
        }
    }
    assert_eq!(
        code(&sim.post(&path, &json!({ "action_name": "QR_SCENE" })).await),
        40053
    );
}

#[tokio::test]
async fn a_short_key_stands_for_its_data_until_it_ends() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let gen_path = at("/cgi-bin/shorten/gen");
    let body = json!({ "long_data": "x".repeat(4096), "expire_seconds": 100 });
    let key = json!({ "short_key": sim.post(&gen_path, &body).await["short_key"] });
    let fetch = at("/cgi-bin/shorten/fetch");
    sim.advance(99).await;
    let found = sim.post(&fetch, &key).await;
    assert_eq!(
        (&found["long_data"], &found["expire_seconds"]),
        (&body["long_data"], &json!(1))
    );
    sim.advance(1).await;
    assert_eq!(code(&sim.post(&fetch, &key).await), 40097);
    for body in [
        json!({}),
        json!({ "long_data": "x".repeat(4097) }),
        json!({ "long_data": "x", "expire_seconds": 2_592_001 }),
    ] {
        assert_eq!(code(&sim.post(&gen_path, &body).await), 40097);
    }
}

#[tokio::test]
async fn a_mass_message_goes_out_once_and_to_whom_it_may() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB", "oC"] }))
        .await;
    sim.does("oC", "unfollow").await;
    let send = at("/cgi-bin/message/mass/send");
    let body = |users: Value, id: &str| {
        json!({
            "touser": users, "msgtype": "text", "text": { "content": "大家好" }, "clientmsgid": id,
        })
    };
    let first = sim
        .post(&send, &body(json!(["oA", "oB", "oC"]), "one"))
        .await;
    assert_eq!(first["errmsg"], "send job submission success");
    assert_eq!(first.get("msg_data_id"), None);
    let shown = sim
        .control("GET", &format!("/apps/{APP}/messages"), Value::Null)
        .await;
    assert_eq!(shown.as_array().unwrap().len(), 2);
    let again = body(json!(["oA", "oB"]), "one");
    assert_eq!(code(&sim.post(&send, &again).await), 45066);
    sim.advance(60).await;
    let known = sim.post(&send, &again).await;
    assert_eq!((code(&known), &known["msg_id"]), (45065, &first["msg_id"]));
    for (users, id, expected) in [
        (json!(["oA"]), "a", 40130),
        (json!(vec!["oA"; 10_001]), "b", 40032),
        (json!(["oA", "oNobody"]), "c", 40003),
        (json!("oA"), "d", 47001),
        (
            json!(["oA", "oB"]),
            "123456789012345678901234567890123",
            45067,
        ),
    ] {
        assert_eq!(
            code(&sim.post(&send, &body(users, id)).await),
            expected,
            "{id}"
        );
    }
    let status = at("/cgi-bin/message/mass/get");
    let job = json!({ "msg_id": first["msg_id"].to_string() });
    assert_eq!(sim.post(&status, &job).await["msg_status"], "SEND_SUCCESS");
    let delete = at("/cgi-bin/message/mass/delete");
    assert_eq!(
        code(&sim.post(&delete, &json!({ "msg_id": 1 })).await),
        40059
    );
    let with_place = json!({ "msg_id": first["msg_id"], "article_idx": 9 });
    assert_eq!(code(&sim.post(&delete, &with_place).await), 40060);
    assert_eq!(
        code(
            &sim.post(&delete, &json!({ "msg_id": first["msg_id"] }))
                .await
        ),
        0
    );
    assert_eq!(sim.post(&status, &job).await["msg_status"], "DELETE");
    for (id, reached) in [("2", true), ("3", true), ("4", true), ("5", false)] {
        let path = format!("/apps/{APP}/messages?open_id=oA");
        let before = sim.control("GET", &path, Value::Null).await;
        sim.post(&send, &body(json!(["oA", "oB"]), id)).await;
        let after = sim.control("GET", &path, Value::Null).await;
        let grew = after.as_array().unwrap().len() > before.as_array().unwrap().len();
        assert_eq!(grew, reached, "the {id}th of this month");
    }
}

#[tokio::test]
async fn a_message_to_all_is_one_a_day() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let send_all = async |filter: Value, content: &str| {
        let body = json!({
            "filter": filter, "msgtype": "text", "text": { "content": content },
        });
        code(&sim.post(&at("/cgi-bin/message/mass/sendall"), &body).await)
    };
    assert_eq!(send_all(json!({ "is_to_all": true }), "一").await, 0);
    assert_eq!(
        send_all(json!({ "is_to_all": true }), "一").await,
        45066,
        "derived from content"
    );
    assert_eq!(send_all(json!({ "is_to_all": true }), "二").await, 45028);
    assert_eq!(
        send_all(json!({ "is_to_all": false, "tag_id": 2 }), "三").await,
        40050
    );
    assert_eq!(send_all(json!({ "is_to_all": "yes" }), "三").await, 47001);
    assert_eq!(send_all(Value::Null, "三").await, 40035);
    let speed = at("/cgi-bin/message/mass/speed/set");
    for (body, expected) in [
        (json!({}), 45084),
        (json!({ "speed": 5 }), 45083),
        (json!({ "speed": 4 }), 0),
    ] {
        assert_eq!(code(&sim.post(&speed, &body).await), expected);
    }
    let speed = sim
        .post(&at("/cgi-bin/message/mass/speed/get"), &json!({}))
        .await;
    assert_eq!(
        (&speed["speed"], &speed["realspeed"]),
        (&json!(4), &json!(10))
    );
    sim.does("oA", "message").await;
    let preview = at("/cgi-bin/message/mass/preview");
    for (to, expected) in [
        (json!({ "touser": "oA" }), 0),
        (json!({ "towxname": "someone" }), 0),
        (json!({ "towxname": "" }), 40132),
        (json!({ "touser": "oNobody" }), 40003),
        (json!({}), 40003),
    ] {
        let mut body = json!({ "msgtype": "text", "text": { "content": "x" } });
        body.as_object_mut()
            .unwrap()
            .extend(to.as_object().unwrap().clone());
        assert_eq!(code(&sim.post(&preview, &body).await), expected, "{to}");
    }
    let body = json!({ "touser": "oA", "msgtype": "mpnews", "mpnews": { "media_id": "x" } });
    assert_eq!(code(&sim.post(&preview, &body).await), 40007);
}
