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
            format!("--port {port} --bind 127.0.0.1 --appendonly no --databases 64 --dir")
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

    /// Forgets everything, in all databases.
    pub async fn wipe(&self) -> Result<()> {
        let answer = say(self.port, "FLUSHALL").await?;
        ensure!(answer == "+OK\r\n", "FLUSHALL answered {answer:?}");
        Ok(())
    }
}

/// Says one inline command and reads a one-line answer.
async fn say(port: u16, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(format!("{command}\r\n").as_bytes())
        .await?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}
