//! Pushes: every recipient ends in one outcome that the pretend WeChat's own books confirm.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use wxhost_simulator::UserAction;
use wxhost_tests::api::WechatApi;
use wxhost_tests::wait;
use wxhost_wechat::id::OpenId;

use crate::office;
use crate::scenario::scenarios;
use crate::shop::{CHAT, Shop, TEMPLATE, once, people, template};
use crate::stage::Stage;

scenarios! {
    BOTH: a_text_goes_to_whom_wechat_takes_one_for_and_a_template_to_the_others,
        a_push_is_paused_resumed_and_cancelled, bad_pushes_are_refused_and_nothing_is_queued,
        all_followers_get_it_once, what_wechat_tells_of_deliveries_reaches_their_recipients,
        a_push_begins_at_its_time_and_goes_to_whom_its_audience_names,
        who_writes_the_word_gets_no_more_until_they_write_the_other,
        a_push_that_recurs_is_made_listed_and_ended;
    SHARED: a_push_goes_on_once_though_hosts_are_killed;
}

/// A dead host's lease must run out before another one goes on.
const TAKE_OVER: Duration = Duration::from_secs(150);

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
            "template",
            json!({"recipients": ["oA"], "data": {"template_id": "T2", "fields": {}}}),
            400,
            "invalid-field",
            "no template T2; it has: T1",
        ),
        (
            "template",
            json!({"recipients": ["oA"], "data": {"template_id": "T1", "fields": {}}}),
            400,
            "invalid-field",
            "thing1 of template T1 is missing",
        ),
        (
            "text",
            json!({"recipients": ["oA"], "data": text, "send_at": 1}),
            400,
            "invalid-field",
            "send_at",
        ),
        (
            "text",
            json!({"audience": {"acted_within_hours": 0}, "data": text}),
            400,
            "invalid-field",
            "audience.acted_within_hours",
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
    shop.import(&host).await?;
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

async fn what_wechat_tells_of_deliveries_reaches_their_recipients(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(3)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let body = json!({"recipients": people, "data": template()});
    let id = shop.push(&host, "template", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["sent"] == 3 && push["delivered"] == 0, "{push}");
    let recipients = shop.recipients(&host, &id).await?;
    for (person, status) in [(&people[0], "success"), (&people[1], "failed:user block")] {
        let msgid = recipients[person]["msgid"].as_str().context("a msgid")?;
        let event = UserAction::template_sent(msgid.parse()?, status);
        let callback = shop.account.callback(&OpenId::parse(person)?, &event);
        // WeChat may tell it again.
        for _ in 0..2 {
            shop.account.deliver(&host, &callback).await?;
        }
    }
    wait::until("receipts", wait::SOON, async || {
        let push = shop.show(&host, &id).await?;
        Ok((push["delivered"] == 1 && push["undelivered"] == 1).then_some(()))
    })
    .await?;
    let outcomes = shop.outcomes(&host, &id).await?;
    let states: Vec<&str> = people.iter().map(|person| &*outcomes[person].0).collect();
    ensure!(states == ["delivered", "undelivered", "sent"], "{states:?}");
    let reasons = shop.reasons(&host, &id).await?;
    ensure!(reasons[&people[1]] == "failed:user block", "{reasons:?}");
    let table = shop.table(&host, &id).await?;
    let rows: Vec<&str> = table.lines().collect();
    ensure!(rows[0] == "open_id,state,way,msgid,reason", "{table}");
    ensure!(
        rows[1].starts_with(&format!("{},delivered,0,", people[0])),
        "{table}"
    );
    ensure!(
        rows.len() == 4 && rows[2].ends_with(",failed:user block"),
        "{table}"
    );
    Ok(())
}

async fn a_push_begins_at_its_time_and_goes_to_whom_its_audience_names(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(5)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    shop.import(&host).await?;
    for person in &people[..2] {
        let person = OpenId::parse(person)?;
        shop.account.say(&host, &person, "hi").await?;
    }
    let contact = format!(
        "/api/v1/accounts/{}/contacts/{}",
        shop.account.app_id(),
        people[1]
    );
    let written_at = wait::until("what was written", wait::SOON, async || {
        let contact = host.admin().get(&contact).await?;
        Ok(contact["last"]["message"].as_u64())
    })
    .await?;
    let begins = written_at + 5_000;
    let body = json!({
        "audience": {"acted_within_hours": 1}, "data": template(), "send_at": begins,
    });
    let id = shop.push(&host, "template", &body).await?;
    let push = shop.show(&host, &id).await?;
    ensure!(
        push["state"] == "running" && push["starts_at"] == begins,
        "{push}"
    );
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["recipients"] == 2 && push["sent"] == 2, "{push}");
    ensure!(
        shop.taken(&api, TEMPLATE)? == once(&people[..2]),
        "to others"
    );
    // What has not left is recalled by what the tenant calls it.
    let body = json!({
        "recipients": people, "data": template(), "send_at": begins + 3_600_000, "reference": "order-42",
    });
    let later = shop.push(&host, "template", &body).await?;
    let recall = json!({"reference": "order-42"});
    let request = (Method::POST, "pushes/recall");
    let (status, recalled) = shop.call(&host, request, (None, Some(&recall))).await?;
    ensure!(
        status == 200 && recalled["ids"] == json!([later]),
        "{status}: {recalled}"
    );
    let push = shop.show(&host, &later).await?;
    ensure!(
        push["state"] == "cancelled" && push["cancelled"] == 5,
        "{push}"
    );
    for request in api.requests(&shop.account, TEMPLATE)? {
        let at = request["at_ms"].as_u64().context("a time")?;
        ensure!(at >= begins, "{request} before {begins}");
    }
    Ok(())
}

async fn who_writes_the_word_gets_no_more_until_they_write_the_other(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(2)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let person = OpenId::parse(&people[0])?;
    let path = format!("/api/v1/accounts/{}", shop.account.app_id());
    let wrong = json!({"opt_out_words": {
        "stop": ["0"], "resume": ["０"], "stopped": "bye", "resumed": "hello",
    }});
    let (status, refused) = host
        .admin()
        .try_call(Method::PATCH, &path, Some(&wrong))
        .await?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        status == 400 && message.contains("both stops and resumes"),
        "{status}: {refused}"
    );
    let words = json!({"opt_out_words": {
        "stop": ["0", "TD", "退订"], "resume": ["1"], "stopped": "bye", "resumed": "hello",
    }});
    host.admin()
        .call(Method::PATCH, &path, Some(&words))
        .await?;
    // Whatever the plugin does with texts, or without one.
    for (word, answer, counts) in [("ＴＤ", "bye", [1, 1]), ("1", "hello", [2, 0])] {
        let said = shop.account.ask(&host, &person, word).await?;
        ensure!(said == answer, "{word}: {said}");
        let body = json!({"recipients": people, "data": template()});
        let id = shop.push(&host, "template", &body).await?;
        let push = shop.done(&host, &id, wait::SOON).await?;
        let found = ["sent", "skipped"].map(|count| push[count].clone());
        ensure!(found == counts.map(Value::from), "{word}: {push}");
    }
    let calls = host.admin().calls_once_written(&shop.account, 2).await?;
    let outcomes: Vec<&Value> = calls.iter().map(|call| &call["outcome"]).collect();
    ensure!(outcomes == ["opted-in", "opted-out"], "{outcomes:?}");
    Ok(())
}

async fn a_push_that_recurs_is_made_listed_and_ended(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let shop = Shop::open(&stage, &host, &api, &[]).await?;
    let ask = async |method, path: &str, body: Option<&Value>| {
        shop.call(&host, (method, path), (None, body)).await
    };
    let text = json!({"content": "早上好"});
    for (change, part) in [
        (json!({"cron": "every morning"}), "cron"),
        (json!({"cron": "0 0 30 2 *"}), "never fires"),
        (json!({"time_zone": "Asia/Nowhere"}), "time_zone"),
        (json!({"missed": "twice"}), "missed"),
        (json!({"audience": null}), "recipients"),
        (json!({"data": {}}), "content"),
    ] {
        let mut body = json!({"audience": "followers", "data": text, "cron": "0 8 * * *"});
        for (name, value) in change.as_object().context("a change")? {
            body[name] = value.clone();
        }
        let (status, refused) = ask(Method::POST, "schedule/text", Some(&body)).await?;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        ensure!(status == 400 && message.contains(part), "{part}: {refused}");
    }
    let body = json!({"audience": "followers", "data": text, "cron": "0 8 * * *"});
    let (status, made) = ask(Method::POST, "schedule/text", Some(&body)).await?;
    // Eight o'clock in Shanghai.
    let next = made["next_at"].as_u64().context("a time")?;
    ensure!(status == 201 && next % 86_400_000 == 0, "{status}: {made}");
    let (_, listed) = ask(Method::GET, "schedules", None).await?;
    ensure!(listed["schedules"] == json!([made]), "{listed}");
    let path = format!("schedules/{}", made["id"].as_str().context("an id")?);
    for (turn, state) in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "active"),
    ] {
        let (status, turned) = ask(Method::POST, &format!("{path}/{turn}"), None).await?;
        let as_it_was = turned["next_at"] == made["next_at"];
        ensure!(
            status == 200 && turned["state"] == state && as_it_was,
            "{turn}: {turned}"
        );
    }
    let (status, _) = ask(Method::POST, "schedules/nothing/pause", None).await?;
    ensure!(status == 404, "{status}");
    let ended = host
        .http()
        .delete(format!(
            "{}/api/v1/accounts/{}/{path}",
            host.base(),
            shop.account.app_id()
        ))
        .bearer_auth(&shop.key)
        .send()
        .await?;
    ensure!(ended.status() == 204, "{ended:?}");
    let (status, _) = ask(Method::DELETE, &path, None).await?;
    ensure!(status == 404, "{status}");
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
