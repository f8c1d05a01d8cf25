//! WeChat's API, played by the simulator on a real port, as the only WeChat that a site's hosts know.
//!
//! What it gave out (AppSecrets, tokens, tickets) goes on the list of what no host may show when it ends.

use std::collections::HashMap;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_simulator::SimulatedComponent;
use wxhost_simulator::api::{ApiServer, Settings};
use wxhost_wechat::id::AppId;

use crate::account::Account;
use crate::{host, secrets};

/// A pretend API.
pub struct WechatApi {
    server: ApiServer,
    http: reqwest::Client,
    secrets: Mutex<HashMap<String, String>>,
}

impl WechatApi {
    /// Listens, and knows nobody.
    pub async fn start() -> Result<Self> {
        let server = ApiServer::start(Settings::default()).await?;
        let http = host::http_client()?;
        Ok(Self {
            server,
            http,
            secrets: Mutex::default(),
        })
    }

    /// What takes the place of `https://api.weixin.qq.com`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Makes an account known, with these settings beside its AppSecret; gives the secret.
    pub fn admit(&self, account: &Account, settings: &Value) -> Result<String> {
        let secret = secrets::fresh_hex(16)?;
        let mut app = settings.clone();
        app["app_id"] = account.app_id().into();
        app["secret"] = secret.as_str().into();
        self.ask(Method::POST, "/apps", &app)?;
        let app_id = account.app_id().to_owned();
        self.secrets.lock().insert(app_id, secret.clone());
        Ok(secret)
    }

    /// The AppSecret of an account that was admitted.
    pub fn secret_of(&self, account: &Account) -> Result<String> {
        let secrets = self.secrets.lock();
        let secret = secrets.get(account.app_id());
        secret.cloned().context("no such account")
    }

    /// Another system calls it, past every host: POST of a document, or GET without one.
    pub async fn call(&self, path_and_query: &str, document: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path_and_query}", self.url());
        let request = match document {
            None => self.http.get(url),
            Some(document) => self.http.post(url).json(document),
        };
        Ok(request.send().await?.json().await?)
    }

    /// What it knows and has counted of an account.
    pub fn app(&self, account: &Account) -> Result<Counts> {
        let path = format!("/apps/{}", account.app_id());
        Ok(Counts(self.ask(Method::GET, &path, &Value::Null)?))
    }

    /// Has a fault from now on.
    pub fn fault(&self, fault: &Value) -> Result<()> {
        self.ask(Method::POST, "/faults", fault)?;
        Ok(())
    }

    /// Has no fault any more.
    pub fn mend(&self) -> Result<()> {
        self.ask(Method::DELETE, "/faults", &Value::Null)?;
        Ok(())
    }

    /// Lets its time pass.
    pub fn advance_ms(&self, ms: u64) -> Result<()> {
        self.ask(Method::POST, "/clock", &json!({"advance_ms": ms}))?;
        Ok(())
    }

    /// All calls that it has got for an account and whose path begins so, in order.
    pub fn requests(&self, account: &Account, path: &str) -> Result<Vec<Value>> {
        let path = format!("/requests?app_id={}&path={path}", account.app_id());
        match self.ask(Method::GET, &path, &Value::Null)? {
            Value::Array(requests) => Ok(requests),
            other => anyhow::bail!("no list of requests: {other}"),
        }
    }

    /// Does what `/_sim` offers.
    pub fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        Ok(self.server.control().ask(method, path, body)?)
    }

    /// Does what `/_sim` offers of WeChat Pay.
    pub async fn pay(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/_sim{path}", self.url());
        let answer = self.http.request(method, url).json(body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status == 200, "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Does what `/_sim/components/ID/{what}` offers, and waits for the platform's answer.
    pub async fn tell(&self, component: &AppId, what: &str, body: &Value) -> Result<Value> {
        Ok(self.server.control().tell(component, what, body).await?)
    }

    /// Knows a third-party platform.
    pub fn put_component(&self, component: &SimulatedComponent) -> Result<()> {
        Ok(self.server.control().put_component(component)?)
    }

    /// Every AppSecret, token and ticket that it knows.
    pub fn secrets(&self) -> Result<Vec<String>> {
        let secrets = self.ask(Method::GET, "/secrets", &Value::Null)?;
        Ok(serde_json::from_value(secrets)?)
    }
}

impl Drop for WechatApi {
    fn drop(&mut self) {
        // It always answers; were it not to, the AppSecrets would still be on the list.
        for secret in self.secrets().unwrap_or_default() {
            secrets::remember(&secret);
        }
    }
}

/// What was counted of one account.
#[derive(Debug, Clone)]
pub struct Counts(Value);

impl Counts {
    /// Calls of `cgi-bin/stable_token` that were answered with a token.
    #[must_use]
    pub fn stable_fetches(&self) -> u64 {
        self.number("stable_fetches")
    }

    /// Tokens that `cgi-bin/stable_token` has made: lives that have begun.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.number("stable_issued")
    }

    /// Calls with a token that was not valid any more.
    #[must_use]
    pub fn invalid_uses(&self) -> u64 {
        self.number("invalid_token_uses")
    }

    /// A count by its name.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_default()
    }
}
