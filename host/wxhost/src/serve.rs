//! `wxhost serve`: a host, until it is asked to stop.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use wxhost_server::{App, Config, telemetry};

/// Settings come from `WXHOST_*` variables and, below them, from a file.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with settings; `--print-config` shows all of them.
    #[arg(long, value_name = "FILE", env = "WXHOST_CONFIG")]
    config: Option<PathBuf>,
    /// Prints a commented file with every setting and its default, and ends.
    #[arg(long)]
    print_config: bool,
}

pub(crate) async fn run(args: ServeArgs) -> Result<()> {
    if args.print_config {
        return crate::table::print(wxhost_server::config::DEFAULT_FILE);
    }
    let mut config = Config::load(args.config.as_deref())?;
    config.compiler = Some(crate::compile::program());
    telemetry::log_to_stderr(&config);
    let app = App::start(config).await?;
    let name = stop_signal().await?;
    tracing::info!("{name}: stopping; callbacks under way are answered first");
    app.shutdown().await;
    Ok(())
}

/// Waits for SIGTERM or SIGINT, and says which it was.
pub(crate) async fn stop_signal() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
