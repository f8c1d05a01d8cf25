//! Quotas: what is beyond one is refused by its name, costs nothing that was there, and is changed live.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_simulator::Outcome;
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::Mode;

use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: values_beyond_a_quota_are_refused_by_name, logs_beyond_a_quota_are_not_kept,
        callbacks_beyond_a_rate_wait_their_turn;
}

async fn set(host: &Host, account: &Account, quotas: Value) -> Result<Value> {
    let path = format!("/api/v1/accounts/{}/quotas", account.app_id());
    host.admin().call(Method::PATCH, &path, Some(&quotas)).await
}

fn named<'a>(quotas: &'a Value, name: &str) -> Result<&'a Value> {
    let mut quotas = quotas["quotas"].as_array().context("a list")?.iter();
    quotas
        .find(|quota| quota["name"] == name)
        .context("the quota")
}

async fn values_beyond_a_quota_are_refused_by_name(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let rogue = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    set(host, &rogue, json!({"values": 2})).await?;
    for text in ["put a 1", "put b 1"] {
        ensure!(rogue.ask(host, &user, text).await? == "put");
    }
    let refused = rogue.insist(host, &user, "put c 1").await?;
    ensure!(refused == Outcome::Silent, "{refused:?}");
    let calls = host.admin().calls_once_written(&rogue, 3).await?;
    ensure!(calls[0]["outcome"] == "over-quota", "{}", calls[0]);
    let error = calls[0]["error"].as_str().context("an error")?;
    ensure!(
        error == "quota values of the account: 2 at most, 2 in use, 1 more asked for",
        "{error}"
    );
    // What replaces a value needs no room.
    ensure!(rogue.ask(host, &user, "put a 2").await? == "put");
    ensure!(host.admin().kv(&rogue, "c").await?.is_none());
    let quotas = set(host, &rogue, json!({"values": 3})).await?;
    let values = json!({"name": "values", "most": 3, "is_set": true, "in_use": 2});
    ensure!(named(&quotas, "values")? == &values, "{quotas}");
    ensure!(rogue.ask(host, &user, "put c 1").await? == "put");
    Ok(())
}

async fn logs_beyond_a_quota_are_not_kept(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let bundle = Bundle::of(Plugin::Rogue.component()?).limits(json!({"cpu_ms": 100}));
    let rogue = stage.account_with(host, Mode::Safe, bundle).await?;
    set(host, &rogue, json!({"log-bytes-a-day": 10})).await?;
    rogue.insist(host, &new_user()?, "flood").await?;
    let calls = host.admin().calls_once_written(&rogue, 1).await?;
    let id = calls[0]["id"].as_str().context("an id")?;
    let call = host.admin().get(&format!("/api/v1/calls/{id}")).await?;
    let log = call["log"].as_str().context("a log")?;
    let expected = "WARN  this log is not kept: quota log-bytes-a-day of the account: 10 at most";
    ensure!(log.starts_with(expected), "{log}");
    Ok(())
}

async fn callbacks_beyond_a_rate_wait_their_turn(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let rogue = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    set(host, &rogue, json!({"callbacks-a-second": 1})).await?;
    let users = (0..3).map(|_| new_user()).collect::<Result<Vec<_>>>()?;
    let answers = users
        .iter()
        .map(|user| rogue.ask(host, user, "get nothing"));
    let answers = try_join_all(answers).await?;
    ensure!(answers == ["nothing"; 3], "{answers:?}");
    Ok(())
}
