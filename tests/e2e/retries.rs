//! WeChat delivers again: one run, one answer, one set of effects, wherever the deliveries land.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::Value;
use wxhost_simulator::{
    Outcome, PushSettings, Shown, SystemEnvironment, UserAction, WechatPlatform,
};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::site::Site;
use wxhost_tests::wait;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::Reply;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: deliveries_at_once_share_one_run, answered_message_gets_the_same_answer,
        redelivered_event_counts_once, patient_wechat_gets_the_answer_at_its_second_try,
        late_answer_goes_to_the_outbox, late_video_without_a_cover_is_told_in_its_record,
        busy_host_keeps_the_event,
        busy_host_answers_when_it_has_room, events_of_one_second_are_told_apart;
    SHARED: deliveries_on_two_hosts_share_one_run, answer_of_one_host_is_given_by_the_other,
        wiped_redis_does_not_double_effects;
}

/// How many deliveries WeChat makes.
const DELIVERIES: usize = 3;

async fn deliveries_at_once_share_one_run(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage
        .account_with(host, Mode::Safe, samples::sleeper()?)
        .await?;
    let callback = account.callback(&new_user()?, &UserAction::text("sleep 2000"));
    let outcomes = try_join_all((0..DELIVERIES).map(|_| account.deliver(host, &callback))).await?;
    expect_one_answer(&outcomes)?;
    expect_calls(host, &account, 1).await?;
    Ok(())
}

async fn deliveries_on_two_hosts_share_one_run(stage: Stage) -> Result<()> {
    let one = stage.host().await?;
    let other = stage.second_host().await?;
    let account = stage
        .account_with(one, Mode::Safe, samples::sleeper()?)
        .await?;
    known_on(&other, &account).await?;
    let callback = account.callback(&new_user()?, &UserAction::text("sleep 2000"));
    let hosts = [one, &other, one, &other];
    let outcomes = try_join_all(hosts.map(|host| account.deliver(host, &callback))).await?;
    expect_one_answer(&outcomes)?;
    // Each host writes its own records.
    all_calls(&other, &account).await?;
    let calls = all_calls(one, &account).await?;
    let runs = calls.iter().filter(|call| is_of(call, &callback)).count();
    ensure!(runs == 1, "{runs} runs: {calls:?}");
    Ok(())
}

async fn answer_of_one_host_is_given_by_the_other(stage: Stage) -> Result<()> {
    let one = stage.host().await?;
    let other = stage.second_host().await?;
    let account = stage.account(one, Mode::Safe, Plugin::Rogue).await?;
    known_on(&other, &account).await?;
    let user = new_user()?;
    let callback = account.callback(&user, &UserAction::text("count"));
    let outcomes = [
        account.deliver(one, &callback).await?,
        account.deliver(&other, &callback).await?,
        account.deliver(one, &callback).await?,
    ];
    expect_one_answer(&outcomes)?;
    ensure!(account.ask(&other, &user, "count").await? == samples::count(2));
    Ok(())
}

async fn wiped_redis_does_not_double_effects(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let one = site.host().await?;
    let other = site.host().await?;
    let account = stage.account(&one, Mode::Safe, Plugin::Rogue).await?;
    known_on(&other, &account).await?;
    let user = new_user()?;
    let callback = account.callback(&user, &UserAction::text("count"));
    let first = account.deliver(&one, &callback).await?;
    stage.wipe_redis(&site).await?;
    // The other host has never seen the event, and nobody remembers it but the database.
    let second = account.deliver(&other, &callback).await?;
    expect_one_answer(&[first, second])?;
    ensure!(account.ask(&other, &user, "count").await? == samples::count(2));
    Ok(())
}

async fn answered_message_gets_the_same_answer(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let account = stage.account(host, mode, Plugin::Rogue).await?;
        let callback = account.callback(&new_user()?, &UserAction::text("an echo"));
        let mut outcomes = Vec::new();
        for _ in 0..DELIVERIES {
            outcomes.push(account.deliver(host, &callback).await?);
        }
        expect_one_answer(&outcomes)?;
        expect_calls(host, &account, 1).await?;
    }
    Ok(())
}

async fn redelivered_event_counts_once(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    for round in 1..=5 {
        let callback = account.callback(&user, &UserAction::text("count"));
        let outcomes =
            try_join_all((0..DELIVERIES).map(|_| account.deliver(host, &callback))).await?;
        let expected = Outcome::Replied(Reply::Text(samples::count(round)));
        ensure!(
            outcomes.iter().all(|outcome| *outcome == expected),
            "round {round}: {outcomes:?}"
        );
    }
    Ok(())
}

async fn patient_wechat_gets_the_answer_at_its_second_try(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage
        .account_with(host, Mode::Safe, samples::sleeper()?)
        .await?;
    // WeChat as it is: five seconds a delivery, three of them.
    let wechat = WechatPlatform::new(
        PushSettings::default(),
        std::sync::Arc::new(SystemEnvironment),
    )?;
    let text = "sleep 6000";
    let delivery = wechat
        .user_does(&account.at(host), &new_user()?, &UserAction::text(text))
        .await;
    ensure!(delivery.attempts.len() == 2, "{:?}", delivery.attempts);
    ensure!(
        matches!(delivery.shown, Shown::Reply(Reply::Text(_))),
        "{:?}",
        delivery.shown
    );
    let calls = expect_calls(host, &account, 1).await?;
    ensure!(calls[0]["outcome"] == "replied", "{calls:?}");
    Ok(())
}

async fn late_answer_goes_to_the_outbox(stage: Stage) -> Result<()> {
    // One delivery of 300 ms instead of three of 4.5 s.
    let site = stage
        .site()
        .await?
        .with("ANSWER_WAIT_MS", 300)
        .with("DELIVERIES", 1);
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    let outcome = account.say(&host, &user, "sleep 1000").await?;
    ensure!(
        outcome == Outcome::Silent,
        "the last delivery must be acknowledged: {outcome:?}"
    );
    let calls = host.admin().calls_once_written(&account, 1).await?;
    ensure!(calls[0]["outcome"] == "late", "{calls:?}");
    host.stop().await?;

    let rows = wait::until("a row in the outbox", wait::SOON, async || {
        let rows = site.outbox(&account).await?;
        Ok((!rows.is_empty()).then_some(rows))
    })
    .await?;
    ensure!(rows.len() == 1, "{rows:?}");
    ensure!(
        rows[0].open_id == user.as_str() && rows[0].state == "waiting",
        "{rows:?}"
    );
    Ok(())
}

async fn late_video_without_a_cover_is_told_in_its_record(stage: Stage) -> Result<()> {
    let site = stage
        .site()
        .await?
        .with("ANSWER_WAIT_MS", 300)
        .with("DELIVERIES", 1);
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let outcome = account.say(&host, &new_user()?, "sleep-video 1000").await?;
    ensure!(outcome == Outcome::Silent, "{outcome:?}");
    let calls = host.admin().calls_once_written(&account, 1).await?;
    let error = calls[0]["error"].as_str().unwrap_or_default();
    ensure!(
        calls[0]["outcome"] == "late-unsendable" && error.contains("cover"),
        "{calls:?}"
    );
    host.stop().await?;
    let rows = site.outbox(&account).await?;
    ensure!(rows.is_empty(), "WeChat would refuse it: {rows:?}");
    Ok(())
}

/// A site whose host runs one call at a time, and two accounts: one that takes the place, one that
/// finds none.
async fn crowd(site: Site) -> Result<(Site, Host)> {
    let site = site
        .with("MAX_CONCURRENT_CALLS", 1)
        .with("MAX_QUEUED_CALLS", 0);
    let host = site.host().await?;
    Ok((site, host))
}

async fn busy_host_keeps_the_event(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let (site, host) = crowd(site.with("ANSWER_WAIT_MS", 300).with("DELIVERIES", 1)).await?;
    let busy = stage
        .account_with(&host, Mode::Safe, samples::sleeper()?)
        .await?;
    let quiet = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    let sleep = busy.callback(&new_user()?, &UserAction::text("sleep 3000"));
    let slept = busy.deliver(&host, &sleep).await?;
    ensure!(slept == Outcome::Silent, "it still sleeps: {slept:?}");
    // No fallback text, no 503: it is kept, and its answer follows.
    let counted = quiet.say(&host, &user, "count").await?;
    ensure!(counted == Outcome::Silent, "{counted:?}");
    let rows = wait::until("the answer in the outbox", wait::SOON, async || {
        let rows = site.outbox(&quiet).await?;
        Ok((!rows.is_empty()).then_some(rows))
    })
    .await?;
    ensure!(
        rows.len() == 1 && rows[0].open_id == user.as_str(),
        "{rows:?}"
    );
    // The effect happened, once.
    let next = wait::until("room for the next one", wait::SOON, async || {
        let outcome = quiet.say(&host, &user, "count").await?;
        Ok(matches!(outcome, Outcome::Replied(_)).then_some(outcome))
    })
    .await?;
    let expected = Outcome::Replied(Reply::Text(samples::count(2)));
    ensure!(next == expected, "{next:?}");
    Ok(())
}

async fn busy_host_answers_when_it_has_room(stage: Stage) -> Result<()> {
    let (_site, host) = crowd(stage.site().await?).await?;
    let busy = stage
        .account_with(&host, Mode::Safe, samples::sleeper()?)
        .await?;
    let quiet = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let sleep = busy.callback(&new_user()?, &UserAction::text("sleep 1500"));
    let count = quiet.callback(&new_user()?, &UserAction::text("count"));
    let (_, counted) = tokio::try_join!(busy.deliver(&host, &sleep), async {
        host.busy_with(1.0).await?;
        quiet.deliver(&host, &count).await
    })?;
    let expected = Outcome::Replied(Reply::Text(samples::count(1)));
    ensure!(counted == expected, "{counted:?}");
    Ok(())
}

async fn events_of_one_second_are_told_apart(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    let callbacks = [
        UserAction::click("A"),
        UserAction::click("B"),
        UserAction::follow(),
    ]
    .map(|action| account.callback(&user, &action));
    for callback in &callbacks {
        account.deliver(host, callback).await?;
        account.deliver(host, callback).await?;
    }
    expect_calls(host, &account, callbacks.len()).await?;
    Ok(())
}

/// All alike, and a reply.
fn expect_one_answer(outcomes: &[Outcome]) -> Result<()> {
    let first = outcomes.first().context("an outcome")?;
    ensure!(matches!(first, Outcome::Replied(_)), "{first:?}");
    ensure!(
        outcomes.iter().all(|outcome| outcome == first),
        "{outcomes:?}"
    );
    Ok(())
}

/// So many records.
async fn expect_calls(host: &Host, account: &Account, count: usize) -> Result<Vec<Value>> {
    let calls = all_calls(host, account).await?;
    ensure!(
        calls.len() == count,
        "{} runs, not {count}: {calls:?}",
        calls.len()
    );
    Ok(calls)
}

/// The account's records. One more event is sent and waited for, so that none is missed because it is
/// not written yet.
async fn all_calls(host: &Host, account: &Account) -> Result<Vec<Value>> {
    let last = account.callback(&new_user()?, &UserAction::text("the last one"));
    account.deliver(host, &last).await?;
    let mut calls = wait::until("the last record", Duration::from_secs(30), async || {
        let calls = host.admin().calls(account).await?;
        Ok(calls.iter().any(|call| is_of(call, &last)).then_some(calls))
    })
    .await?;
    calls.retain(|call| !is_of(call, &last));
    Ok(calls)
}

/// Whether a record is of this message.
fn is_of(call: &Value, callback: &wxhost_simulator::Callback) -> bool {
    let msg_id = callback.value("MsgId").unwrap_or_default();
    let begin = format!("m:{msg_id}:{}:", callback.create_time());
    let event_id = call["event_id"].as_str();
    event_id.is_some_and(|event_id| event_id.starts_with(&begin))
}

/// Waits until a host knows the account and its plugin.
async fn known_on(host: &Host, account: &Account) -> Result<()> {
    let user = new_user()?;
    wait::until(
        "an account that is known on the other host",
        wait::SOON,
        async || {
            let outcome = account.say(host, &user, "are you there").await?;
            Ok(matches!(outcome, Outcome::Replied(_)).then_some(()))
        },
    )
    .await
}
