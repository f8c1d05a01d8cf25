//! Both token lines, tickets, and what token calls are refused for.

use super::*;

#[tokio::test]
async fn the_classic_line_issues_anew_and_lets_only_the_previous_token_live_on() {
    let sim = Sim::start().await;
    let first = sim.classic().await;
    assert_eq!(first["expires_in"], 7200);
    assert!((136..=200).contains(&token(&first).len()));
    let second = token(&sim.classic().await);
    let first = token(&first);
    assert_ne!(first, second);
    sim.advance(299).await;
    assert_eq!(sim.try_token(&first).await, 0);
    sim.advance(1).await;
    assert_eq!(sim.try_token(&first).await, 40001);
    assert_eq!(sim.try_token(&second).await, 0);

    let third = token(&sim.classic().await);
    let fourth = token(&sim.classic().await);
    assert_eq!(sim.try_token(&second).await, 40001, "two behind");
    assert_eq!(sim.try_token(&third).await, 0);
    sim.advance(7200).await;
    assert_eq!(sim.try_token(&fourth).await, 42001);
}

#[tokio::test]
async fn the_stable_line_repeats_its_token_until_five_minutes_before_its_end() {
    let sim = Sim::start().await;
    let first = sim.stable(false).await;
    assert_eq!(first["expires_in"], 7200);
    sim.advance(6899).await;
    let again = sim.stable(false).await;
    assert_eq!(token(&again), token(&first));
    assert_eq!(again["expires_in"], 301);
    sim.advance(1).await;
    let next = sim.stable(false).await;
    assert_ne!(token(&next), token(&first));
    assert_eq!(next["expires_in"], 7200);
    assert_eq!(token(&sim.stable(false).await), token(&next));
    sim.advance(299).await;
    assert_eq!(sim.try_token(&token(&first)).await, 0, "both are valid");
    assert_eq!(sim.try_token(&token(&next)).await, 0);
    sim.advance(1).await;
    assert_eq!(sim.try_token(&token(&first)).await, 42001);
}

#[tokio::test]
async fn short_lives_shrink_the_overlap_to_a_quarter() {
    let sim = Sim::start().await;
    sim.change(json!({ "token_lifetime_seconds": 30 })).await;
    let first = sim.stable(false).await;
    assert_eq!(first["expires_in"], 30);
    sim.advance(22).await;
    assert_eq!(sim.stable(false).await["expires_in"], 8);
    sim.advance(1).await;
    assert_eq!(sim.stable(false).await["expires_in"], 30);
    let old = token(&sim.classic().await);
    sim.classic().await;
    sim.advance(7).await;
    assert_eq!(sim.try_token(&old).await, 0);
    sim.advance(1).await;
    assert_eq!(sim.try_token(&old).await, 40001);
}

#[tokio::test]
async fn the_lines_leave_each_other_alone() {
    let sim = Sim::start().await;
    let stable = token(&sim.stable(false).await);
    for _ in 0..5 {
        sim.classic().await;
    }
    assert_eq!(sim.try_token(&stable).await, 0);
    let classic = token(&sim.classic().await);
    sim.stable(true).await;
    assert_eq!(sim.try_token(&classic).await, 0);
    assert_eq!(sim.try_token(&stable).await, 40001);
    let app = sim.app().await;
    assert_eq!(app["classic_fetches"], 6);
    assert_eq!(app["stable_fetches"], 2);
    assert_eq!(app["forced"], 1);
    assert_eq!(app["invalid_token_uses"], 1);
    assert_eq!(
        app["invalid_token_uses_by_path"]["/cgi-bin/getcallbackip"],
        1
    );
    assert_eq!(app["tokens"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn a_forced_refresh_ends_the_token_at_once_and_has_its_limits() {
    let sim = Sim::start().await;
    let first = token(&sim.stable(false).await);
    let second = token(&sim.stable(true).await);
    assert_ne!(first, second);
    assert_eq!(sim.try_token(&first).await, 40001);
    sim.advance(29).await;
    assert_eq!(token(&sim.stable(true).await), second, "too soon");
    sim.advance(1).await;
    let third = token(&sim.stable(true).await);
    assert_ne!(second, third);
    assert_eq!(sim.try_token(&second).await, 40001);
    for _ in 3..20 {
        sim.advance(30).await;
        assert_eq!(code(&sim.stable(true).await), 0);
    }
    sim.advance(30).await;
    assert_eq!(code(&sim.stable(true).await), 45009);
    assert_eq!(code(&sim.stable(false).await), 0);
    sim.advance(14 * 3600).await;
    assert_eq!(code(&sim.stable(true).await), 0, "a new day");
}

#[tokio::test]
async fn token_calls_are_checked_app_id_first() {
    let sim = Sim::start().await;
    let wrong = "f".repeat(32);
    for (query, expected) in [
        (String::new(), 41002),
        ("appid=wx1234".into(), 40013),
        (format!("appid={APP}"), 40002),
        (format!("appid={APP}&grant_type=x&secret={SECRET}"), 40002),
        (format!("appid={APP}&grant_type=client_credential"), 41004),
        (
            format!("appid={APP}&grant_type=client_credential&secret={wrong}"),
            40001,
        ),
        (
            format!("appid={APP}&grant_type=client_credential&secret=short"),
            40125,
        ),
    ] {
        let answer = sim.get(&format!("/cgi-bin/token?{query}")).await;
        assert_eq!(code(&answer), expected, "{query}");
        assert!(text(&answer, "errmsg").contains(" rid: "), "{answer}");
    }
    let post = async |body: &str| code(&sim.post_text("/cgi-bin/stable_token", body).await);
    assert_eq!(post("").await, 44002);
    assert_eq!(post("grant_type=client_credential").await, 47001);
    assert_eq!(post(r#"{"grant_type":"x"}"#).await, 41002);
    assert_eq!(post(r#"{"appid":1}"#).await, 47001);
    assert_eq!(post(&format!(r#"{{"appid":"{APP}"}}"#)).await, 40002);
    let flag = format!(
        r#"{{"appid":"{APP}","secret":"{SECRET}","grant_type":"client_credential","force_refresh":"yes"}}"#
    );
    assert_eq!(post(&flag).await, 47001);
    assert_eq!(code(&sim.get("/cgi-bin/stable_token").await), 43002);
    assert_eq!(code(&sim.post_text("/cgi-bin/token", "").await), 43001);
    assert_eq!(sim.app().await["stable_fetches"], 0);
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_named() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    sim.change(json!({ "allowed_ips": ["192.0.2.1"], "client_ip": "192.0.2.9" }))
        .await;
    let answer = sim.stable(false).await;
    assert_eq!(code(&answer), 40164);
    assert!(
        text(&answer, "errmsg")
            .starts_with("invalid ip 192.0.2.9 ipv6 ::ffff:192.0.2.9, not in whitelist rid: "),
        "{answer}"
    );
    assert_eq!(sim.try_token(&token).await, 0, "token calls only");
    let query = format!("grant_type=client_credential&appid={APP}&secret={SECRET}");
    let request = sim
        .http
        .get(sim.url(&format!("/cgi-bin/token?{query}")))
        .header("X-Sim-Client-Ip", "192.0.2.1");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(code(&answer), 0);
}

#[tokio::test]
async fn an_app_secret_can_be_frozen_and_reset() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    sim.change(json!({ "frozen": true })).await;
    assert_eq!(code(&sim.stable(false).await), 40243);
    assert_eq!(code(&sim.classic().await), 40243);
    sim.change(json!({ "frozen": false, "secret": "e".repeat(32) }))
        .await;
    assert_eq!(code(&sim.stable(false).await), 40001);
    assert_eq!(sim.try_token(&token).await, 40001);
}

#[tokio::test]
async fn a_call_without_a_good_token_says_which_way_it_is_bad() {
    let sim = Sim::start().await;
    assert_eq!(code(&sim.get("/cgi-bin/getcallbackip").await), 41001);
    assert_eq!(sim.try_token("").await, 41001);
    assert_eq!(sim.try_token("nonsense").await, 40014);
    let strange = format!("12_{}", "x".repeat(140));
    let answer = sim
        .get(&format!("/cgi-bin/getcallbackip?access_token={strange}"))
        .await;
    assert_eq!(code(&answer), 40001);
    assert!(text(&answer, "errmsg").contains("getStableAccessToken"));
    let counters = sim.control("GET", "/counters", Value::Null).await;
    assert_eq!(counters["unknown_token_uses"], 2);
    assert_eq!(code(&sim.get("/cgi-bin/nowhere").await), 40066);
}

#[tokio::test]
async fn a_ticket_is_the_same_until_it_ends() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    let path = |kind: &str| format!("/cgi-bin/ticket/getticket?access_token={token}&type={kind}");
    let first = sim.get(&path("jsapi")).await;
    assert_eq!(first["errcode"], 0);
    assert_eq!(first["expires_in"], 7200);
    sim.advance(7100).await;
    let again = sim.get(&path("jsapi")).await;
    assert_eq!(again["ticket"], first["ticket"]);
    assert_eq!(again["expires_in"], 100);
    let card = sim.get(&path("wx_card")).await;
    assert_ne!(card["ticket"], first["ticket"]);
    assert_eq!(code(&sim.get(&path("other")).await), 40097);
    let fresh = super::token(&sim.stable(false).await);
    sim.advance(100).await;
    let path = format!("/cgi-bin/ticket/getticket?access_token={fresh}&type=jsapi");
    assert_ne!(sim.get(&path).await["ticket"], first["ticket"]);
}

#[tokio::test]
async fn secrets_and_tokens_are_listed_for_those_who_look_for_leaks_only() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    sim.classic().await;
    sim.try_token(&token).await;
    let secrets = sim.control("GET", "/secrets", Value::Null).await;
    let secrets: Vec<&str> = secrets
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(secrets.len(), 3);
    assert!(secrets.contains(&SECRET) && secrets.contains(&token.as_str()));
    for path in [
        "/requests".to_owned(),
        "/apps".into(),
        format!("/apps/{APP}"),
    ] {
        let shown = sim.control("GET", &path, Value::Null).await.to_string();
        assert!(
            !secrets.iter().any(|secret| shown.contains(secret)),
            "{path}"
        );
    }
}
