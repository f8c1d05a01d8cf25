//! What leaves the outbox: late answers and messages, each once, whatever happens to the hosts, and none
//! that WeChat would not take.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use wxhost_simulator::Outcome;
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::command::command;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::id::OpenId;

use crate::office;
use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: late_answer_is_sent_as_a_message, message_that_wechat_would_refuse_is_not_sent,
        pauses_are_listed_and_lifted;
    SHARED: messages_are_sent_once_though_a_host_is_killed, follower_import_goes_on_after_a_kill;
}

/// Where messages go.
const SEND: &str = "/cgi-bin/message/custom/send";
/// A lease of a dead host must run out before another host sends what it had begun.
const TAKE_OVER: Duration = Duration::from_secs(100);

/// An account that WeChat's API knows, with a plugin.
async fn account(stage: &Stage, host: &Host, api: &WechatApi, bundle: &Bundle) -> Result<Account> {
    let nothing = json!({});
    office::admit_with(stage, host, api, (&nothing, &nothing), bundle).await
}

/// A follower who has just written, as WeChat's API knows it too.
async fn writer(api: &WechatApi, account: &Account) -> Result<OpenId> {
    let user = new_user()?;
    let app = format!("/apps/{}", account.app_id());
    let followers = json!({"open_ids": [user.as_str()]});
    api.ask(Method::POST, &format!("{app}/followers"), &followers)?;
    let interaction = json!({"open_id": user.as_str(), "kind": "message"});
    api.ask(Method::POST, &format!("{app}/interactions"), &interaction)?;
    Ok(user)
}

/// The messages that WeChat has taken for an account: to whom, and how often which text.
fn taken(api: &WechatApi, account: &Account) -> Result<BTreeMap<(String, String), u32>> {
    let mut taken = BTreeMap::new();
    for request in api.requests(account, SEND)? {
        if request["performed"] != true || request["errcode"] != 0 {
            continue;
        }
        let body: Value = serde_json::from_str(request["body"].as_str().context("a body")?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = (text(&body["touser"]), text(&body["text"]["content"]));
        *taken.entry(message).or_insert(0) += 1;
    }
    Ok(taken)
}

async fn late_answer_is_sent_as_a_message(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let site = site.with("ANSWER_WAIT_MS", 300).with("DELIVERIES", 1);
    let host = site.host().await?;
    let account = account(&stage, &host, &api, &samples::sleeper()?).await?;
    let user = writer(&api, &account).await?;
    let outcome = account.say(&host, &user, "sleep 1500").await?;
    ensure!(outcome == Outcome::Silent, "{outcome:?}");
    let expected = BTreeMap::from([((user.as_str().to_owned(), "slept".to_owned()), 1)]);
    wait::until("the late answer", wait::SOON, async || {
        Ok((taken(&api, &account)? == expected).then_some(()))
    })
    .await?;
    expect_settled(&host, &account, 1).await?;
    ensure!(taken(&api, &account)? == expected, "sent more than once");
    Ok(())
}

async fn pauses_are_listed_and_lifted(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let bundle = Bundle::of(Plugin::Rogue.component()?);
    let account = account(&stage, &host, &api, &bundle).await?;
    let app_id = account.app_id();
    let path = format!("/api/v1/accounts/{app_id}/outbox/pauses");
    let show = ["--json", "outbox", "pauses", "--account", app_id];
    let lift = ["--json", "outbox", "lift", "--account", app_id];
    for by_command in [true, false] {
        // Nothing is sent over this API until midnight in Beijing.
        api.fault(&json!({
            "kind": "errcode", "errcode": 45009, "path_prefix": SEND, "count": 1,
        }))?;
        let user = writer(&api, &account).await?;
        account.ask(&host, &user, "send good news").await?;
        let pauses = wait::until("a pause", wait::SOON, async || {
            let pauses = host.admin().get(&path).await?;
            Ok((pauses["pauses"] != json!([])).then_some(pauses))
        })
        .await?;
        let pause = &pauses["pauses"][0];
        ensure!(
            pause["path"] == SEND && pause["errcode"] == 45009 && pause["ends"] == false,
            "{pauses}"
        );
        let shown: Value = serde_json::from_str(&command(&host, &show).await?)?;
        ensure!(shown == pauses, "{shown}");

        let other = command(&host, &lift).await;
        let other = other.err().context("no pause of the whole account")?;
        ensure!(other.to_string().contains("no-such-pause"), "{other}");
        let lifted = if by_command {
            let lift = [&lift[..], &["--path", SEND]].concat();
            serde_json::from_str(&command(&host, &lift).await?)?
        } else {
            let query = format!("{path}?path={SEND}");
            host.admin().call(Method::DELETE, &query, None).await?
        };
        ensure!(lifted == json!({"pauses": []}), "{lifted}");
        let message = (user.as_str().to_owned(), "good news".to_owned());
        wait::until("what waited", wait::SOON, async || {
            Ok((taken(&api, &account)?.get(&message) == Some(&1)).then_some(()))
        })
        .await?;
    }
    let audit = host.admin().get("/api/v1/audit").await?.to_string();
    ensure!(audit.contains("outbox.lift"), "{audit}");
    Ok(())
}

async fn message_that_wechat_would_refuse_is_not_sent(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let bundle = Bundle::of(Plugin::Rogue.component()?);
    let account = account(&stage, &host, &api, &bundle).await?;
    let user = writer(&api, &account).await?;
    // Five messages may answer one of the user's.
    account.ask(&host, &user, "send-some 8").await?;
    wait::until("five messages, and three in vain", wait::SOON, async || {
        let rows = outbox(&host, &account).await?;
        let with = |state: &str| rows.iter().filter(|row| row["state"] == state).count();
        Ok((with("sent") == 5 && with("skipped") == 3).then_some(()))
    })
    .await?;
    ensure!(
        taken(&api, &account)?.values().sum::<u32>() == 5,
        "others were sent"
    );
    // To a follower who may have written before the host came: WeChat is asked once.
    let stranger = new_user()?;
    let path = format!("/apps/{}/followers", account.app_id());
    api.ask(
        Method::POST,
        &path,
        &json!({"open_ids": [stranger.as_str()]}),
    )?;
    let command = format!("send-to {} hello", stranger.as_str());
    for expected in ["failed", "skipped"] {
        account.ask(&host, &user, &command).await?;
        wait::until("what was not sent", wait::SOON, async || {
            let rows = outbox(&host, &account).await?;
            let mut rows = rows.iter();
            let found =
                rows.any(|row| row["open_id"] == stranger.as_str() && row["state"] == expected);
            Ok(found.then_some(()))
        })
        .await?;
    }
    let requests = api.requests(&account, SEND)?;
    let refused = requests.iter().filter(|request| request["errcode"] != 0);
    let refused: Vec<_> = refused.map(|request| &request["errcode"]).collect();
    ensure!(
        refused == [45015],
        "WeChat was asked for what it refuses: {refused:?}"
    );
    Ok(())
}

/// Users who are written to while a host is killed.
const USERS: usize = 24;

async fn messages_are_sent_once_though_a_host_is_killed(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let dying = site.host().await?;
    let bundle = Bundle::of(Plugin::Rogue.component()?);
    let account = account(&stage, &dying, &api, &bundle).await?;
    let mut users = Vec::with_capacity(USERS);
    for _ in 0..USERS {
        users.push(writer(&api, &account).await?);
    }
    // WeChat gets the first messages and does nothing for long: the host dies while it waits.
    let fault = json!({"kind": "slow", "ms": 600_000, "performed": false, "path_prefix": SEND});
    api.fault(&fault)?;
    let asked = users
        .iter()
        .map(|user| account.ask(&dying, user, "send good news"));
    for answer in join_all(asked).await {
        answer?;
    }
    wait::until("messages under way", wait::SOON, async || {
        let rows = outbox(&dying, &account).await?;
        let begun = rows.iter().any(|row| row["state"] == "sending");
        Ok(begun.then_some(()))
    })
    .await?;
    dying.signal(Signal::KILL)?;
    api.mend()?;

    let heir = site.host().await?;
    let expected: BTreeMap<_, _> = users
        .iter()
        .map(|user| ((user.as_str().to_owned(), "good news".to_owned()), 1))
        .collect();
    wait::until("every message", TAKE_OVER, async || {
        Ok((taken(&api, &account)?.len() == USERS).then_some(()))
    })
    .await?;
    expect_settled(&heir, &account, USERS).await?;
    let taken = taken(&api, &account)?;
    ensure!(taken == expected, "{taken:?}");
    Ok(())
}

/// Followers of the account that are imported: several pages of the list.
const FOLLOWERS: usize = 25_000;
/// They are many for a host that was built for tests and shares the machine with other scenarios'.
const IMPORT: Duration = Duration::from_secs(60);

async fn follower_import_goes_on_after_a_kill(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let dying = site.host().await?;
    let bundle = Bundle::of(Plugin::Hello.component()?);
    let account = account(&stage, &dying, &api, &bundle).await?;
    let followers = (0..FOLLOWERS)
        .map(|_| secrets::letters(27).map(|letters| format!("o{letters}")))
        .collect::<Result<Vec<_>>>()?;
    let path = format!("/apps/{}/followers", account.app_id());
    api.ask(Method::POST, &path, &json!({"open_ids": followers}))?;
    let import = format!("/api/v1/accounts/{}/contacts/import", account.app_id());
    dying.admin().post(&import, &json!({})).await?;
    let calls = |path: &str| Ok::<_, anyhow::Error>(api.requests(&account, path)?.len());
    wait::until("half of the import", IMPORT, async || {
        let fetched = calls("/cgi-bin/user/info/batchget")?;
        Ok((fetched >= FOLLOWERS / 100 / 2).then_some(()))
    })
    .await?;
    dying.signal(Signal::KILL)?;

    let heir = site.host().await?;
    let imported = wait::until("the whole import", TAKE_OVER + IMPORT, async || {
        let state = heir.admin().get(&import).await?;
        Ok((state["state"] == "done").then_some(state))
    })
    .await?;
    ensure!(imported["fetched"] == FOLLOWERS, "{imported}");
    // What the dead host had under way is asked for again, nothing else.
    let (pages, batches) = (
        calls("/cgi-bin/user/get")?,
        calls("/cgi-bin/user/info/batchget")?,
    );
    ensure!(pages <= FOLLOWERS.div_ceil(10_000) + 2, "{pages} pages");
    ensure!(batches <= FOLLOWERS / 100 + 20, "{batches} batches");
    Ok(())
}

/// The outbox of an account, as the operator sees it.
async fn outbox(host: &Host, account: &Account) -> Result<Vec<Value>> {
    let path = format!("/api/v1/accounts/{}/outbox?limit=200", account.app_id());
    let page = host.admin().get(&path).await?;
    page["outbox"]
        .as_array()
        .cloned()
        .with_context(|| format!("no outbox in {page}"))
}

/// Waits until so many rows of an account are sent, and nothing is left to send.
async fn expect_settled(host: &Host, account: &Account, count: usize) -> Result<()> {
    wait::until("an outbox that is settled", wait::SOON, async || {
        let rows = outbox(host, account).await?;
        let sent = rows.iter().filter(|row| row["state"] == "sent").count();
        Ok((sent == count && rows.len() == count).then_some(()))
    })
    .await
}
