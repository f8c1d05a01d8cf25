//! Pushes: what a tenant's system asks to be sent to one person or to many.
//!
//! A request is durable with its recipients when it is answered ([`crate::db::push`]). From there a loop on
//! every host takes it up: an account's lane is leased to one host at a time (`sender`), which takes turns
//! among the account's pushes, a window of recipients each (`window`). A window is noted before anything of
//! it leaves, and its outcomes after: a host that dies leaves one window behind of which nobody knows
//! whether it was sent. Template messages of it are sent again under their own ids, which WeChat sends
//! once; other recipients end as `unknown`.
//!
//! Built-in kinds need no plugin (`content`).

mod content;
mod pace;
mod sender;
mod window;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::content::{BuiltIn, Content, Template, Text, Way};
use crate::db::Database;
use crate::db::allowance::Scenes;
use crate::services::Services;

/// Messages of pushes under way at once, on one host.
const PLACES: usize = 128;

/// The push lane of a host.
pub struct PushLane {
    services: Arc<Services>,
    /// Over connections of its own, so that events find one.
    db: Database,
    /// How many customer-service messages WeChat takes.
    scenes: Scenes,
    places: Semaphore,
}

impl std::fmt::Debug for PushLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushLane").finish_non_exhaustive()
    }
}

impl PushLane {
    /// A lane that works with these.
    pub fn new(services: Arc<Services>, scenes: Scenes) -> Self {
        Self {
            db: services.db.background(),
            services,
            scenes,
            places: Semaphore::new(PLACES),
        }
    }

    /// Sends what there is to push, until `stop`; what is under way then is finished.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        loops.spawn(sender::run(Arc::clone(self), stop.clone()));
    }
}
