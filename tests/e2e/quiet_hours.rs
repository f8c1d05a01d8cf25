//! Hours in which pushes disturb nobody.

use anyhow::{Result, ensure};
use jiff::ToSpan;
use jiff::tz::TimeZone;
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::api::WechatApi;
use wxhost_tests::wait;

use crate::scenario::scenarios;
use crate::shop::{Shop, TEMPLATE, people, template};
use crate::stage::Stage;

scenarios! {
    BOTH: pushes_wait_for_the_morning_unless_they_are_urgent;
}

/// The time so many hours from now, by this zone's clock.
fn at(hours: i64) -> Result<String> {
    let now = jiff::Timestamp::now().to_zoned(TimeZone::get("Europe/Berlin")?);
    let then = now.checked_add(hours.hours())?;
    Ok(then.strftime("%H:%M").to_string())
}

async fn pushes_wait_for_the_morning_unless_they_are_urgent(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let people = people(3)?;
    let shop = Shop::open(&stage, &host, &api, &people).await?;
    let path = format!("/api/v1/accounts/{}", shop.account.app_id());
    let set = async |hours: Value| {
        let change = json!({"quiet_hours": hours});
        let admin = host.admin();
        admin.try_call(Method::PATCH, &path, Some(&change)).await
    };
    for (hours, field) in [
        (json!({"from": "22", "to": "08:00"}), "quiet_hours.from"),
        (json!({"from": "08:00", "to": "08:00"}), "quiet_hours.to"),
        (
            json!({"from": "22:00", "to": "08:00", "time_zone": "Asia/Nowhere"}),
            "quiet_hours.time_zone",
        ),
    ] {
        let (status, refused) = set(hours).await?;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        ensure!(
            status == 400 && message.starts_with(field),
            "{status}: {refused}"
        );
    }
    let now = json!({"from": at(-1)?, "to": at(2)?, "time_zone": "Europe/Berlin"});
    let (status, shown) = set(now.clone()).await?;
    ensure!(status == 200 && shown["quiet_hours"] == now, "{shown}");
    let body = json!({"recipients": people, "data": template()});
    let waits = shop.push(&host, "template", &body).await?;
    let mut urgent = body;
    urgent["urgent"] = true.into();
    let goes = shop.push(&host, "template", &urgent).await?;
    let push = shop.done(&host, &goes, wait::SOON).await?;
    ensure!(push["sent"] == 3 && push["urgent"] == true, "{push}");
    // It came before the urgent one, and waits.
    let push = shop.show(&host, &waits).await?;
    ensure!(
        push["state"] == "running" && push["queued"] == 3 && push["urgent"] == false,
        "{push}"
    );
    ensure!(
        api.requests(&shop.account, TEMPLATE)?.len() == 3,
        "no other"
    );
    // The day begins.
    let later = json!({"from": at(3)?, "to": at(4)?, "time_zone": "Europe/Berlin"});
    let (status, _) = set(later).await?;
    ensure!(status == 200, "{status}");
    let push = shop.done(&host, &waits, wait::SOON).await?;
    ensure!(push["sent"] == 3, "{push}");
    let (status, shown) = set(Value::Null).await?;
    ensure!(status == 200 && shown["quiet_hours"].is_null(), "{shown}");
    Ok(())
}
