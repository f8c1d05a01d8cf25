//! Pushes: what a tenant's system asks to be sent to one person or to many.
//!
//! A request is durable with its recipients when it is answered ([`crate::db::push`]). From there a loop on
//! every host takes it up: an account's lane is leased to one host at a time (`sender`), which takes turns
//! among the account's pushes, a window of recipients each (`window`). A window is noted before anything of
//! it leaves, and its outcomes after: a host that dies leaves one window behind of which nobody knows
//! whether it was sent. Template messages of it are sent again under their own ids, which WeChat sends
//! once; other recipients end as `unknown`.
//!
//! What is sent, the account's plugin composes (`compose`), a block at a time and once (`composition`);
//! built-in kinds need no plugin (`content`). Pushes may recur (`recurrence`, `schedules`).

mod compose;
mod composition;
mod content;
mod pace;
mod recipient;
mod recurrence;
mod schedules;
mod sender;
mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::content::{BuiltIn, Content, Way, built_in};
pub use self::recurrence::Recurrence;
pub use self::schedules::ONCE;
use crate::db::Database;
use crate::run::Runner;
use crate::services::Services;

/// Messages of pushes under way at once, on one host.
const PLACES: usize = 512;

/// The push lane of a host.
pub struct PushLane {
    services: Arc<Services>,
    /// Over connections of its own, so that events find one.
    db: Database,
    places: Semaphore,
    runner: Runner,
}

impl std::fmt::Debug for PushLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushLane").finish_non_exhaustive()
    }
}

impl PushLane {
    /// A lane that works with these. A call of a plugin takes `call_deadline` at most.
    pub fn new(services: Arc<Services>, call_deadline: Duration) -> Self {
        Self {
            db: services.db.background(),
            runner: Runner::new(Arc::clone(&services), call_deadline),
            services,
            places: Semaphore::new(PLACES),
        }
    }

    /// Sends what there is to push, until `stop`; what is under way then is finished.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        loops.spawn(sender::run(Arc::clone(self), stop.clone()));
        loops.spawn(schedules::run(Arc::clone(self), stop.clone()));
    }
}
