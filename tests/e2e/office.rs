//! Accounts that WeChat's API knows, and a tenant's own systems: they call WeChat through any host of a
//! site, with one API key.

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use wxhost_tests::account::Account;
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::envelope::Mode;

use crate::stage::Stage;

/// A call that costs WeChat nothing and needs an access token.
pub(crate) const CHEAP_CALL: &str = "/cgi-bin/get_api_domain_ip";

/// Calls of one sweep that are under way together.
const AT_ONCE: usize = 8;

/// A tenant, its accounts and its key.
pub(crate) struct Office {
    pub(crate) accounts: Vec<Account>,
    pub(crate) key: String,
}

impl Office {
    /// Opens one with so many accounts; `app` is how WeChat knows each, `settings` how the host does.
    pub(crate) async fn open(
        stage: &Stage,
        host: &Host,
        api: &WechatApi,
        count: usize,
        (app, settings): (&Value, &Value),
    ) -> Result<Self> {
        let admin = host.admin();
        let tenant = admin.add_tenant().await?;
        let mut accounts = Vec::with_capacity(count);
        for _ in 0..count {
            accounts.push(admit(stage, host, api, &tenant, (app, settings)).await?);
        }
        let key = key(host, &tenant).await?;
        Ok(Self { accounts, key })
    }

    /// Waits until a host has heard of all its accounts, which another host may have been told of.
    pub(crate) async fn known_to(&self, host: &Host) -> Result<()> {
        let last = self.accounts.last().context("an account")?;
        wait::until("a host that knows the accounts", wait::SOON, async || {
            let (status, _) = self.call(host, last, "door").await?;
            // The key may be news to it, too.
            Ok((status != 404 && status != 401).then_some(()))
        })
        .await
    }

    /// Calls WeChat for an account through a host; gives the status and the answer, whatever they are.
    /// `caller` stands in the query, for the simulator's record.
    pub(crate) async fn call(
        &self,
        host: &Host,
        account: &Account,
        caller: &str,
    ) -> Result<(u16, Value)> {
        let url = format!(
            "{}/wechat/{}{CHEAP_CALL}?caller={caller}",
            host.base(),
            account.app_id()
        );
        let request = host.http().get(url).bearer_auth(&self.key);
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        secrets::expect_none("a forwarded answer", &body)?;
        let answer = serde_json::from_str(&body).with_context(|| format!("{status}: {body}"))?;
        Ok((status, answer))
    }

    /// Calls WeChat, which must do as it is asked.
    pub(crate) async fn expect_call(
        &self,
        host: &Host,
        account: &Account,
        caller: &str,
    ) -> Result<()> {
        let (status, answer) = self.call(host, account, caller).await?;
        ensure!(
            status == 200 && answer["ip_list"].is_array(),
            "a call of {} through {caller} was answered {status}: {answer}",
            account.app_id()
        );
        Ok(())
    }

    /// Calls WeChat once for each of these accounts.
    pub(crate) async fn sweep(
        &self,
        host: &Host,
        accounts: &[Account],
        caller: &str,
    ) -> Result<()> {
        let calls = accounts
            .iter()
            .map(|account| self.expect_call(host, account, caller));
        let outcomes: Vec<_> = futures::stream::iter(calls)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        outcomes.into_iter().collect()
    }
}

/// An account that WeChat's API knows as `app` says, and the host as `settings` say.
pub(crate) async fn admit(
    stage: &Stage,
    host: &Host,
    api: &WechatApi,
    tenant: &str,
    (app, settings): (&Value, &Value),
) -> Result<Account> {
    let account = Account::fresh(Mode::Safe, stage.wechat());
    let mut registration = account.registration(tenant);
    registration["secret"] = api.admit(&account, app)?.into();
    for (name, value) in settings.as_object().context("settings")? {
        registration[name] = value.clone();
    }
    let admin = host.admin();
    admin.post("/api/v1/accounts", &registration).await?;
    Ok(account)
}

/// An account of a fresh tenant that WeChat's API knows and that runs a plugin.
pub(crate) async fn admit_with(
    stage: &Stage,
    host: &Host,
    api: &WechatApi,
    (app, settings): (&Value, &Value),
    bundle: &Bundle,
) -> Result<Account> {
    let tenant = host.admin().add_tenant().await?;
    let account = admit(stage, host, api, &tenant, (app, settings)).await?;
    host.admin().deploy(&account, bundle).await?;
    Ok(account)
}

/// A key of a tenant that opens everything.
pub(crate) async fn key(host: &Host, tenant: &str) -> Result<String> {
    let wanted = json!({
        "tenant_id": tenant,
        "name": "the office",
        "grants": ["forward", "access-token", "jssdk-signature"],
        "rate_per_minute": 60_000,
    });
    let made = host.admin().post("/api/v1/keys", &wanted).await?;
    let key = made["key"].as_str().context("a key")?;
    secrets::remember(key);
    Ok(key.to_owned())
}
