//! The events that this host knows, bounded in number, bytes and age.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use super::keyed::KeyedMap;
use super::{Run, Settled};

/// How long an event is remembered after it was first seen. WeChat's three deliveries lie within 15 s.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many events are remembered.
const MAX_EVENTS: usize = 1 << 20;
/// Bytes that events take which are remembered, with their answers.
pub const EVENT_TABLE_BYTES: usize = 384 << 20;
/// Events that one new event makes a shard forget at most, because answers take too much memory.
const FORGOTTEN_FOR_BYTES: u32 = 2;
/// Locks that the events are spread over.
const SHARDS: usize = 64;

/// An event of an account, by two hashes under keys of this process: 128 bits that nobody outside can
/// make collide, at a tenth of the names' size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EventKey(u64, u64);

/// The events that this host knows.
#[derive(Debug)]
pub struct Table {
    hashers: [RandomState; 2],
    shards: Vec<Mutex<Shard>>,
    most_per_shard: usize,
    /// Bytes that its events take.
    held: Gauge,
}

/// What a delivery finds.
#[derive(Debug)]
pub enum Admission {
    /// The event is new: whoever got this must see to it that the run is settled.
    New(Arc<Run>),
    /// The event is under way or settled.
    Known(Arc<Run>),
}

#[derive(Debug, Default)]
struct Shard {
    runs: KeyedMap<EventKey, Arc<Run>>,
    /// In the order in which they were first seen.
    order: VecDeque<Arc<Run>>,
}

impl Table {
    /// A table of the usual size, which tells by `held` what its events take: [`EVENT_TABLE_BYTES`] at most.
    pub fn new(held: Gauge) -> Self {
        Self::with_capacity(MAX_EVENTS, held)
    }

    fn with_capacity(events: usize, held: Gauge) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most_per_shard: (events / SHARDS).max(1),
            held,
        }
    }

    /// The run of an event; a new one if the event was not seen (or is forgotten), or if the host was
    /// held up the last time: deliveries of then count on.
    pub fn admit(&self, app_id: &str, event_id: &str, now: Instant) -> Admission {
        let key = self.key(app_id, event_id);
        let mut shard = self.shard(key).lock();
        let mut deliveries = 0;
        if let Some(run) = shard.runs.get(&key) {
            if run.settled() != Some(&Settled::HeldUp) {
                return Admission::Known(Arc::clone(run));
            }
            deliveries = run.deliveries();
        }
        shard.forget_old(now, self.most_per_shard, &self.held);
        let run = Arc::new(Run::new(key, now, self.held.clone()));
        run.raise_deliveries(deliveries);
        shard.runs.insert(key, Arc::clone(&run));
        shard.order.push_back(Arc::clone(&run));
        Admission::New(run)
    }

    /// Forgets a run, so that the next delivery of its event starts anew.
    pub fn forget(&self, run: &Arc<Run>) {
        let mut shard = self.shard(run.key()).lock();
        if shard
            .runs
            .get(&run.key())
            .is_some_and(|known| Arc::ptr_eq(known, run))
        {
            shard.runs.remove(&run.key());
        }
    }

    fn key(&self, app_id: &str, event_id: &str) -> EventKey {
        let [first, second] = &self.hashers;
        EventKey(
            first.hash_one((app_id, event_id)),
            second.hash_one((app_id, event_id)),
        )
    }

    fn shard(&self, key: EventKey) -> &Mutex<Shard> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash will do"
        )]
        let index = key.0 as usize % SHARDS;
        &self.shards[index]
    }
}

impl Shard {
    /// Makes room. An event under way is kept whatever its age, so that its retries still join it.
    fn forget_old(&mut self, now: Instant, most: usize, held: &Gauge) {
        // Other shards' answers count too, so one event must not clear this one.
        let mut for_bytes = FORGOTTEN_FOR_BYTES;
        while let Some(oldest) = self.order.front() {
            let too_old = now.duration_since(oldest.started()) > REMEMBERED;
            if !too_old && self.runs.len() < most {
                if for_bytes == 0 || held.get() <= EVENT_TABLE_BYTES as i64 {
                    return;
                }
                for_bytes -= 1;
            }
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            let current = self
                .runs
                .get(&oldest.key())
                .is_some_and(|run| Arc::ptr_eq(run, &oldest));
            if current && oldest.settled().is_none() {
                self.order.push_back(oldest);
                return;
            }
            if current {
                self.runs.remove(&oldest.key());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Answer;
    use crate::inbox::run::RUN_BYTES;

    fn table() -> Table {
        Table::new(Gauge::default())
    }

    fn new(table: &Table, event_id: &str, now: Instant) -> Arc<Run> {
        match table.admit("wx1", event_id, now) {
            Admission::New(run) => run,
            Admission::Known(_) => panic!("{event_id} is known"),
        }
    }

    fn known(table: &Table, event_id: &str, now: Instant) -> Arc<Run> {
        match table.admit("wx1", event_id, now) {
            Admission::Known(run) => run,
            Admission::New(_) => panic!("{event_id} is new"),
        }
    }

    #[test]
    fn a_second_delivery_finds_the_first_ones_run_and_answer() {
        let table = table();
        let now = Instant::now();
        let first = new(&table, "m:1", now);
        first.settle(Settled::Answered(Answer::reply("hi")));
        first.settle(Settled::HeldUp);
        let second = known(&table, "m:1", now);
        assert_eq!(
            second.settled(),
            Some(&Settled::Answered(Answer::reply("hi")))
        );
    }

    #[test]
    fn an_event_that_was_held_up_runs_again_and_its_deliveries_count_on() {
        let table = table();
        let now = Instant::now();
        let first = new(&table, "m:1", now);
        first.count_delivery();
        first.settle(Settled::HeldUp);
        let second = new(&table, "m:1", now);
        assert!(second.settled().is_none());
        assert_eq!(second.count_delivery(), 2);
        assert!(Arc::ptr_eq(&second, &known(&table, "m:1", now)));
    }

    #[test]
    fn another_account_with_the_same_message_id_is_another_event() {
        let table = table();
        let now = Instant::now();
        let _ = new(&table, "m:1", now);
        assert!(matches!(table.admit("wx2", "m:1", now), Admission::New(_)));
    }

    #[test]
    fn a_forgotten_run_starts_anew_and_is_not_mistaken_for_the_old_one() {
        let table = table();
        let now = Instant::now();
        let old = new(&table, "m:1", now);
        table.forget(&old);
        let fresh = new(&table, "m:1", now);
        table.forget(&old);
        assert!(Arc::ptr_eq(&fresh, &known(&table, "m:1", now)));
    }

    #[test]
    fn a_flood_of_events_forgets_the_oldest_but_never_one_under_way() {
        let table = Table::with_capacity(SHARDS * 4, Gauge::default());
        let now = Instant::now();
        let under_way = new(&table, "m:under-way", now);
        for id in 0..10_000 {
            new(&table, &format!("m:{id}"), now).settle(Settled::Answered(Answer::nothing()));
        }
        let held: usize = table
            .shards
            .iter()
            .map(|shard| shard.lock().runs.len())
            .sum();
        assert!(held <= SHARDS * 5, "{held} events are held");
        assert!(Arc::ptr_eq(&under_way, &known(&table, "m:under-way", now)));
    }

    #[test]
    fn large_answers_are_forgotten_before_they_take_too_much_memory() {
        let table = table();
        let now = Instant::now();
        let answer = Answer::reply(&"x".repeat(1 << 20));
        for id in 0..10_000 {
            new(&table, &format!("m:{id}"), now).settle(Settled::Answered(answer.clone()));
        }
        let held = usize::try_from(table.held.get()).unwrap();
        // Each shard makes room when an event comes to it.
        assert!(held <= EVENT_TABLE_BYTES + (SHARDS << 20), "{held} bytes");
        assert!(held > EVENT_TABLE_BYTES / 2, "{held} bytes");
        drop(table);
    }

    #[test]
    fn events_count_with_their_own_bytes_and_give_them_back() {
        let table = Table::with_capacity(SHARDS, Gauge::default());
        let now = Instant::now();
        for id in 0..100 {
            new(&table, &format!("m:{id}"), now).settle(Settled::Answered(Answer::reply("hi")));
        }
        let events: usize = table
            .shards
            .iter()
            .map(|shard| shard.lock().runs.len())
            .sum();
        let held = table.held.clone();
        assert_eq!(held.get(), (events * (RUN_BYTES + 2)) as i64);
        drop(table);
        assert_eq!(held.get(), 0);
    }

    #[test]
    fn an_answered_event_is_forgotten_in_time() {
        let table = Table::with_capacity(SHARDS, Gauge::default());
        let now = Instant::now();
        new(&table, "m:1", now).settle(Settled::Answered(Answer::nothing()));
        let later = now + REMEMBERED + Duration::from_secs(1);
        // Room is made when an event of the same shard comes.
        for id in 0..1_000 {
            new(&table, &format!("n:{id}"), later).settle(Settled::Answered(Answer::nothing()));
        }
        let _ = new(&table, "m:1", later);
    }
}
