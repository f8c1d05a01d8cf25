//! Followers, their tags and the blacklist.

use super::*;

#[tokio::test]
async fn the_follower_list_has_pages_of_ten_thousand() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let empty = sim.get(&at("/cgi-bin/user/get")).await;
    assert_eq!(empty, json!({ "total": 0, "count": 0, "next_openid": "" }));
    sim.stage("followers", json!({ "count": 10_001 })).await;
    let first = sim.get(&at("/cgi-bin/user/get")).await;
    assert_eq!(
        (&first["total"], &first["count"]),
        (&json!(10_001), &json!(10_000))
    );
    assert_eq!(first["next_openid"], first["data"]["openid"][9_999]);
    let next = text(&first, "next_openid");
    let path = format!("{}&next_openid={next}", at("/cgi-bin/user/get"));
    let second = sim.get(&path).await;
    assert_eq!(second["count"], 1);
    let last = text(&second, "next_openid");
    assert_eq!(second["data"]["openid"][0], last);
    let path = format!("{}&next_openid={last}", at("/cgi-bin/user/get"));
    let third = sim.get(&path).await;
    assert_eq!(third["count"], 0);
    assert_eq!(third.get("data"), None);
    let path = format!("{}&next_openid=oNobody", at("/cgi-bin/user/get"));
    assert_eq!(code(&sim.get(&path).await), 40003);
}

#[tokio::test]
async fn a_follower_has_facts_and_a_stranger_has_none() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    let follower = json!({
        "open_id": "oA", "union_id": "u1", "subscribe_scene": "ADD_SCENE_QR_CODE", "qr_scene": 7,
    });
    sim.stage(
        "followers",
        json!({ "followers": [follower], "open_ids": ["oB"] }),
    )
    .await;
    let info = sim
        .get(&format!(
            "{}&openid=oA&lang=zh_CN",
            at("/cgi-bin/user/info")
        ))
        .await;
    assert_eq!(info["subscribe"], 1);
    assert_eq!(info["unionid"], "u1");
    assert_eq!(info["qr_scene"], 7);
    assert_eq!(info["nickname"], "");
    assert_eq!(info["subscribe_time"], START.as_secs());
    sim.does("oB", "unfollow").await;
    let list = json!({ "user_list": [{ "openid": "oA" }, { "openid": "oB", "lang": "en" }] });
    let batch = at("/cgi-bin/user/info/batchget");
    let infos = sim.post(&batch, &list).await;
    assert_eq!(
        infos["user_info_list"][1],
        json!({ "subscribe": 0, "openid": "oB" })
    );
    assert_eq!(sim.get(&at("/cgi-bin/user/get")).await["total"], 1);

    assert_eq!(code(&sim.get(&at("/cgi-bin/user/info")).await), 41009);
    let many: Vec<Value> = (0..101).map(|_| json!({ "openid": "oA" })).collect();
    for (list, expected) in [
        (json!({}), 40035),
        (json!({ "user_list": [] }), 40032),
        (json!({ "user_list": many }), 40032),
        (json!({ "user_list": ["oA"] }), 47001),
        (json!({ "user_list": [{}] }), 41009),
        (json!({ "user_list": [{ "openid": "oNobody" }] }), 40003),
    ] {
        assert_eq!(code(&sim.post(&batch, &list).await), expected, "{list}");
    }
}

#[tokio::test]
async fn a_remark_is_shorter_than_thirty_characters() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB"] }))
        .await;
    sim.does("oB", "unfollow").await;
    let path = at("/cgi-bin/user/info/updateremark");
    for (open_id, remark, expected) in [
        ("oA", "好".repeat(29), 0),
        ("oA", "好".repeat(30), 40035),
        ("oA", String::new(), 0),
        ("oB", "x".into(), 43004),
        ("oNobody", "x".into(), 40003),
    ] {
        let body = json!({ "openid": open_id, "remark": remark });
        assert_eq!(code(&sim.post(&path, &body).await), expected, "{body}");
    }
    assert_eq!(
        code(&sim.post(&path, &json!({ "openid": "oA" })).await),
        47001
    );
    assert_eq!(
        code(
            &sim.post(&path, &json!({ "openid": 1, "remark": "x" }))
                .await
        ),
        47001
    );
}

#[tokio::test]
async fn tags_keep_their_rules() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB"] }))
        .await;
    let create = async |name: &str| {
        let body = json!({ "tag": { "name": name } });
        sim.post(&at("/cgi-bin/tags/create"), &body).await
    };
    let id = create("广东").await["tag"]["id"].as_u64().unwrap();
    assert!(id >= 100);
    assert_eq!(code(&create("广东").await), 45157);
    assert_eq!(code(&create("").await), 45157);
    assert_eq!(code(&create(&"好".repeat(11)).await), 45158);
    let tagging = at("/cgi-bin/tags/members/batchtagging");
    let tag = async |ids: Value, tag: u64| {
        let body = json!({ "openid_list": ids, "tagid": tag });
        code(&sim.post(&tagging, &body).await)
    };
    assert_eq!(tag(json!(["oA", "oB"]), id).await, 0);
    assert_eq!(tag(json!(["oA"]), 7).await, 45159);
    assert_eq!(tag(json!(["oNobody"]), id).await, 49003);
    assert_eq!(tag(json!([]), id).await, 40032);
    assert_eq!(tag(json!(vec!["oA"; 51]), id).await, 40032);
    assert_eq!(tag(json!("oA"), id).await, 47001);
    let tags = sim.get(&at("/cgi-bin/tags/get")).await;
    assert_eq!(
        tags["tags"][0],
        json!({ "id": id, "name": "广东", "count": 2 })
    );
    let body = json!({ "tagid": id, "next_openid": "oA" });
    let members = sim.post(&at("/cgi-bin/user/tag/get"), &body).await;
    assert_eq!(members["data"]["openid"], json!(["oB"]));
    let untag = json!({ "openid_list": ["oA"], "tagid": id });
    sim.post(&at("/cgi-bin/tags/members/batchuntagging"), &untag)
        .await;
    let ids = sim
        .post(&at("/cgi-bin/tags/getidlist"), &json!({ "openid": "oA" }))
        .await;
    assert_eq!(ids["tagid_list"], json!([]));
    for (path, body, expected) in [
        ("update", json!({ "tag": { "id": 2, "name": "x" } }), 45058),
        ("update", json!({ "tag": { "id": 99, "name": "x" } }), 45159),
        ("update", json!({ "tag": { "id": id, "name": "北京" } }), 0),
        ("delete", json!({ "tag": { "id": 0 } }), 45058),
        ("delete", json!({ "tag": { "id": id } }), 0),
        ("delete", json!({ "tag": { "id": id } }), 45159),
        ("delete", json!({}), 47001),
    ] {
        let path = at(&format!("/cgi-bin/tags/{path}"));
        assert_eq!(code(&sim.post(&path, &body).await), expected, "{body}");
    }
    let ids = sim
        .post(&at("/cgi-bin/tags/getidlist"), &json!({ "openid": "oB" }))
        .await;
    assert_eq!(ids["tagid_list"], json!([]), "gone with its tag");
    let mut given = Vec::new();
    for number in 0..100 {
        let tag = create(&format!("t{number}")).await;
        given.push(tag["tag"]["id"].as_u64().unwrap());
    }
    assert_eq!(code(&create("one more").await), 45056);
    for id in &given[..20] {
        assert_eq!(tag(json!(["oA"]), *id).await, 0);
    }
    assert_eq!(tag(json!(["oA"]), given[20]).await, 45059);
}

#[tokio::test]
async fn the_blacklist_takes_twenty_at_once() {
    let sim = Sim::start().await;
    let at = sim.open().await;
    sim.stage("followers", json!({ "open_ids": ["oA", "oB"] }))
        .await;
    let path = at("/cgi-bin/tags/members/batchblacklist");
    for (list, expected) in [
        (json!(["oA"]), 0),
        (json!(vec!["oA"; 21]), 40032),
        (json!([]), 40032),
        (json!(["oNobody"]), 40003),
    ] {
        let body = json!({ "openid_list": list });
        assert_eq!(code(&sim.post(&path, &body).await), expected, "{body}");
    }
    let path = at("/cgi-bin/tags/members/getblacklist");
    let page = sim.post(&path, &json!({ "begin_openid": "" })).await;
    assert_eq!(page["data"]["openid"], json!(["oA"]));
    assert_eq!(
        sim.say("oA", "text", json!({ "content": "x" })).await,
        43019
    );
    let undo = at("/cgi-bin/tags/members/batchunblacklist");
    sim.post(&undo, &json!({ "openid_list": ["oA"] })).await;
    assert_eq!(sim.post(&path, &json!({})).await["total"], 0);
}
