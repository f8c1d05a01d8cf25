//! What loaded plugins take: a host's resident memory with up to 10,000 of them, all distinct, and how
//! long the first call takes of one that had to make way.

use std::time::Instant;

use anyhow::{Context, Result};
use wxhost_tests::account::{Account, new_user, patient_wechat};
use wxhost_tests::admin::Bundle;
use wxhost_tests::plugin::{Plugin, distinct};
use wxhost_tests::site::Site;
use wxhost_wechat::envelope::Mode;

use crate::settings::{answer, size};
use crate::table::{Table, percentile};

const STEPS: [u32; 4] = [1, 100, 1_000, 10_000];
/// Calls of plugins that had made way whose time is taken.
const FIRST_CALLS: usize = 1_000;

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_host())
}

async fn measure_host() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let site = Site::embedded(&directory.path().join("site"))?.with("LOG_LEVEL", "warn");
    let mut host = site.host().await?;
    let wechat = patient_wechat()?;
    let tenant = host.admin().add_tenant().await?;
    let hello = Plugin::Hello.component()?;
    let user = new_user()?;
    let mut accounts = Vec::new();
    let mut table = Table::new(&[
        "distinct plugins, each called once",
        "after deploying, MiB",
        "after a restart, MiB",
        "loaded then",
        "first call of one that made way, p50 ms",
        "p99 ms",
    ]);
    table.row(&[&0, &mebibytes(host.pid())?, &"", &"", &"", &""]);
    for step in STEPS {
        let step = step.min(u32::try_from(size("BENCH_PLUGINS", 10_000))?);
        while accounts.len() < step as usize {
            let account = Account::fresh(Mode::Plain, &wechat);
            host.admin().add_account(&account, &tenant).await?;
            let number = u32::try_from(accounts.len())?;
            host.admin()
                .deploy(&account, &Bundle::of(distinct(&hello, number)))
                .await?;
            accounts.push(account);
        }
        let call_all = async |host: &wxhost_tests::host::Host| -> Result<()> {
            for account in &accounts {
                let reply = account.ask(host, &user, "hi").await?;
                anyhow::ensure!(reply == answer("hi"), "{reply}");
            }
            Ok(())
        };
        call_all(&host).await?;
        let deployed = mebibytes(host.pid())?;
        host.stop().await?;
        host = site.host().await?;
        call_all(&host).await?;
        let restarted = mebibytes(host.pid())?;
        let loaded = host.metric("wxhost_loaded_plugins").await?;
        // They were called in order: the first made way first.
        let made_way = accounts.len() - loaded as usize;
        let mut took = Vec::new();
        for account in &accounts[..made_way.min(FIRST_CALLS)] {
            let asked = Instant::now();
            account.ask(&host, &user, "hi").await?;
            took.push(asked.elapsed());
        }
        took.sort_unstable();
        let share = |share| match took.as_slice() {
            [] => String::new(),
            took => format!("{:.2}", percentile(took, share).as_secs_f64() * 1e3),
        };
        table.row(&[
            &step,
            &deployed,
            &restarted,
            &loaded,
            &share(0.50),
            &share(0.99),
        ]);
    }
    table.print();
    Ok(())
}

fn mebibytes(pid: u32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("VmRSS")?;
    let kibibytes: f64 = line
        .split_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?;
    Ok(format!("{:.0}", kibibytes / 1024.0))
}
