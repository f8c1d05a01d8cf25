//! Third-party platforms (第三方平台): accounts that are let to a platform by a scan, and what becomes of that.
//!
//! What WeChat tells at a platform's event URL is durable before it is acknowledged; a loop of every host
//! sees to it (`told`). An authorisation code is exchanged once, whether the event or the redirect brings it
//! first (`exchange`). What it brings is an authorisation, which a host looks at at once and then daily
//! (`onboarding`): it reads what the account is, and makes the account for the tenant who has invited it
//! (`invitations`), or to whom it was given later. `tickets` watches that WeChat goes on pushing tickets;
//! `import` reads the list of a platform's authorisers; `release_test` answers what WeChat checks before it
//! releases a platform.
//!
//! Tokens are not made here: `crate::tokens` gets a platform's by its ticket and an account's by its refresh
//! token, and everything that calls WeChat works the same for accounts that a platform serves.

mod exchange;
mod import;
mod invitations;
mod onboarding;
pub mod release_test;
mod tickets;
mod told;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::exchange::ExchangeError;
pub use self::import::{CsvError, CsvFault, Taken, import_csv};
pub use self::invitations::{
    Begun, Ended, Invitation, InvitationError, NewInvitation, Visit, invite, revoke,
};
pub use self::tickets::{clear_quota, start as start_tickets};
pub use self::told::KeepError;
use crate::services::Services;

/// How often the loops look by themselves.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a host has what it has leased, unless it renews that: what a host that is killed costs a customer
/// who waits.
const LEASE: Duration = Duration::from_secs(6);
/// How often it renews it while it is at work.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long a call of a platform may take.
const CALL_TIME: Duration = Duration::from_secs(10);

/// Third-party platforms, on one host.
pub struct PlatformLane {
    services: Arc<Services>,
    /// Where mp.weixin.qq.com is.
    mp_base: String,
    /// Where open.weixin.qq.com is.
    open_base: String,
    /// Something was told.
    told: Notify,
    /// An authorisation is due.
    due: Notify,
}

impl std::fmt::Debug for PlatformLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlatformLane").finish_non_exhaustive()
    }
}

impl PlatformLane {
    /// A lane whose links lead to these addresses of WeChat's.
    pub fn new(services: Arc<Services>, mp_base: &str, open_base: &str) -> Self {
        let plain = |base: &str| base.trim_end_matches('/').to_owned();
        Self {
            services,
            mp_base: plain(mp_base),
            open_base: plain(open_base),
            told: Notify::new(),
            due: Notify::new(),
        }
    }

    /// Spawns what the lane does by itself.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        let lane = || Arc::clone(self);
        loops.spawn(told::see_to(lane(), stop.clone()));
        loops.spawn(onboarding::look(lane(), stop.clone()));
        loops.spawn(tickets::watch(lane(), stop.clone()));
        loops.spawn(import::read_lists(lane(), stop.clone()));
    }

    /// What the lane shares with the others.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Has a look taken at what is due, on this host at least.
    pub fn wake(&self) {
        self.due.notify_one();
    }
}

/// Works, and has what the work is on leased for as long.
async fn while_leased<'a, T>(
    work: impl Future<Output = T>,
    renew: impl Fn() -> BoxFuture<'a, ()>,
) -> T {
    let renewing = async {
        loop {
            tokio::time::sleep(RENEWAL).await;
            renew().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = renewing => unreachable!("it goes on for as long as the work does"),
    }
}
