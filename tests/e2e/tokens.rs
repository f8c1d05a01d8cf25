//! Access tokens that any number of hosts share: fetched once, never replaced by an older one, and
//! kept while Redis is away.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use wxhost_tests::account::Account;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::wait;

use crate::office::{CHEAP_CALL, Office};
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    SHARED: hosts_race_for_short_lived_tokens, redis_is_wiped_stopped_and_restarted;
}

/// How long tokens live in the race. WeChat's shortest would be two hours.
const LIFE_SECONDS: u64 = 30;
/// Accounts in the race.
const ACCOUNTS: usize = 200;
/// Of these, accounts whose fetch a host is killed over, and as many whose fetch one is stopped over.
const UNLUCKY: usize = 5;
/// Lives that every account has seen when the race is over.
const LIVES: u64 = 4;
/// How often the callers of one host go through the accounts.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
/// How long a caller may wait for another host's token: a lease of 5 s must run out, and more.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// A fetch that began so shortly before its host was killed or stopped may have been under way then.
const UNDER_WAY_MS: u64 = 2_000;
/// The fetch calls.
const FETCH: &str = "/cgi-bin/stable_token";

async fn hosts_race_for_short_lived_tokens(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let (first, second, third) = (site.host().await?, site.host().await?, site.host().await?);
    let app = json!({"token_lifetime_seconds": LIFE_SECONDS});
    let office = Office::open(&stage, &first, &api, ACCOUNTS, (&app, &json!({}))).await?;
    for host in [&first, &second, &third] {
        office.known_to(host).await?;
    }
    let (unlucky, rest) = office.accounts.split_at(2 * UNLUCKY);
    let (killed, stopped) = unlucky.split_at(UNLUCKY);
    let race = Race {
        api: &api,
        office: &office,
        over: Cell::new(false),
        first_is_dead: Cell::new(false),
        second_is_awake: Mutex::new(()),
        interruptions_ms: RefCell::default(),
    };
    let story = async {
        let told = async {
            office.sweep(&third, rest, "early").await?;
            race.kill_one_over_its_fetch(&first, [&second, &third], killed)
                .await?;
            // A host that comes late finds the tokens there.
            let fourth = site.host().await?;
            race.stop_one_over_its_fetch(&second, &third, stopped)
                .await?;
            office.sweep(&fourth, &office.accounts, "fourth").await?;
            race.see_lives(rest).await
        };
        let told = told.await;
        race.over.set(true);
        told
    };
    let callers = [(&first, "first"), (&second, "second"), (&third, "third")]
        .map(|(host, name)| race.call_again_and_again(host, name, rest));
    let (told, called) = futures::join!(story, join_all(callers));
    told?;
    called.into_iter().collect::<Result<()>>()?;
    for account in &office.accounts {
        race.expect_fetched_once_a_life(account)?;
        expect_never_older(&api, account)?;
    }
    Ok(())
}

struct Race<'a> {
    api: &'a WechatApi,
    office: &'a Office,
    over: Cell<bool>,
    first_is_dead: Cell<bool>,
    /// Held while nobody may call the second host, or somebody does.
    second_is_awake: Mutex<()>,
    /// When a host was killed or stopped, by WeChat's clock.
    interruptions_ms: RefCell<Vec<u64>>,
}

impl Race<'_> {
    /// The callers of one host; only those of a dead one may fail, and only to reach it.
    async fn call_again_and_again(&self, host: &Host, name: &str, all: &[Account]) -> Result<()> {
        let mut beat = tokio::time::interval(SWEEP_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.over.get() {
            beat.tick().await;
            let _awake = match name {
                "second" => Some(self.second_is_awake.lock().await),
                _ => None,
            };
            match self.office.sweep(host, all, name).await {
                Err(error) if name == "first" && self.first_is_dead.get() => {
                    let refused = error.downcast_ref::<reqwest::Error>().is_some();
                    ensure!(refused, "{error:#}");
                    return Ok(());
                }
                swept => swept.with_context(|| format!("callers of the {name} host"))?,
            }
        }
        Ok(())
    }

    /// A host dies between WeChat's answer and its own memory of it.
    async fn kill_one_over_its_fetch(
        &self,
        dying: &Host,
        others: [&Host; 2],
        accounts: &[Account],
    ) -> Result<()> {
        let calls = accounts
            .iter()
            .map(|account| self.office.call(dying, account, "dying"));
        let murder = async {
            self.wait_for_fetches(accounts, 1).await?;
            self.first_is_dead.set(true);
            self.interrupt(dying, Signal::KILL)
        };
        self.delay_fetches(accounts, 60_000)?;
        let (outcomes, murdered) = futures::join!(join_all(calls), murder);
        murdered?;
        ensure!(
            outcomes.iter().all(Result::is_err),
            "the host was killed too late: {outcomes:?}"
        );
        for host in others {
            within(TAKE_OVER, self.office.sweep(host, accounts, "heir")).await?;
        }
        Ok(())
    }

    /// A host sleeps over its fetch, longer than its lease and longer than the token lives. When it wakes,
    /// it holds an answer of long ago.
    async fn stop_one_over_its_fetch(
        &self,
        sleeping: &Host,
        awake: &Host,
        accounts: &[Account],
    ) -> Result<()> {
        let asleep = self.second_is_awake.lock().await;
        let calls = accounts
            .iter()
            .map(|account| self.office.call(sleeping, account, "sleeping"));
        let sleep = async {
            self.wait_for_fetches(accounts, 1).await?;
            self.interrupt(sleeping, Signal::STOP)?;
            within(TAKE_OVER, self.office.sweep(awake, accounts, "awake")).await?;
            let renewed = async || {
                self.office.sweep(awake, accounts, "awake").await?;
                let mut lives = accounts.iter().map(|account| self.lives(account));
                let renewed = lives.all(|lives| lives.is_ok_and(|lives| lives >= 2));
                Ok(renewed.then_some(()))
            };
            let next_life = Duration::from_secs(2 * LIFE_SECONDS);
            let renewed = wait::until("the next life", next_life, renewed).await;
            sleeping.signal(Signal::CONT)?;
            renewed
        };
        self.delay_fetches(accounts, 3_000)?;
        let (outcomes, slept) = futures::join!(join_all(calls), sleep);
        slept?;
        drop(asleep);
        for outcome in outcomes {
            let (status, answer) = outcome?;
            // It was asleep for longer than it lets callers wait, so it may say so; but nothing of a token.
            ensure!(
                answer["ip_list"].is_array() || (status >= 500 && answer["errcode"].is_null()),
                "the host that slept answered {status}: {answer}"
            );
        }
        for (host, name) in [(sleeping, "sleeping"), (awake, "awake")] {
            self.office.sweep(host, accounts, name).await?;
        }
        Ok(())
    }

    fn interrupt(&self, host: &Host, signal: Signal) -> Result<()> {
        host.signal(signal)?;
        let clock = self.api.ask(Method::GET, "/clock", &Value::Null)?;
        let now_ms = clock["now_ms"].as_u64().context("a time")?;
        self.interruptions_ms.borrow_mut().push(now_ms);
        Ok(())
    }

    /// One fetch for each life, and one more for each host that died or slept with the answer under way.
    fn expect_fetched_once_a_life(&self, account: &Account) -> Result<()> {
        let app = self.api.app(account)?;
        let fetches = self.api.requests(account, FETCH)?;
        let times: Vec<u64> = fetches
            .iter()
            .filter_map(|fetch| fetch["at_ms"].as_u64())
            .collect();
        let interruptions = self.interruptions_ms.borrow();
        let interrupted = interruptions
            .iter()
            .filter(|at| {
                times
                    .iter()
                    .any(|time| (*at - UNDER_WAY_MS..=**at).contains(time))
            })
            .count() as u64;
        ensure!(
            app.stable_fetches() <= app.lives() + interrupted && app.number("classic_fetches") == 0,
            "fetched at {times:?} in {} lives, with interruptions at {interruptions:?}: {app:?}",
            app.lives()
        );
        ensure!(
            app.invalid_uses() == 0,
            "a token was used that was not valid: {app:?}"
        );
        Ok(())
    }

    /// The next fetch for each of these is carried out at once and answered late.
    fn delay_fetches(&self, accounts: &[Account], ms: u64) -> Result<()> {
        for account in accounts {
            let fault = json!({
                "kind": "slow",
                "ms": ms,
                "app_id": account.app_id(),
                "path_prefix": FETCH,
                "count": 1,
            });
            self.api.fault(&fault)?;
        }
        Ok(())
    }

    async fn wait_for_fetches(&self, accounts: &[Account], count: u64) -> Result<()> {
        wait::until("a fetch for each", wait::SOON, async || {
            let mut fetched = accounts.iter().map(|account| self.api.app(account));
            let all = fetched.all(|app| app.is_ok_and(|app| app.stable_fetches() >= count));
            Ok(all.then_some(()))
        })
        .await
    }

    async fn see_lives(&self, accounts: &[Account]) -> Result<()> {
        let most = Duration::from_secs(LIVES * LIFE_SECONDS);
        wait::until("several lives", most, async || {
            let mut lives = accounts.iter().map(|account| self.lives(account));
            let seen = lives.all(|lives| lives.is_ok_and(|lives| lives >= LIVES));
            Ok(seen.then_some(()))
        })
        .await
    }

    fn lives(&self, account: &Account) -> Result<u64> {
        Ok(self.api.app(account)?.lives())
    }
}

async fn within<T>(most: Duration, step: impl Future<Output = Result<T>>) -> Result<T> {
    let step = tokio::time::timeout(most, step).await;
    step.with_context(|| format!("still waiting after {most:?}"))?
}

/// Callers of one host ask one after the other, so the tokens that WeChat sees never go back.
fn expect_never_older(api: &WechatApi, account: &Account) -> Result<()> {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for request in api.requests(account, CHEAP_CALL)? {
        let query = request["query"].as_str().context("a query")?.to_owned();
        let serial = serial_of(&request).with_context(|| request.to_string())?;
        let before = newest.entry(query).or_default();
        ensure!(
            serial >= *before,
            "token {serial} of {} was used after {before}: {request}",
            account.app_id()
        );
        *before = serial;
    }
    ensure!(!newest.is_empty(), "nobody called for {}", account.app_id());
    Ok(())
}

/// The number of the token that a call was made with.
fn serial_of(request: &Value) -> Option<u64> {
    let token = request["token"].as_str()?;
    token.strip_prefix("stable#")?.parse().ok()
}

/// Accounts while Redis is away.
const QUIET_ACCOUNTS: usize = 60;
/// How long Redis is away.
const OUTAGE: Duration = Duration::from_secs(20);

async fn redis_is_wiped_stopped_and_restarted(stage: Stage) -> Result<()> {
    let api = WechatApi::start().await?;
    let mut redis = stage.own_redis().await?;
    let site = stage
        .site_on(&redis)
        .await?
        .with("WECHAT_API_BASE", api.url());
    let hosts = [site.host().await?, site.host().await?];
    let settings = (&json!({}), &json!({}));
    let office = Office::open(&stage, &hosts[0], &api, QUIET_ACCOUNTS, settings).await?;
    office.known_to(&hosts[1]).await?;
    let sweep = async || {
        let sweeps = hosts.iter();
        let sweeps = sweeps.map(|host| office.sweep(host, &office.accounts, "office"));
        join_all(sweeps).await.into_iter().collect::<Result<()>>()
    };
    sweep().await?;
    let fetches = fetches_of(&api, &office)?;
    ensure!(fetches.iter().all(|count| *count == 1), "{fetches:?}");

    let over = Cell::new(false);
    let load = async {
        let mut sweeps = 0;
        while !over.get() {
            sweep().await?;
            sweeps += 1;
        }
        Ok(sweeps)
    };
    let story = async {
        let told = async {
            redis.wipe_all().await?;
            sweep().await?;
            redis.kill()?;
            let since = Instant::now();
            while since.elapsed() < OUTAGE {
                sweep().await?;
            }
            redis.start_again().await?;
            for host in &hosts {
                wait::until("a host with its Redis", wait::SOON, async || {
                    Ok((host.get("/readyz").await?.0 == 200).then_some(()))
                })
                .await?;
            }
            sweep().await
        };
        let told = told.await;
        over.set(true);
        told
    };
    let (told, load): (Result<()>, Result<u32>) = futures::join!(story, load);
    told?;
    ensure!(load? > 3, "there was no load");
    for (account, before) in office.accounts.iter().zip(fetches) {
        let app = api.app(account)?;
        ensure!(
            app.stable_fetches() <= before + 1,
            "fetched again and again: {app:?}"
        );
        ensure!(app.invalid_uses() == 0, "{app:?}");
    }
    // A host that comes when everything is lost finds what the others hold.
    let newcomer = site.host().await?;
    office
        .sweep(&newcomer, &office.accounts, "newcomer")
        .await?;
    let fetches = fetches_of(&api, &office)?;
    if let Some(most) = fetches.iter().max().filter(|most| **most > 2) {
        bail!("fetched {most} times");
    }
    Ok(())
}

fn fetches_of(api: &WechatApi, office: &Office) -> Result<Vec<u64>> {
    let accounts = office.accounts.iter();
    accounts
        .map(|account| Ok(api.app(account)?.stable_fetches()))
        .collect()
}
