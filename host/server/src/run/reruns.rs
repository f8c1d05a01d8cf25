//! Turns for runs that are repeated: runs that met on a key go one after the other. Every key of an
//! account has a queue of its own, so that nobody waits behind another tenant's runs, and a tenant has so
//! many places in its queues and no more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

/// Runs of one tenant that may wait for their turns, or have them.
pub(super) const MAX_RERUNS: u32 = 1_024;

/// Who runs again, and on what it met others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Meeting {
    pub(super) tenant: String,
    pub(super) app_id: String,
    /// The key, prefix or contact.
    pub(super) key: String,
}

/// Why there is no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTurn {
    #[error("{MAX_RERUNS} runs of the tenant wait for their turn to run again")]
    Full,
    #[error("its turn to run again did not come in time")]
    Late,
}

/// The queues of a host.
#[derive(Debug, Default)]
pub(super) struct Reruns {
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Only those that somebody is in.
    turns: HashMap<Meeting, Arc<tokio::sync::Mutex<()>>>,
    by_tenant: HashMap<String, u32>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    // Let go before the place: whoever is next has it then.
    _turn: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

impl Reruns {
    /// Waits for one's turn, until `until`.
    pub(super) async fn enter(&self, meeting: Meeting, until: Instant) -> Result<Turn<'_>, NoTurn> {
        let place = self.queue_up(meeting)?;
        let turn = timeout_at(until, Arc::clone(&place.turn).lock_owned()).await;
        Ok(Turn {
            _turn: turn.map_err(|_| NoTurn::Late)?,
            _place: place,
        })
    }

    fn queue_up(&self, meeting: Meeting) -> Result<Place<'_>, NoTurn> {
        let mut queues = self.queues.lock();
        let held = queues.by_tenant.entry(meeting.tenant.clone()).or_default();
        if *held >= MAX_RERUNS {
            return Err(NoTurn::Full);
        }
        *held += 1;
        let turn = Arc::clone(queues.turns.entry(meeting.clone()).or_default());
        Ok(Place {
            reruns: self,
            meeting,
            turn,
        })
    }
}

/// A place in a queue, given back however the waiting ends.
#[derive(Debug)]
struct Place<'a> {
    reruns: &'a Reruns,
    meeting: Meeting,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.reruns.queues.lock();
        // The table's and this one: nobody else is in the queue.
        if Arc::strong_count(&self.turn) == 2 {
            queues.turns.remove(&self.meeting);
        }
        if let Some(held) = queues.by_tenant.get_mut(&self.meeting.tenant) {
            *held -= 1;
            if *held == 0 {
                queues.by_tenant.remove(&self.meeting.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, poll};

    use super::*;

    fn on(tenant: &str, key: &str) -> Meeting {
        Meeting {
            tenant: tenant.to_owned(),
            app_id: format!("wx-{tenant}"),
            key: key.to_owned(),
        }
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn those_who_met_on_a_key_go_one_after_the_other_and_others_at_once() {
        let reruns = Reruns::default();
        let first = reruns.enter(on("a", "n"), later()).await.unwrap();
        let mut second = Box::pin(reruns.enter(on("a", "n"), later()));
        assert!(poll!(&mut second).is_pending());
        // As many keys and tenants as there ever were locks for.
        for other in 0..300 {
            let key = reruns.enter(on("a", &other.to_string()), later());
            assert!(key.await.is_ok());
            let tenant = reruns.enter(on(&other.to_string(), "n"), later());
            assert!(tenant.await.is_ok());
        }
        drop(first);
        drop(second.await.unwrap());
        let queues = reruns.queues.lock();
        assert!(queues.turns.is_empty() && queues.by_tenant.is_empty());
    }

    #[tokio::test]
    async fn a_tenant_that_fills_its_places_takes_none_of_anothers() {
        let reruns = Reruns::default();
        let mut waiting = Vec::new();
        for number in 0..MAX_RERUNS {
            let key = (number % 3).to_string();
            let mut turn = Box::pin(reruns.enter(on("hostile", &key), later()));
            let got = poll!(&mut turn);
            waiting.push((turn, got));
        }
        let beyond = reruns.enter(on("hostile", "new"), later()).now_or_never();
        assert_eq!(beyond.unwrap().unwrap_err(), NoTurn::Full);
        assert!(reruns.enter(on("good", "n"), later()).await.is_ok());
        drop(waiting);
        assert!(reruns.enter(on("hostile", "new"), later()).await.is_ok());
    }

    #[tokio::test]
    async fn waiting_ends_in_time() {
        let reruns = Reruns::default();
        let _first = reruns.enter(on("a", "n"), later()).await.unwrap();
        let second = reruns.enter(on("a", "n"), Instant::now()).await;
        assert_eq!(second.unwrap_err(), NoTurn::Late);
    }
}
