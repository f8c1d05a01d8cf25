//! One event under way: whoever wants its answer waits for the same one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::SetOnce;

use super::table::EventKey;

/// Bytes that a run takes in the table beside its answer: itself, its place among the runs (half of which
/// are empty) and in their order.
pub(super) const RUN_BYTES: usize = size_of::<Run>() + 64 + 3 * size_of::<EventKey>();

/// What goes back to WeChat for an event: the reply in clear, or nothing to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(Arc<str>);

impl Answer {
    /// Nothing is shown to the user; WeChat gets `success`.
    pub fn nothing() -> Self {
        Self(Arc::from(""))
    }

    /// A reply in clear, XML or JSON as the account's format asks.
    pub fn reply(body: &str) -> Self {
        Self(Arc::from(body))
    }

    /// The reply in clear; empty for nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, to keep.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Whether nothing is shown.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// How an event ended on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// With this answer, whatever the plugin did. Safe to acknowledge.
    Answered(Answer),
    /// Not at all: the host could not do its part. The event is to be run again.
    HeldUp,
    /// Refused: its nonce came before with another body, on another host.
    Replayed,
}

impl Settled {
    /// Bytes of the answer.
    fn bytes(&self) -> usize {
        match self {
            Self::Answered(answer) => answer.as_str().len(),
            Self::HeldUp | Self::Replayed => 0,
        }
    }
}

/// An event under way on this host, or settled.
#[derive(Debug)]
pub struct Run {
    key: EventKey,
    started: Instant,
    deliveries: AtomicU32,
    late: AtomicBool,
    settled: SetOnce<Settled>,
    /// Bytes that the runs of this one's table take.
    held: Gauge,
}

impl Run {
    pub(super) fn new(key: EventKey, now: Instant, held: Gauge) -> Self {
        held.inc_by(RUN_BYTES as i64);
        Self {
            held,
            key,
            started: now,
            deliveries: AtomicU32::new(0),
            late: AtomicBool::new(false),
            settled: SetOnce::new(),
        }
    }

    pub(super) fn key(&self) -> EventKey {
        self.key
    }

    /// When the event was first seen here.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// How long ago the event was first seen here.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a delivery of the event; returns how many there were.
    pub fn count_delivery(&self) -> u32 {
        self.deliveries.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes over a count that other hosts share.
    pub fn raise_deliveries(&self, deliveries: u32) {
        self.deliveries.fetch_max(deliveries, Ordering::Relaxed);
    }

    /// How many deliveries there were, as far as this host knows.
    pub fn deliveries(&self) -> u32 {
        self.deliveries.load(Ordering::Relaxed)
    }

    /// Says that the event was acknowledged already: nobody waits for a passive answer.
    pub fn mark_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    /// Whether the event is known to have been acknowledged already.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends the event. The first end counts.
    pub fn settle(&self, settled: Settled) {
        let bytes = settled.bytes() as i64;
        // Counted before it is held: who lets go of it afterwards never counts below nothing.
        self.held.inc_by(bytes);
        // A second end loses on purpose: what was told to one delivery is told to all.
        if self.settled.set(settled).is_err() {
            self.held.dec_by(bytes);
        }
    }

    /// How the event ended, if it has.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.get()
    }

    /// Waits for the end.
    pub async fn wait(&self) -> &Settled {
        self.settled.wait().await
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let bytes = self.settled().map_or(0, Settled::bytes);
        self.held.dec_by((RUN_BYTES + bytes) as i64);
    }
}
