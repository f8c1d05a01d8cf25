//! What plugins remember: no update is lost, none is made twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures::future::{join, join_all};
use wxhost_simulator::{
    Outcome, PushSettings, Shown, SystemEnvironment, UserAction, WechatPlatform,
};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::wait;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::OpenId;
use wxhost_wechat::reply::Reply;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: concurrent_counts_of_one_user_all_count, reads_that_went_stale_run_again,
        accounts_do_not_disturb_each_other, messages_that_an_earlier_version_answered_are_not_run_again;
    SHARED: concurrent_counts_over_two_hosts_all_count;
}

/// Messages of one user at once.
const AT_ONCE: u32 = 20;

async fn concurrent_counts_of_one_user_all_count(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    expect_all_count(&[host], &account, &user).await
}

async fn concurrent_counts_over_two_hosts_all_count(stage: Stage) -> Result<()> {
    let one = stage.host().await?;
    let other = stage.second_host().await?;
    let account = stage.account(one, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    wait::until(
        "an account that is known on the other host",
        wait::SOON,
        async || Ok(account.ask(&other, &user, "there?").await.ok()),
    )
    .await?;
    expect_all_count(&[one, &other], &account, &user).await
}

/// An earlier version knew a message by its MsgId alone; what it has done is not done again, and is still
/// nobody else's.
async fn messages_that_an_earlier_version_answered_are_not_run_again(stage: Stage) -> Result<()> {
    const MSG_ID: u64 = 24_000_000_000_000_077;
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Plain, Plugin::Rogue).await?;
    host.stop().await?;
    let (a, b) = (new_user()?, new_user()?);
    let answer = format!(
        "<xml><ToUserName><![CDATA[{a}]]></ToUserName><FromUserName><![CDATA[{}]]></FromUserName>\
         <CreateTime>1</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[from before]]></Content></xml>",
        account.known().original_id
    );
    let earlier = format!("m:{MSG_ID}");
    site.leave_committed(&account, &earlier, &answer).await?;
    let updated = site.host().await?;
    for (user, text) in [(&a, "from before"), (&b, "mine")] {
        let callback = account.callback(user, &UserAction::text("mine").with_msg_id(MSG_ID));
        let outcome = account.deliver(&updated, &callback).await?;
        ensure!(
            outcome == Outcome::Replied(Reply::Text(text.to_owned())),
            "{outcome:?}"
        );
    }
    updated.stop().await
}

async fn reads_that_went_stale_run_again(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let (one, other) = (new_user()?, new_user()?);
    // Both read before either commits: one of them has to run again.
    let (first, second) = join(
        account.ask(host, &one, "stale-sleep 500"),
        account.ask(host, &other, "stale-sleep 500"),
    )
    .await;
    let mut numbers = [first?, second?];
    numbers.sort();
    ensure!(
        numbers == [samples::count(1), samples::count(2)],
        "{numbers:?}"
    );
    let calls = host.admin().calls_once_written(&account, 2).await?;
    let runs: u64 = calls.iter().filter_map(|call| call["runs"].as_u64()).sum();
    ensure!(runs == 3, "{runs} runs: {calls:?}");
    Ok(())
}

async fn accounts_do_not_disturb_each_other(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let mut accounts = Vec::new();
    for _ in 0..5 {
        accounts.push(stage.account(host, Mode::Plain, Plugin::Rogue).await?);
    }
    let user = new_user()?;
    for round in 1..=5 {
        let answers = join_all(
            accounts
                .iter()
                .map(|account| account.ask(host, &user, "count")),
        )
        .await;
        for answer in answers {
            let answer = answer?;
            ensure!(answer == samples::count(round), "round {round}: {answer}");
        }
    }
    Ok(())
}

/// Each of the messages gets a number of its own, 1 to [`AT_ONCE`], within WeChat's deliveries.
async fn expect_all_count(hosts: &[&Host], account: &Account, user: &OpenId) -> Result<()> {
    let wechat = WechatPlatform::new(
        PushSettings {
            mute_after: u32::MAX,
            ..PushSettings::default()
        },
        Arc::new(SystemEnvironment),
    )?;
    let deliveries = (0..AT_ONCE as usize).map(|number| {
        let at = account.at(hosts[number % hosts.len()]);
        let wechat = &wechat;
        async move {
            wechat
                .user_does(&at, user, &UserAction::text("count"))
                .await
        }
    });
    let mut numbers = BTreeSet::new();
    for delivery in join_all(deliveries).await {
        let Shown::Reply(Reply::Text(number)) = &delivery.shown else {
            anyhow::bail!("a count was lost: {delivery:?}");
        };
        ensure!(numbers.insert(number.clone()), "{number} was given twice");
    }
    let expected: BTreeSet<String> = (1..=AT_ONCE).map(samples::count).collect();
    ensure!(numbers == expected, "{numbers:?}");
    let host = hosts.last().context("a host")?;
    ensure!(account.ask(host, user, "count").await? == samples::count(AT_ONCE + 1));
    Ok(())
}
