//! A Redis server of our own.

use std::path::Path;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Launch, Process};
use crate::{port, wait};

/// A running Redis, in memory only.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
}

impl Redis {
    /// Starts it and waits until it answers.
    pub async fn start(directory: &Path) -> Result<Self> {
        let port = port::free()?;
        let arguments =
            format!("--port {port} --bind 127.0.0.1 --appendonly no --databases 256 --dir")
                .split(' ')
                .map(str::to_owned)
                .chain([
                    directory.display().to_string(),
                    "--save".into(),
                    String::new(),
                ])
                .collect();
        let process = Process::start(&Launch {
            name: "redis-server",
            program: Path::new("redis-server"),
            arguments,
            environment: Vec::new(),
            log: directory.join("redis.log"),
            user: None,
            ending: Signal::TERM,
        })?;
        let mut redis = Self { port, process };
        wait::until("an answer of redis-server", wait::SOON, async || {
            redis.process.expect_running()?;
            Ok(say(port, "PING")
                .await
                .is_ok_and(|answer| answer == "+PONG\r\n")
                .then_some(()))
        })
        .await?;
        Ok(redis)
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
