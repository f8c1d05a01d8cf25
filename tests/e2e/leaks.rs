//! Nothing that a host prints, answers or keeps shows a secret, a token, a ticket or a key, not even at
//! the most talkative log level and when everything goes wrong.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::any;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::{secrets, wait};

use crate::office;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: nothing_shows_a_secret;
}

/// What a person writes in the hope that it becomes a secret on its way.
const WRITTEN: &str = "{{secret:api-key}}";

/// A tenant's system that says what key it was shown.
struct BackEnd {
    url: String,
    keys: Arc<Mutex<Vec<String>>>,
}

impl BackEnd {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
        let keys = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&keys);
        let echo = async move |headers: HeaderMap| {
            let key = headers.get("authorization").cloned();
            let key = key.and_then(|key| key.to_str().map(str::to_owned).ok());
            let key = key.unwrap_or_default();
            shown.lock().push(key.clone());
            format!("you said {key}")
        };
        let router = Router::new().route("/echo", any(echo));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { url, keys })
    }
}

async fn nothing_shows_a_secret(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let back_end = BackEnd::start().await?;
    let site = stage.site_with(&api).await?;
    let site = site
        .with("LOG_LEVEL", "trace")
        .with("EGRESS_ALLOW_PRIVATE", r#"["127.0.0.1/32"]"#);
    let host = site.host().await?;
    let secret = secrets::fresh(32)?;
    let bound = json!({"value": secret, "origins": [back_end.url]});
    let bundle = Bundle::of(Plugin::Rogue.component()?).secrets(json!({"api-key": bound}));
    let settings = json!({
        "grants": {"api": ["/cgi-bin/"], "egress": [back_end.url]},
        "jssdk_origins": ["https://shop.example"],
    });
    let tenant = host.admin().add_tenant().await?;
    let account = office::admit(&stage, &host, &api, &tenant, (&json!({}), &settings)).await?;
    host.admin().deploy(&account, &bundle).await?;
    let key = office::key(&host, &tenant).await?;
    let run = Run {
        api: &api,
        host: &host,
        account: &account,
        key: &key,
    };
    run.plugins(&back_end).await?;
    ensure!(
        back_end
            .keys
            .lock()
            .iter()
            .any(|shown| shown.contains(&secret)),
        "the secret was not filled in"
    );
    ensure!(
        back_end.keys.lock().contains(&WRITTEN.to_owned()),
        "what a person wrote did not leave as it was written"
    );
    run.own_systems().await?;
    run.refusals().await?;
    run.faults().await?;
    run.wrong_input(&tenant).await?;
    run.lost_secret().await?;

    // Everything that exists by now, and everything that was said and kept.
    let given = api.secrets()?;
    ensure!(given.len() >= 3, "only {} secrets", given.len());
    for secret in &given {
        secrets::remember(secret);
    }
    run.look_everywhere(&tenant).await?;
    site.expect_sealed_at_rest().await?;
    stage.expect_sealed_in_redis(&site).await?;
    host.stop().await
}

struct Run<'a> {
    api: &'a WechatApi,
    host: &'a Host,
    account: &'a Account,
    key: &'a str,
}

impl Run<'_> {
    /// A plugin uses what it has, well and badly.
    async fn plugins(&self, back_end: &BackEnd) -> Result<()> {
        let user = new_user()?;
        for text in [
            "hello",
            "secret api-key",
            "quota /cgi-bin/message/custom/send",
            "user oNobodyThatAnybodyKnows0000",
            "menu",
            "api /cgi-bin/user/get",
            "api /cgi-bin/token",
            "api-denied",
            "fetch-metadata",
            "send good news",
            "contact oNobodyThatAnybodyKnows0000",
            "panic",
            "error",
        ] {
            self.account.say(self.host, &user, text).await?;
        }
        let echo = format!("{}/echo", back_end.url);
        for text in [
            format!("fetch {echo}"),
            format!("fetch-secret {echo}"),
            format!("pass-on {echo} {WRITTEN}"),
        ] {
            let answer = self.account.ask(self.host, &user, &text).await?;
            secrets::expect_none("a plugin's answer", &answer)?;
        }
        Ok(())
    }

    /// The tenant's own systems get what they are entitled to.
    async fn own_systems(&self) -> Result<()> {
        let app_id = self.account.app_id();
        for path in [
            format!("/wechat/{app_id}/cgi-bin/get_api_domain_ip"),
            format!("/wechat/{app_id}/cgi-bin/no/such/call"),
            format!("/api/v1/accounts/{app_id}/jssdk-signature?url=https%3A%2F%2Fshop.example%2F"),
            format!("/api/v1/accounts/{app_id}/jssdk-signature?url=https%3A%2F%2Fevil.example%2F"),
        ] {
            self.get(&path, self.key).await?;
        }
        // This one is there to give the token away.
        let path = format!("/api/v1/accounts/{app_id}/access-token");
        let url = format!("{}{path}", self.host.base());
        let given = self
            .host
            .http()
            .get(url)
            .bearer_auth(self.key)
            .send()
            .await?;
        ensure!(given.status() == 200, "{path}: {}", given.status());
        let given: Value = given.json().await?;
        let token = given["access_token"].as_str().context("a token")?;
        secrets::remember(token);
        Ok(())
    }

    /// Others, and those who ask for too much, are turned away.
    async fn refusals(&self) -> Result<()> {
        let app_id = self.account.app_id();
        let forged = format!("wxk_{}", secrets::fresh_hex(32)?);
        for path in [
            format!("/wechat/{app_id}/cgi-bin/get_api_domain_ip"),
            format!("/wechat/{app_id}/cgi-bin/token"),
            format!("/wechat/{app_id}/cgi-bin/token?secret={forged}&grant_type=token"),
            format!("/wechat/{app_id}/cgi-bin/get_api_domain_ip?access_token={forged}"),
            "/wechat/wx0000000000000000/cgi-bin/get_api_domain_ip".to_owned(),
            format!("/api/v1/accounts/{app_id}/access-token"),
            "/api/v1/keys".to_owned(),
        ] {
            let status = self.get(&path, &forged).await?;
            ensure!((400..500).contains(&status), "{path} answered {status}");
            // Its own key opens these, and gets what it is entitled to: the token, or itself as one.
            if !path.ends_with("token") {
                self.get(&path, self.key).await?;
            }
        }
        Ok(())
    }

    /// WeChat fails in every way that it knows.
    async fn faults(&self) -> Result<()> {
        let user = new_user()?;
        for fault in [
            json!({"kind": "busy"}),
            json!({"kind": "drop"}),
            json!({"kind": "html-502"}),
            json!({"kind": "errcode", "errcode": 40001}),
            json!({"kind": "errcode", "errcode": 45009}),
            json!({"kind": "errcode", "errcode": 48001}),
        ] {
            self.api.fault(&fault)?;
            self.account
                .say(self.host, &user, "quota /cgi-bin/message/custom/send")
                .await?;
            let path = format!(
                "/wechat/{}/cgi-bin/get_api_domain_ip",
                self.account.app_id()
            );
            self.get(&path, self.key).await?;
            self.api.mend()?;
        }
        Ok(())
    }

    /// Secrets in the wrong places, and in the wrong form.
    async fn wrong_input(&self, tenant: &str) -> Result<()> {
        let account = format!("/api/v1/accounts/{}", self.account.app_id());
        let odd = || secrets::fresh(70);
        for (method, path, document) in [
            (Method::PATCH, &*account, json!({"secret": odd()?})),
            (Method::PATCH, &*account, json!({"secret": {"is": odd()?}})),
            (Method::PATCH, &*account, json!({"secrets": odd()?})),
            (
                Method::PATCH,
                &*account,
                json!({"token_line": 7, "secret": odd()?}),
            ),
            (
                Method::POST,
                "/api/v1/accounts",
                json!({"app_id": "wx", "token": odd()?}),
            ),
            (
                Method::POST,
                "/api/v1/keys",
                json!({"tenant_id": tenant, "grants": [], "key": odd()?}),
            ),
            (
                Method::POST,
                &format!("{account}/keys"),
                json!({"encoding_aes_key": odd()?}),
            ),
            (
                Method::POST,
                &format!("{account}/deployments"),
                json!({"component_base64": "AAAA", "secrets": {"a b": odd()?}}),
            ),
        ] {
            let (status, answer) = self
                .host
                .admin()
                .try_call(method, path, Some(&document))
                .await?;
            ensure!((400..500).contains(&status), "{path}: {status}: {answer}");
        }
        Ok(())
    }

    /// The AppSecret was reset at WeChat's, and nobody has told the host.
    async fn lost_secret(&self) -> Result<()> {
        let reset = json!({"secret": secrets::fresh_hex(16)?});
        let app = format!("/apps/{}", self.account.app_id());
        self.api.ask(Method::PATCH, &app, &reset)?;
        let user = new_user()?;
        let path = format!("/api/v1/accounts/{}", self.account.app_id());
        wait::until("an account that needs its owner", wait::SOON, async || {
            self.account
                .say(self.host, &user, "quota /cgi-bin/message/custom/send")
                .await?;
            let shown = self.host.admin().get(&path).await?;
            Ok(shown["attention"].is_object().then_some(()))
        })
        .await
    }

    /// Every document of the admin API, and what the host has printed.
    async fn look_everywhere(&self, tenant: &str) -> Result<()> {
        let account = format!("/api/v1/accounts/{}", self.account.app_id());
        // Records and the audit are written behind.
        self.host
            .admin()
            .calls_once_written(self.account, 10)
            .await?;
        for path in [
            "/api/v1/tenants",
            "/api/v1/accounts",
            "/api/v1/keys",
            &format!("/api/v1/keys?tenant={tenant}"),
            "/api/v1/audit",
            &account,
            &format!("{account}/calls?limit=100"),
            &format!("{account}/deployments"),
            &format!("{account}/contacts"),
            &format!("{account}/outbox"),
        ] {
            self.host.admin().get(path).await?;
        }
        let (status, metrics) = self.host.get("/metrics").await?;
        ensure!(status == 200, "{metrics}");
        let printed = self.host.printed()?;
        ensure!(printed.contains("\"TRACE\""), "the log is not talkative");
        secrets::expect_none("the log", &printed)
    }

    async fn get(&self, path: &str, key: &str) -> Result<u16> {
        let url = format!("{}{path}", self.host.base());
        let request = self.host.http().get(url).bearer_auth(key);
        let response = request.timeout(Duration::from_secs(20)).send().await?;
        let status = response.status().as_u16();
        secrets::expect_none(path, &response.text().await?)?;
        Ok(status)
    }
}
