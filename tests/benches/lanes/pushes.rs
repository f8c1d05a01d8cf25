//! What pushes cost: many recipients by chat and by template, beside a bare client that only sends; what
//! the databases take of them, and what others notice meanwhile. WeChat answers each call after the same
//! time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::task::JoinSet;
use wxhost_tests::account::{Account, new_user, patient_wechat};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::postgres::{Durability, Postgres};
use wxhost_tests::redis::Redis;
use wxhost_tests::site::Site;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::envelope::Mode;

use crate::settings::{answer, directory_for_all, size};
use crate::table::{Table, percentile};

/// What each call of WeChat's takes.
const LATENCY_MS: u64 = 50;
/// Calls at once: as many as a host has under way.
const AT_ONCE: usize = 512;
/// Recipients by chat, a third of whom WeChat takes only a template for.
const MIXED: usize = 1_500;
/// Followers of whom each gets what the plugin composes.
const FOLLOWERS: usize = 100_000;
/// Between two events of somebody else's account.
const BETWEEN: Duration = Duration::from_millis(10);
/// Events of somebody else's account while nothing is pushed.
const IDLE_EVENTS: usize = 300;

const CHAT: &str = "/cgi-bin/message/custom/send";
const TEMPLATE: &str = "/cgi-bin/message/template/send";
const STABLE_TOKEN: &str = "/cgi-bin/stable_token";

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_all())
}

async fn measure_all() -> Result<()> {
    let directory = directory_for_all()?;
    println!(
        "WeChat answers each call after {LATENCY_MS} ms; it, and the bare client, share the machine.\n"
    );
    let embedded = Site::embedded(&directory.path().join("embedded"))?;
    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    let redis = Redis::start(directory.path()).await?;
    let shared = Site::direct(&directory.path().join("shared"), &postgres, &redis).await?;
    let mut mixed = Table::new(&[
        "1,500 recipients, a third of them by template",
        "s",
        "recipients/s",
    ]);
    let mut many = Table::new(&[
        "followers, each by what the plugin composes",
        "recipients/s",
        "of bare",
        "MiB more",
        "database B each",
        "written B each",
        "callback p99 ms (idle)",
        "(meanwhile)",
        "a neighbour's message ms",
    ]);
    for (name, site) in [
        ("SQLite + in-process", embedded),
        ("PostgreSQL + Redis", shared),
    ] {
        let api = WechatApi::start().await?;
        let site = site
            .with("LOG_LEVEL", "warn")
            .with("WECHAT_API_BASE", api.url());
        let host = site.host().await?;
        let market = Market {
            host: &host,
            api: &api,
            site: &site,
        };
        market.mixed(name, &mut mixed).await?;
        market.many(name, &mut many).await?;
    }
    mixed.print();
    many.print();
    Ok(())
}

/// A host whose tenants push.
struct Market<'a> {
    host: &'a Host,
    api: &'a WechatApi,
    site: &'a Site,
}

/// An account with a plugin that composes, and the key of its tenant's system.
struct Shop {
    account: Account,
    key: String,
}

impl Market<'_> {
    async fn shop(&self, wechat: &Arc<wxhost_simulator::WechatPlatform>) -> Result<Shop> {
        let tenant = self.host.admin().add_tenant_with(4_096).await?;
        let account = Account::fresh(Mode::Plain, wechat);
        let endless = json!({CHAT: u32::MAX, TEMPLATE: u32::MAX});
        let app = json!({"quotas": endless, "minute_quotas": endless});
        let mut registration = account.registration(&tenant);
        registration["secret"] = self.api.admit(&account, &app)?.into();
        self.host
            .admin()
            .post("/api/v1/accounts", &registration)
            .await?;
        let path = format!("/apps/{}/templates", account.app_id());
        let template = json!({"template_id": "T1", "content": "{{thing1.DATA}}"});
        self.api.ask(Method::POST, &path, &template)?;
        let orders = Bundle::of(Plugin::Orders.component()?).config(json!({"form-result": {
            "text": "您提交的「{form}」已有结果:{result}",
            "template": {"id": "T1", "fields": {"thing1": "{form}"}},
        }}));
        self.host.admin().deploy(&account, &orders).await?;
        let key = json!({"tenant_id": tenant, "grants": ["push"], "rate_per_minute": 60_000});
        let made = self.host.admin().post("/api/v1/keys", &key).await?;
        let key = made["key"].as_str().context("a key")?.to_owned();
        secrets::remember(&key);
        Ok(Shop { account, key })
    }

    /// Pushes; how long it took until every recipient had an outcome, and the push at its end.
    async fn push(&self, shop: &Shop, whom: Value) -> Result<(Duration, Value)> {
        let url = |path: &str| {
            let account = shop.account.app_id();
            format!("{}/api/v1/accounts/{account}/{path}", self.host.base())
        };
        let mut body = whom;
        body["data"] = json!({"form": "报名", "result": "accepted"});
        let begun = Instant::now();
        let request = self
            .host
            .http()
            .post(url("push/form-result"))
            .bearer_auth(&shop.key);
        let push: Value = request.json(&body).send().await?.json().await?;
        let id = push["id"].as_str().with_context(|| push.to_string())?;
        let push = wait::until("a push", Duration::from_secs(900), async || {
            let request = self.host.http().get(url(&format!("pushes/{id}")));
            let push: Value = request.bearer_auth(&shop.key).send().await?.json().await?;
            Ok((push["state"] == "done").then_some(push))
        })
        .await?;
        Ok((begun.elapsed(), push))
    }

    fn slow_down(&self) -> Result<()> {
        for path in [CHAT, TEMPLATE] {
            let slow =
                json!({"kind": "slow", "ms": LATENCY_MS, "performed": true, "path_prefix": path});
            self.api.fault(&slow)?;
        }
        Ok(())
    }

    fn follow(&self, shop: &Shop, people: &[String]) -> Result<()> {
        let path = format!("/apps/{}/followers", shop.account.app_id());
        self.api
            .ask(Method::POST, &path, &json!({"open_ids": people}))?;
        Ok(())
    }

    /// Chat first; a third of them wrote too long ago.
    async fn mixed(&self, name: &str, table: &mut Table) -> Result<()> {
        let wechat = patient_wechat()?;
        let shop = self.shop(&wechat).await?;
        let people = people(MIXED)?;
        self.follow(&shop, &people)?;
        for person in &people[..MIXED * 2 / 3] {
            let path = format!("/apps/{}/interactions", shop.account.app_id());
            let interaction = json!({"open_id": person, "kind": "message"});
            self.api.ask(Method::POST, &path, &interaction)?;
        }
        self.slow_down()?;
        // The first call fetches the token.
        self.push(&shop, json!({"recipients": [people[0]]})).await?;
        let (took, push) = self.push(&shop, json!({"recipients": people})).await?;
        ensure!(push["sent"] == MIXED, "{push}");
        self.api.mend()?;
        let seconds = took.as_secs_f64();
        let rate = format!("{:.0}", MIXED as f64 / seconds);
        table.row(&[&name, &format!("{seconds:.2}"), &rate]);
        Ok(())
    }

    async fn many(&self, name: &str, table: &mut Table) -> Result<()> {
        let wechat = patient_wechat()?;
        let shop = self.shop(&wechat).await?;
        let neighbour = self.shop(&wechat).await?;
        let silent = self.silent(&wechat).await?;
        let count = size("BENCH_FOLLOWERS", FOLLOWERS);
        let people = people(count)?;
        self.follow(&shop, &people)?;
        let import = format!("/api/v1/accounts/{}/contacts/import", shop.account.app_id());
        self.host.admin().post(&import, &json!({})).await?;
        wait::until("the import", Duration::from_secs(900), async || {
            let state = self.host.admin().get(&import).await?;
            Ok((state["state"] == "done").then_some(()))
        })
        .await?;
        self.follow(&neighbour, &people[..1])?;
        self.push(&neighbour, json!({"recipients": [people[0]]}))
            .await?;
        self.slow_down()?;
        let bare = self.bare(&shop, &people).await?;

        let idle = self.events(&silent, IDLE_EVENTS).await?;
        let (memory, database) = (self.resident()?, self.database().await?);
        let all = self.push(&shop, json!({"audience": "followers"}));
        let meanwhile = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let events = self.events(&silent, IDLE_EVENTS).await?;
            let (alone, _) = self
                .push(&neighbour, json!({"recipients": [people[0]]}))
                .await?;
            anyhow::Ok((events, alone, self.resident()?))
        };
        let (pushed, meanwhile) = tokio::join!(all, meanwhile);
        let ((took, push), (events, alone, peak)) = (pushed?, meanwhile?);
        ensure!(push["sent"] == count, "{push}");
        self.api.mend()?;
        let after = self.database().await?;
        let rate = count as f64 / took.as_secs_f64();
        let each = |bytes: u64| format!("{:.0}", bytes as f64 / count as f64);
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        table.row(&[
            &name,
            &format!("{rate:.0}"),
            &format!("{:.2}", rate / bare),
            &format!("{:.0}", (peak.saturating_sub(memory)) as f64 / 1024.0),
            &each(after.0.saturating_sub(database.0)),
            &each(after.1.saturating_sub(database.1)),
            &ms(percentile(&idle, 0.99)),
            &ms(percentile(&events, 0.99)),
            &format!("{:.0}", alone.as_secs_f64() * 1e3),
        ]);
        Ok(())
    }

    /// An account that only answers callbacks.
    async fn silent(&self, wechat: &Arc<wxhost_simulator::WechatPlatform>) -> Result<Account> {
        let tenant = self.host.admin().add_tenant_with(4_096).await?;
        let account = Account::fresh(Mode::Safe, wechat);
        self.host.admin().add_account(&account, &tenant).await?;
        let hello = Bundle::of(Plugin::Hello.component()?);
        self.host.admin().deploy(&account, &hello).await?;
        Ok(account)
    }

    /// How long events took, one after the other with a pause between; sorted.
    async fn events(&self, account: &Account, count: usize) -> Result<Vec<Duration>> {
        let user = new_user()?;
        let mut took = Vec::new();
        for _ in 0..count {
            let asked = Instant::now();
            let reply = account.ask(self.host, &user, "hi").await?;
            took.push(asked.elapsed());
            ensure!(reply == answer("hi"), "{reply}");
            tokio::time::sleep(BETWEEN).await;
        }
        took.sort_unstable();
        Ok(took)
    }

    /// How many templates a second a client sends that does nothing else.
    async fn bare(&self, shop: &Shop, people: &[String]) -> Result<f64> {
        let app = json!({
            "grant_type": "client_credential",
            "appid": shop.account.app_id(),
            "secret": self.api.secret_of(&shop.account)?,
        });
        let token = self.api.call(STABLE_TOKEN, Some(&app)).await?;
        let token = token["access_token"].as_str().context("a token")?;
        let url: Arc<str> = format!("{}{TEMPLATE}?access_token={token}", self.api.url()).into();
        let http = reqwest::Client::builder().no_proxy().build()?;
        let people = &people[..people.len().min(20_000)];
        let begun = Instant::now();
        let mut under_way = JoinSet::new();
        for (number, person) in people.iter().enumerate() {
            if number >= AT_ONCE {
                under_way.join_next().await.context("a call")???;
            }
            let (http, url) = (http.clone(), Arc::clone(&url));
            let body = json!({
                "touser": person, "template_id": "T1", "data": {"thing1": {"value": "报名"}},
            });
            under_way.spawn(async move {
                let answer: Value = http.post(&*url).json(&body).send().await?.json().await?;
                ensure!(answer["errcode"] == 0, "{answer}");
                anyhow::Ok(())
            });
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        Ok(people.len() as f64 / begun.elapsed().as_secs_f64())
    }

    /// The host's resident memory, in KiB.
    fn resident(&self) -> Result<u64> {
        number_in(&format!("/proc/{}/status", self.host.pid()), "VmRSS:")
    }

    /// Bytes of the database, and bytes written for it so far.
    async fn database(&self) -> Result<(u64, u64)> {
        let url = self.site.database_url();
        if let Some(file) = url.strip_prefix("sqlite://") {
            let written = number_in(&format!("/proc/{}/io", self.host.pid()), "write_bytes:")?;
            return Ok((std::fs::metadata(file)?.len(), written));
        }
        let mut connection = sqlx::PgConnection::connect(&url).await?;
        let sizes: (i64, i64) = sqlx::query_as(
            "SELECT pg_database_size(current_database()), \
             (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok((sizes.0.unsigned_abs(), sizes.1.unsigned_abs()))
    }
}

fn number_in(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.context("a number")?.parse()?)
}

fn people(count: usize) -> Result<Vec<String>> {
    (0..count)
        .map(|_| secrets::letters(27).map(|letters| format!("o{letters}")))
        .collect()
}
