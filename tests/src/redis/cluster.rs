//! A Cluster: three masters, and a replica of the first.

use std::path::Path;

use anyhow::{Context, Result};

use super::sentinel::expect_said;
use super::{Redis, say};
use crate::{port, wait};

/// The slots of each master.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// Four servers.
#[derive(Debug)]
pub struct Cluster {
    masters: Vec<Redis>,
    replica: Redis,
}

impl Cluster {
    /// Starts it and waits until it serves all slots and the replica follows.
    pub async fn start(directory: &Path) -> Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..=SLOTS.len() {
            nodes.push(node(directory).await?);
        }
        for ((node, _), (first, last)) in nodes.iter().zip(SLOTS) {
            say(node.port, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
        }
        let (first, _) = &nodes[0];
        for (node, bus) in &nodes[1..] {
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port);
            say(first.port, &meet).await?;
        }
        let known = format!("cluster_known_nodes:{}", nodes.len());
        for (node, _) in &nodes {
            expect_said(node, "CLUSTER INFO", &known).await?;
            expect_said(node, "CLUSTER INFO", "cluster_state:ok").await?;
        }
        let id = say(first.port, "CLUSTER MYID").await?;
        let id = id.lines().nth(1).context("an id of a node")?.to_owned();
        let mut nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
        let replica = nodes.pop().context("a node")?;
        wait::until("a replica", wait::SOON, async || {
            let said = say(replica.port, &format!("CLUSTER REPLICATE {id}")).await?;
            Ok(said.starts_with("+OK").then_some(()))
        })
        .await?;
        expect_said(&replica, "INFO replication", "master_link_status:up").await?;
        for node in &nodes {
            // All masters have to know whom to vote for.
            expect_said(node, "CLUSTER NODES", &format!("slave {id}")).await?;
        }
        Ok(Self {
            masters: nodes,
            replica,
        })
    }

    /// What hosts are told: the nodes, the first one first.
    #[must_use]
    pub fn url(&self) -> String {
        let ports = self.masters.iter().map(|node| node.port);
        let nodes: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Kills the first master and waits until its replica serves in its place.
    pub async fn fail_over(&mut self) -> Result<()> {
        self.masters[0].kill()?;
        expect_said(&self.replica, "INFO replication", "role:master").await?;
        for node in self.masters[1..].iter().chain([&self.replica]) {
            expect_said(node, "CLUSTER INFO", "cluster_state:ok").await?;
        }
        Ok(())
    }
}

/// A node and the port of its bus.
async fn node(directory: &Path) -> Result<(Redis, u16)> {
    let bus = port::free()?;
    let settings = format!("nodes{bus}.conf");
    let arguments = [
        "--databases",
        "1",
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus.to_string(),
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
        "--cluster-config-file",
        &settings,
    ];
    Ok((Redis::start_with(directory, &arguments).await?, bus))
}
