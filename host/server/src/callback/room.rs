//! How much memory events under way may hold, in bytes, and how tenants share it. Whoever can sign for
//! an account can send events as large and as many as they like, and each is held until its run ends;
//! so is each call of a plugin that waits for its turn, which is for an event.
//!
//! A tenant takes no more than it leaves free: however much some hold, the next one finds room. A quarter
//! is for events that are only kept in the database because there was no room to run them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::Metrics;

/// Bytes that events under way may hold in all.
pub(super) const ARRIVALS_BYTES: usize = 256 << 20;
/// Bytes that an event holds for each of its body: the body, the message read from it, and the plugin's
/// copy.
const COPIES: usize = 3;
/// Bytes that an event holds beside: the work on it, and what waits for it.
pub(super) const EVENT_BYTES: usize = 16 << 10;

/// What room is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run an event.
    Run,
    /// To keep it in the database.
    Keep,
}

/// The room of a host.
#[derive(Debug)]
pub(super) struct Rooms {
    bytes: usize,
    held: Gauge,
}

/// Room that an event holds until this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    of_all: Gauge,
    of_tenant: Arc<AtomicUsize>,
}

impl Rooms {
    /// So much, in metrics as `arrivals`.
    pub(super) fn new(bytes: usize, metrics: &Metrics) -> Self {
        Self {
            bytes,
            held: metrics.held_bytes("arrivals", bytes),
        }
    }

    /// Room for an event with a body of so many bytes, if its tenant may take it. `of_tenant` is what the
    /// tenant holds.
    pub(super) fn take(
        &self,
        of_tenant: &Arc<AtomicUsize>,
        body: usize,
        purpose: Purpose,
    ) -> Option<Room> {
        let bytes = body.saturating_mul(COPIES).saturating_add(EVENT_BYTES);
        // Given back at once if it does not fit.
        let room = Room::of(bytes, &self.held, of_tenant);
        let most = match purpose {
            Purpose::Run => self.bytes / 4 * 3,
            Purpose::Keep => self.bytes,
        };
        let all = usize::try_from(self.held.get()).unwrap_or(usize::MAX);
        let left = most.checked_sub(all)?;
        (of_tenant.load(Ordering::Relaxed) <= left).then_some(room)
    }
}

impl Room {
    fn of(bytes: usize, of_all: &Gauge, of_tenant: &Arc<AtomicUsize>) -> Self {
        of_all.inc_by(signed(bytes));
        of_tenant.fetch_add(bytes, Ordering::Relaxed);
        Self {
            bytes,
            of_all: of_all.clone(),
            of_tenant: Arc::clone(of_tenant),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of_all.dec_by(signed(self.bytes));
        self.of_tenant.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: usize = 1 << 20;

    fn tenant() -> Arc<AtomicUsize> {
        Arc::default()
    }

    fn fill(rooms: &Rooms, tenant: &Arc<AtomicUsize>, purpose: Purpose) -> Vec<Room> {
        std::iter::from_fn(|| rooms.take(tenant, BODY, purpose)).collect()
    }

    #[test]
    fn tenants_that_send_without_end_leave_room_for_whoever_comes_next() {
        let metrics = Metrics::new();
        let rooms = Rooms::new(ARRIVALS_BYTES, &metrics);
        let hostile: Vec<_> = (0..8).map(|_| tenant()).collect();
        let held: Vec<_> = hostile
            .iter()
            .map(|tenant| fill(&rooms, tenant, Purpose::Run))
            .collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert!(counts[0] >= 30 && counts[0] <= 32, "{counts:?}");
        let most = ARRIVALS_BYTES as i64 / 4 * 3;
        assert!(rooms.held.get() <= most, "{}", rooms.held.get());
        assert!(rooms.take(&tenant(), 4 << 10, Purpose::Run).is_some());
        let text = metrics.to_text();
        let limit = format!("wxhost_held_bytes_limit{{what=\"arrivals\"}} {ARRIVALS_BYTES}");
        assert!(text.contains(&limit), "{text}");
        drop(held);
        assert_eq!(rooms.held.get(), 0);
        assert_eq!(hostile[0].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_only_kept_finds_room_when_nothing_can_run_any_more() {
        let rooms = Rooms::new(ARRIVALS_BYTES, &Metrics::new());
        let tenants: Vec<_> = (0..16).map(|_| tenant()).collect();
        let _held: Vec<_> = tenants
            .iter()
            .map(|tenant| fill(&rooms, tenant, Purpose::Run))
            .collect();
        let next = tenant();
        assert!(rooms.take(&next, BODY, Purpose::Run).is_none());
        assert!(rooms.take(&next, BODY, Purpose::Keep).is_some());
    }
}
