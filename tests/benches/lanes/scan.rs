//! Accounts that come by a third-party platform: many at once to hosts of which some are killed, and what a
//! callback by the platform costs beside one to the account's own address.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use wxhost_simulator::{
    Outcome, SimulatedAccount, SimulatedComponent, SystemEnvironment, UserAction, WechatPlatform,
};
use wxhost_tests::account::{Account, new_user, patient_wechat};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::postgres::{Durability, Postgres};
use wxhost_tests::redis::Redis;
use wxhost_tests::site::Site;
use wxhost_wechat::envelope::Mode;

use crate::lane::cpu_seconds;
use crate::load::Load;
use crate::settings::{directory_for_all, size};
use crate::table::{Table, median, percentile};

/// Accounts that are invited and authorised.
const ACCOUNTS: usize = 1_000;
/// Customers at the same time.
const CUSTOMERS: usize = 16;
/// Hosts; one is killed now and then, and another one takes its place.
const HOSTS: usize = 3;
/// How often one is killed.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// Callbacks of a round.
const CALLBACKS: usize = 10_000;
/// Rounds that count.
const ROUNDS: usize = 5;
/// A call that costs WeChat nothing and needs an access token.
const CHEAP_CALL: &str = "/cgi-bin/get_api_domain_ip";

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        onboard_many().await?;
        compare_doors().await
    })
}

/// What all customers and hosts share.
struct Agency {
    api: WechatApi,
    site: Site,
    component: SimulatedComponent,
    wechat: Arc<WechatPlatform>,
    /// Where a host is reached, dead ones aside.
    bases: Mutex<Vec<String>>,
    browser: Client,
    tenant: String,
    admin_token: String,
    key: String,
}

/// How an account's coming went.
struct Come {
    app_id: String,
    /// From the administrator's yes to the first answered callback.
    answered: Duration,
    /// Callbacks that were not answered at once.
    unanswered: usize,
}

impl Agency {
    async fn open(site: Site, api: WechatApi, host: &Host) -> Result<Self> {
        let component = SimulatedComponent::register(host.base(), &SystemEnvironment);
        api.put_component(&component)?;
        let admin = host.admin();
        let platform = json!({
            "app_id": component.app_id,
            "public_url": host.base(),
            "secret": component.secret.expose(),
            "token": component.token.expose(),
            "encoding_aes_key": component.aes_key.expose(),
        });
        admin.post("/api/v1/platforms", &platform).await?;
        let tenant = admin.add_tenant_with(4_096).await?;
        let wechat = patient_wechat()?;
        let model = Account::fresh(Mode::Safe, &wechat);
        admin.add_account(&model, &tenant).await?;
        let hello = Bundle::of(Plugin::Hello.component()?);
        admin.deploy(&model, &hello).await?;
        let like = json!({"like": model.app_id()});
        let path = format!("/api/v1/tenants/{tenant}");
        admin.call(Method::PATCH, &path, Some(&like)).await?;
        let key = json!({"tenant_id": tenant, "grants": ["forward"], "rate_per_minute": 60_000});
        let made = admin.post("/api/v1/keys", &key).await?;
        let none = reqwest::redirect::Policy::none();
        let agency = Self {
            key: made["key"].as_str().context("a key")?.to_owned(),
            admin_token: admin.token().to_owned(),
            bases: Mutex::new(vec![host.base().to_owned()]),
            browser: Client::builder().no_proxy().redirect(none).build()?,
            api,
            site,
            component,
            wechat,
            tenant,
        };
        let told = agency.tell("ticket", &json!({})).await?;
        ensure!(told["push"]["ok"] == true, "{told}");
        Ok(agency)
    }

    async fn tell(&self, what: &str, body: &Value) -> Result<Value> {
        self.api.tell(&self.component.app_id, what, body).await
    }

    /// One of the hosts that live.
    fn base(&self, number: usize) -> String {
        let bases = self.bases.lock();
        bases[number % bases.len()].clone()
    }

    /// Asks hosts in turn until one answers; a dead one is passed over, as a load balancer would.
    async fn reach(
        &self,
        number: usize,
        request: impl Fn(&str) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response> {
        for turn in 0.. {
            let answer = request(&self.base(number + turn)).send().await;
            match answer {
                Ok(answer) if answer.status() != 503 => return Ok(answer),
                _ if turn < 400 => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => return Ok(answer?),
            }
        }
        unreachable!("the loop ends by itself")
    }

    /// A customer is invited, agrees, comes back; then somebody writes to the account.
    async fn bring(&self, number: usize) -> Result<Come> {
        let known = SimulatedAccount::register("", Mode::Safe, &SystemEnvironment);
        let app_id = known.app_id.to_string();
        let id = &self.component.app_id;
        let wanted = json!({"tenant_id": self.tenant});
        let made = self
            .reach(number, |base| {
                let url = format!("{base}/api/v1/platforms/{id}/invitations");
                let request = self.browser.post(url).bearer_auth(&self.admin_token);
                request.json(&wanted)
            })
            .await?;
        let made: Value = made.json().await?;
        let link = made["url"].as_str().context("a link")?;
        let (_, path) = link.split_once("/component/").context("a path")?;
        let begun = self
            .reach(number, |base| {
                self.browser.get(format!("{base}/component/{path}/pc"))
            })
            .await?;
        let header = |name| -> Result<String> {
            let value = begun.headers().get(name).context("a header")?;
            Ok(value.to_str()?.to_owned())
        };
        let (location, cookie) = (header(LOCATION)?, header(SET_COOKIE)?);
        let url: reqwest::Url = location.parse()?;
        let parameter = |name: &str| {
            let found = url.query_pairs().find(|(given, _)| given == name);
            found
                .map(|(_, value)| value.into_owned())
                .context("a parameter")
        };
        // WeChat's event comes to one host, the customer back to another.
        let path = format!("/components/{id}");
        let event_url = format!("{}/component/{id}/events", self.base(number + 1));
        self.api
            .ask(Method::PATCH, &path, &json!({"event_url": event_url}))?;
        let agreement = json!({
            "app_id": app_id,
            "original_id": known.original_id,
            "nick_name": "茶馆",
            "pre_auth_code": parameter("pre_auth_code")?,
        });
        let begun = Instant::now();
        let told = self.tell("authorize", &agreement).await?;
        let code = told["auth_code"].as_str().context("a code")?.to_owned();
        let back = parameter("redirect_uri")?;
        let (_, back) = back.split_once("/component/").context("a path")?;
        let cookie = cookie.split(';').next().unwrap_or_default();
        let come = self.reach(number, |base| {
            let request = self.browser.get(format!("{base}/component/{back}"));
            request
                .query(&[("auth_code", &code)])
                .header(COOKIE, cookie)
        });
        let (come, unanswered) = tokio::join!(come, self.write_to(number, &known));
        let come = come?;
        let status = come.status();
        ensure!(status == 200, "{status}: {}", come.text().await?);
        Ok(Come {
            app_id,
            answered: begun.elapsed(),
            unanswered: unanswered?,
        })
    }

    /// A user writes at once, and again until it is answered: how often it was not.
    async fn write_to(&self, number: usize, known: &SimulatedAccount) -> Result<usize> {
        let (app_id, original_id) = (&known.app_id, &known.original_id);
        let mut account = self.component.account(app_id, original_id);
        let user = new_user()?;
        let callback = self
            .wechat
            .compose(&account, &user, &UserAction::text("hi"));
        for unanswered in 0.. {
            let base = self.base(number + unanswered);
            let id = &self.component.app_id;
            account.callback_url = format!("{base}/component/{id}/callback/{app_id}");
            let delivery = self.wechat.push(&account, &callback).await;
            let outcome = delivery.attempts.first().map(|attempt| &attempt.outcome);
            if matches!(outcome, Some(Outcome::Replied(_))) {
                return Ok(unanswered);
            }
            ensure!(unanswered < 400, "{app_id} is never answered: {outcome:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("the loop ends by itself")
    }

    /// An account's next token: WeChat refuses the one in hand.
    async fn renew(&self, number: usize, app_id: &str) -> Result<()> {
        let refused = json!({"kind": "errcode", "errcode": 42001, "count": 1,
            "app_id": app_id, "path_prefix": CHEAP_CALL});
        self.api.fault(&refused)?;
        let answer = self
            .reach(number, |base| {
                let url = format!("{base}/wechat/{app_id}{CHEAP_CALL}");
                self.browser.get(url).bearer_auth(&self.key)
            })
            .await?;
        let answer: Value = answer.json().await?;
        ensure!(answer["ip_list"].is_array(), "{app_id}: {answer}");
        Ok(())
    }

    /// Kills a host every now and then, and starts another one.
    async fn kill_now_and_then(&self, hosts: &mut Vec<Host>) -> Result<()> {
        loop {
            tokio::time::sleep(KILL_EVERY).await;
            let next = self.site.host().await?;
            self.bases.lock().push(next.base().to_owned());
            hosts.push(next);
            // The first one bears the platform's public address.
            let dead = hosts.remove(1);
            self.bases.lock().retain(|base| base != dead.base());
            dead.kill()?;
        }
    }
}

async fn onboard_many() -> Result<()> {
    let directory = directory_for_all()?;
    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    let redis = Redis::start(directory.path()).await?;
    let api = WechatApi::start().await?;
    let site = Site::direct(&directory.path().join("site"), &postgres, &redis).await?;
    let site = site
        .with("LOG_LEVEL", "error")
        .with("WECHAT_API_BASE", api.url())
        .with("WECHAT_MP_BASE", api.url());
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        hosts.push(site.host().await?);
    }
    let agency = Agency::open(site, api, &hosts[0]).await?;
    let bases = hosts.iter().map(|host| host.base().to_owned());
    *agency.bases.lock() = bases.collect();
    let count = size("BENCH_ACCOUNTS", ACCOUNTS);
    let begun = Instant::now();
    let coming = futures::stream::iter((0..count).map(|number| agency.bring(number)))
        .buffer_unordered(CUSTOMERS)
        .try_collect::<Vec<_>>();
    let come = tokio::select! {
        come = coming => come?,
        dead = agency.kill_now_and_then(&mut hosts) => {
            dead?;
            unreachable!("it ends with an error only")
        }
    };
    let took = begun.elapsed();
    report(&agency, come, took).await
}

async fn report(agency: &Agency, come: Vec<Come>, took: Duration) -> Result<()> {
    let path = format!("/components/{}", agency.component.app_id);
    let counts = || agency.api.ask(Method::GET, &path, &Value::Null);
    let before = counts()?;
    let number = |counts: &Value, app_id: &str, name: &str| {
        counts["authorizers"][app_id][name].as_u64().unwrap_or(0)
    };
    let all = come.iter().map(|come| &*come.app_id);
    let exchanged: u64 = all.clone().map(|id| number(&before, id, "exchanges")).sum();
    let renewed: u64 = all.clone().map(|id| number(&before, id, "renewals")).sum();
    ensure!(
        exchanged == come.len() as u64,
        "each code is exchanged once: {exchanged}"
    );
    // The refresh tokens that are kept are WeChat's present ones.
    let renewing = all.clone().enumerate().map(|(n, id)| agency.renew(n, id));
    let renewing = futures::stream::iter(renewing).buffer_unordered(CUSTOMERS);
    renewing.try_collect::<()>().await?;
    let after = counts()?;
    let refused: u64 = all.map(|id| number(&after, id, "refused_renewals")).sum();
    let mut answered: Vec<_> = come.iter().map(|come| come.answered).collect();
    answered.sort_unstable();
    let unanswered: usize = come.iter().map(|come| come.unanswered).sum();
    let mut table = Table::new(&[
        "accounts that come by invitations, three hosts, one killed every 5 s",
        "s",
        "codes exchanged",
        "tokens fetched besides",
        "refresh tokens refused",
        "answered after ms, p50",
        "p99",
        "callbacks not answered at once",
    ]);
    let ms = |share| format!("{:.0}", percentile(&answered, share).as_secs_f64() * 1e3);
    table.row(&[
        &come.len(),
        &format!("{:.1}", took.as_secs_f64()),
        &exchanged,
        &renewed,
        &refused,
        &ms(0.50),
        &ms(0.99),
        &unanswered,
    ]);
    table.print();
    Ok(())
}

/// The same account's callbacks by both addresses, in turns.
async fn compare_doors() -> Result<()> {
    let directory = directory_for_all()?;
    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    let redis = Redis::start(directory.path()).await?;
    let mut table = Table::new(&[
        "callbacks of one account in safe mode, 64 connections",
        "to its own address, CPU µs each",
        "by a platform",
        "ratio",
        "callbacks/s",
        "by a platform",
        "ratio",
    ]);
    for name in ["SQLite + in-process", "PostgreSQL + Redis"] {
        let api = WechatApi::start().await?;
        let place = directory.path().join(name.replace(' ', ""));
        let site = match name.starts_with("SQLite") {
            true => Site::embedded(&place)?,
            false => Site::direct(&place, &postgres, &redis).await?,
        };
        let site = site
            .with("LOG_LEVEL", "warn")
            .with("QUOTAS_CALLBACKS_A_SECOND", 10_000_000)
            .with("WECHAT_API_BASE", api.url());
        let host = site.host().await?;
        let agency = Agency::open(site, api, &host).await?;
        let own = Account::fresh(Mode::Safe, &agency.wechat);
        let admin = host.admin();
        admin.add_account(&own, &agency.tenant).await?;
        let hello = Bundle::of(Plugin::Hello.component()?);
        admin.deploy(&own, &hello).await?;
        let come = agency.bring(0).await?;
        let app_id = wxhost_wechat::id::AppId::parse(&come.app_id)?;
        let path = format!("/api/v1/accounts/{app_id}");
        let shown = admin.get(&path).await?;
        let original_id = shown["original_id"].as_str().context("an original id")?;
        let original_id = wxhost_wechat::id::OriginalId::parse(original_id)?;
        let doors = [
            own.known().clone(),
            agency.component.account(&app_id, &original_id),
        ];
        let callbacks = size("BENCH_CALLBACKS", CALLBACKS);
        let mut figures = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        // The first round warms up, and is not counted.
        for round in 0..=size("BENCH_ROUNDS", ROUNDS) {
            for (door, (cpu, rate)) in doors.iter().zip(&mut figures) {
                let load = Load::build(std::slice::from_ref(door), callbacks, 64)?;
                let before = cpu_seconds(host.pid())?;
                let sent = load.send(host.port()).await?;
                let used = cpu_seconds(host.pid())? - before;
                if round > 0 {
                    cpu.push(used * 1e6 / callbacks as f64);
                    rate.push(callbacks as f64 / sent.took.as_secs_f64());
                }
            }
        }
        let [own, by] = figures.map(|(cpu, rate)| (median(cpu), median(rate)));
        table.row(&[
            &name,
            &format!("{:.1}", own.0),
            &format!("{:.1}", by.0),
            &format!("{:.3}", by.0 / own.0),
            &format!("{:.0}", own.1),
            &format!("{:.0}", by.1),
            &format!("{:.3}", by.1 / own.1),
        ]);
    }
    table.print();
    Ok(())
}
