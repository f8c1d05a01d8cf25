//! A cold start: hosts whose Redis knows no token are asked for those of 10,000 accounts at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use serde_json::json;
use wxhost_simulator::WechatPlatform;
use wxhost_tests::account::{Account, patient_wechat};
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::postgres::{Durability, Postgres};
use wxhost_tests::redis::Redis;
use wxhost_tests::secrets;
use wxhost_tests::site::Site;
use wxhost_wechat::envelope::Mode;

use crate::settings::{directory_for_all, size};
use crate::table::{Table, percentile};

/// Accounts without a token.
const ACCOUNTS: usize = 10_000;
/// What WeChat takes for a token.
const LATENCY_MS: u64 = 50;
/// Tokens that are asked for at once; a host has 32 turns to fetch one.
const CALLERS: usize = 256;
/// API keys that they use in turn: one may have 64 requests under way.
const KEYS: usize = 16;
/// Accounts at the end of a busy host's queue that an idle one is asked for meanwhile.
const LAST: usize = 200;
/// Accounts that are added side by side.
const ONBOARDED_AT_ONCE: usize = 8;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_all())
}

async fn measure_all() -> Result<()> {
    let directory = directory_for_all()?;
    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    let redis = Redis::start(directory.path()).await?;
    let api = WechatApi::start().await?;
    let slow = json!({"kind": "slow", "ms": LATENCY_MS, "performed": true,
        "path_prefix": "/cgi-bin/stable_token"});
    api.fault(&slow)?;
    let site = Site::direct(&directory.path().join("site"), &postgres, &redis).await?;
    let site = site
        .with("LOG_LEVEL", "warn")
        .with("WECHAT_API_BASE", api.url());
    let (busy, idle) = (site.host().await?, site.host().await?);
    let wechat = patient_wechat()?;
    let mut table = Table::new(&[
        "tokens of so many accounts, asked for at once",
        "s",
        "tokens/s",
        "fetched",
        "an idle host's p50 ms",
        "p99 ms",
    ]);
    for (name, shared) in [
        (
            "of one of two hosts; the other is asked for the last 200",
            false,
        ),
        ("of two hosts, every second one of each", true),
    ] {
        let office = Office::open(&busy, &api, &wechat).await?;
        // Hosts that have heard of the accounts only.
        idle.admin()
            .get(&office.path(ACCOUNTS.min(office.accounts.len()) - 1))
            .await?;
        let begun = Instant::now();
        let all = office.ask_for_all(|number| match number % 2 {
            1 if shared => &idle,
            _ => &busy,
        });
        let meanwhile = async {
            let mut took = Vec::new();
            let last = office.accounts.len() - LAST.min(office.accounts.len());
            for number in last..office.accounts.len() {
                if shared {
                    break;
                }
                let asked = Instant::now();
                office.ask(&idle, number).await?;
                took.push(asked.elapsed());
            }
            took.sort_unstable();
            anyhow::Ok(took)
        };
        let (all, took) = tokio::join!(all, meanwhile);
        let (took, seconds) = (took?, begun.elapsed().as_secs_f64());
        all?;
        let mut fetched = 0;
        for account in &office.accounts {
            fetched += api.app(account)?.stable_fetches();
        }
        ensure!(
            fetched == office.accounts.len() as u64,
            "{fetched} were fetched"
        );
        let share = |share| match took.as_slice() {
            [] => String::new(),
            took => milliseconds(percentile(took, share)),
        };
        table.row(&[
            &format!("{}, {name}", office.accounts.len()),
            &format!("{seconds:.1}"),
            &format!("{:.0}", office.accounts.len() as f64 / seconds),
            &fetched,
            &share(0.50),
            &share(0.99),
        ]);
    }
    table.print();
    Ok(())
}

/// Accounts of one tenant, whose systems may have their tokens.
struct Office {
    accounts: Vec<Account>,
    keys: Vec<String>,
}

impl Office {
    async fn open(host: &Host, api: &WechatApi, wechat: &Arc<WechatPlatform>) -> Result<Self> {
        let tenant = &host.admin().add_tenant().await?;
        let accounts = (0..size("BENCH_MOST_ACCOUNTS", ACCOUNTS)).map(|_| async move {
            let account = Account::fresh(Mode::Plain, wechat);
            let mut registration = account.registration(tenant);
            // Every answer is searched for the secrets of accounts that are admitted: ten thousand take long.
            api.ask(
                Method::POST,
                "/apps",
                &json!({"app_id": account.app_id(), "secret": SECRET}),
            )?;
            registration["secret"] = SECRET.into();
            host.admin().post("/api/v1/accounts", &registration).await?;
            anyhow::Ok(account)
        });
        let accounts = futures::stream::iter(accounts)
            .buffered(ONBOARDED_AT_ONCE)
            .try_collect()
            .await?;
        let wanted = json!({
            "tenant_id": tenant,
            "name": "the office",
            "grants": ["access-token"],
            "rate_per_minute": 60_000,
        });
        let mut keys = Vec::new();
        for _ in 0..KEYS {
            let made = host.admin().post("/api/v1/keys", &wanted).await?;
            let key = made["key"].as_str().context("a key")?.to_owned();
            secrets::remember(&key);
            keys.push(key);
        }
        Ok(Self { accounts, keys })
    }

    fn path(&self, number: usize) -> String {
        format!("/api/v1/accounts/{}", self.accounts[number].app_id())
    }

    async fn ask(&self, host: &Host, number: usize) -> Result<()> {
        let url = format!("{}{}/access-token", host.base(), self.path(number));
        let key = &self.keys[number % KEYS];
        let answer = host.http().get(url).bearer_auth(key).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{status}: {}", answer.text().await?);
        Ok(())
    }

    async fn ask_for_all<'a>(&self, host_of: impl Fn(usize) -> &'a Host) -> Result<()> {
        futures::stream::iter(0..self.accounts.len())
            .map(|number| self.ask(host_of(number), number))
            .buffer_unordered(CALLERS)
            .try_collect()
            .await
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e3)
}
