//! The admin API, as far as the demo needs it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use wxhost_simulator::SimulatedAccount;
use wxhost_wechat::envelope::Mode;

use crate::client::Client;

/// How long a record that is written behind may take to appear.
const RECORD_WAIT: Duration = Duration::from_secs(10);

/// How often to look.
const RECORD_POLL: Duration = Duration::from_millis(20);

/// An operator's hands.
pub(super) struct Admin(Client);

impl Admin {
    pub(super) fn new(url: &str, token: &str) -> Result<Self> {
        Ok(Self(Client::of_local(url.parse()?, token)?))
    }

    pub(super) async fn add_tenant(&self, id: &str, name: &str) -> Result<()> {
        let tenant = json!({ "id": id, "name": name });
        self.0.post(&["tenants"], &tenant).await.map(drop)
    }

    pub(super) async fn add_account(
        &self,
        tenant: &str,
        name: &str,
        account: &SimulatedAccount,
    ) -> Result<()> {
        let aes_key = (account.mode != Mode::Plain).then(|| account.aes_key.expose());
        let account = json!({
            "app_id": account.app_id.as_str(),
            "tenant_id": tenant,
            "name": name,
            "original_id": account.original_id.as_str(),
            "mode": account.mode.as_str(),
            "token": account.token.expose(),
            "encoding_aes_key": aes_key,
        });
        self.0.post(&["accounts"], &account).await.map(drop)
    }

    pub(super) async fn deploy(
        &self,
        account: &SimulatedAccount,
        component: &[u8],
        config: &Value,
    ) -> Result<()> {
        let deployment = json!({
            "component_base64": BASE64.encode(component),
            "config": config,
        });
        let path = ["accounts", account.app_id.as_str(), "deployments"];
        self.0.post(&path, &deployment).await.map(drop)
    }

    /// The records of an account's calls, once there are `count` of them or more.
    pub(super) async fn calls(
        &self,
        account: &SimulatedAccount,
        count: usize,
    ) -> Result<Vec<Value>> {
        let path = ["accounts", account.app_id.as_str(), "calls"];
        let mut ticks = tokio::time::interval(RECORD_POLL);
        let wait = async {
            loop {
                ticks.tick().await;
                let mut page = self.0.get(&path, &[]).await?;
                if let Value::Array(calls) = page["calls"].take()
                    && calls.len() >= count
                {
                    return anyhow::Ok(calls);
                }
            }
        };
        tokio::time::timeout(RECORD_WAIT, wait)
            .await
            .with_context(|| format!("{count} call records did not appear in {RECORD_WAIT:?}"))?
    }

    /// A value that the account's plugin has stored, as text.
    pub(super) async fn stored(
        &self,
        account: &SimulatedAccount,
        prefix: &str,
    ) -> Result<Option<String>> {
        let path = ["accounts", account.app_id.as_str(), "kv"];
        let page = self.0.get(&path, &[("prefix", Some(prefix))]).await?;
        let Some(value) = page["items"][0]["value_base64"].as_str() else {
            return Ok(None);
        };
        let bytes = BASE64.decode(value).context("value_base64")?;
        Ok(Some(String::from_utf8(bytes).context("stored text")?))
    }
}
