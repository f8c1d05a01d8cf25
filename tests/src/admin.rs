//! The admin API as an operator's program uses it.

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::Account;
use crate::{secrets, wait};

/// A client of one host's admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A plugin with its settings.
#[derive(Debug, Clone)]
pub struct Bundle {
    component: Vec<u8>,
    settings: Value,
}

impl Bundle {
    /// A component with no settings.
    #[must_use]
    pub fn of(component: Vec<u8>) -> Self {
        Self {
            component,
            settings: json!({}),
        }
    }

    /// With the plugin's own configuration.
    #[must_use]
    pub fn config(self, config: Value) -> Self {
        self.with("config", config)
    }

    /// With secrets by name.
    #[must_use]
    pub fn secrets(self, secrets: Value) -> Self {
        self.with("secrets", secrets)
    }

    /// With other limits.
    #[must_use]
    pub fn limits(self, limits: Value) -> Self {
        self.with("limits", limits)
    }

    fn with(mut self, name: &str, value: Value) -> Self {
        self.settings[name] = value;
        self
    }

    /// What a deployment is sent as.
    pub fn to_json(&self) -> Value {
        let mut document = self.settings.clone();
        document["component_base64"] = STANDARD.encode(&self.component).into();
        document
    }
}

impl Admin {
    /// A client of the API under `base`.
    #[must_use]
    pub fn new(http: reqwest::Client, base: String, token: String) -> Self {
        Self { http, base, token }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        token.clone_into(&mut self.token);
        self
    }

    /// Its token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Calls the API; gives the status and the document, whatever they are.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        document: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(document) = document {
            request = request.json(document);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        secrets::expect_none(&format!("the answer to {method} {path}"), &body)?;
        let document = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&body)?
        };
        Ok((status, document))
    }

    /// Calls the API and fails unless it answers 2xx.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        document: Option<&Value>,
    ) -> Result<Value> {
        let (status, answer) = self.try_call(method.clone(), path, document).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} answered {status}: {answer}");
        }
        Ok(answer)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, document: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(document)).await
    }

    /// Adds a tenant with a fresh id.
    pub async fn add_tenant(&self) -> Result<String> {
        let id = format!("t{}", secrets::letters(12)?.to_lowercase());
        self.post("/api/v1/tenants", &json!({"id": id, "name": "A tenant"}))
            .await?;
        Ok(id)
    }

    /// Adds a tenant that may run so many calls at once.
    pub async fn add_tenant_with(&self, max_concurrent_calls: u32) -> Result<String> {
        let id = format!("t{}", secrets::letters(12)?.to_lowercase());
        let document = json!({"id": id, "name": "A busy tenant", "max_concurrent_calls": max_concurrent_calls});
        self.post("/api/v1/tenants", &document).await?;
        Ok(id)
    }

    /// Adds an account to a tenant.
    pub async fn add_account(&self, account: &Account, tenant: &str) -> Result<()> {
        self.post("/api/v1/accounts", &account.registration(tenant))
            .await?;
        Ok(())
    }

    /// Changes an account.
    pub async fn change(&self, account: &Account, change: &Value) -> Result<Value> {
        self.call(
            Method::PATCH,
            &format!("/api/v1/accounts/{}", account.app_id()),
            Some(change),
        )
        .await
    }

    /// Deploys a plugin to an account; gives the version.
    pub async fn deploy(&self, account: &Account, bundle: &Bundle) -> Result<u64> {
        let (status, answer) = self.try_deploy(account, bundle).await?;
        match answer["version"].as_u64() {
            Some(version) if status == 201 => Ok(version),
            _ => bail!("the deployment answered {status}: {answer}"),
        }
    }

    /// Tries to deploy; gives the status and the document.
    pub async fn try_deploy(&self, account: &Account, bundle: &Bundle) -> Result<(u16, Value)> {
        let path = format!("/api/v1/accounts/{}/deployments", account.app_id());
        self.try_call(Method::POST, &path, Some(&bundle.to_json()))
            .await
    }

    /// The account's call records, newest first.
    pub async fn calls(&self, account: &Account) -> Result<Vec<Value>> {
        let path = format!("/api/v1/accounts/{}/calls?limit=100", account.app_id());
        list(self.get(&path).await?, "calls")
    }

    /// Waits until an account has `count` call records; gives them, newest first. Records are written
    /// behind the answers.
    pub async fn calls_once_written(&self, account: &Account, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} call records of {}", account.app_id());
        wait::until(&what, wait::SOON, async || {
            let calls = self.calls(account).await?;
            Ok((calls.len() >= count).then_some(calls))
        })
        .await
    }

    /// A stored value of the account's plugin.
    pub async fn kv(&self, account: &Account, key: &str) -> Result<Option<Vec<u8>>> {
        let path = format!("/api/v1/accounts/{}/kv/{key}", account.app_id());
        let (status, entry) = self.try_call(Method::GET, &path, None).await?;
        match (
            status,
            entry["value_base64"].as_str().or(entry["value"].as_str()),
        ) {
            (200, Some(value)) => Ok(Some(STANDARD.decode(value)?)),
            (404, _) => Ok(None),
            _ => bail!("GET {path} answered {status}: {entry}"),
        }
    }
}

/// The list in an answer, which may stand alone or under a name.
fn list(answer: Value, name: &str) -> Result<Vec<Value>> {
    match answer {
        Value::Array(items) => Ok(items),
        Value::Object(mut members) => {
            match members.remove(name).or_else(|| members.remove("items")) {
                Some(Value::Array(items)) => Ok(items),
                _ => bail!("no list of {name} in {members:?}"),
            }
        }
        other => bail!("no list of {name} in {other}"),
    }
}
