//! The database or Redis is away, or hangs: what can be answered is, the rest is not acknowledged,
//! and everything heals by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wxhost_simulator::{Outcome, UserAction};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::relay::Line;
use wxhost_tests::site::Site;
use wxhost_tests::wait;
use wxhost_wechat::envelope::Mode;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    SHARED: database_is_down, database_hangs, redis_is_down, redis_hangs, both_are_down,
        host_starts_without_redis;
    EMBEDDED: locked_file_does_not_stop_answers;
}

/// WeChat hangs up after this long.
const WECHAT_WAITS: Duration = Duration::from_secs(5);

async fn database_is_down(stage: Stage) -> Result<()> {
    without_database(&stage, Line::Cut).await
}

async fn database_hangs(stage: Stage) -> Result<()> {
    without_database(&stage, Line::Stalled).await
}

async fn redis_is_down(stage: Stage) -> Result<()> {
    without_redis(&stage, Line::Cut).await
}

async fn redis_hangs(stage: Stage) -> Result<()> {
    without_redis(&stage, Line::Stalled).await
}

/// A site with a host, and accounts that the host knows and whose plugins it has loaded.
struct Town {
    site: Site,
    host: Host,
    hello: Account,
    rogue: Account,
}

/// WeChat delivers once there: the first delivery is the last one, which is answered in time even where
/// its event can be neither run nor kept.
async fn town(stage: &Stage) -> Result<Town> {
    let site = stage
        .site()
        .await?
        .with("ANSWER_WAIT_MS", 1_500)
        .with("DELIVERIES", 1);
    let host = site.host().await?;
    let hello = stage.account(&host, Mode::Safe, Plugin::Hello).await?;
    let rogue = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    hello.ask(&host, &new_user()?, "warm").await?;
    rogue.ask(&host, &new_user()?, "warm").await?;
    Ok(Town {
        site,
        host,
        hello,
        rogue,
    })
}

async fn without_database(stage: &Stage, line: Line) -> Result<()> {
    let town = town(stage).await?;
    let Town {
        site,
        host,
        hello,
        rogue,
    } = &town;
    let user = new_user()?;
    rogue.ask(host, &user, "count").await?;

    site.database_line().context("a line")?.turn(line);
    expect_answers(host, hello).await?;
    // Its effect can't be committed, and it can't be kept: not acknowledged, so WeChat comes again.
    let callback = rogue.callback(&user, &UserAction::text("count"));
    let outcome = in_time(rogue.deliver(host, &callback)).await?;
    ensure!(
        matches!(outcome, Outcome::Refused(status) if status == 503),
        "{outcome:?}"
    );
    expect_answers(host, hello).await?;
    let (alive, _) = host.get("/healthz").await?;
    ensure!(
        alive == 200,
        "a host that waits for its database is alive: {alive}"
    );
    wait::until("a host that says it is not ready", wait::SOON, async || {
        Ok((host.get("/readyz").await?.0 == 503).then_some(()))
    })
    .await?;

    site.database_line().context("a line")?.turn(Line::Open);
    let number = wait::until("the count's answer", wait::SOON, async || {
        let outcome = rogue.deliver(host, &callback).await?;
        Ok(matches!(outcome, Outcome::Replied(_)).then_some(outcome))
    })
    .await?;
    let expected = wxhost_wechat::reply::Reply::Text(samples::count(2));
    ensure!(number == Outcome::Replied(expected), "{number:?}");
    expect_healed(&town).await?;
    // Records of calls that happened meanwhile were kept.
    host.admin().calls_once_written(hello, 3).await?;
    Ok(())
}

async fn without_redis(stage: &Stage, line: Line) -> Result<()> {
    let town = town(stage).await?;
    let Town {
        site,
        host,
        hello,
        rogue,
    } = &town;
    let user = new_user()?;
    rogue.ask(host, &user, "count").await?;

    site.store_line().context("a line")?.turn(line);
    expect_answers(host, hello).await?;
    // Dedupe falls back to the host, effects still commit once.
    let callback = rogue.callback(&user, &UserAction::text("count"));
    let first = in_time(rogue.deliver(host, &callback)).await?;
    let second = in_time(rogue.deliver(host, &callback)).await?;
    let expected = Outcome::Replied(wxhost_wechat::reply::Reply::Text(samples::count(2)));
    ensure!(
        first == expected && second == expected,
        "{first:?} {second:?}"
    );

    site.store_line().context("a line")?.turn(Line::Open);
    expect_healed(&town).await
}

async fn both_are_down(stage: Stage) -> Result<()> {
    let town = town(&stage).await?;
    let lines = [town.site.database_line(), town.site.store_line()];
    for line in lines {
        line.context("a line")?.turn(Line::Cut);
    }
    expect_answers(&town.host, &town.hello).await?;
    for line in lines {
        line.context("a line")?.turn(Line::Open);
    }
    expect_healed(&town).await
}

async fn host_starts_without_redis(stage: Stage) -> Result<()> {
    let town = town(&stage).await?;
    town.site.store_line().context("a line")?.turn(Line::Cut);
    let mut host = town.site.launch()?;
    host.alive().await?;
    expect_answers(&host, &town.hello).await?;
    town.site.store_line().context("a line")?.turn(Line::Open);
    expect_healed(&town).await
}

async fn locked_file_does_not_stop_answers(stage: Stage) -> Result<()> {
    let town = town(&stage).await?;
    let Town {
        site,
        host,
        hello,
        rogue,
    } = &town;
    let user = new_user()?;
    let callback = rogue.callback(&user, &UserAction::text("count"));
    let lock = site.lock_file().await?;
    expect_answers(host, hello).await?;
    let outcome = in_time(rogue.deliver(host, &callback)).await?;
    ensure!(
        matches!(outcome, Outcome::Refused(status) if status == 503),
        "{outcome:?}"
    );
    lock.release().await?;
    let answered = wait::until("the count's answer", wait::SOON, async || {
        let outcome = rogue.deliver(host, &callback).await?;
        Ok(matches!(outcome, Outcome::Replied(_)).then_some(outcome))
    })
    .await?;
    let expected = wxhost_wechat::reply::Reply::Text(samples::count(1));
    ensure!(answered == Outcome::Replied(expected), "{answered:?}");
    expect_healed(&town).await
}

/// A known account's plugin without effects answers in time.
async fn expect_answers(host: &Host, hello: &Account) -> Result<()> {
    let user = new_user()?;
    let callback = hello.callback(&user, &UserAction::text("anyway"));
    let first = in_time(hello.deliver(host, &callback)).await?;
    let again = in_time(hello.deliver(host, &callback)).await?;
    let expected = Outcome::Replied(wxhost_wechat::reply::Reply::Text(samples::hello("anyway")));
    ensure!(
        first == expected && again == expected,
        "{first:?} {again:?}"
    );
    Ok(())
}

/// Everything works again: effects, readiness, and changes by the admin API.
async fn expect_healed(town: &Town) -> Result<()> {
    let Town { host, rogue, .. } = town;
    wait::until("a host that is ready again", wait::SOON, async || {
        Ok((host.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await?;
    let user = new_user()?;
    let number: u32 = rogue.ask(host, &user, "count").await?.parse()?;
    let next = rogue.ask(host, &user, "count").await?;
    ensure!(next == samples::count(number + 1), "{next} after {number}");
    host.admin().add_tenant().await?;
    Ok(())
}

async fn in_time<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let done = step.await?;
    let took = started.elapsed();
    ensure!(
        took < WECHAT_WAITS,
        "WeChat hung up: the answer took {took:?}"
    );
    Ok(done)
}
