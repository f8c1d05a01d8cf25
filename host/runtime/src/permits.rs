//! How many calls of one tenant run at once: a gate with a bounded queue.
//!
//! A gate lets waiting calls in in the order in which they came. A call passes its tenant's gate before it
//! asks for one of the host's places, so a tenant never has more calls in the host's queue than it may run
//! at once, and a flood waits at its own gate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::places::{Overloaded, Share};

/// How many calls of a tenant run at once, over all of its accounts, and how many may wait.
#[derive(Debug)]
pub struct TenantPermits {
    gate: Gate,
    share: Arc<Share>,
}

impl TenantPermits {
    /// Lets `concurrent` calls run and `queue` more wait. Of the host's places it gets its part by
    /// `concurrent` too.
    pub fn new(concurrent: u32, queue: u32) -> Self {
        Self {
            gate: Gate::new(concurrent, queue),
            share: Share::new(concurrent),
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }
}

/// A semaphore with a bounded, timed, fair queue.
#[derive(Debug)]
pub(crate) struct Gate {
    slots: Semaphore,
    waiting: AtomicU32,
    queue: u32,
}

impl Gate {
    pub(crate) fn new(concurrent: u32, queue: u32) -> Self {
        Self {
            slots: Semaphore::new((concurrent as usize).min(Semaphore::MAX_PERMITS)),
            waiting: AtomicU32::new(0),
            queue,
        }
    }

    /// A permit, now or when it is this call's turn, but not after `until`.
    pub(crate) async fn enter(&self, until: Instant) -> Result<SemaphorePermit<'_>, Overloaded> {
        // Freed permits go to those who wait, so this overtakes nobody.
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(permit);
        }
        let _place = self.queue_up()?;
        match timeout_at(until, self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }

    fn queue_up(&self) -> Result<Place<'_>, Overloaded> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        if ahead >= self.queue {
            return Err(Overloaded);
        }
        Ok(place)
    }
}

/// A place in the queue, given back however the waiting ends.
struct Place<'a>(&'a AtomicU32);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, poll};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let gate = Gate::new(1, 1);
        let running = gate.enter(soon()).await.unwrap();
        let mut waiting = Box::pin(gate.enter(soon()));
        assert!(poll!(&mut waiting).is_pending());
        assert_eq!(
            gate.enter(soon()).now_or_never().map(|r| r.err()),
            Some(Some(Overloaded))
        );
        drop(running);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn waiting_ends_in_time() {
        let gate = Gate::new(1, 8);
        let _running = gate.enter(soon()).await.unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        assert_eq!(gate.enter(until).await.err(), Some(Overloaded));
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn those_who_wait_are_served_in_order() {
        let gate = Gate::new(1, 8);
        let running = gate.enter(soon()).await.unwrap();
        let mut first = Box::pin(gate.enter(soon()));
        let mut second = Box::pin(gate.enter(soon()));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(running);
        assert!(
            poll!(&mut second).is_pending(),
            "the second must not overtake"
        );
        let first = first.await.unwrap();
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_its_place() {
        let gate = Gate::new(1, 1);
        let _running = gate.enter(soon()).await.unwrap();
        let mut waiting = Box::pin(gate.enter(soon()));
        assert!(poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
