//! Redis servers of our own: one alone, or several as Sentinels or a Cluster hold them together.

mod cluster;
mod sentinel;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::cluster::Cluster;
pub use self::sentinel::Watched;
pub use self::tls::Sealed;
use crate::process::{Launch, Process};
use crate::{port, wait};

/// A running Redis, in memory only.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    directory: PathBuf,
    process: Process,
}

impl Redis {
    /// Starts it and waits until it answers.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, &[]).await
    }

    /// The same with more arguments, in a directory that it need not have for itself.
    async fn start_with(directory: &Path, more: &[&str]) -> Result<Self> {
        let port = port::free()?;
        let mut redis = Self {
            port,
            directory: directory.to_owned(),
            process: launch(port, directory, more)?,
        };
        redis.answers().await?;
        Ok(redis)
    }

    /// Ends it as `kill -9` does; everything that it held is lost.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it anew after [`Redis::kill`], empty, where it was.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = launch(self.port, &self.directory, &[])?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<()> {
        let (port, process) = (self.port, &mut self.process);
        wait::until("an answer of redis-server", wait::SOON, async || {
            process.expect_running()?;
            Ok(say(port, "PING")
                .await
                .is_ok_and(|answer| answer == "+PONG\r\n")
                .then_some(()))
        })
        .await
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forgets everything in one database.
    pub async fn wipe(&self, database: &str) -> Result<()> {
        let answer = say(self.port, &format!("SELECT {database}\r\nFLUSHDB")).await?;
        ensure!(answer == "+OK\r\n+OK\r\n", "FLUSHDB answered {answer:?}");
        Ok(())
    }

    /// All that it holds, as it would lie on disk, uncompressed.
    pub async fn dump(&self) -> Result<String> {
        let said = "CONFIG SET rdbcompression no\r\nSAVE";
        let answer = say(self.port, said).await?;
        ensure!(answer == "+OK\r\n+OK\r\n", "SAVE answered {answer:?}");
        let dumped = std::fs::read(self.directory.join("dump.rdb"))?;
        Ok(String::from_utf8_lossy(&dumped).into_owned())
    }

    /// Forgets everything.
    pub async fn wipe_all(&self) -> Result<()> {
        let answer = say(self.port, "FLUSHALL").await?;
        ensure!(answer == "+OK\r\n", "FLUSHALL answered {answer:?}");
        Ok(())
    }
}

fn launch(port: u16, directory: &Path, more: &[&str]) -> Result<Process> {
    let arguments = format!("--port {port} --bind 127.0.0.1 --appendonly no --databases 256 --dir")
        .split(' ')
        .map(str::to_owned)
        .chain([
            directory.display().to_string(),
            "--save".into(),
            String::new(),
        ])
        .chain(more.iter().map(|argument| (*argument).to_owned()))
        .collect();
    Process::start(&Launch {
        name: "redis-server",
        program: Path::new("redis-server"),
        arguments,
        environment: Vec::new(),
        log: directory.join(format!("redis{port}.log")),
        user: None,
        ending: Signal::TERM,
    })
}

/// Says inline commands and reads their short answers.
async fn say(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
