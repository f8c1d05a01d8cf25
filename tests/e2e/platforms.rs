//! Third-party platforms: what becomes of their accounts' tokens, what is taken back, and what is forged.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_simulator::{Outcome, SimulatedComponent, SystemEnvironment, UserAction};
use wxhost_tests::account;
use wxhost_tests::wait;
use wxhost_wechat::component::release_test;
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::reply::Reply;

use crate::agency::{Agency, registration};
use crate::office::CHEAP_CALL;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: an_address_that_a_platforms_list_lacks_is_told_and_tried_again,
        what_is_taken_back_rests_and_comes_back,
        a_refresh_token_that_was_lost_is_found_again,
        what_a_plugin_lacks_is_named, tickets_and_events_are_told_once_and_by_wechat_only,
        wechats_release_test_is_answered_by_the_host, open_platform_accounts_and_quotas;
}

const NOTHING: Value = Value::Null;

async fn what_is_taken_back_rests_and_comes_back(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, original_id) = agency.newcomer()?;
    let who = (&app_id, &original_id);
    agency.claimed(&host, &app_id).await?;
    ensure!(
        agency.ask(&host, who, "1").await? == "You wrote: 1",
        "served"
    );
    let told = agency
        .tell("unauthorize", &json!({"app_id": app_id}))
        .await?;
    ensure!(told["push"]["ok"] == true, "{told}");
    let path = format!("/api/v1/accounts/{app_id}");
    wait::until("an account that rests", wait::SOON, async || {
        let shown = host.admin().get(&path).await?;
        Ok((shown["authorisation"]["is_standing"] == false).then_some(()))
    })
    .await?;
    // WeChat goes on sending for a while: acknowledged, and no plugin runs.
    ensure!(
        agency.ask(&host, who, "2").await?.is_empty(),
        "a withdrawn account"
    );
    let calls = format!("{path}/calls");
    ensure!(
        host.admin().get(&calls).await?["calls"]
            .as_array()
            .is_some_and(|calls| calls.len() <= 1)
    );
    let (status, refused) = agency.call(&host, &app_id, CHEAP_CALL).await?;
    ensure!(
        status == 403 && refused["error"]["code"] == "authorisation-withdrawn",
        "{status}: {refused}"
    );
    // An event that tells of the time before comes late, and changes nothing.
    let late = json!({"info_type": "authorized", "create_time": 1_413_192_760,
        "fields": {"AuthorizerAppid": app_id, "AuthorizationCode": "queryauthcode@@@old",
        "AuthorizationCodeExpiredTime": "1", "PreAuthCode": "preauthcode@@@old"}});
    agency.tell("push", &late).await?;
    let again = agency.authorize(&app_id, &json!({})).await?;
    ensure!(again["push"]["ok"] == true, "{again}");
    agency.served(&host, &app_id).await?;
    ensure!(
        agency.ask(&host, who, "3").await? == "You wrote: 3",
        "served again"
    );
    let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
    ensure!(status == 200, "{status}: {answer}");
    Ok(())
}

async fn a_refresh_token_that_was_lost_is_found_again(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let expect_call = async || {
        let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
        ensure!(
            status == 200 && answer["ip_list"].is_array(),
            "{status}: {answer}"
        );
        anyhow::Ok(())
    };
    expect_call().await?;
    let before = agency.counts(&app_id)?["renewals"].as_i64();
    let since = |counts: &Value| Some(counts["renewals"].as_i64()? - before?);
    // WeChat gives out a new refresh token, and its answer is lost.
    let lost = json!({"kind": "drop", "performed": true, "count": 1,
        "path_prefix": "/cgi-bin/component/api_authorizer_token"});
    agency.api.fault(&lost)?;
    refuse(&agency)?;
    wait::until("a call with a fresh token", wait::SOON, async || {
        Ok(expect_call().await.is_ok().then_some(()))
    })
    .await?;
    let counts = agency.counts(&app_id)?;
    ensure!(
        since(&counts) == Some(2) && counts["refused_renewals"] == 1,
        "{before:?} {counts} {}",
        agency.api.ask(Method::GET, "/requests", &Value::Null)?
    );
    // The one that was found is good for the next.
    refuse(&agency)?;
    expect_call().await?;
    let counts = agency.counts(&app_id)?;
    ensure!(
        since(&counts) == Some(3) && counts["refused_renewals"] == 1,
        "{counts}"
    );
    Ok(())
}

/// WeChat refuses the next call for its token.
fn refuse(agency: &Agency) -> Result<()> {
    let refused =
        json!({"kind": "errcode", "errcode": 42001, "count": 1, "path_prefix": CHEAP_CALL});
    agency.api.fault(&refused)
}

async fn an_address_that_a_platforms_list_lacks_is_told_and_tried_again(
    stage: Stage,
) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let list = |addresses: Value| {
        let path = format!("/components/{}", agency.id());
        let list = json!({"allowed_ips": addresses});
        agency.api.ask(Method::PATCH, &path, &list)
    };
    let probe = async || -> Result<Value> {
        let path = format!("/api/v1/address-probe?tenant={}", agency.tenant);
        let probed = host.admin().post(&path, &Value::Null).await?;
        let accounts = probed["accounts"].as_array().context("a list")?;
        let ours = accounts.iter().find(|one| one["app_id"] == app_id.as_str());
        ours.cloned().context("the account")
    };
    ensure!(probe().await?["result"] == "allowed", "it is on the list");
    list(json!(["192.0.2.1"]))?;
    let refused = probe().await?;
    ensure!(
        refused["result"] == "refused" && refused["errcode"] == 61004,
        "{refused}"
    );
    list(Value::Null)?;
    ensure!(probe().await?["result"] == "allowed", "it is back");
    let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
    ensure!(status == 200 && answer["ip_list"].is_array(), "{answer}");
    Ok(())
}

async fn what_a_plugin_lacks_is_named(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    agency
        .authorize(&app_id, &json!({"permission_sets": [2, 7]}))
        .await?;
    agency.claim(&host, &app_id).await?;
    let shown = agency.served(&host, &app_id).await?;
    ensure!(
        shown["authorisation"]["permission_sets"]
            == json!([
            {"id": 2, "name": "用户管理"}, {"id": 7, "name": "群发与通知"}]),
        "{shown}"
    );
    let missing = shown["authorisation"]["missing"]
        .as_array()
        .context("a list")?;
    ensure!(
        missing.contains(&json!({"id": 1, "name": "消息管理"})),
        "{shown}"
    );
    // The host's own calls name it, before WeChat would.
    let bound = format!("/api/v1/accounts/{app_id}/open-account");
    let (status, refused) = host.admin().try_call(Method::GET, &bound, None).await?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    ensure!(
        status == 502 && message.contains("开放平台账号管理 (24)"),
        "{refused}"
    );
    // Its owner grants more.
    let more = agency
        .authorize(&app_id, &json!({"permission_sets": [1, 2, 7, 24]}))
        .await?;
    ensure!(more["push"]["info_type"] == "updateauthorized", "{more}");
    let path = format!("/api/v1/accounts/{app_id}");
    wait::until("an account that was granted more", wait::SOON, async || {
        let shown = host.admin().get(&path).await?;
        Ok((shown["authorisation"]["missing"] == json!([])).then_some(()))
    })
    .await?;
    let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
    ensure!(status == 200, "{status}: {answer}");
    Ok(())
}

async fn tickets_and_events_are_told_once_and_by_wechat_only(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    // The same event five times is one.
    let told = agency.authorize(&app_id, &json!({"push": false})).await?;
    let event = json!({"info_type": "authorized", "repeat": 5, "fields": {
        "AuthorizerAppid": app_id, "AuthorizationCode": told["auth_code"],
        "AuthorizationCodeExpiredTime": "9999999999", "PreAuthCode": told["pre_auth_code"]}});
    let pushed = agency.tell("push", &event).await?;
    let pushes = pushed["pushes"].as_array().context("pushes")?;
    ensure!(
        pushes.len() == 5 && pushes.iter().all(|push| push["ok"] == true),
        "{pushed}"
    );
    agency.claim(&host, &app_id).await?;
    agency.served(&host, &app_id).await?;
    let counts = agency.counts(&app_id)?;
    ensure!(counts["exchanges"] == 1, "{counts}");
    // What is not known is acknowledged and shown.
    let unknown = json!({"info_type": "notify_third_fasteregister", "fields": {"appid": "wx01"}});
    let pushed = agency.tell("push", &unknown).await?;
    ensure!(pushed["pushes"][0]["ok"] == true, "{pushed}");
    let events = host.admin().get(&agency.path("events")).await?;
    let events = events["events"].as_array().context("events")?;
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str()).collect();
    ensure!(
        kinds == [Some("notify_third_fasteregister"), Some("authorized")],
        "{kinds:?}"
    );
    // Another platform's keys open nothing here, and its tickets are not this one's.
    let stranger = SimulatedComponent::register(host.base(), &SystemEnvironment);
    let foreign = SimulatedComponent {
        event_url: agency.component.event_url.clone(),
        ..stranger
    };
    agency.api.put_component(&foreign)?;
    let told = agency
        .api
        .tell(&foreign.app_id, "ticket", &json!({}))
        .await?;
    ensure!(told["push"]["status"] == 403, "{told}");
    // The same keys, but for another platform.
    let foreign = SimulatedComponent {
        token: agency.component.token.clone(),
        aes_key: agency.component.aes_key.clone(),
        ..foreign
    };
    agency.api.put_component(&foreign)?;
    let told = agency
        .api
        .tell(&foreign.app_id, "ticket", &json!({}))
        .await?;
    ensure!(told["push"]["status"] == 400, "{told}");
    // A ticket that comes late does not take the place of a newer one: the token is got with that.
    let late = json!({"push": true, "create_time": 1_413_192_760});
    agency.tell("ticket", &late).await?;
    agency.tell("ticket", &json!({"push": false})).await?;
    let (app_id, _) = agency.newcomer()?;
    agency.authorize(&app_id, &json!({"push": true})).await?;
    agency.claim(&host, &app_id).await?;
    agency.served(&host, &app_id).await?;
    let again = registration(&agency.component, host.base());
    let doubled = host
        .admin()
        .try_call(Method::POST, "/api/v1/platforms", Some(&again));
    let (status, refused) = doubled.await?;
    ensure!(
        status == 409 && refused["error"]["code"] == "exists",
        "{refused}"
    );
    Ok(())
}

async fn wechats_release_test_is_answered_by_the_host(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let original_id = OriginalId::parse("gh_3c884a361561")?;
    for (group, app_id) in release_test::ACCOUNTS.iter().enumerate() {
        let app_id = AppId::parse(app_id)?;
        let agreement = json!({"original_id": original_id});
        let told = agency.authorize(&app_id, &agreement).await?;
        let account = agency.component.account(&app_id, &original_id);
        let wechat = stage.wechat();
        let user = account::new_user()?;
        let follower = json!({"open_ids": [user]});
        agency.api.ask(
            Method::POST,
            &format!("/apps/{app_id}/followers"),
            &follower,
        )?;
        let wrote = json!({"open_id": user, "kind": "message"});
        agency.api.ask(
            Method::POST,
            &format!("/apps/{app_id}/interactions"),
            &wrote,
        )?;
        let answer = async |action: UserAction| {
            let callback = wechat.compose(&account, &user, &action);
            let delivery = wechat.push(&account, &callback).await;
            delivery
                .attempts
                .into_iter()
                .next()
                .map(|attempt| attempt.outcome)
        };
        let text = answer(UserAction::text("TESTCOMPONENT_MSG_TYPE_TEXT")).await;
        let expected = Reply::Text("TESTCOMPONENT_MSG_TYPE_TEXT_callback".into());
        ensure!(text == Some(Outcome::Replied(expected)), "{text:?}");
        let event = answer(UserAction::click("x")).await;
        let expected = Reply::Text("CLICKfrom_callback".into());
        ensure!(event == Some(Outcome::Replied(expected)), "{event:?}");
        let code = told["auth_code"].as_str().context("a code")?;
        let asked = answer(UserAction::text(&format!("QUERY_AUTH_CODE:{code}"))).await;
        ensure!(asked == Some(Outcome::Silent), "{asked:?}");
        let path = format!("/apps/{app_id}/messages?open_id={user}");
        let wanted = format!("{code}_from_api");
        wait::until("the message of the test", wait::SOON, async || {
            let shown = agency.api.ask(Method::GET, &path, &NOTHING)?;
            Ok(shown.to_string().contains(&wanted).then_some(()))
        })
        .await
        .with_context(|| format!("group {}", group + 1))?;
    }
    // What they write is answered for them only.
    let (app_id, original_id) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let reply = agency
        .ask(
            &host,
            (&app_id, &original_id),
            "TESTCOMPONENT_MSG_TYPE_TEXT",
        )
        .await?;
    ensure!(reply == "You wrote: TESTCOMPONENT_MSG_TYPE_TEXT", "{reply}");
    Ok(())
}

async fn open_platform_accounts_and_quotas(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let path = format!("/api/v1/accounts/{app_id}/open-account");
    let admin = host.admin();
    let none = admin.try_call(Method::GET, &path, None).await?;
    ensure!(
        none.0 == 502 && none.1["error"]["message"].as_str().is_some(),
        "{none:?}"
    );
    let made = admin.call(Method::PUT, &path, Some(&json!({}))).await?;
    ensure!(admin.get(&path).await? == made, "{made}");
    let again = admin.try_call(Method::PUT, &path, Some(&json!({}))).await?;
    ensure!(again.0 == 502, "bound already: {again:?}");
    admin.call(Method::DELETE, &path, None).await?;
    let bound = admin.call(Method::PUT, &path, Some(&made)).await?;
    ensure!(bound == made, "{bound}");
    let quota = agency.path("clear-quota");
    ensure!(
        admin.try_call(Method::POST, &quota, None).await?.0 == 204,
        "quota"
    );
    let tickets = agency.path("start-tickets");
    ensure!(
        admin.try_call(Method::POST, &tickets, None).await?.0 == 204,
        "tickets"
    );
    Ok(())
}
