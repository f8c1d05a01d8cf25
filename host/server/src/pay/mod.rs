//! Money that people pay (微信支付), on one host: what WeChat Pay tells is kept before it is acknowledged (`notice`), what
//! it did not tell is found by asking (`follow`), and the account's plugin is told of each fact once (`handler`).
//!
//! The rules of orders and refunds are `crate::ledger`'s; orders and refunds are made by `crate::checkout`.

mod follow;
mod handler;
mod notice;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::notice::{NoticeAddress, NoticeError};
use crate::run::Runner;
use crate::services::Services;

/// How often the loops look by themselves.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a host has what it has leased: longer than two calls of WeChat Pay, or one of a plugin, take. Whoever takes
/// over from a host that is slower does no harm: an event is committed by its lease only, and WeChat Pay is asked under
/// the same numbers.
const LEASE: Duration = Duration::from_secs(12);

/// Money, on one host.
pub struct PayLane {
    services: Arc<Services>,
    runner: Runner,
}

impl std::fmt::Debug for PayLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayLane").finish_non_exhaustive()
    }
}

impl PayLane {
    /// A lane whose calls of plugins take `call_deadline` at most.
    pub fn new(services: Arc<Services>, call_deadline: Duration) -> Self {
        Self {
            runner: Runner::new(Arc::clone(&services), call_deadline),
            services,
        }
    }

    /// What it shares with the other lanes.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Spawns what the lane does by itself.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        let lane = || Arc::clone(self);
        loops.spawn(follow::run(lane(), stop.clone()));
        loops.spawn(follow::renew_certificates(lane(), stop.clone()));
    }
}
