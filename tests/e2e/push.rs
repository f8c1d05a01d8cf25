//! Pushes: every recipient ends in one outcome that the pretend WeChat's own books confirm.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use wxhost_tests::account::Account;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::{secrets, wait};

use crate::office;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: a_text_goes_to_whom_wechat_takes_one_for_and_a_template_to_the_others,
        a_push_is_paused_resumed_and_cancelled, bad_pushes_are_refused_and_nothing_is_queued,
        all_followers_get_it_once;
    SHARED: a_push_goes_on_once_though_hosts_are_killed;
}

const CHAT: &str = "/cgi-bin/message/custom/send";
const TEMPLATE: &str = "/cgi-bin/message/template/send";
/// A dead host's lease must run out before another one goes on.
const TAKE_OVER: Duration = Duration::from_secs(150);

/// A tenant's system that pushes.
struct Shop {
    account: Account,
    key: String,
}

impl Shop {
    /// With a template, and these people following.
    async fn open(stage: &Stage, host: &Host, api: &WechatApi, people: &[String]) -> Result<Self> {
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

    async fn call(
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
    async fn push(&self, host: &Host, kind: &str, body: &Value) -> Result<String> {
        let path = format!("push/{kind}");
        let (status, push) = self
            .call(host, (Method::POST, &path), (None, Some(body)))
            .await?;
        ensure!(status == 202, "{status}: {push}");
        Ok(push["id"].as_str().context("an id")?.to_owned())
    }

    async fn show(&self, host: &Host, id: &str) -> Result<Value> {
        let path = format!("pushes/{id}");
        let (status, push) = self.call(host, (Method::GET, &path), (None, None)).await?;
        ensure!(status == 200, "{status}: {push}");
        Ok(push)
    }

    async fn done(&self, host: &Host, id: &str, within: Duration) -> Result<Value> {
        wait::until("a push that is done", within, async || {
            let push = self.show(host, id).await?;
            Ok((push["state"] == "done").then_some(push))
        })
        .await
    }

    /// State and way of each recipient.
    async fn outcomes(&self, host: &Host, id: &str) -> Result<BTreeMap<String, (String, Value)>> {
        let (mut outcomes, mut cursor) = (BTreeMap::new(), Some("0".to_owned()));
        while let Some(at) = cursor {
            let path = format!("pushes/{id}/recipients?cursor={at}");
            let (status, page) = self.call(host, (Method::GET, &path), (None, None)).await?;
            ensure!(status == 200, "{status}: {page}");
            for recipient in page["recipients"].as_array().context("a list")? {
                let text = |name: &str| recipient[name].as_str().unwrap_or_default().to_owned();
                let outcome = (text("state"), recipient["way"].clone());
                let before = outcomes.insert(text("open_id"), outcome);
                ensure!(before.is_none(), "twice: {recipient}");
            }
            cursor = page["next"].as_str().map(ToOwned::to_owned);
        }
        Ok(outcomes)
    }

    /// How often WeChat took a message for each person, by one API.
    fn taken(&self, api: &WechatApi, path: &str) -> Result<BTreeMap<String, u32>> {
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

fn people(count: usize) -> Result<Vec<String>> {
    (0..count)
        .map(|_| secrets::letters(27).map(|letters| format!("o{letters}")))
        .collect()
}

fn once(people: &[String]) -> BTreeMap<String, u32> {
    people.iter().map(|person| (person.clone(), 1)).collect()
}

fn template() -> Value {
    json!({"template_id": "T1", "fields": {"thing1": "tea"}})
}

async fn a_text_goes_to_whom_wechat_takes_one_for_and_a_template_to_the_others(
    stage: Stage,
) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(60)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let (writers, silent) = people.split_at(20);
    for person in writers {
        let interaction = json!({"open_id": person, "kind": "message"});
        let path = format!("/apps/{}/interactions", shop.account.app_id());
        api.ask(Method::POST, &path, &interaction)?;
    }
    let mut recipients = people.clone();
    recipients.push(people[0].clone());
    recipients.push("oNobody".to_owned());
    let body = json!({
        "recipients": recipients,
        "data": {"text": {"content": "your order has left"}, "template": template()},
    });
    let make = |key, body: Value| {
        let (shop, host) = (&shop, &host);
        async move {
            let request = (Method::POST, "push/text-or-template");
            shop.call(host, request, (Some(key), Some(&body))).await
        }
    };
    let (status, push) = make("order-42", body.clone()).await?;
    ensure!(
        status == 202 && push["recipients"] == 61,
        "{status}: {push}"
    );
    let id = push["id"].as_str().context("an id")?;
    // The same again is the same push, something else under its key is refused.
    let (status, again) = make("order-42", body.clone()).await?;
    ensure!(status == 202 && again["id"] == id, "{status}: {again}");
    let mut other = body;
    other["data"]["text"]["content"] = "something else".into();
    let (status, refused) = make("order-42", other).await?;
    ensure!(
        status == 409 && refused["error"]["code"] == "idempotency-key-reused",
        "{status}: {refused}"
    );
    let push = shop.done(&host, id, wait::SOON).await?;
    ensure!(
        push["sent"] == 60 && push["failed"] == 1 && push["queued"] == 0,
        "{push}"
    );
    let outcomes = shop.outcomes(&host, id).await?;
    for person in writers {
        ensure!(
            outcomes[person] == ("sent".into(), json!(0)),
            "{outcomes:?}"
        );
    }
    for person in silent {
        ensure!(
            outcomes[person] == ("sent".into(), json!(1)),
            "{outcomes:?}"
        );
    }
    ensure!(outcomes["oNobody"].0 == "failed", "{outcomes:?}");
    ensure!(shop.taken(&api, CHAT)? == once(writers), "the texts");
    ensure!(shop.taken(&api, TEMPLATE)? == once(silent), "the templates");
    Ok(())
}

async fn a_push_is_paused_resumed_and_cancelled(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(300)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let slow = json!({"kind": "slow", "ms": 300, "performed": true, "path_prefix": TEMPLATE});
    api.fault(&slow)?;
    let body = json!({"recipients": people, "data": template()});
    let turn = async |id: &str, verb: &str| {
        let path = format!("pushes/{id}/{verb}");
        shop.call(&host, (Method::POST, &path), (None, None)).await
    };
    let id = shop.push(&host, "template", &body).await?;
    let (status, push) = turn(&id, "pause").await?;
    ensure!(
        status == 200 && push["state"] == "paused",
        "{status}: {push}"
    );
    // The window that was under way ends, and nothing comes after it.
    let quiet = wait::until("a pause", wait::SOON, async || {
        let before = api.requests(&shop.account, TEMPLATE)?.len();
        let push = shop.show(&host, &id).await?;
        let after = api.requests(&shop.account, TEMPLATE)?.len();
        let settled = push["sent"] == before && before == after;
        Ok(settled.then_some(after))
    })
    .await?;
    ensure!(
        quiet < people.len(),
        "all {quiet} had left before the pause"
    );
    api.mend()?;
    let (status, push) = turn(&id, "resume").await?;
    ensure!(
        status == 200 && push["state"] == "running",
        "{status}: {push}"
    );
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["sent"] == people.len(), "{push}");
    ensure!(
        shop.taken(&api, TEMPLATE)? == once(&people),
        "not once each"
    );

    api.fault(&slow)?;
    let id = shop.push(&host, "template", &body).await?;
    let (status, push) = turn(&id, "cancel").await?;
    ensure!(
        status == 200 && push["state"] == "cancelled" && push["queued"] == 0,
        "{status}: {push}"
    );
    let (status, refused) = turn(&id, "resume").await?;
    ensure!(
        status == 409 && refused["error"]["code"] == "push-ended",
        "{status}: {refused}"
    );
    Ok(())
}

async fn bad_pushes_are_refused_and_nothing_is_queued(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let shop = Shop::open(&stage, &host, &api, &[]).await?;
    let text = json!({"content": "hi"});
    let many: Vec<String> = (0..10_001).map(|number| format!("o{number}")).collect();
    for (kind, body, status, code, part) in [
        (
            "tex",
            json!({"recipients": ["oA"], "data": text}),
            404,
            "not-found",
            "kind of push",
        ),
        (
            "text",
            json!({"data": text}),
            400,
            "invalid-field",
            "recipients",
        ),
        (
            "text",
            json!({"recipients": ["oA"], "audience": "followers", "data": text}),
            400,
            "invalid-field",
            "either recipients or an audience",
        ),
        (
            "text",
            json!({"recipients": ["oA", "o B"], "data": text}),
            400,
            "invalid-field",
            "recipients[1]",
        ),
        (
            "text",
            json!({"recipients": many, "data": text}),
            400,
            "invalid-field",
            "10000 at most",
        ),
        (
            "text",
            json!({"recipients": ["oA"], "data": {"content": ""}}),
            400,
            "invalid-field",
            "text.content",
        ),
        (
            "text",
            json!({"recipients": ["oA"], "data": text, "expires_at": 1}),
            400,
            "invalid-field",
            "expires_at",
        ),
    ] {
        let path = format!("push/{kind}");
        let answer = shop
            .call(&host, (Method::POST, &path), (None, Some(&body)))
            .await?;
        let error = &answer.1["error"];
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(
            answer.0 == status && error["code"] == code && message.contains(part),
            "{part}: {answer:?}"
        );
    }
    let quotas = format!("/api/v1/accounts/{}/quotas", shop.account.app_id());
    let quota = json!({"waiting-messages": 1});
    host.admin()
        .call(Method::PATCH, &quotas, Some(&quota))
        .await?;
    let body = json!({"recipients": ["oA", "oB"], "data": text});
    let request = (Method::POST, "push/text");
    let (status, refused) = shop.call(&host, request, (None, Some(&body))).await?;
    ensure!(
        status == 429 && refused["error"]["code"] == "over-quota",
        "{status}: {refused}"
    );
    let (_, pushes) = shop
        .call(&host, (Method::GET, "pushes"), (None, None))
        .await?;
    ensure!(pushes["pushes"] == json!([]), "{pushes}");
    let other = office::key(&host, &host.admin().add_tenant().await?).await?;
    let stranger = Shop {
        account: shop.account,
        key: other,
    };
    let (status, refused) = stranger
        .call(&host, (Method::GET, "pushes"), (None, None))
        .await?;
    ensure!(
        status == 404 && refused["error"]["code"] == "unknown-account",
        "{status}: {refused}"
    );
    Ok(())
}

async fn all_followers_get_it_once(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(700)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let import = format!("/api/v1/accounts/{}/contacts/import", shop.account.app_id());
    host.admin().post(&import, &json!({})).await?;
    wait::until("the import", wait::SOON, async || {
        let state = host.admin().get(&import).await?;
        Ok((state["state"] == "done").then_some(()))
    })
    .await?;
    let body = json!({"audience": "followers", "data": template()});
    let id = shop.push(&host, "template", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(
        push["recipients"] == 700 && push["sent"] == 700 && push["is_complete"] == true,
        "{push}"
    );
    ensure!(
        shop.taken(&api, TEMPLATE)? == once(&people),
        "not once each"
    );
    Ok(())
}

async fn a_push_goes_on_once_though_hosts_are_killed(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let dying = site.host().await?;
    let people = people(400)?;
    let shop = Shop::open(&stage, &dying, &api, &people).await?;
    let slow = json!({"kind": "slow", "ms": 400, "performed": true, "path_prefix": TEMPLATE});
    api.fault(&slow)?;
    let body = json!({"recipients": people, "data": template()});
    let id = shop.push(&dying, "template", &body).await?;
    wait::until("a push under way", wait::SOON, async || {
        let begun = api.requests(&shop.account, TEMPLATE)?.len();
        Ok((begun > 20).then_some(()))
    })
    .await?;
    dying.signal(Signal::KILL)?;
    api.mend()?;
    let heir = site.host().await?;
    let push = shop.done(&heir, &id, TAKE_OVER).await?;
    ensure!(push["sent"] == people.len(), "{push}");
    // What was sent again under its own id was shown once.
    let path = format!("/apps/{}/messages", shop.account.app_id());
    let shown = api.ask(Method::GET, &path, &Value::Null)?;
    let shown = shown.as_array().context("messages")?;
    let mut times = BTreeMap::new();
    for message in shown {
        let person = message["open_id"].as_str().context("a person")?;
        *times.entry(person.to_owned()).or_insert(0) += 1;
    }
    ensure!(times == once(&people), "not once each");
    Ok(())
}
