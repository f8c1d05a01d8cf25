//! The loop of a host, and its turns with an account's lane.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PushLane;
use super::pace::Pace;
use super::window::{Next, Sender};
use crate::clock::millis;
use crate::db::push::{self, LeasedLane};
use crate::db::{DbError, Lease};
use crate::random;

/// Accounts whose lanes this host has at once.
const LANES_AT_ONCE: usize = 32;
/// Pushes of an account that take turns.
const PUSHES_AT_ONCE: i64 = 16;
/// How long a lane is this host's since it last came further. Longer than a window takes.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How long a host keeps a lane before others come first.
const TURN: Duration = Duration::from_secs(5);
/// How often a lane with pushes that wait is looked at in quiet hours: they may be changed.
const QUIET_PERIOD: Duration = Duration::from_secs(10);
/// How often the loop looks by itself.
const PERIOD: Duration = Duration::from_secs(1);

/// Sends until `stop`.
pub(super) async fn run(lane: Arc<PushLane>, stop: CancellationToken) {
    let owner: Arc<str> = random::unique_name().into();
    let mut lanes = JoinSet::new();
    loop {
        if lanes.len() < LANES_AT_ONCE && !lane.db.is_own_clock_off() {
            match push::lease(&lane.db, lease(&lane, &owner)).await {
                Ok(Some(leased)) => {
                    let (lane, stop) = (Arc::clone(&lane), stop.clone());
                    lanes.spawn(async move { lane.serve(leased, &stop).await });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(error = %error, "pushes can't be read"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = lanes.join_next() => {}
            () = lane.services.push.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    while lanes.join_next().await.is_some() {}
}

fn lease<'a>(lane: &PushLane, owner: &'a str) -> Lease<'a> {
    Lease::begin(&lane.db, owner, LEASE)
}

impl PushLane {
    /// Sends of an account's pushes until there is nothing to send now, or others come first.
    async fn serve(&self, leased: LeasedLane, stop: &CancellationToken) {
        let due_at = match self.work(&leased, stop).await {
            Ok(due_at) => due_at,
            Err(error) => {
                tracing::debug!(account.app_id = leased.app_id, error = %error, "a push can't go on now");
                Some(self.db.now_ms() + millis(PERIOD))
            }
        };
        let Some(due_at) = due_at else {
            return;
        };
        if let Err(error) = push::release(&self.db, &leased, due_at).await {
            tracing::debug!(account.app_id = leased.app_id, error = %error, "a lane can't be given back now");
        }
    }

    /// When pushes that are not urgent are looked at again, where the account's quiet hours are now: they may be
    /// changed meanwhile.
    fn quiet_until(&self, app_id: &str, now_ms: i64) -> Option<i64> {
        let account = self.services.accounts.get(app_id)?;
        let end = account.quiet_hours.as_ref()?.end(now_ms)?;
        Some(end.min(now_ms + millis(QUIET_PERIOD)))
    }

    /// When the lane is looked at next; none if it is not this host's any more.
    async fn work(
        &self,
        leased: &LeasedLane,
        stop: &CancellationToken,
    ) -> Result<Option<i64>, DbError> {
        let (pace, until) = (Mutex::new(Pace::default()), Instant::now() + TURN);
        loop {
            let now_ms = self.db.now_ms();
            if stop.is_cancelled() || Instant::now() >= until {
                return Ok(Some(now_ms));
            }
            let Some(asked) = push::renew(&self.db, leased, now_ms + millis(LEASE)).await? else {
                return Ok(None);
            };
            let quiet_until = self.quiet_until(&leased.app_id, now_ms);
            let taken = (PUSHES_AT_ONCE, quiet_until.is_some());
            let pushes = push::running(&self.db, (&leased.app_id, now_ms), taken).await?;
            let mut earliest = push::next_start(&self.db, &leased.app_id, now_ms).await?;
            if let Some(until_ms) = quiet_until
                && push::is_one_waiting(&self.db, (&leased.app_id, now_ms)).await?
            {
                earliest = Some(earliest.unwrap_or(until_ms).min(until_ms));
            }
            if pushes.is_empty()
                && earliest.is_none()
                && push::give_up(&self.db, leased, asked).await?
            {
                return Ok(None);
            }
            for (number, push) in pushes.iter().enumerate() {
                let until_ms = self.db.now_ms() + millis(LEASE);
                // Each turn may take most of a lease.
                if number > 0 && push::renew(&self.db, leased, until_ms).await?.is_none() {
                    return Ok(None);
                }
                let sender = Sender {
                    lane: self,
                    leased,
                    push,
                    pace: &pace,
                };
                match sender.turn().await? {
                    Next::Now => earliest = Some(now_ms),
                    Next::At(due_at) => earliest = Some(earliest.unwrap_or(due_at).min(due_at)),
                    Next::Rest(rest) => return Ok(Some(self.db.now_ms() + millis(rest))),
                    Next::Nothing => {}
                }
            }
            match earliest {
                Some(due_at) if due_at > now_ms => return Ok(Some(due_at)),
                _ => {}
            }
        }
    }
}
