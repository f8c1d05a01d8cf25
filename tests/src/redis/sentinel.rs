//! A master with a replica, and a Sentinel that makes the one the other when the first is gone.

use std::path::Path;

use anyhow::Result;
use rustix::process::Signal;

use super::{Redis, say};
use crate::process::{Launch, Process};
use crate::{port, wait};

/// How the Sentinel calls the master.
const NAME: &str = "mymaster";

/// Both servers and their Sentinel.
#[derive(Debug)]
pub struct Watched {
    master: Redis,
    replica: Redis,
    sentinel_port: u16,
    _sentinel: Process,
}

impl Watched {
    /// Starts all three and waits until the Sentinel knows of the replica.
    pub async fn start(directory: &Path) -> Result<Self> {
        let master = Redis::start_with(directory, &["--repl-diskless-sync-delay", "0"]).await?;
        let master_port = master.port.to_string();
        let replica =
            Redis::start_with(directory, &["--replicaof", "127.0.0.1", &master_port]).await?;
        expect_said(&replica, "INFO replication", "master_link_status:up").await?;
        let sentinel_port = port::free()?;
        let settings = directory.join(format!("sentinel{sentinel_port}.conf"));
        std::fs::write(
            &settings,
            format!(
                "port {sentinel_port}\nbind 127.0.0.1\ndir {}\n\
                 sentinel monitor {NAME} 127.0.0.1 {master_port} 1\n\
                 sentinel down-after-milliseconds {NAME} 500\n\
                 sentinel failover-timeout {NAME} 3000\n",
                directory.display()
            ),
        )?;
        let sentinel = Process::start(&Launch {
            name: "redis-server --sentinel",
            program: Path::new("redis-server"),
            arguments: vec![settings.display().to_string(), "--sentinel".into()],
            environment: Vec::new(),
            log: directory.join("sentinel.log"),
            user: None,
            ending: Signal::TERM,
        })?;
        let question = format!("SENTINEL REPLICAS {NAME}");
        let replica_port = replica.port.to_string();
        wait::until(
            "a Sentinel that knows the replica",
            wait::SOON,
            async || {
                let known = say(sentinel_port, &question).await;
                Ok(known
                    .is_ok_and(|known| known.contains(&replica_port))
                    .then_some(()))
            },
        )
        .await?;
        Ok(Self {
            master,
            replica,
            sentinel_port,
            _sentinel: sentinel,
        })
    }

    /// What hosts are told.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{NAME}", self.sentinel_port)
    }

    /// Kills the master and waits until the other one is.
    pub async fn fail_over(&mut self) -> Result<()> {
        self.master.kill()?;
        expect_said(&self.replica, "INFO replication", "role:master").await
    }
}

/// Waits until a server says so.
pub(super) async fn expect_said(redis: &Redis, question: &str, wanted: &str) -> Result<()> {
    wait::until(wanted, wait::SOON, async || {
        let said = say(redis.port, question).await;
        Ok(said.is_ok_and(|said| said.contains(wanted)).then_some(()))
    })
    .await
}
