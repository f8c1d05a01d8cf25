//! Hosts that end, with and without warning.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use rustix::process::{Pid, Signal};
use wxhost_simulator::{Callback, Outcome, UserAction};
use wxhost_tests::account::new_user;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::Reply;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: killed_host_loses_no_committed_write_and_doubles_none, graceful_end_answers_what_is_under_way,
        acknowledged_late_run_is_finished_after_a_crash;
    EMBEDDED: second_host_on_one_file_is_refused, file_of_a_killed_host_is_free_again;
    SHARED: second_host_answers_what_a_killed_one_left,
        event_of_an_account_that_a_host_cannot_open_is_left_to_others;
}

/// Messages that a host gets while it is killed twice.
const MESSAGES: u32 = 90;

async fn killed_host_loses_no_committed_write_and_doubles_none(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let mut host = site.host().await?;
    let account = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    let mut open: Vec<Callback> = (0..MESSAGES)
        .map(|_| account.callback(&user, &UserAction::text("count")))
        .collect();
    let mut numbers = BTreeSet::new();
    // Whose last delivery was acknowledged before there was an answer: that follows by the outbox.
    let mut late = 0;

    // Twice the host is killed when a third of what was open is answered. What is left is delivered
    // until it is answered: some of it waits for claims of the dead to run out.
    for kill in [true, true, false, false, false] {
        let enough = if kill { open.len() / 3 } else { open.len() };
        let answers = AtomicUsize::new(0);
        let deliveries = join_all(open.iter().map(|callback| async {
            let outcome = account.deliver(&host, callback).await;
            answers.fetch_add(1, Ordering::Relaxed);
            outcome
        }));
        let murder = async {
            while answers.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
            if kill {
                kill_process(host.pid())
            } else {
                Ok(())
            }
        };
        let (outcomes, murdered) = futures::join!(deliveries, murder);
        murdered?;
        let mut unanswered = Vec::new();
        for (callback, outcome) in open.into_iter().zip(outcomes) {
            match outcome? {
                Outcome::Replied(Reply::Text(number)) => {
                    ensure!(numbers.insert(number.clone()), "{number} was given twice");
                }
                Outcome::Unreachable(_) if kill => unanswered.push(callback),
                Outcome::Refused(status) if status == 503 => unanswered.push(callback),
                Outcome::Silent => late += 1,
                other => bail!("a count was answered {other:?}"),
            }
        }
        open = unanswered;
        if kill {
            ensure!(
                !open.is_empty(),
                "the host was killed too late: everything was answered"
            );
            host = site.host().await?;
        }
    }
    ensure!(
        open.is_empty(),
        "{} messages were never answered",
        open.len()
    );
    let rows = wait::until("the late answers", wait::SOON, async || {
        let rows = site.outbox(&account).await?;
        Ok((rows.len() == late).then_some(rows))
    })
    .await?;
    for row in rows {
        let message: serde_json::Value = serde_json::from_str(&row.payload)?;
        let number = message["text"]["content"].as_str().context("a text")?;
        ensure!(
            numbers.insert(number.to_owned()),
            "{number} was given twice"
        );
    }
    let expected: BTreeSet<String> = (1..=MESSAGES).map(samples::count).collect();
    ensure!(numbers == expected, "{numbers:?}");
    Ok(())
}

pub(crate) fn kill_process(id: u32) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(id)?).context("a process id")?;
    Ok(rustix::process::kill_process(id, Signal::KILL)?)
}

async fn graceful_end_answers_what_is_under_way(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let mut host = site.host().await?;
    let account = stage
        .account_with(&host, Mode::Safe, samples::sleeper()?)
        .await?;
    let users = (0..4).map(|_| new_user()).collect::<Result<Vec<_>>>()?;
    {
        let asked = join_all(
            users
                .iter()
                .map(|user| account.say(&host, user, "sleep 1500")),
        );
        let end = async {
            host.busy_with(4.0).await?;
            host.ask_to_end()
        };
        let (outcomes, ended) = futures::join!(asked, end);
        ended?;
        for outcome in outcomes {
            let outcome = outcome?;
            ensure!(
                matches!(outcome, Outcome::Replied(Reply::Text(_))),
                "{outcome:?}"
            );
        }
    }
    let status = host.ended(wait::SOON).await?;
    ensure!(status.success(), "{status}: {}", host.printed()?);
    // What was answered is on record, though records are written behind.
    let host = site.host().await?;
    let calls = host.admin().calls(&account).await?;
    ensure!(calls.len() == 4, "{} records: {calls:?}", calls.len());
    Ok(())
}

async fn acknowledged_late_run_is_finished_after_a_crash(stage: Stage) -> Result<()> {
    let site = stage
        .site()
        .await?
        .with("ANSWER_WAIT_MS", 300)
        .with("DELIVERIES", 1);
    let host = site.host().await?;
    let account = stage
        .account_with(&host, Mode::Safe, samples::sleeper()?)
        .await?;
    let outcome = account.say(&host, &new_user()?, "sleep 1500").await?;
    ensure!(outcome == Outcome::Silent, "{outcome:?}");
    // Acknowledged, not finished: now nobody but the host knows of it.
    host.kill()?;

    let host = site.host().await?;
    wait::until("the late answer", Duration::from_secs(90), async || {
        Ok((!site.outbox(&account).await?.is_empty()).then_some(()))
    })
    .await?;
    host.stop().await?;
    let rows = site.outbox(&account).await?;
    ensure!(rows.len() == 1, "{rows:?}");
    Ok(())
}

/// Two steps of a change of the master key at once: the old host can open neither the account nor the
/// event, which were sealed under the new key.
async fn event_of_an_account_that_a_host_cannot_open_is_left_to_others(stage: Stage) -> Result<()> {
    let site = stage
        .site()
        .await?
        .with("ANSWER_WAIT_MS", 300)
        .with("DELIVERIES", 1)
        // What is acknowledged is taken up ten seconds later than a call may take.
        .with("CALL_DEADLINE_MS", 2_000);
    let old = site.host().await?;
    let old_key = site.setting("MASTER_KEY").to_owned();
    let site = site
        .with("MASTER_KEY", secrets::fresh_master_key()?)
        .with("PREVIOUS_MASTER_KEY", old_key);
    let new = site.host().await?;
    let account = stage
        .account_with(&new, Mode::Safe, samples::sleeper()?)
        .await?;
    let outcome = account.say(&new, &new_user()?, "sleep 1000").await?;
    ensure!(outcome == Outcome::Silent, "{outcome:?}");
    new.kill()?;

    wait::until("the old host's look at the event", wait::SOON, async || {
        let printed = old.printed()?;
        let mut lines = printed.lines();
        let seen = lines.any(|line| {
            line.contains(account.app_id()) && line.contains("an acknowledged event waits")
        });
        Ok(seen.then_some(()))
    })
    .await?;
    let dead = old.metric("wxhost_dead_events_total").await?;
    ensure!(dead == 0.0, "{dead} dead letters");
    let _new = site.host().await?;
    wait::until("the late answer", Duration::from_secs(90), async || {
        Ok((!site.outbox(&account).await?.is_empty()).then_some(()))
    })
    .await
}

async fn second_host_on_one_file_is_refused(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Plain, Plugin::Hello).await?;
    let mut second = site.launch()?;
    let status = second.ended(wait::SOON).await?;
    ensure!(!status.success(), "the second host ended with {status}");
    let printed = second.printed()?;
    ensure!(
        printed.contains("wxhost.db") || printed.contains("another host"),
        "it does not say why: {printed}"
    );
    account.ask(&host, &new_user()?, "unharmed").await?;
    Ok(())
}

async fn file_of_a_killed_host_is_free_again(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Plain, Plugin::Hello).await?;
    host.kill()?;
    let host = site.host().await?;
    account.ask(&host, &new_user()?, "back").await?;
    Ok(())
}

async fn second_host_answers_what_a_killed_one_left(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let doomed = site.host().await?;
    let heir = site.host().await?;
    let account = stage
        .account_with(&doomed, Mode::Safe, samples::sleeper()?)
        .await?;
    let user = new_user()?;
    wait::until(
        "an account that is known on both hosts",
        wait::SOON,
        async || Ok(account.ask(&heir, &user, "there?").await.ok()),
    )
    .await?;

    let callback = account.callback(&user, &UserAction::text("sleep 2000"));
    let first = async { account.deliver(&doomed, &callback).await };
    let kill = async {
        doomed.busy_with(1.0).await?;
        kill_process(doomed.pid())
    };
    let (lost, killed) = futures::join!(first, kill);
    killed?;
    ensure!(
        !matches!(lost?, Outcome::Replied(_)),
        "the killed host has answered"
    );
    // WeChat's next deliveries go to the heir. It may first wait for a run that is no more.
    let answered = wait::until("the heir's answer", Duration::from_secs(40), async || {
        let outcome = account.deliver(&heir, &callback).await?;
        Ok(matches!(outcome, Outcome::Replied(_)).then_some(()))
    });
    answered.await
}
