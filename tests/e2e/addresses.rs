//! What an operator asks WeChat through a host: which accounts' lists lack its address, what became of a
//! call, a day's calls anew.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::api::WechatApi;
use wxhost_tests::command::command;
use wxhost_tests::wait;

use crate::office::{CHEAP_CALL, Office};
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: refused_addresses_are_probed_shown_and_lifted, commands_probe_and_lift_addresses,
        operators_look_calls_up_and_clear_quotas;
}

async fn refused_addresses_are_probed_shown_and_lifted(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(&stage, &host, &api, 3, nothing).await?;
    let lacking = &office.accounts[0];
    let settings = format!("/apps/{}", lacking.app_id());
    let list = |addresses: Value| {
        let change = json!({"allowed_ips": addresses});
        api.ask(Method::PATCH, &settings, &change)
    };
    list(json!(["10.1.1.1"]))?;
    let probe = async || -> Result<Vec<String>> {
        let page = host
            .admin()
            .post("/api/v1/address-probe", &json!({}))
            .await?;
        let accounts = page["accounts"].as_array().context("accounts")?;
        ensure!(accounts.len() == 3, "{page}");
        let refused = accounts
            .iter()
            .filter(|account| account["result"] == "refused")
            .map(|account| format!("{} {}", account["app_id"], account["address"]));
        Ok(refused.collect())
    };
    let expected = format!("\"{}\" \"127.0.0.1\"", lacking.app_id());
    ensure!(probe().await? == [expected], "{:?}", probe().await?);

    let shown = "/api/v1/accounts?attention=address";
    let refusals = async || -> Result<Value> {
        let page = host.admin().get(shown).await?;
        Ok(page["accounts"][0]["address_refusals"][0].clone())
    };
    let refusal = wait::until("a refusal that is shown", wait::SOON, async || {
        Ok(Some(refusals().await?).filter(|refusal| !refusal.is_null()))
    })
    .await?;
    ensure!(refusal["errcode"] == 40164, "{refusal}");
    ensure!(
        host.metric("wxhost_addresses_refused").await? >= 1.0,
        "no metric"
    );
    let path = format!("/api/v1/accounts/{}", lacking.app_id());
    let account = host.admin().get(&path).await?;
    ensure!(account["attention"].is_null(), "{account}");
    let (status, answer) = office.call(&host, lacking, "lacking").await?;
    ensure!(
        status == 409 && answer["error"]["code"] == "address-refused",
        "{answer}"
    );
    office.sweep(&host, &office.accounts[1..], "others").await?;

    list(Value::Null)?;
    let lifted = host
        .admin()
        .call(
            Method::DELETE,
            "/api/v1/address-refusals?address=127.0.0.1",
            None,
        )
        .await?;
    ensure!(lifted == json!({"lifted": 1}), "{lifted}");
    wait::until("an account that is served again", wait::SOON, async || {
        let (status, _) = office.call(&host, lacking, "lifted").await?;
        Ok((status == 200).then_some(()))
    })
    .await?;
    ensure!(probe().await?.is_empty(), "still refused");
    wait::until("no refusal any more", wait::SOON, async || {
        Ok(refusals().await?.is_null().then_some(()))
    })
    .await
}

async fn commands_probe_and_lift_addresses(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(&stage, &host, &api, 2, nothing).await?;
    let lacking = &office.accounts[0];
    let settings = format!("/apps/{}", lacking.app_id());
    let list = |addresses: Value| {
        let change = json!({"allowed_ips": addresses});
        api.ask(Method::PATCH, &settings, &change)
    };
    list(json!(["10.1.1.1"]))?;
    let refused = command(&host, &["account", "probe"]).await;
    let refused = refused.err().context("a probe that fails")?.to_string();
    for said in [
        lacking.app_id(),
        "127.0.0.1",
        "40164",
        "1 accounts' lists lack",
    ] {
        ensure!(refused.contains(said), "{said} is missing: {refused}");
    }
    let shown = ["--json", "account", "list", "--attention", "address"];
    wait::until("a refusal that is shown", wait::SOON, async || {
        let accounts = command(&host, &shown).await?;
        Ok(accounts.contains(lacking.app_id()).then_some(()))
    })
    .await?;

    list(Value::Null)?;
    let lift = [
        "--json",
        "account",
        "lift-address",
        "--account",
        lacking.app_id(),
    ];
    let lifted: Value = serde_json::from_str(&command(&host, &lift).await?)?;
    ensure!(lifted == json!({"lifted": 1}), "{lifted}");
    wait::until("an account that is served again", wait::SOON, async || {
        let (status, _) = office.call(&host, lacking, "lifted").await?;
        Ok((status == 200).then_some(()))
    })
    .await?;
    let probed = command(&host, &["account", "probe"]).await?;
    ensure!(probed.contains("2 accounts probed"), "{probed}");
    Ok(())
}

async fn operators_look_calls_up_and_clear_quotas(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(&stage, &host, &api, 1, nothing).await?;
    let account = &office.accounts[0];
    let path = format!("/api/v1/accounts/{}", account.app_id());
    api.fault(&json!({
        "kind": "errcode", "errcode": 45009, "path_prefix": CHEAP_CALL, "count": 1,
    }))?;
    let (_, refused) = office.call(&host, account, "unlucky").await?;
    let text = refused["errmsg"].as_str().context("an errmsg")?;
    let (_, rid) = text.rsplit_once("rid: ").context("a rid")?;

    // The admin client fails if a secret is in an answer.
    let traced = host.admin().get(&format!("{path}/rids/{rid}")).await?;
    let shown = traced["request_url"].as_str().context("a query")?;
    ensure!(shown.contains("caller=unlucky"), "{traced}");
    let cleared = host
        .admin()
        .post(&format!("{path}/clear-quota"), &json!({}))
        .await?;
    ensure!(cleared == json!({"cleared": "all"}), "{cleared}");
    let one = json!({"cgi_path": CHEAP_CALL});
    let cleared = host
        .admin()
        .post(&format!("{path}/clear-quota"), &one)
        .await?;
    ensure!(cleared == json!({"cleared": CHEAP_CALL}), "{cleared}");

    let audit = host.admin().get("/api/v1/audit").await?.to_string();
    for action in ["rid.trace", "quota.clear"] {
        ensure!(audit.contains(action), "{action} is missing: {audit}");
    }
    Ok(())
}
