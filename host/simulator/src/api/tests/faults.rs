//! Faults, the record, and the control surface itself.

use super::*;

async fn fault(sim: &Sim, fault: Value) {
    sim.control("POST", "/faults", fault).await;
}

#[tokio::test]
async fn busy_before_and_after_the_call_is_carried_out() {
    let sim = Sim::start().await;
    fault(&sim, json!({ "kind": "busy", "count": 1 })).await;
    let answer = sim.stable(false).await;
    assert_eq!(code(&answer), -1);
    assert!(text(&answer, "errmsg").starts_with("system error rid: "));
    assert_eq!(sim.app().await["stable_fetches"], 0);
    fault(
        &sim,
        json!({ "kind": "busy", "count": 1, "performed": true }),
    )
    .await;
    assert_eq!(code(&sim.stable(false).await), -1);
    assert_eq!(sim.app().await["stable_fetches"], 1);
    assert_eq!(code(&sim.stable(false).await), 0, "the count is used up");
    let records = sim.control("GET", "/requests", Value::Null).await;
    let carried: Vec<(&Value, &Value)> = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let answered = record["errcode"].as_i64().unwrap();
            assert_eq!(answered == 0, record["fault"].is_null());
            (&record["performed"], &record["fault"])
        })
        .collect();
    assert_eq!(
        carried,
        [
            (&json!(false), &json!("busy")),
            (&json!(true), &json!("busy")),
            (&json!(true), &Value::Null),
        ]
    );
}

#[tokio::test]
async fn a_dropped_connection_gives_no_answer() {
    let sim = Sim::start().await;
    fault(
        &sim,
        json!({ "kind": "drop", "path_prefix": "/cgi-bin/token", "performed": true }),
    )
    .await;
    assert_eq!(code(&sim.stable(false).await), 0, "another path");
    let query = format!("grant_type=client_credential&appid={APP}&secret={SECRET}");
    let request = sim.http.get(sim.url(&format!("/cgi-bin/token?{query}")));
    let error = request.send().await.unwrap_err();
    assert!(!error.is_timeout() && !error.is_builder(), "{error:?}");
    assert!(sim.app().await["classic_fetches"].as_u64().unwrap() >= 1);
    sim.control("DELETE", "/faults", Value::Null).await;
    assert_eq!(code(&sim.classic().await), 0);
}

#[tokio::test]
async fn a_page_of_a_proxy_and_a_given_errcode() {
    let sim = Sim::start().await;
    fault(&sim, json!({ "kind": "html-502", "count": 1 })).await;
    fault(
        &sim,
        json!({ "kind": "errcode", "errcode": 50004, "app_id": APP, "count": 1 }),
    )
    .await;
    let query = format!("grant_type=client_credential&appid={APP}&secret={SECRET}");
    let url = sim.url(&format!("/cgi-bin/token?{query}"));
    let answer = sim.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().starts_with("<html>"));
    assert_eq!(code(&sim.classic().await), 50004);
    assert_eq!(code(&sim.classic().await), 0);
}

#[tokio::test]
async fn a_slow_call_is_late_and_carried_out_at_once() {
    let sim = Sim::start().await;
    fault(&sim, json!({ "kind": "slow", "ms": 60_000 })).await;
    let slow = sim.stable(false);
    let seen = async {
        while sim.app().await["stable_fetches"] == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = slow => panic!("{answer} was not slow"),
        () = seen => {}
    }
}

#[tokio::test]
async fn a_slow_call_may_be_carried_out_late_too() {
    let sim = Sim::start().await;
    let slow = json!({ "kind": "slow", "ms": 1, "performed": false, "count": 1 });
    fault(&sim, slow).await;
    assert_eq!(code(&sim.stable(false).await), 0);
    let records = sim.control("GET", "/requests", Value::Null).await;
    assert_eq!(records[0]["fault"], "slow");
    assert_eq!(records[0]["performed"], true);
}

#[tokio::test]
async fn the_record_is_filtered_and_paged() {
    let sim = Sim::start().await;
    let token = token(&sim.stable(false).await);
    sim.classic().await;
    sim.try_token(&token).await;
    sim.try_token("nonsense").await;
    let show = async |query: &str| {
        let path = format!("/requests?{query}");
        let records = sim.control("GET", &path, Value::Null);
        let records = records.await;
        let paths = records.as_array().unwrap().iter();
        paths
            .map(|record| text(record, "path").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(show("").await.len(), 4);
    assert_eq!(show(&format!("app_id={APP}")).await.len(), 3);
    assert_eq!(show("path=/cgi-bin/token").await, ["/cgi-bin/token"]);
    assert_eq!(show("after=1&limit=1").await, ["/cgi-bin/token"]);
    let records = sim.control("GET", "/requests?after=2", Value::Null).await;
    assert_eq!(records[0]["token"], "stable#1");
    assert_eq!(records[1]["token"], "unknown");
    assert_eq!(records[1]["errcode"], 40014);
    sim.control("DELETE", "/requests", Value::Null).await;
    assert!(show("").await.is_empty());
}

#[tokio::test]
async fn the_control_surface_says_what_is_wrong() {
    let sim = Sim::start().await;
    let ask =
        |method: Method, path: &str, body: Value| sim.server.control().ask(method, path, &body);
    for (path, body) in [
        ("/apps", json!({ "app_id": APP })),
        ("/apps", json!({ "app_id": APP, "secret": "" })),
        (
            "/apps",
            json!({ "app_id": APP, "secret": SECRET, "token_lifetime_seconds": 0 }),
        ),
        (
            "/apps",
            json!({ "app_id": APP, "secret": SECRET, "typo": 0 }),
        ),
        ("/faults", json!({ "kind": "slow" })),
        ("/faults", json!({ "kind": "errcode", "errcode": 0 })),
        ("/faults", json!({ "kind": "earthquake" })),
        ("/clock", json!({ "advance_ms": -1 })),
        ("/clock", json!({ "advance_ms": u64::MAX })),
    ] {
        let error = ask(Method::POST, path, body).unwrap_err();
        assert_eq!(error.status, 400, "{path} {error}");
    }
    let error = ask(Method::GET, "/apps/wx1234", Value::Null).unwrap_err();
    assert_eq!(error.status, 404);
    let help = sim.http.get(sim.url("/_sim")).send().await.unwrap();
    assert!(help.text().await.unwrap().contains("/_sim/clock"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read_on() {
    let sim = Sim::start().await;
    let body = vec![b' '; (12 << 20) + 1];
    let request = sim.http.post(sim.url("/cgi-bin/stable_token")).body(body);
    // The connection may break before all of it was sent.
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(sim.app().await["refused_fetches"], 0);
}

#[tokio::test]
async fn stopping_frees_the_port() {
    let sim = Sim::start().await;
    sim.stable(false).await;
    let addr = sim.server.addr();
    sim.server.stop().await;
    tokio::net::TcpListener::bind(addr).await.unwrap();
}
