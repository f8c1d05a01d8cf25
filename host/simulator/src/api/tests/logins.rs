//! Web authorisation: the page, codes that are good once, and a user's own tokens.

use reqwest::header::LOCATION;
use serde_json::{Value, json};

use super::{APP, SECRET, Sim, code, text};

const DOMAIN: &str = "login.shop.example";
const BACK: &str = "https://login.shop.example/back?a=1";
const COMPONENT: &str = "wx00000000000000c1";

fn query<'a>(more: &'a [(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut query = vec![
        ("appid", APP),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("scope", "snsapi_base"),
        ("state", "s1"),
    ];
    for (name, value) in more {
        match query.iter_mut().find(|(given, _)| given == name) {
            Some(found) => found.1 = value,
            None => query.push((name, value)),
        }
    }
    query
}

impl Sim {
    async fn with_domain() -> Self {
        let sim = Self::start().await;
        sim.change(json!({ "oauth_domain": DOMAIN })).await;
        sim
    }

    async fn page(&self, query: &[(&str, &str)]) -> String {
        let url = self.url("/connect/oauth2/authorize");
        let page = self.http.get(url).query(query).send().await.unwrap();
        assert_eq!(page.status(), 200);
        page.text().await.unwrap()
    }

    /// Where a user who agrees, or does not, is led back to.
    async fn led(&self, query: &[(&str, &str)], open_id: &str, consent: &str) -> String {
        let none = reqwest::redirect::Policy::none();
        let http = reqwest::Client::builder().no_proxy().redirect(none);
        let mut form = query.to_vec();
        form.extend([("open_id", open_id), ("consent", consent)]);
        let form: reqwest::Url = reqwest::Url::parse_with_params("http://x/", form).unwrap();
        let request = http.build().unwrap().post(self.url("/_sim/authorize"));
        let body = form.query().unwrap().to_owned();
        let led = request.body(body).send().await.unwrap();
        assert_eq!(led.status(), 302, "{:?}", led.text().await);
        led.headers()[LOCATION].to_str().unwrap().to_owned()
    }

    async fn come_back(&self, query: &[(&str, &str)], open_id: &str) -> String {
        let back = self.led(query, open_id, "allow").await;
        let (_, rest) = back.split_once("code=").unwrap();
        rest.split('&').next().unwrap().to_owned()
    }

    async fn exchange(&self, code: &str) -> Value {
        self.get(&format!(
            "/sns/oauth2/access_token?appid={APP}&secret={SECRET}&code={code}\
             &grant_type=authorization_code"
        ))
        .await
    }

    async fn renew(&self, refresh_token: &str) -> Value {
        self.get(&format!(
            "/sns/oauth2/refresh_token?appid={APP}&grant_type=refresh_token\
             &refresh_token={refresh_token}"
        ))
        .await
    }

    async fn user_info(&self, token: &str, open_id: &str) -> Value {
        let query = format!("access_token={token}&openid={open_id}&lang=zh_CN");
        self.get(&format!("/sns/userinfo?{query}")).await
    }
}

#[tokio::test]
async fn an_address_that_wechat_would_not_show_leads_nowhere() {
    let sim = Sim::with_domain().await;
    assert!(sim.page(&query(&[])).await.contains("微信登录"));
    for (spoilt, code) in [
        (("redirect_uri", "https://shop.example/back"), "10003"),
        (
            ("redirect_uri", "https://login.shop.example:8443/back"),
            "10003",
        ),
        (
            ("redirect_uri", "https://a.login.shop.example/back"),
            "10003",
        ),
        (("scope", "snsapi_login"), "10005"),
        (("state", "a-b"), "10013"),
        (("appid", "wx00000000000000ff"), "10012"),
        (("component_appid", COMPONENT), "10015"),
    ] {
        let page = sim.page(&query(&[spoilt])).await;
        assert!(page.contains(code), "{spoilt:?}: {page}");
    }
    let mut disordered = query(&[]);
    disordered.swap(0, 1);
    assert!(sim.page(&disordered).await.contains("参数顺序错误"));
    let without = &query(&[])[..4];
    assert!(sim.page(without).await.contains("10013"));
    sim.change(json!({ "kind": "subscription" })).await;
    assert!(sim.page(&query(&[])).await.contains("10005"));
    sim.change(json!({ "kind": "service", "oauth_domain": null }))
        .await;
    assert!(sim.page(&query(&[])).await.contains("10003"));
}

#[tokio::test]
async fn a_code_is_good_once_and_for_five_minutes() {
    let sim = Sim::with_domain().await;
    assert_eq!(
        sim.led(&query(&[]), "oA", "refuse").await,
        format!("{BACK}&state=s1")
    );
    let code_of = async || sim.come_back(&query(&[]), "oA").await;
    let first = code_of().await;
    assert_eq!(first.len(), 32);
    let granted = sim.exchange(&first).await;
    assert_eq!(text(&granted, "openid"), "oA");
    assert_eq!(text(&granted, "scope"), "snsapi_base");
    assert!(granted.get("is_snapshotuser").is_none());
    let again = sim.exchange(&first).await;
    assert_eq!(code(&again), 40163);
    assert!(text(&again, "errmsg").starts_with("code been used, rid: "));
    assert_eq!(code(&sim.exchange("none").await), 40029);
    let late = code_of().await;
    sim.advance(301).await;
    assert_eq!(code(&sim.exchange(&late).await), 42003);
    let wrong = format!(
        "/sns/oauth2/access_token?appid={APP}&secret=ffffffffffffffffffffffffffffffff&code=x\
         &grant_type=authorization_code"
    );
    assert_eq!(code(&sim.get(&wrong).await), 40001);
}

#[tokio::test]
async fn tokens_open_only_what_they_are_for() {
    let sim = Sim::with_domain().await;
    let follower = json!({ "open_id": "oA", "union_id": "u1" });
    sim.stage("followers", json!({ "followers": [follower] }))
        .await;
    let base = sim.come_back(&query(&[]), "oA").await;
    let base = sim.exchange(&base).await;
    assert!(base.get("unionid").is_none());
    let token = text(&base, "access_token");
    assert_eq!(code(&sim.user_info(token, "oA").await), 48001);
    assert_eq!(sim.try_token(token).await, 40001);
    let global = super::token(&sim.classic().await);
    assert_eq!(code(&sim.user_info(&global, "oA").await), 40001);

    let wanted = [("scope", "snsapi_userinfo")];
    let full = sim.come_back(&query(&wanted), "oA").await;
    let full = sim.exchange(&full).await;
    assert_eq!(text(&full, "unionid"), "u1");
    let token = text(&full, "access_token").to_owned();
    assert_eq!(code(&sim.user_info(&token, "oB").await), 40003);
    assert_eq!(text(&sim.user_info(&token, "oA").await, "unionid"), "u1");

    // What lives is extended; what has ended is replaced; after thirty days nothing is.
    let refresh_token = text(&full, "refresh_token").to_owned();
    let same = sim.renew(&refresh_token).await;
    assert_eq!(text(&same, "access_token"), token);
    sim.advance(7201).await;
    assert_eq!(code(&sim.user_info(&token, "oA").await), 42001);
    let next = sim.renew(&refresh_token).await;
    assert_ne!(text(&next, "access_token"), token);
    assert_eq!(code(&sim.user_info(&token, "oA").await), 40001);
    assert_eq!(code(&sim.renew("none").await), 40030);
    sim.advance(30 * 24 * 3600).await;
    assert_eq!(code(&sim.renew(&refresh_token).await), 42002);
}

#[tokio::test]
async fn who_only_looks_at_a_page_is_somebody_else() {
    let sim = Sim::with_domain().await;
    let wanted = [("scope", "snsapi_userinfo")];
    let back = sim.led(&query(&wanted), "oA", "snapshot").await;
    let (_, rest) = back.split_once("code=").unwrap();
    let granted = sim.exchange(rest.split('&').next().unwrap()).await;
    assert_eq!(granted["is_snapshotuser"], 1);
    assert_ne!(text(&granted, "openid"), "oA");
}

#[tokio::test]
async fn a_platform_exchanges_what_it_has_asked_for() {
    let sim = Sim::with_component(json!({ "oauth_domain": "$APPID$.host.example" })).await;
    sim.authorized(json!({})).await;
    let back = format!("https://{APP}.host.example/back");
    let wanted = [("redirect_uri", &*back), ("component_appid", COMPONENT)];
    let led = sim.led(&query(&wanted), "oA", "allow").await;
    assert!(led.ends_with(&format!("&state=s1&appid={APP}")), "{led}");
    let (_, rest) = led.split_once("code=").unwrap();
    let brought = rest.split('&').next().unwrap();
    // Not by the account's own secret.
    assert_eq!(code(&sim.exchange(brought).await), 40029);
    let token = sim.component_token().await;
    let path = |name: &str, app_id: &str| {
        format!(
            "/sns/oauth2/component/access_token?appid={app_id}&code={brought}\
             &grant_type=authorization_code&component_appid={COMPONENT}&{name}={token}"
        )
    };
    let name = "component_access_token";
    assert_eq!(code(&sim.get(&path("access_token", APP)).await), 41001);
    let foreign = "wx00000000000000ff";
    assert_eq!(code(&sim.get(&path(name, foreign)).await), 61003);
    let granted = sim.get(&path(name, APP)).await;
    assert_eq!(text(&granted, "openid"), "oA");
    assert_eq!(code(&sim.get(&path(name, APP)).await), 40163);
    // Nor is the refresh token good without the platform.
    let refresh_token = text(&granted, "refresh_token");
    assert_eq!(code(&sim.renew(refresh_token).await), 40030);
    let renewed = sim
        .get(&format!(
            "/sns/oauth2/component/refresh_token?appid={APP}&grant_type=refresh_token\
             &component_appid={COMPONENT}&{name}={token}&refresh_token={refresh_token}"
        ))
        .await;
    assert_eq!(text(&renewed, "openid"), "oA");
}
