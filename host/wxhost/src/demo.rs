//! `wxhost demo`: a host, two tenants, three accounts and a pretend WeChat in one process, over real
//! HTTP.
//!
//! Every exchange is checked, not only printed: with `--once` the exit code tells whether all came out
//! right.

mod admin;
mod cast;
mod script;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use wxhost_server::{App, Config, telemetry};
use wxhost_simulator::{PushSettings, SystemEnvironment, WechatPlatform};

use crate::serve::stop_signal;
use crate::transcript::say;
use admin::Admin;
use cast::Cast;
use script::Script;

/// Shows a host at work, from a fresh directory that is removed afterwards.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Ends after the exchanges; the exit code is 0 only if every one came out right.
    #[arg(long)]
    once: bool,
    /// Where `hello.wasm` and `desk.wasm` are.
    #[arg(long, value_name = "DIR", default_value = "target/plugins")]
    plugins: PathBuf,
}

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    let directory = tempfile::tempdir().context("a directory for the demo's data")?;
    let admin_token = random_hex(16)?;
    let config = settings(directory.path(), &admin_token)?;
    telemetry::log_to_stderr(&config);
    let app = App::start(config).await?;
    let url = format!("http://{}", app.addr());
    say(&format!(
        "wxhost serves at {url}, on SQLite in {}",
        directory.path().display()
    ));

    let shown = show(&url, &admin_token, &args).await;
    app.shutdown().await;
    Ok(if shown? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything between start and stop of the host. Answers whether all came out right.
async fn show(url: &str, admin_token: &str, args: &DemoArgs) -> Result<bool> {
    let wechat = WechatPlatform::new(PushSettings::default(), Arc::new(SystemEnvironment))?;
    let admin = Admin::new(url, admin_token)?;
    let cast = Cast::onboard(&admin, &args.plugins, url).await?;
    let mut script = Script::new(&wechat, &admin, &cast);
    script.play().await?;
    let all_right = script.conclude();
    if !args.once {
        cast.invite(url, admin_token);
        stop_signal().await?;
    }
    Ok(all_right)
}

fn settings(directory: &Path, admin_token: &str) -> Result<Config> {
    let mut config = Config::default();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.storage.data_dir = directory.to_owned();
    config.admin.token = Some(admin_token.to_owned().into());
    config.seal.master_key = Some(random_hex(32)?.into());
    // What people should read is on standard output.
    config.log.level = "warn".to_owned();
    config.compiler = Some(crate::compile::program());
    Ok(config)
}

/// So many random bytes, in hex.
pub(crate) fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).context("random bytes")?;
    Ok(hex::encode(random))
}
