//! What would come of a push, foretold, and what then comes of it.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::api::WechatApi;
use wxhost_tests::wait;
use wxhost_wechat::id::OpenId;

use crate::scenario::scenarios;
use crate::shop::{CHAT, Shop, TEMPLATE, people, template};
use crate::stage::Stage;

scenarios! {
    BOTH: a_forecast_tells_who_is_reached_and_sends_nothing;
}

async fn a_forecast_tells_who_is_reached_and_sends_nothing(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(130)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    shop.import(&host).await?;
    let path = format!("/api/v1/accounts/{}", shop.account.app_id());
    let words = json!({"opt_out_words": {
        "stop": ["0"], "resume": ["1"], "stopped": "bye", "resumed": "hello",
    }});
    host.admin()
        .call(Method::PATCH, &path, Some(&words))
        .await?;
    // Two of them write, one of whom wants no more.
    for (person, text) in [(&people[0], "hi"), (&people[1], "0")] {
        shop.account
            .say(&host, &OpenId::parse(person)?, text)
            .await?;
        let interaction = json!({"open_id": person, "kind": "message"});
        let app = format!("/apps/{}/interactions", shop.account.app_id());
        api.ask(Method::POST, &app, &interaction)?;
    }
    let body = json!({
        "audience": "followers",
        "data": {"text": {"content": "tea is here"}, "template": template()},
    });
    let ask = async |kind: &str, body: &Value| {
        let path = format!("push/{kind}/forecast");
        let request = (Method::POST, &*path);
        shop.call(&host, request, (None, Some(body))).await
    };
    let forecast = wait::until("a ledger that knows", wait::SOON, async || {
        let (status, forecast) = ask("text-or-template", &body).await?;
        ensure!(status == 200, "{status}: {forecast}");
        Ok((forecast["by_chat"] == 1 && forecast["opted_out"] == 1).then_some(forecast))
    })
    .await?;
    let number = |name: &str| forecast[name].as_u64().unwrap_or_default();
    ensure!(
        number("recipients") == 130
            && number("by_template") + number("untested") == 128
            && number("by_nothing") == 0
            && forecast["is_complete"] == true
            && forecast.get("takes_seconds").is_none(),
        "{forecast}"
    );
    let quotas = &forecast["quotas"];
    ensure!(
        quotas[0]["path"] == CHAT
            && quotas[1]["path"] == TEMPLATE
            && quotas[1]["left_today"]
                .as_u64()
                .is_some_and(|left| left > 0),
        "{forecast}"
    );
    ensure!(
        api.requests(&shop.account, CHAT)?.is_empty(),
        "nothing is sent"
    );
    // What was foretold comes.
    let id = shop.push(&host, "text-or-template", &body).await?;
    let push = shop.done(&host, &id, wait::SOON).await?;
    ensure!(push["sent"] == 129 && push["skipped"] == 1, "{push}");
    let (_, again) = ask("text-or-template", &body).await?;
    ensure!(again["takes_seconds"].as_u64().is_some(), "{again}");
    // Of an audience, those who belong to it.
    let mut some = body.clone();
    for (audience, expected) in [
        (json!({"acted_within_hours": 1}), 2),
        (json!({"tags": [2]}), 0),
        (json!({"attributes": {"level": "gold"}}), 0),
    ] {
        some["audience"] = audience.clone();
        let (status, forecast) = ask("text-or-template", &some).await?;
        ensure!(
            status == 200 && forecast["recipients"] == expected,
            "{audience}: {forecast}"
        );
    }
    // A body that the push would be refused for is refused here, too.
    for (kind, body, status, code) in [
        (
            "text",
            json!({"data": {"content": "a"}}),
            400,
            "invalid-field",
        ),
        (
            "text",
            json!({"recipients": ["o1"], "data": {}}),
            400,
            "invalid-field",
        ),
        (
            "none",
            json!({"recipients": ["o1"], "data": {}}),
            404,
            "not-found",
        ),
    ] {
        let (given, refused) = ask(kind, &body).await?;
        ensure!(
            given == status && refused["error"]["code"] == code,
            "{kind}: {given}: {refused}"
        );
    }
    Ok(())
}
