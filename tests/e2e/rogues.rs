//! Plugins that misbehave: each gets the outcome that it deserves, and no neighbour notices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::{join, try_join_all};
use serde_json::json;
use tokio::sync::watch;
use wxhost_simulator::Outcome;
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::Reply;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: endless_loop, endless_allocation, endless_recursion, log_flood, forbidden_characters, panic,
        own_error, overlong_reply, too_many_reads, too_many_effects, every_misdeed_has_its_outcome,
        flooded_log_is_cut, nothing_stays_in_memory, crowd_of_loops_does_not_starve_others;
}

/// The same misdeed by so many users at once.
const USERS: usize = 4;

/// What a misdeed comes to.
enum Fate {
    /// The user sees nothing, the record holds this outcome.
    Outcome(&'static str),
    /// The user sees a text, the record says `replied`.
    Text(fn(&str) -> bool),
}

async fn endless_loop(stage: Stage) -> Result<()> {
    misbehave(stage, "loop", &Fate::Outcome("timeout")).await
}

async fn endless_allocation(stage: Stage) -> Result<()> {
    misbehave(stage, "allocate", &Fate::Outcome("memory-limit")).await
}

async fn endless_recursion(stage: Stage) -> Result<()> {
    misbehave(stage, "recurse", &Fate::Outcome("stack-overflow")).await
}

async fn log_flood(stage: Stage) -> Result<()> {
    misbehave(stage, "flood", &Fate::Outcome("timeout")).await
}

async fn forbidden_characters(stage: Stage) -> Result<()> {
    let clean = |text: &str| {
        !text
            .chars()
            .any(|c| c < ' ' && !matches!(c, '\t' | '\n' | '\r'))
    };
    misbehave(stage, "forbidden", &Fate::Text(clean)).await
}

async fn panic(stage: Stage) -> Result<()> {
    misbehave(stage, "panic", &Fate::Outcome("trap")).await
}

async fn own_error(stage: Stage) -> Result<()> {
    misbehave(stage, "error", &Fate::Outcome("plugin-error")).await
}

async fn overlong_reply(stage: Stage) -> Result<()> {
    misbehave(stage, "big", &Fate::Outcome("invalid-reply")).await
}

async fn too_many_reads(stage: Stage) -> Result<()> {
    misbehave(stage, "reads", &Fate::Outcome("host-limit:kv-reads")).await
}

async fn too_many_effects(stage: Stage) -> Result<()> {
    misbehave(stage, "effects", &Fate::Outcome("host-limit:call-bytes")).await
}

async fn misbehave(stage: Stage, misdeed: &str, fate: &Fate) -> Result<()> {
    let host = stage.host().await?;
    let rogue = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let neighbour = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let (done, is_done) = watch::channel(false);
    let misdeeds = async {
        let users = (0..USERS).map(|_| new_user()).collect::<Result<Vec<_>>>()?;
        let outcomes =
            try_join_all(users.iter().map(|user| rogue.insist(host, user, misdeed))).await;
        done.send_replace(true);
        outcomes
    };
    let (outcomes, greeted) = join(misdeeds, greet_until(host, &neighbour, is_done)).await;
    greeted.with_context(|| format!("beside a plugin that does {misdeed:?}"))?;

    let expected = match fate {
        Fate::Outcome(outcome) => outcome,
        Fate::Text(_) => "replied",
    };
    for outcome in outcomes? {
        match (fate, &outcome) {
            (Fate::Outcome(_), Outcome::Silent) => {}
            (Fate::Text(fits), Outcome::Replied(Reply::Text(text))) if fits(text) => {}
            _ => anyhow::bail!("{misdeed:?} was answered {outcome:?}"),
        }
    }
    for call in host.admin().calls_once_written(&rogue, USERS).await? {
        ensure!(
            call["outcome"] == *expected,
            "{expected} is what {misdeed:?} deserves: {call}"
        );
    }
    // The rogue itself is not shut out: each event has a fresh instance.
    let answer = rogue.ask(host, &new_user()?, "better now").await?;
    ensure!(answer == samples::echo("better now"), "{answer}");
    Ok(())
}

async fn every_misdeed_has_its_outcome(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    // Few reads, so that it is not the processor's time that ends a slow store's.
    let limits = json!({"reads": 50, "host_bytes": 1 << 20});
    let bundle = Bundle::of(Plugin::Rogue.component()?).limits(limits);
    let rogue = stage.account_with(host, Mode::Safe, bundle).await?;
    let user = new_user()?;
    let misdeeds = [
        ("unreachable", "trap"),
        ("list", "host-limit:kv-reads"),
        ("fill-cache", "host-limit:cache-calls"),
        ("huge", "host-limit:call-bytes"),
        ("empty-media", "invalid-reply"),
        ("articles 0", "invalid-reply"),
        ("big-effect", "host-limit:call-bytes"),
        ("bad-key", "host-limit:effect-key"),
        ("long-value", "host-limit:effect-value"),
        ("put-much", "host-limit:effect-bytes"),
        ("send-many", "host-limit:effects"),
        ("send-nobody", "invalid-effect"),
        ("api-flood", "host-limit:api-calls"),
        ("fetch-flood", "host-limit:fetches"),
        // What it stores is no misdeed; to read it again and again is.
        ("fill", "no-reply"),
        ("list", "host-limit:listed-values"),
        ("put-large", "no-reply"),
        ("get-large", "host-limit:host-bytes"),
    ];
    let mut wrong = Vec::new();
    for (number, (misdeed, expected)) in misdeeds.into_iter().enumerate() {
        let outcome = rogue.insist(host, &user, misdeed).await?;
        ensure!(
            outcome == Outcome::Silent,
            "{misdeed:?} was answered {outcome:?}"
        );
        let calls = host.admin().calls_once_written(&rogue, number + 1).await?;
        if calls[0]["outcome"] != expected {
            wrong.push(format!("{misdeed:?} deserves {expected}: {}", calls[0]));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

async fn flooded_log_is_cut(stage: Stage) -> Result<()> {
    const MAX_LOG_BYTES: usize = 64 << 10;
    let host = stage.host().await?;
    let rogue = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    rogue.insist(host, &new_user()?, "flood").await?;
    let calls = host.admin().calls_once_written(&rogue, 1).await?;
    let id = calls[0]["id"].as_str().context("an id")?;
    let call = host.admin().get(&format!("/api/v1/calls/{id}")).await?;
    let log = call["log"].as_str().context("a log")?;
    ensure!(
        log.contains("nobody asked for") && log.contains("dropped"),
        "{log}"
    );
    ensure!(log.len() < MAX_LOG_BYTES, "{} bytes of log", log.len());
    Ok(())
}

async fn nothing_stays_in_memory(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let rogue = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    for _ in 0..20 {
        let calls = rogue.ask(host, &user, "state").await?;
        ensure!(calls == "1", "an instance served {calls} events");
    }
    Ok(())
}

/// Greets the neighbour until the misdeeds are over, ten times at least; each greeting is answered
/// rightly and in time for WeChat.
pub(crate) async fn greet_until(
    host: &Host,
    neighbour: &Account,
    done: watch::Receiver<bool>,
) -> Result<()> {
    let user = new_user()?;
    let mut greeted = 0;
    while greeted < 10 || !*done.borrow() {
        let text = format!("greeting {greeted}");
        let started = Instant::now();
        let answer = neighbour.ask(host, &user, &text).await?;
        let took = started.elapsed();
        ensure!(
            answer == samples::hello(&text),
            "{text:?} was answered {answer:?}"
        );
        ensure!(took < Duration::from_secs(4), "{text:?} took {took:?}");
        greeted += 1;
    }
    Ok(())
}

async fn crowd_of_loops_does_not_starve_others(stage: Stage) -> Result<()> {
    // Few places, and a tenant that may have half of them.
    let site = stage.site().await?.with("MAX_CONCURRENT_CALLS", 8);
    let host = site.host().await?;
    let tenant = host.admin().add_tenant_with(4).await?;
    let rogue = Account::fresh(Mode::Plain, stage.wechat());
    host.admin().add_account(&rogue, &tenant).await?;
    let bundle = Bundle::of(Plugin::Rogue.component()?);
    host.admin().deploy(&rogue, &bundle).await?;
    let neighbour = stage.account(&host, Mode::Plain, Plugin::Hello).await?;
    let (done, is_done) = watch::channel(false);
    let crowd = async {
        let users = (0..40).map(|_| new_user()).collect::<Result<Vec<_>>>()?;
        let outcomes =
            try_join_all(users.iter().map(|user| rogue.insist(&host, user, "loop"))).await;
        done.send_replace(true);
        outcomes
    };
    let (outcomes, greeted) = join(crowd, greet_until(&host, &neighbour, is_done)).await;
    greeted.context("beside a crowd of loops")?;
    for outcome in outcomes? {
        ensure!(!matches!(outcome, Outcome::Replied(_)), "{outcome:?}");
    }
    Ok(())
}
