//! Pushes that a tenant's plugin composes: each recipient gets what is theirs, and who the plugin fails for
//! costs nobody else anything.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::wait;

use crate::scenario::scenarios;
use crate::shop::{CHAT, Shop, TEMPLATE, people};
use crate::stage::Stage;

scenarios! {
    BOTH: what_a_shop_pushes_becomes_its_notices, who_a_plugin_fails_for_fails_alone,
        data_that_do_not_fit_are_refused_with_every_fault, what_a_plugin_lacks_is_waited_for;
    SHARED: a_composed_push_has_one_outcome_each_though_a_host_is_killed;
}

/// A dead host's lease must run out before another one goes on.
const TAKE_OVER: Duration = Duration::from_secs(150);

impl Shop {
    async fn deploy(&self, host: &Host, bundle: &Bundle) -> Result<()> {
        host.admin().deploy(&self.account, bundle).await?;
        Ok(())
    }

    /// They wrote just now, so WeChat takes customer-service messages for them.
    fn hear_from(&self, api: &WechatApi, people: &[String]) -> Result<()> {
        let path = format!("/apps/{}/interactions", self.account.app_id());
        for person in people {
            let interaction = json!({"open_id": person, "kind": "message"});
            api.ask(Method::POST, &path, &interaction)?;
        }
        Ok(())
    }

    /// The messages that WeChat showed: whom, and its own JSON of it.
    fn sent(&self, api: &WechatApi, path: &str) -> Result<Vec<(String, Value)>> {
        let mut sent = Vec::new();
        for request in api.requests(&self.account, path)? {
            if request["performed"] == true && request["errcode"] == 0 {
                let body: Value =
                    serde_json::from_str(request["body"].as_str().context("a body")?)?;
                let person = body["touser"].as_str().context("a person")?;
                sent.push((person.to_owned(), body.clone()));
            }
        }
        Ok(sent)
    }
}

/// What the sample says of an order, with the template that the shops of these scenarios have.
fn notices() -> Value {
    json!({"order-shipped": {
        "text": "订单 {order} 已由{carrier}发出:{tracking}",
        "template": {"id": "T1", "fields": {"thing1": "{goods}"}, "url": "https://shop.example.com/{order}"},
    }})
}

fn shipped() -> Value {
    json!({"order": "42", "goods": "tea", "carrier": "SF", "tracking": "SF1"})
}

async fn what_a_shop_pushes_becomes_its_notices(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(4)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let orders = Bundle::of(Plugin::Orders.component()?).config(notices());
    shop.deploy(&host, &orders).await?;
    let (writers, silent) = people.split_at(2);
    shop.hear_from(&api, writers)?;
    let body = json!({"recipients": people, "data": shipped()});
    let id = shop.push(&host, "order-shipped", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["sent"] == 4 && push["failed"] == 0, "{push}");
    let texts = shop.sent(&api, CHAT)?;
    ensure!(texts.len() == writers.len(), "{texts:?}");
    for (person, body) in &texts {
        ensure!(writers.contains(person), "{person}");
        let text = &body["text"]["content"];
        ensure!(text == "订单 42 已由SF发出:SF1", "{body}");
    }
    let templates = shop.sent(&api, TEMPLATE)?;
    ensure!(templates.len() == silent.len(), "{templates:?}");
    for (person, body) in &templates {
        ensure!(silent.contains(person), "{person}");
        ensure!(body["data"]["thing1"]["value"] == "tea", "{body}");
        ensure!(body["url"] == "https://shop.example.com/42", "{body}");
    }
    // Kinds without a notice are said to have none.
    let data = json!({"form": "f", "result": "accepted"});
    let body = json!({"recipients": [people[0]], "data": data});
    let id = shop.push(&host, "form-result", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["skipped"] == 1, "{push}");
    Ok(())
}

async fn who_a_plugin_fails_for_fails_alone(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(230)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let rogue = Bundle::of(Plugin::Rogue.component()?);
    shop.deploy(&host, &rogue).await?;
    shop.hear_from(&api, &people[..10])?;
    let data = json!({
        "panic": [people[3], people[150]],
        "strangers": [people[229]],
        "skip": [people[7]],
        "late": [people[8]],
    });
    let body = json!({"recipients": people, "data": data});
    let id = shop.push(&host, "mischief", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    let counts = ["sent", "failed", "skipped", "unknown"].map(|count| push[count].clone());
    ensure!(counts == [226, 3, 1, 0].map(Value::from), "{push}");
    let reasons = shop.reasons(&host, &id).await?;
    ensure!(reasons[&people[3]] == "trap", "{reasons:?}");
    ensure!(reasons[&people[150]] == "trap", "{reasons:?}");
    let stranger = &reasons[&people[229]];
    ensure!(stranger == "invalid-composition", "{stranger}");
    ensure!(reasons[&people[7]] == r"the push\nsaid so", "{reasons:?}");
    let outcomes = shop.outcomes(&host, &id).await?;
    ensure!(outcomes[&people[0]].1 == 0, "{outcomes:?}");
    // A text that is over is passed over, and the template goes in its place.
    ensure!(outcomes[&people[8]].1 == 1, "{outcomes:?}");
    let texts = shop.sent(&api, CHAT)?;
    let theirs = texts
        .iter()
        .all(|(person, body)| body["text"]["content"] == format!("hello {person}"));
    ensure!(theirs && texts.len() == 7, "{texts:?}");
    // Whoever looks for the reason finds the calls.
    let calls = host.admin().calls(&shop.account).await?;
    let trapped = |call: &&Value| call["event_kind"] == "push" && call["outcome"] == "trap";
    ensure!(calls.iter().any(|call| trapped(&call)), "{calls:?}");

    // A plugin that fails for all ends the push, too.
    let body = json!({"recipients": people, "data": {"too-few": true}});
    let id = shop.push(&host, "mischief", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["failed"] == 230, "{push}");
    Ok(())
}

async fn data_that_do_not_fit_are_refused_with_every_fault(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let shop = Shop::open(&stage, &host, &api, &[]).await?;
    let orders = Bundle::of(Plugin::Orders.component()?).config(notices());
    shop.deploy(&host, &orders).await?;
    let refused = async |kind: &str, data: Value| {
        let body = json!({"recipients": ["oA"], "data": data});
        let path = format!("push/{kind}");
        let request = (Method::POST, &*path);
        shop.call(&host, request, (None, Some(&body))).await
    };
    let bad = json!({"order": 42, "goods": "", "carrier": "SF", "extra": 1});
    let (status, answer) = refused("order-shipped", bad).await?;
    let faults: Vec<&str> = answer["error"]["faults"]
        .as_array()
        .context("faults")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    ensure!(
        status == 422 && answer["error"]["code"] == "data-refused" && faults.len() == 4,
        "{status}: {answer}"
    );
    for path in ["/order:", "/goods:", "/:"] {
        let is_told = faults.iter().any(|fault| fault.starts_with(path));
        ensure!(is_told, "{path}: {faults:?}");
    }
    let (status, answer) = refused("order-lost", shipped()).await?;
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        status == 404 && message.contains("order-shipped") && message.contains("text-or-template"),
        "{status}: {answer}"
    );
    let (_, pushes) = shop
        .call(&host, (Method::GET, "pushes"), (None, None))
        .await?;
    ensure!(pushes["pushes"] == json!([]), "{pushes}");
    Ok(())
}

async fn what_a_plugin_lacks_is_waited_for(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(3)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let rogue = Bundle::of(Plugin::Rogue.component()?);
    shop.deploy(&host, &rogue).await?;
    let body = json!({"recipients": people, "data": {"lacking": [people[1]]}});
    let id = shop.push(&host, "mischief", &body).await?;
    wait::until("a call that lacks something", wait::SOON, async || {
        let calls = host.admin().calls(&shop.account).await?;
        let failed = calls.iter().any(|call| call["outcome"] == "plugin-error");
        Ok(failed.then_some(()))
    })
    .await?;
    let push = shop.show(&host, &id).await?;
    ensure!(push["state"] == "running" && push["queued"] == 3, "{push}");
    ensure!(shop.sent(&api, TEMPLATE)?.is_empty(), "something was sent");
    Ok(())
}

async fn a_composed_push_has_one_outcome_each_though_a_host_is_killed(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let dying = site.host().await?;
    let people = people(600)?;
    let shop = Shop::open(&stage, &dying, &api, &people).await?;
    let rogue = Bundle::of(Plugin::Rogue.component()?);
    shop.deploy(&dying, &rogue).await?;
    shop.hear_from(&api, &people)?;
    let slow = json!({"kind": "slow", "ms": 400, "performed": true, "path_prefix": CHAT});
    api.fault(&slow)?;
    let body = json!({"recipients": people, "data": {}});
    let id = shop.push(&dying, "mischief", &body).await?;
    wait::until("a push under way", wait::SOON, async || {
        let begun = api.requests(&shop.account, CHAT)?.len();
        Ok((begun > 20).then_some(()))
    })
    .await?;
    dying.signal(Signal::KILL)?;
    api.mend()?;
    let heir = site.host().await?;
    let push = shop.done(&heir, &id, TAKE_OVER).await?;
    let unknown = push["unknown"].as_u64().context("a count")?;
    ensure!(
        push["sent"] == people.len() as u64 - unknown && unknown > 0,
        "{push}"
    );
    let taken = shop.taken(&api, CHAT)?;
    let outcomes = shop.outcomes(&heir, &id).await?;
    for person in &people {
        let times = taken.get(person).copied().unwrap_or_default();
        let right = match &*outcomes[person].0 {
            "sent" => times == 1,
            "unknown" => times <= 1,
            _ => false,
        };
        ensure!(right, "{person}: {:?}, {times} times", outcomes[person]);
    }
    Ok(())
}
