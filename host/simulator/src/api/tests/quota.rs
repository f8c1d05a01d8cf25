//! Limits per day and minute, and rids.

use super::*;

#[tokio::test]
async fn the_day_turns_over_at_midnight_in_beijing() {
    let sim = Sim::start().await;
    sim.change(json!({ "quotas": { "/cgi-bin/getcallbackip": 2 } }))
        .await;
    let token = token(&sim.stable(false).await);
    assert_eq!(sim.try_token(&token).await, 0);
    assert_eq!(sim.try_token(&token).await, 0);
    assert_eq!(sim.try_token(&token).await, 45009);
    sim.advance(14 * 3600 - 1).await;
    let token = super::token(&sim.stable(false).await);
    assert_eq!(sim.try_token(&token).await, 45009);
    sim.advance(1).await;
    assert_eq!(sim.try_token(&token).await, 0);
}

#[tokio::test]
async fn a_minute_has_its_own_limit() {
    let sim = Sim::start().await;
    sim.change(json!({ "minute_quotas": { "/cgi-bin/stable_token": 2 } }))
        .await;
    sim.stable(false).await;
    sim.stable(false).await;
    assert_eq!(code(&sim.stable(false).await), 45011);
    sim.advance(60).await;
    assert_eq!(code(&sim.stable(false).await), 0);
}

#[tokio::test]
async fn the_day_limit_of_the_token_call_is_cleared_without_a_token() {
    let sim = Sim::start().await;
    sim.change(json!({ "quotas": { "/cgi-bin/token": 3 } }))
        .await;
    for _ in 0..3 {
        assert_eq!(code(&sim.classic().await), 0);
    }
    assert_eq!(code(&sim.classic().await), 45009);
    let clear = json!({ "appid": APP, "appsecret": SECRET });
    assert_eq!(
        code(&sim.post("/cgi-bin/clear_quota/v2", &clear).await),
        0,
        "the way out needs no token"
    );
    assert_eq!(code(&sim.classic().await), 0);
}

#[tokio::test]
async fn counts_are_shown_and_cleared_ten_times_a_month() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    sim.try_token(&token).await;
    let of = |path: &str| format!("{path}?access_token={token}");
    let ask = json!({ "cgi_path": "/cgi-bin/token" });
    let quota = sim.post(&of("/cgi-bin/openapi/quota/get"), &ask).await;
    assert_eq!(quota["quota"]["daily_limit"], 2000);
    let ask = json!({ "cgi_path": "/cgi-bin/getcallbackip" });
    let quota = sim.post(&of("/cgi-bin/openapi/quota/get"), &ask).await;
    assert_eq!(quota["quota"]["used"], 1);
    for (path, expected) in [
        ("cgi-bin/token", 76003),
        ("https://api.weixin.qq.com/cgi-bin/token", 76003),
        ("/cgi-bin/nowhere", 76021),
    ] {
        let ask = json!({ "cgi_path": path });
        let answer = sim.post(&of("/cgi-bin/openapi/quota/get"), &ask).await;
        assert_eq!(code(&answer), expected, "{path}");
    }
    let other = json!({ "appid": "wx1234567890" });
    let clear = of("/cgi-bin/clear_quota");
    assert_eq!(code(&sim.post(&clear, &other).await), 40013);
    for _ in 0..10 {
        assert_eq!(code(&sim.post(&clear, &json!({ "appid": APP })).await), 0);
    }
    let ask = json!({ "cgi_path": "/cgi-bin/getcallbackip" });
    let one = of("/cgi-bin/openapi/quota/clear");
    assert_eq!(code(&sim.post(&one, &ask).await), 48006);
}

#[tokio::test]
async fn a_rid_shows_the_request_to_its_own_app_only() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    let path = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let refused = sim.post(&path, &json!({ "cgi_path": "nope" })).await;
    let (_, rid) = text(&refused, "errmsg").split_once(" rid: ").unwrap();
    assert!(rid.starts_with(&format!("{:08x}-", START.as_secs())));
    let get = format!("/cgi-bin/openapi/rid/get?access_token={token}");
    let shown = sim.post(&get, &json!({ "rid": rid })).await;
    let request = &shown["request"];
    assert_eq!(request["request_body"], r#"{"cgi_path":"nope"}"#);
    assert!(text(request, "response_body").contains("76003"));
    assert!(!shown.to_string().contains(&token));
    for (rid, expected) in [
        ("", 76002),
        ("69a4f2a0-00000000", 76002),
        ("69a4f2a0-00000000-0000000g", 76002),
        ("69a4f2a0-00000000-00000000", 76001),
    ] {
        assert_eq!(
            code(&sim.post(&get, &json!({ "rid": rid })).await),
            expected
        );
    }
    let other = json!({ "app_id": "wx00000000000000b2", "secret": SECRET });
    sim.control("POST", "/apps", json!([other])).await;
    let body = json!({
        "grant_type": "client_credential", "appid": "wx00000000000000b2", "secret": SECRET,
    });
    let theirs = super::token(&sim.post("/cgi-bin/stable_token", &body).await);
    let get = format!("/cgi-bin/openapi/rid/get?access_token={theirs}");
    assert_eq!(code(&sim.post(&get, &json!({ "rid": rid })).await), 76003);
}

#[tokio::test]
async fn addresses_are_told_and_checked() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    let path = format!("/cgi-bin/get_api_domain_ip?access_token={token}");
    assert!(sim.get(&path).await["ip_list"].is_array());
    let path = format!("/cgi-bin/callback/check?access_token={token}");
    let all = json!({ "action": "all", "check_operator": "DEFAULT" });
    let answer = sim.post(&path, &all).await;
    assert!(answer["dns"].is_array() && answer["ping"].is_array());
    for wrong in [
        json!({}),
        json!({ "action": "x" }),
        json!({ "action": "all", "check_operator": "x" }),
    ] {
        assert_eq!(code(&sim.post(&path, &wrong).await), 40097);
    }
}
