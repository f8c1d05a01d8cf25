//! A running `wxhost serve`, as an operator starts it: a process, its settings in the environment.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::admin::Admin;
use crate::process::{Launch, Process};
use crate::{plugin, port, secrets, wait};

/// A host.
#[derive(Debug)]
pub struct Host {
    process: Process,
    port: u16,
    base: String,
    admin: Admin,
    http: reqwest::Client,
}

impl Host {
    /// Starts a host with these variables. It may not be ready yet, or refuse to start.
    pub fn launch(log: &Path, variables: &[(String, String)], admin_token: &str) -> Result<Self> {
        let port = port::free()?;
        let listen = ("WXHOST_LISTEN".to_owned(), format!("127.0.0.1:{port}"));
        let process = Process::start(&Launch {
            name: "wxhost serve",
            program: &binary()?,
            arguments: vec!["serve".to_owned()],
            environment: std::iter::once(listen)
                .chain([("RUST_BACKTRACE".to_owned(), "1".to_owned())])
                .chain(variables.iter().cloned())
                .collect(),
            log: log.to_owned(),
            user: None,
            ending: Signal::TERM,
        })?;
        let base = format!("http://127.0.0.1:{port}");
        let http = http_client()?;
        let admin = Admin::new(http.clone(), base.clone(), admin_token.to_owned());
        Ok(Self {
            process,
            port,
            base,
            admin,
            http,
        })
    }

    /// Waits until it says that it is ready.
    pub async fn ready(mut self) -> Result<Self> {
        self.says_yes("/readyz").await?;
        Ok(self)
    }

    /// Waits until it says that it is alive, ready or not.
    pub async fn alive(&mut self) -> Result<()> {
        self.says_yes("/healthz").await
    }

    async fn says_yes(&mut self, path: &str) -> Result<()> {
        let url = format!("{}{path}", self.base);
        wait::until(
            &format!("a host that says yes to {path}"),
            wait::SOON,
            async || {
                self.process.expect_running()?;
                let answer = self.http.get(&url).send().await;
                Ok(answer
                    .is_ok_and(|answer| answer.status().is_success())
                    .then_some(()))
            },
        )
        .await
    }

    /// Where it listens: `http://127.0.0.1:…`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its admin API.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// A client that keeps connections to it.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// GET of a path: the status and the body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let response = self.http.get(format!("{}{path}", self.base)).send().await?;
        let status = response.status().as_u16();
        let body = response.text().await?;
        secrets::expect_none(&format!("the answer to GET {path}"), &body)?;
        Ok((status, body))
    }

    /// A metric's value, summed over its labels; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200, "/metrics answered {status}: {text}");
        let values = text.lines().filter_map(|line| {
            let rest = line
                .strip_prefix(name)
                .filter(|rest| rest.starts_with([' ', '{']))?;
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        Ok(values.sum())
    }

    /// Waits until `count` callbacks are under way.
    pub async fn busy_with(&self, count: f64) -> Result<()> {
        wait::until(
            &format!("{count} callbacks under way"),
            wait::SOON,
            async || Ok((self.metric("wxhost_under_way").await? >= count).then_some(())),
        )
        .await
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All that it has printed.
    pub fn printed(&self) -> Result<String> {
        self.process.printed()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends it a signal: `KILL`, `STOP`, `CONT` ….
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks it to end; it goes on in the background until [`Host::ended`].
    pub fn ask_to_end(&self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.wait(within).await
    }

    /// Asks it to end and waits until it has, with success.
    pub async fn stop(mut self) -> Result<()> {
        self.ask_to_end()?;
        let status = self.ended(wait::SOON).await?;
        ensure!(
            status.success(),
            "the host ended with {status}: {}",
            self.printed()?
        );
        Ok(())
    }
}

/// The host's binary: `WXHOST_BIN`, or the one beside the directory of the running test.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WXHOST_BIN") {
        return Ok(path.into());
    }
    let executable = std::env::current_exe()?;
    let profile = executable
        .parent()
        .and_then(Path::parent)
        .context("no directory above ours")?;
    let binary = profile.join("wxhost");
    ensure!(
        binary.exists(),
        "no {}: run `cargo build -p wxhost`, or set WXHOST_BIN ({:?})",
        binary.display(),
        plugin::target_directory()
    );
    Ok(binary)
}

pub(crate) fn http_client() -> Result<reqwest::Client> {
    // The client wants one even where all that it fetches is `http://`. Fails where one is chosen.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .build()?)
}
