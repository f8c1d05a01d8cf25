//! What loaded plugins take: a host's resident memory with 1, 100 and 1,000 of them, all distinct.

use anyhow::{Context, Result};
use wxhost_tests::account::{Account, new_user, patient_wechat};
use wxhost_tests::admin::Bundle;
use wxhost_tests::plugin::{Plugin, distinct};
use wxhost_tests::site::Site;
use wxhost_wechat::envelope::Mode;

use crate::settings::{answer, size};
use crate::table::Table;

const STEPS: [u32; 3] = [1, 100, 1_000];

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
    ]);
    table.row(&[&0, &mebibytes(host.pid())?, &""]);
    for step in STEPS {
        let step = step.min(u32::try_from(size("BENCH_PLUGINS", 1_000))?);
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
        table.row(&[&step, &deployed, &mebibytes(host.pid())?]);
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
