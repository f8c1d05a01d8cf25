//! Third-party platforms: codes, tokens and tickets, each for its own calls only.

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};
use wxhost_wechat::id::{AppId, OriginalId};

use super::{APP, SECRET, Sim};
use crate::SimulatedComponent;

const COMPONENT: &str = "wx00000000000000c1";

/// A platform's server that takes everything; its address.
async fn taker() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/events", post(async || "success"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

impl Sim {
    pub(super) async fn with_component(more: Value) -> Self {
        let sim = Self::start().await;
        let mut settings = json!({
            "app_id": COMPONENT, "secret": SECRET, "token": "token123",
            "aes_key": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
            "event_url": "http://127.0.0.1:1/events", "message_url": "http://127.0.0.1:1/$APPID$",
        });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        sim.control("POST", "/components", settings).await;
        sim
    }

    /// What happens to the platform, without a push.
    async fn happens(&self, what: &str, mut body: Value) -> Value {
        body["push"] = false.into();
        let path = format!("/components/{COMPONENT}/{what}");
        self.control("POST", &path, body).await
    }

    pub(super) async fn authorized(&self, more: Value) -> String {
        let mut agreement = json!({"app_id": APP, "original_id": "gh_1", "nick_name": "茶馆"});
        agreement
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let told = self.happens("authorize", agreement).await;
        told["auth_code"].as_str().unwrap().to_owned()
    }

    pub(super) async fn component_token(&self) -> String {
        let ticket = self.happens("ticket", json!({})).await["ticket"].clone();
        let answer = self.ask_token(&ticket).await;
        answer["component_access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn ask_token(&self, ticket: &Value) -> Value {
        let body = json!({"component_appid": COMPONENT, "component_appsecret": SECRET,
            "component_verify_ticket": ticket});
        self.post("/cgi-bin/component/api_component_token", &body)
            .await
    }

    /// A call of the platform's.
    async fn component(&self, token: &str, call: &str, mut body: Value) -> Value {
        body["component_appid"] = COMPONENT.into();
        let path = format!("/cgi-bin/component/{call}?access_token={token}");
        self.post(&path, &body).await
    }

    async fn query(&self, token: &str, code: &str) -> Value {
        let body = json!({"authorization_code": code});
        let answer = self.component(token, "api_query_auth", body).await;
        match answer.get("authorization_info") {
            Some(info) => info.clone(),
            None => answer,
        }
    }
}

#[tokio::test]
async fn two_tickets_are_good_for_twelve_hours() {
    let sim = Sim::with_component(json!({})).await;
    let mut tickets = Vec::new();
    for _ in 0..3 {
        tickets.push(sim.happens("ticket", json!({})).await["ticket"].clone());
    }
    for (ticket, code) in [
        (tickets[2].clone(), None),
        (tickets[1].clone(), None),
        (tickets[0].clone(), Some(61005)),
        (json!("ticket@@@none"), Some(61006)),
    ] {
        let answer = sim.ask_token(&ticket).await;
        assert_eq!(answer["errcode"].as_i64(), code, "{answer}");
    }
    sim.control(
        "POST",
        "/clock",
        json!({"advance_ms": 12 * 3600 * 1000 + 1}),
    )
    .await;
    assert_eq!(sim.ask_token(&tickets[2]).await["errcode"], 61005);
    let wrong = json!({"component_appid": COMPONENT, "component_appsecret": "0000000000000000",
        "component_verify_ticket": tickets[2]});
    let answer = sim
        .post("/cgi-bin/component/api_component_token", &wrong)
        .await;
    assert_eq!(answer["errcode"], 40125, "{answer}");
}

#[tokio::test]
async fn a_code_is_exchanged_once_and_refresh_tokens_rotate() {
    let sim = Sim::with_component(json!({})).await;
    let token = sim.component_token().await;
    let code = sim.authorized(json!({})).await;
    // Nobody has exchanged it: the list knows no refresh token.
    let page = json!({"offset": 0, "count": 500});
    let listed = sim
        .component(&token, "api_get_authorizer_list", page.clone())
        .await;
    assert_eq!(listed["list"][0]["refresh_token"], "", "{listed}");
    let info = sim.query(&token, &code).await;
    assert_eq!(info["authorizer_appid"], APP, "{info}");
    assert_eq!(sim.query(&token, &code).await["errcode"], 61009);
    assert_eq!(sim.query(&token, "preauthcode@@@x").await["errcode"], 61009);

    let renew = async |refresh: &Value| {
        let body = json!({"authorizer_appid": APP, "authorizer_refresh_token": refresh});
        sim.component(&token, "api_authorizer_token", body).await
    };
    let first = &info["authorizer_refresh_token"];
    let renewed = renew(first).await;
    let second = &renewed["authorizer_refresh_token"];
    assert!(second.is_string() && second != first, "{renewed}");
    assert_eq!(renew(first).await["errcode"], 61023);
    let listed = sim.component(&token, "api_get_authorizer_list", page).await;
    assert_eq!(&listed["list"][0]["refresh_token"], second);

    // A late code, and one of a grant that has changed meanwhile.
    let code = sim.authorized(json!({"permission_sets": [1]})).await;
    assert_eq!(renew(second).await["errcode"], 61023, "another grant");
    sim.control("POST", "/clock", json!({"advance_ms": 601_000}))
        .await;
    assert_eq!(sim.query(&token, &code).await["errcode"], 61010);
    for (count, errcode) in [(0, Some(40170)), (500, None), (501, Some(40170))] {
        let page = json!({"offset": 0, "count": count});
        let answer = sim.component(&token, "api_get_authorizer_list", page).await;
        assert_eq!(answer["errcode"].as_i64(), errcode, "{answer}");
    }
}

#[tokio::test]
async fn a_token_opens_the_calls_of_its_kind_and_of_its_grant() {
    let sim = Sim::with_component(json!({"permission_sets": [1, 2]})).await;
    let component = sim.component_token().await;
    let code = sim.authorized(json!({})).await;
    let info = sim.query(&component, &code).await;
    let account = info["authorizer_access_token"].as_str().unwrap();
    let get = async |path: &str, token: &str| {
        sim.get(&format!("{path}?access_token={token}")).await["errcode"].as_i64()
    };
    assert_eq!(get("/cgi-bin/user/get", account).await, None);
    assert_eq!(get("/cgi-bin/menu/get", account).await, Some(61007));
    assert_eq!(get("/cgi-bin/user/get", &component).await, Some(61015));
    let wrong = sim
        .component(account, "api_create_preauthcode", json!({}))
        .await;
    assert_eq!(wrong["errcode"], 61014, "{wrong}");
    let classic =
        format!("/cgi-bin/token?grant_type=client_credential&appid={COMPONENT}&secret={SECRET}");
    assert_eq!(sim.get(&classic).await["errcode"], 61024);

    sim.happens("unauthorize", json!({"app_id": APP})).await;
    assert_eq!(get("/cgi-bin/user/get", account).await, Some(61003));
    let asked = json!({"authorizer_appid": APP});
    let told = sim
        .component(&component, "api_get_authorizer_info", asked)
        .await;
    assert_eq!(told["errcode"], 61003, "{told}");
}

#[tokio::test]
async fn options_need_their_set_and_a_value_of_theirs() {
    let sim = Sim::with_component(json!({"permission_sets": [1]})).await;
    let token = sim.component_token().await;
    sim.authorized(json!({})).await;
    for (name, value, errcode) in [
        ("voice_recognize", "1", 0),
        ("voice_recognize", "2", 61013),
        ("location_report", "1", 61007),
        ("nothing", "1", 61012),
    ] {
        let body = json!({"authorizer_appid": APP, "option_name": name, "option_value": value});
        let answer = sim
            .component(&token, "api_set_authorizer_option", body)
            .await;
        assert_eq!(answer["errcode"], errcode, "{name}: {answer}");
    }
    let body = json!({"authorizer_appid": APP, "option_name": "voice_recognize"});
    let option = sim
        .component(&token, "api_get_authorizer_option", body)
        .await;
    assert_eq!(option["option_value"], "1", "{option}");
}

#[tokio::test]
async fn events_are_sealed_for_the_platform_and_pages_lead_back() {
    let host = taker().await;
    let sim = Sim::with_component(json!({"event_url": format!("{host}/events")})).await;
    let id = AppId::parse(COMPONENT).unwrap();
    let told = sim
        .server
        .control()
        .tell(&id, "ticket", &json!({}))
        .await
        .unwrap();
    assert_eq!(told["push"]["ok"], true, "{told}");
    let token = sim.component_token().await;
    let code = sim
        .component(&token, "api_create_preauthcode", json!({}))
        .await;
    let code = code["pre_auth_code"].as_str().unwrap().to_owned();
    for (path, pre_auth_code, shows) in [
        ("/cgi-bin/componentloginpage", &*code, true),
        ("/wxaopen/safe/bindcomponent", &*code, true),
        ("/safe/bindcomponent", "preauthcode@@@x", false),
    ] {
        let query = [
            ("component_appid", COMPONENT),
            ("pre_auth_code", pre_auth_code),
            ("redirect_uri", "https://host/back?a=<b>"),
            ("auth_type", "1"),
        ];
        let page = sim
            .http
            .get(sim.url(path))
            .query(&query)
            .send()
            .await
            .unwrap();
        let page = page.text().await.unwrap();
        assert_eq!(page.contains(APP), shows, "{page}");
        assert!(!page.contains("<b>"), "{page}");
    }
}

#[test]
fn an_account_by_a_platform_is_sealed_for_the_platform() {
    let stage = crate::SeededEnvironment::new(super::START, 1);
    let component = SimulatedComponent::register("http://host/", &stage);
    let app_id = AppId::parse(APP).unwrap();
    let account = component.account(&app_id, &OriginalId::parse("gh_1").unwrap());
    let id = &component.app_id;
    assert_eq!(
        account.callback_url,
        format!("http://host/component/{id}/callback/{APP}")
    );
    assert_eq!((account.receive_id(), &account.app_id), (id, &app_id));
}
