//! The API side over real HTTP, on a stage whose clock the control surface moves.

mod faults;
mod quota;
mod tokens;

mod components;
mod content;
mod customer;
mod logins;
mod notices;
mod outreach;
mod people;
mod reviews;
mod typed;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::SeededEnvironment;
use crate::api::{ApiServer, Settings};

/// 2026-03-02T02:00:00Z, 10:00 in Beijing.
const START: Duration = Duration::from_secs(1_772_416_800);
const APP: &str = "wx00000000000000a1";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A pretend WeChat with one app, and a client of it.
struct Sim {
    server: ApiServer,
    http: reqwest::Client,
}

impl Sim {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = ApiServer::start(Settings {
            environment: Arc::new(SeededEnvironment::new(START, 7)),
            ..Settings::default()
        });
        let sim = Self {
            server: server.await.unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        let app = json!({ "app_id": APP, "secret": SECRET });
        sim.control("POST", "/apps", app).await;
        sim
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server.url())
    }

    /// The control surface, which must agree.
    async fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self
            .http
            .request(method, self.url(&format!("/_sim{path}")))
            .json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn advance(&self, seconds: u64) {
        let step = json!({ "advance_ms": seconds * 1000 });
        self.control("POST", "/clock", step).await;
    }

    async fn change(&self, settings: Value) -> Value {
        self.control("PATCH", &format!("/apps/{APP}"), settings)
            .await
    }

    async fn app(&self) -> Value {
        self.control("GET", &format!("/apps/{APP}"), Value::Null)
            .await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn post_text(&self, path: &str, body: impl Into<String>) -> Value {
        let request = self.http.post(self.url(path)).body(body.into());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.post_text(path, body.to_string()).await
    }

    async fn classic(&self) -> Value {
        self.get(&format!(
            "/cgi-bin/token?grant_type=client_credential&appid={APP}&secret={SECRET}"
        ))
        .await
    }

    async fn stable(&self, force: bool) -> Value {
        let body = json!({
            "grant_type": "client_credential",
            "appid": APP,
            "secret": SECRET,
            "force_refresh": force,
        });
        self.post("/cgi-bin/stable_token", &body).await
    }

    /// A token's worth of access: makes paths into paths with a fresh stable token.
    async fn open(&self) -> impl Fn(&str) -> String + use<> {
        let token = token(&self.stable(false).await);
        move |path: &str| format!("{path}?access_token={token}")
    }

    /// Puts something into the app by the control surface.
    async fn stage(&self, what: &str, body: Value) -> Value {
        self.control("POST", &format!("/apps/{APP}/{what}"), body)
            .await
    }

    async fn does(&self, open_id: &str, kind: &str) {
        let action = json!({ "open_id": open_id, "kind": kind });
        self.stage("interactions", action).await;
    }

    /// The errcode that a customer-service message gets.
    async fn say(&self, open_id: &str, kind: &str, content: Value) -> i64 {
        let path = self.open().await("/cgi-bin/message/custom/send");
        let mut body = json!({ "touser": open_id, "msgtype": kind });
        body[kind] = content;
        code(&self.post(&path, &body).await)
    }

    /// The errcode that a business call with this token gets; 0 where it is carried out.
    async fn try_token(&self, token: &str) -> i64 {
        let path = format!("/cgi-bin/getcallbackip?access_token={token}");
        code(&self.get(&path).await)
    }
}

fn code(answer: &Value) -> i64 {
    answer
        .get("errcode")
        .map_or(0, |code| code.as_i64().unwrap())
}

fn token(answer: &Value) -> String {
    answer["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("no token in {answer}"))
        .to_owned()
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}
