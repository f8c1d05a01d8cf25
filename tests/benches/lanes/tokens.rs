//! What an account's token costs: reading it where it is held, and calling WeChat with it beside a bare
//! HTTP client that was given the token.

use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_server::accounts::{Account, Accounts, NewAccount, NewTenant};
use wxhost_server::audit::Author;
use wxhost_server::client::{Client, Transport};
use wxhost_server::credentials::CredentialChange;
use wxhost_server::db::Database;
use wxhost_server::inbox::NewCallbacks;
use wxhost_server::seal::{MasterKey, MasterKeys};
use wxhost_server::store::{MemoryCache, Store};
use wxhost_server::telemetry::Metrics;
use wxhost_server::tokens::{Credential, Tokens, TokensParts};
use wxhost_simulator::api::{ApiServer, AppSettings, Settings};
use wxhost_wechat::api::{Method, Request, generic};
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{AppSecret, CallbackToken};

use crate::load::CONNECTIONS;
use crate::settings::size;
use crate::table::{Table, median};

/// Reads of a round.
const READS: usize = 5_000_000;
/// Calls of a round.
const CALLS: usize = 50_000;
/// Rounds of each contestant; they take turns.
const ROUNDS: usize = 5;
/// A question that any account may ask.
const PATH: &str = "/cgi-bin/getcallbackip";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_all())
}

/// A host's parts, as far as calls need them.
struct Host {
    tokens: Arc<Tokens>,
    client: Client,
    account: Arc<Account>,
}

async fn measure_all() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let app_id = AppId::parse("wxbench0123456789")?;
    let mut app = AppSettings::new(app_id.clone(), SECRET);
    app.quotas.insert(PATH.into(), u64::MAX / 2);
    app.minute_quotas.insert(PATH.into(), u64::MAX / 2);
    let settings = Settings {
        apps: vec![app],
        ..Settings::default()
    };
    let wechat = ApiServer::start(settings).await?;
    let host = Arc::new(host(directory.path(), &app_id, &wechat.url()).await?);
    reads(&host, &app_id).await?;
    calls(&host, &wechat.url()).await
}

async fn host(directory: &Path, app_id: &AppId, base: &str) -> Result<Host> {
    let keys = Arc::new(MasterKeys::new(MasterKey::from_bytes(&[1; 32]), None));
    let url = format!("sqlite://{}/bench.db", directory.display());
    let db = Database::open(&url).await?;
    let clock = db.clock();
    let accounts = Arc::new(Accounts::load(db, Arc::clone(&keys)).await?);
    let tenant = NewTenant {
        id: "bench".into(),
        name: String::new(),
        max_concurrent_calls: 8,
    };
    accounts.add_tenant(tenant, &Author::host()).await?;
    let account = NewAccount {
        app_id: app_id.clone(),
        tenant_id: "bench".into(),
        name: String::new(),
        original_id: OriginalId::parse("gh_bench")?,
        callbacks: NewCallbacks {
            mode: Mode::Plain,
            token: CallbackToken::parse("benchtoken")?,
            aes_key: None,
            window_seconds: 300,
            fallback_text: None,
        },
        credentials: CredentialChange {
            secret: Some(Some(AppSecret::parse(SECRET)?)),
            ..CredentialChange::default()
        },
        grants: None,
        login: None,
        quiet_hours: None,
    };
    accounts.add_account(account, &Author::host()).await?;
    accounts.refresh().await?;
    let account = accounts.get(app_id.as_str()).context("the account")?;
    let transport = Arc::new(Transport::open(base, &[])?);
    let metrics = Arc::new(Metrics::new());
    let tokens = Tokens::new(TokensParts {
        accounts,
        store: Store::Memory(Arc::new(MemoryCache::new())),
        keys,
        transport: Arc::clone(&transport),
        metrics: Arc::clone(&metrics),
        clock,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    });
    Ok(Host {
        client: Client::new(transport, Arc::clone(&tokens), metrics),
        tokens,
        account,
    })
}

async fn reads(host: &Host, app_id: &AppId) -> Result<()> {
    let count = size("BENCH_READS", READS);
    let deadline = Instant::now() + Duration::from_secs(3600);
    let kind = Credential::AccessToken;
    host.tokens.get(&host.account, kind, deadline).await?;
    let (mut by_account, mut by_id) = (Vec::new(), Vec::new());
    for _ in 0..size("BENCH_ROUNDS", ROUNDS) {
        let begun = Instant::now();
        for _ in 0..count {
            let token = host.tokens.get(black_box(&host.account), kind, deadline);
            black_box(token.await?);
        }
        by_account.push(nanos(begun, count));
        let begun = Instant::now();
        for _ in 0..count {
            black_box(host.tokens.held(black_box(app_id), kind).context("held")?);
        }
        by_id.push(nanos(begun, count));
    }
    let mut table = Table::new(&["an access token that is held", "ns"]);
    table.row(&[&"by account (`get`)", &format!("{:.0}", median(by_account))]);
    table.row(&[&"by app id (`held`)", &format!("{:.0}", median(by_id))]);
    table.print();
    Ok(())
}

fn nanos(begun: Instant, count: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / count as f64
}

async fn calls(host: &Arc<Host>, base: &str) -> Result<()> {
    let count = size("BENCH_API_CALLS", CALLS);
    let deadline = Instant::now() + Duration::from_secs(3600);
    let kind = Credential::AccessToken;
    let token = host.tokens.get(&host.account, kind, deadline).await?;
    let url = format!("{base}{PATH}?access_token={}", token.expose());
    let http = reqwest::Client::builder().no_proxy().build()?;
    let request: Arc<Request> = generic(Method::Get, PATH, Vec::new(), String::new())?.into();
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for _ in 0..size("BENCH_ROUNDS", ROUNDS) {
        bare.push(
            per_second(count, || {
                let (http, url) = (http.clone(), url.clone());
                async move {
                    let answer = http.get(url).send().await?.bytes().await?;
                    ensure!(answer.starts_with(b"{\"ip_list\""), "not the answer");
                    Ok(())
                }
            })
            .await?,
        );
        through.push(
            per_second(count, || {
                let (host, request) = (Arc::clone(host), Arc::clone(&request));
                async move {
                    let deadline = Instant::now() + Duration::from_secs(10);
                    let sent = host.client.send(&host.account, &request, deadline);
                    let answer = sent.await?;
                    ensure!(answer.starts_with(b"{\"ip_list\""), "not the answer");
                    Ok(())
                }
            })
            .await?,
        );
    }
    let (bare, through) = (median(bare), median(through));
    let mut table = Table::new(&["calls of the pretend WeChat", "calls/s", "of bare"]);
    table.row(&[&"bare reqwest", &format!("{bare:.0}"), &"1.00"]);
    let ratio = format!("{:.2}", through / bare);
    table.row(&[&"wxhost's client", &format!("{through:.0}"), &ratio]);
    table.print();
    Ok(())
}

/// How many calls a second so many callers make together.
async fn per_second<F>(count: usize, call: impl Fn() -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..count {
        if number >= CONNECTIONS {
            callers.join_next().await.context("a caller")???;
        }
        callers.spawn(call());
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
