//! The whole lane over loopback: callbacks a second, and how long one takes, beside a native handler
//! under the same load in the same run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use rustix::process::Signal;
use wxhost_simulator::{SimulatedAccount, WechatPlatform};
use wxhost_tests::account::{Account, patient_wechat};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::postgres::{Durability, Postgres};
use wxhost_tests::process::{Launch, Process};
use wxhost_tests::redis::Redis;
use wxhost_tests::site::Site;
use wxhost_tests::{port, wait};
use wxhost_wechat::envelope::Mode;

use crate::load::{CONNECTIONS, Load};
use crate::settings::{directory_for_all, size, write_accounts};
use crate::table::{Table, median, micros, percentile};

/// Rounds of each contestant; they take turns, so that a slow minute of the machine hits all.
const ROUNDS: usize = 5;
/// Callbacks of a round.
const CALLBACKS: usize = 60_000;
/// Accounts of the large case.
const ACCOUNTS: usize = 1_000;
/// Accounts of the largest case, in safe mode.
const MOST_ACCOUNTS: usize = 10_000;
/// Accounts that are added side by side.
const ONBOARDED_AT_ONCE: usize = 8;
/// Few, usual and many connections.
const CONNECTION_COUNTS: [usize; 3] = [8, CONNECTIONS, 512];

/// The load of one table.
struct Case<'a> {
    title: &'a str,
    accounts: Vec<SimulatedAccount>,
    connections: usize,
}

/// Who is measured.
struct Contestant {
    name: &'static str,
    port: u16,
    pid: u32,
}

/// What was measured of one contestant.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_micros: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_all())
}

async fn measure_all() -> Result<()> {
    let directory = directory_for_all()?;
    let wechat = patient_wechat()?;
    let accounts = size("BENCH_ACCOUNTS", ACCOUNTS);
    let plain = invent(Mode::Plain, accounts, &wechat);
    let compatible = invent(Mode::Compatible, accounts, &wechat);
    let most = size("BENCH_MOST_ACCOUNTS", MOST_ACCOUNTS).max(accounts);
    let safe = invent(Mode::Safe, most, &wechat);
    let all: Vec<&Account> = plain.iter().chain(&compatible).chain(&safe).collect();

    let native_accounts = directory.path().join("accounts.json");
    let known: Vec<SimulatedAccount> = all.iter().map(|account| account.known().clone()).collect();
    write_accounts(&native_accounts, &known)?;
    let (native, native_port) = start_native(directory.path(), &native_accounts).await?;

    let embedded_site = unbounded(Site::embedded(&directory.path().join("embedded"))?);
    let embedded = embedded_site.host().await?;
    onboard(&embedded, &all).await?;

    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    let redis = Redis::start(directory.path()).await?;
    let shared = directory.path().join("shared");
    let shared_site = unbounded(Site::direct(&shared, &postgres, &redis).await?);
    let shared = shared_site.host().await?;
    onboard(&shared, &all).await?;

    let contestants = [
        Contestant {
            name: "native axum handler",
            port: native_port,
            pid: native.pid(),
        },
        Contestant {
            name: "wxhost, SQLite + in-process",
            port: embedded.port(),
            pid: embedded.pid(),
        },
        Contestant {
            name: "wxhost, PostgreSQL + Redis",
            port: shared.port(),
            pid: shared.pid(),
        },
    ];
    println!(
        "{} callbacks a round, median of {} interleaved rounds; load generator \
         and server share the machine's cores.\n",
        size("BENCH_CALLBACKS", CALLBACKS),
        size("BENCH_ROUNDS", ROUNDS)
    );
    let modes = [
        ("plain", &plain),
        ("compatible", &compatible),
        ("safe", &safe),
    ];
    for (mode, accounts) in modes {
        let counts = [1, size("BENCH_ACCOUNTS", ACCOUNTS), accounts.len()];
        for count in counts.into_iter().collect::<BTreeSet<_>>() {
            // How connections tell is looked at once.
            let counts: &[usize] = if mode == "safe" && count == counts[1] {
                &CONNECTION_COUNTS
            } else {
                &[CONNECTIONS]
            };
            for &connections in counts {
                let title = format!("{mode} mode, {count} account(s), {connections} connections");
                let known = accounts[..count].iter();
                let case = Case {
                    title: &title,
                    accounts: known.map(|account| account.known().clone()).collect(),
                    connections,
                };
                compare(&case, &contestants).await?;
            }
        }
    }
    Ok(())
}

/// A site whose accounts have no rate: what a host can do is measured, not what one account may.
fn unbounded(site: Site) -> Site {
    site.with("LOG_LEVEL", "warn")
        .with("QUOTAS_CALLBACKS_A_SECOND", 10_000_000)
}

/// One table: all contestants under the same sort of load.
async fn compare(case: &Case<'_>, contestants: &[Contestant]) -> Result<()> {
    let callbacks = size("BENCH_CALLBACKS", CALLBACKS);
    let mut figures: Vec<Figures> = contestants.iter().map(|_| Figures::default()).collect();
    // The first round warms up connections, caches and plugins, and is not counted.
    for round in 0..=size("BENCH_ROUNDS", ROUNDS) {
        for (contestant, figures) in contestants.iter().zip(&mut figures) {
            let load = Load::build(&case.accounts, callbacks, case.connections)?;
            let cpu_before = cpu_seconds(contestant.pid)?;
            let sent = load
                .send(contestant.port)
                .await
                .with_context(|| contestant.name.to_owned())?;
            let cpu = cpu_seconds(contestant.pid)? - cpu_before;
            if round == 0 {
                continue;
            }
            figures
                .per_second
                .push(callbacks as f64 / sent.took.as_secs_f64());
            figures.cpu_micros.push(cpu * 1e6 / callbacks as f64);
            figures
                .p50
                .push(percentile(&sent.latencies, 0.50).as_secs_f64());
            figures
                .p99
                .push(percentile(&sent.latencies, 0.99).as_secs_f64());
        }
    }
    let mut table = Table::new(&[
        case.title,
        "callbacks/s",
        "of native",
        "CPU µs each",
        "× native",
        "p50 µs",
        "p99 µs",
    ]);
    let native = median(figures[0].per_second.clone());
    let native_cpu = median(figures[0].cpu_micros.clone());
    for (contestant, figures) in contestants.iter().zip(figures) {
        let per_second = median(figures.per_second);
        let cpu = median(figures.cpu_micros);
        let time = |values| micros(std::time::Duration::from_secs_f64(median(values)));
        table.row(&[
            &contestant.name,
            &format!("{per_second:.0}"),
            &format!("{:.2}", per_second / native),
            &format!("{cpu:.1}"),
            &format!("{:.2}", cpu / native_cpu),
            &time(figures.p50),
            &time(figures.p99),
        ]);
    }
    table.print();
    Ok(())
}

fn invent(mode: Mode, count: usize, wechat: &Arc<WechatPlatform>) -> Vec<Account> {
    (0..count).map(|_| Account::fresh(mode, wechat)).collect()
}

/// A tenant for every ten accounts, `hello` on all.
async fn onboard(host: &Host, accounts: &[&Account]) -> Result<()> {
    let bundle = Bundle::of(Plugin::Hello.component()?);
    let onboarded = accounts.chunks(10).map(|block| {
        let bundle = &bundle;
        async move {
            // One tenant's share of the host is not what is measured here.
            let tenant = host.admin().add_tenant_with(4_096).await?;
            for account in block {
                host.admin().add_account(account, &tenant).await?;
                host.admin().deploy(account, bundle).await?;
            }
            Ok(())
        }
    });
    let onboarded = futures::stream::iter(onboarded).buffer_unordered(ONBOARDED_AT_ONCE);
    onboarded.try_collect().await
}

async fn start_native(directory: &Path, accounts: &Path) -> Result<(Process, u16)> {
    let port = port::free()?;
    let program = std::env::current_exe()?;
    let mut process = Process::start(&Launch {
        name: "the native handler",
        program: &program,
        arguments: vec![
            "native-handler".into(),
            port.to_string(),
            accounts.display().to_string(),
        ],
        environment: Vec::new(),
        log: directory.join("native.log"),
        user: None,
        ending: Signal::TERM,
    })?;
    wait::until("the native handler", wait::SOON, async || {
        process.expect_running()?;
        Ok(tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .ok()
            .map(drop))
    })
    .await?;
    Ok((process, port))
}

/// CPU time that a process has used, in the kernel's ticks of 10 ms.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses and may hold spaces; utime and stime are 14 and 15.
    let fields = stat.rsplit(')').next().context("fields after the name")?;
    let mut times = fields.split_whitespace().skip(11).take(2);
    let mut next = || {
        times
            .next()
            .and_then(|time| time.parse::<f64>().ok())
            .context("a time")
    };
    Ok((next()? + next()?) / 100.0)
}
