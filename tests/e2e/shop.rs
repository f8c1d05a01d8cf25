//! A tenant's system that pushes, for the scenarios of pushes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::account::Account;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::{secrets, wait};

use crate::office;
use crate::stage::Stage;

pub(crate) const CHAT: &str = "/cgi-bin/message/custom/send";
pub(crate) const TEMPLATE: &str = "/cgi-bin/message/template/send";
/// A tenant's system that pushes.
pub(crate) struct Shop {
    pub(crate) account: Account,
    pub(crate) key: String,
}

impl Shop {
    /// With a template, and these people following.
    pub(crate) async fn open(
        stage: &Stage,
        host: &Host,
        api: &WechatApi,
        people: &[String],
    ) -> Result<Self> {
        let tenant = host.admin().add_tenant().await?;
        let nothing = json!({});
        let settings = (&nothing, &nothing);
        let account = office::admit(stage, host, api, &tenant, settings).await?;
        let app = format!("/apps/{}", account.app_id());
        let template = json!({"template_id": "T1", "content": "{{thing1.DATA}}"});
        api.ask(Method::POST, &format!("{app}/templates"), &template)?;
        api.ask(
            Method::POST,
            &format!("{app}/followers"),
            &json!({"open_ids": people}),
        )?;
        let key = json!({"tenant_id": tenant, "grants": ["push"], "rate_per_minute": 60_000});
        let made = host.admin().post("/api/v1/keys", &key).await?;
        let key = made["key"].as_str().context("a key")?.to_owned();
        secrets::remember(&key);
        Ok(Self { account, key })
    }

    pub(crate) async fn call(
        &self,
        host: &Host,
        (method, path): (Method, &str),
        (key, body): (Option<&str>, Option<&Value>),
    ) -> Result<(u16, Value)> {
        let url = format!(
            "{}/api/v1/accounts/{}/{path}",
            host.base(),
            self.account.app_id()
        );
        let mut request = host.http().request(method, url).bearer_auth(&self.key);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Hands a push in; its id.
    pub(crate) async fn push(&self, host: &Host, kind: &str, body: &Value) -> Result<String> {
        let path = format!("push/{kind}");
        let (status, push) = self
            .call(host, (Method::POST, &path), (None, Some(body)))
            .await?;
        ensure!(status == 202, "{status}: {push}");
        Ok(push["id"].as_str().context("an id")?.to_owned())
    }

    pub(crate) async fn show(&self, host: &Host, id: &str) -> Result<Value> {
        let path = format!("pushes/{id}");
        let (status, push) = self.call(host, (Method::GET, &path), (None, None)).await?;
        ensure!(status == 200, "{status}: {push}");
        Ok(push)
    }

    pub(crate) async fn done(&self, host: &Host, id: &str, within: Duration) -> Result<Value> {
        wait::until("a push that is done", within, async || {
            let push = self.show(host, id).await?;
            Ok((push["state"] == "done").then_some(push))
        })
        .await
    }

    /// State and way of each recipient.
    pub(crate) async fn outcomes(
        &self,
        host: &Host,
        id: &str,
    ) -> Result<BTreeMap<String, (String, Value)>> {
        let recipients = self.recipients(host, id).await?.into_iter();
        let outcomes = recipients.map(|(open_id, recipient)| {
            let state = recipient["state"].as_str().unwrap_or_default();
            (open_id, (state.to_owned(), recipient["way"].clone()))
        });
        Ok(outcomes.collect())
    }

    /// Why each recipient has its outcome.
    pub(crate) async fn reasons(&self, host: &Host, id: &str) -> Result<BTreeMap<String, String>> {
        let recipients = self.recipients(host, id).await?.into_iter();
        let reasons = recipients.map(|(open_id, recipient)| {
            let reason = recipient["reason"].as_str().unwrap_or_default();
            (open_id, reason.to_owned())
        });
        Ok(reasons.collect())
    }

    /// Each recipient, as the host shows it.
    pub(crate) async fn recipients(
        &self,
        host: &Host,
        id: &str,
    ) -> Result<BTreeMap<String, Value>> {
        let (mut outcomes, mut cursor) = (BTreeMap::new(), Some("0".to_owned()));
        while let Some(at) = cursor {
            let path = format!("pushes/{id}/recipients?cursor={at}");
            let (status, page) = self.call(host, (Method::GET, &path), (None, None)).await?;
            ensure!(status == 200, "{status}: {page}");
            for recipient in page["recipients"].as_array().context("a list")? {
                let open_id = recipient["open_id"].as_str().context("an open id")?;
                let before = outcomes.insert(open_id.to_owned(), recipient.clone());
                ensure!(before.is_none(), "twice: {recipient}");
            }
            cursor = page["next"].as_str().map(ToOwned::to_owned);
        }
        Ok(outcomes)
    }

    /// The recipients of a push as CSV.
    pub(crate) async fn table(&self, host: &Host, id: &str) -> Result<String> {
        let url = format!(
            "{}/api/v1/accounts/{}/pushes/{id}/recipients.csv",
            host.base(),
            self.account.app_id()
        );
        let answer = host.http().get(url).bearer_auth(&self.key).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Has the host learn who follows.
    pub(crate) async fn import(&self, host: &Host) -> Result<()> {
        let import = format!("/api/v1/accounts/{}/contacts/import", self.account.app_id());
        host.admin().post(&import, &json!({})).await?;
        wait::until("the import", wait::SOON, async || {
            let state = host.admin().get(&import).await?;
            Ok((state["state"] == "done").then_some(()))
        })
        .await
    }

    /// How often WeChat took a message for each person, by one API.
    pub(crate) fn taken(&self, api: &WechatApi, path: &str) -> Result<BTreeMap<String, u32>> {
        let mut taken = BTreeMap::new();
        for request in api.requests(&self.account, path)? {
            if request["performed"] == true && request["errcode"] == 0 {
                let body: Value =
                    serde_json::from_str(request["body"].as_str().context("a body")?)?;
                let person = body["touser"].as_str().context("a person")?.to_owned();
                *taken.entry(person).or_insert(0) += 1;
            }
        }
        Ok(taken)
    }
}

pub(crate) fn people(count: usize) -> Result<Vec<String>> {
    (0..count)
        .map(|_| secrets::letters(27).map(|letters| format!("o{letters}")))
        .collect()
}

pub(crate) fn once(people: &[String]) -> BTreeMap<String, u32> {
    people.iter().map(|person| (person.clone(), 1)).collect()
}

pub(crate) fn template() -> Value {
    json!({"template_id": "T1", "fields": {"thing1": "tea"}})
}
