//! Tenants' systems from outside, with a WeChat that keeps what it is sent.

mod exports;
mod forwards;
mod wechat;

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use wxhost_wechat::secret::AppSecret;

use self::wechat::WeChat;
use super::*;
use crate::{
    accounts::{AccountChange, Accounts, NewAccount, NewTenant, Status},
    audit::Author,
    credentials::CredentialChange,
    db::{
        self,
        audit::{AuditFilter, AuditRow},
        keys::KeyRow,
        testing::{TestDatabase, sqlite},
    },
    keys::{KeyGrants, NewKey, NewTexts},
    services::testing::{TestServices, services},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A host with tenants `acme` (accounts `wx01`, and `wx02` without a secret) and `other` (`wx03`).
struct Host {
    router: Router,
    services: TestServices,
    wechat: WeChat,
    stop: CancellationToken,
    writer: JoinHandle<()>,
    db: TestDatabase,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn expect(&self, status: u16, code: &str) {
        let error = &self.json()["error"];
        assert_eq!(self.status, status, "{error}");
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(self.headers["x-wxhost-error"], code);
        assert_eq!(
            self.headers["x-request-id"],
            error["request_id"].as_str().unwrap()
        );
    }
}

impl Host {
    async fn start() -> Self {
        let wechat = WeChat::start().await;
        let base = wechat.base.clone();
        Self::with(wechat, &base).await
    }

    /// A host whose WeChat is at `base`.
    async fn with(wechat: WeChat, base: &str) -> Self {
        let db = sqlite().await;
        let (services, writer) = services(&db, base).await;
        fill(&services.accounts).await;
        let stop = CancellationToken::new();
        Self {
            router: routes(Arc::new(LoginLane::new(
                Arc::clone(&services),
                "http://open",
                Duration::ZERO,
            ))),
            services,
            wechat,
            writer: tokio::spawn(writer.run(stop.clone())),
            stop,
            db,
        }
    }

    /// A key of `acme` that may do this, for `wx01` and `wx02`.
    async fn key(&self, grants: &[&str]) -> String {
        self.key_with_rate(grants, 1000).await
    }

    async fn key_with_rate(&self, grants: &[&str], rate_per_minute: u32) -> String {
        let key = NewKey {
            tenant_id: "acme".into(),
            name: String::new(),
            app_ids: None,
            grants: KeyGrants::parse(grants).unwrap(),
            rate_per_minute,
        };
        let (_, texts) = self.made(key).await;
        texts.key.expose().to_owned()
    }

    async fn made(&self, key: NewKey) -> (KeyRow, NewTexts) {
        let (keys, by) = (&self.services.api_keys, Author::admin("r"));
        let made = keys.add(key, (&*self.services.keys, &by)).await.unwrap();
        keys.refresh().await.unwrap();
        made
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, 1 << 27).await.unwrap(),
        }
    }

    async fn get(&self, path: &str, key: &str) -> Answer {
        self.ask(Method::GET, path, key).await
    }

    async fn ask(&self, method: Method, path: &str, key: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .body(Body::from(body));
        self.send(request.unwrap()).await
    }

    /// Everything that the audit holds of these requests, oldest first.
    async fn audit(self) -> Vec<AuditRow> {
        self.stop.cancel();
        self.writer.await.unwrap();
        let all = AuditFilter {
            limit: 200,
            ..AuditFilter::default()
        };
        let mut entries = db::audit::list(&self.db, &all).await.unwrap();
        entries.retain(|entry| entry.actor != "admin");
        entries.sort_by_key(|entry| (entry.created_at, entry.id.clone()));
        entries
    }
}

async fn fill(accounts: &Accounts) {
    let by = Author::admin("r");
    for id in ["acme", "other"] {
        let tenant = NewTenant::plain(id);
        accounts.add_tenant(tenant, &by).await.unwrap();
    }
    let secret = || Some(Some(AppSecret::parse(SECRET).unwrap()));
    for (app_id, tenant_id, secret) in [
        ("wx01", "acme", secret()),
        ("wx02", "acme", None),
        ("wx03", "other", secret()),
    ] {
        let account = NewAccount {
            tenant_id: tenant_id.into(),
            credentials: CredentialChange {
                secret,
                jssdk_origins: Some(vec![
                    "https://shop.example".into(),
                    "http://shop.example:8080".into(),
                ]),
                ..CredentialChange::default()
            },
            ..NewAccount::plain(app_id)
        };
        accounts.add_account(account, &by).await.unwrap();
    }
    accounts.refresh().await.unwrap();
}

#[tokio::test]
async fn every_described_route_wants_a_key() {
    let host = Host::start().await;
    let document = serde_json::to_value(document()).unwrap();
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{app_id}", "wx01");
        for method in operations.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            for key in ["", "wxk_", "wrong", &format!("wxk_{}", "0".repeat(64))] {
                let answer = host.ask(method.clone(), &path, key).await;
                answer.expect(401, "unauthorized");
            }
            routes += 1;
        }
    }
    assert_eq!(routes, 26);
    assert!(host.wechat.seen().is_empty());
    let entries = host.audit().await;
    assert!(!entries.is_empty() && entries.iter().all(|entry| entry.action == "sign-in"));
}

#[tokio::test]
async fn a_key_that_asks_too_often_hears_which_limit_and_when_to_come_back() {
    let host = Host::start().await;
    let key = host.key_with_rate(&["access-token"], 2).await;
    let path = "/api/v1/accounts/wx01/access-token";
    for _ in 0..2 {
        assert_eq!(host.get(path, &key).await.status, 200);
    }
    let refused = host.get(path, &key).await;
    refused.expect(429, "rate-limited");
    let message = refused.json()["error"]["message"].to_string();
    assert!(
        message.contains("2 requests a minute (rate_per_minute)"),
        "{message}"
    );
    let wait: u32 = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let other = host.key(&["access-token"]).await;
    assert_eq!(host.get(path, &other).await.status, 200);
}

/// An account that is nobody's must not be told from one that is another tenant's.
#[tokio::test]
async fn nothing_tells_whether_another_tenants_account_exists() {
    let host = Host::start().await;
    let key = host
        .key(&["access-token", "jssdk-signature", "forward", "jsapi-ticket"])
        .await;
    for path in [
        "/api/v1/accounts/{}/access-token",
        "/api/v1/accounts/{}/jssdk-signature?url=https://shop.example/",
        "/wechat/{}/cgi-bin/user/info",
        "/wechat/{}/cgi-bin/token",
        "/wechat/{}/cgi-bin/ticket/getticket?type=jsapi",
        "/wechat/{}/sns/userinfo",
    ] {
        let mut answers = Vec::new();
        for app_id in ["wx03", "wx09", "none"] {
            let answer = host.get(&path.replace("{}", app_id), &key).await;
            answer.expect(404, "unknown-account");
            answers.push(answer.json()["error"]["message"].clone());
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
    }
    assert!(host.wechat.seen().is_empty());
}

#[tokio::test]
async fn a_key_names_the_accounts_that_it_reaches() {
    let host = Host::start().await;
    let key = NewKey {
        tenant_id: "acme".into(),
        name: String::new(),
        app_ids: Some(vec!["wx02".into()]),
        grants: KeyGrants::parse(["access-token"]).unwrap(),
        rate_per_minute: 10,
    };
    let (row, NewTexts { key: text, .. }) = host.made(key).await;
    let path = |app_id| format!("/api/v1/accounts/{app_id}/access-token");
    host.get(&path("wx01"), text.expose())
        .await
        .expect(404, "unknown-account");
    host.get(&path("wx02"), text.expose())
        .await
        .expect(409, "no-secret");

    let disabled = AccountChange {
        status: Some(Status::Disabled),
        ..AccountChange::default()
    };
    host.services
        .accounts
        .change_account("wx02", disabled, &Author::admin("r"))
        .await
        .unwrap();
    host.services.accounts.refresh().await.unwrap();
    host.get(&path("wx02"), text.expose())
        .await
        .expect(403, "account-disabled");

    host.services
        .api_keys
        .revoke(&row.id, &Author::admin("r"))
        .await
        .unwrap();
    host.services.api_keys.refresh().await.unwrap();
    host.get(&path("wx02"), text.expose())
        .await
        .expect(401, "unauthorized");
}
