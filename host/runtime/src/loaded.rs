//! Plugins in memory: as many as fit into a budget of bytes, the least recently used given up first, and
//! each loaded by one caller while the others wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use crate::Digest;

/// Loaded values by digest. A value that is given up lives on until its last call has ended.
pub(crate) struct Loaded<V, E> {
    budget_bytes: usize,
    kept: RwLock<Kept<V>>,
    uses: AtomicU64,
    flights: Mutex<HashMap<Digest, Arc<Flight<V, E>>>>,
}

/// A load under way, shared by all who want its result.
type Flight<V, E> = OnceCell<Result<Arc<V>, E>>;

struct Kept<V> {
    values: HashMap<Digest, Value<V>>,
    bytes: usize,
}

struct Value<V> {
    value: Arc<V>,
    bytes: usize,
    last_use: AtomicU64,
}

impl<V, E: Clone> Loaded<V, E> {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            kept: RwLock::new(Kept {
                values: HashMap::new(),
                bytes: 0,
            }),
            uses: AtomicU64::new(0),
            flights: Mutex::new(HashMap::new()),
        }
    }

    /// A loaded value. This is on the path of every call.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<V>> {
        let kept = self.kept.read();
        let value = kept.values.get(digest)?;
        value.last_use.store(self.next_use(), Ordering::Relaxed);
        Some(Arc::clone(&value.value))
    }

    /// Keeps a value and gives up what no longer fits beside it.
    pub(crate) fn insert(&self, digest: Digest, value: Arc<V>, bytes: usize) {
        let last_use = AtomicU64::new(self.next_use());
        let value = Value {
            value,
            bytes,
            last_use,
        };
        let mut kept = self.kept.write();
        kept.bytes += bytes;
        if let Some(old) = kept.values.insert(digest, value) {
            kept.bytes -= old.bytes;
        }
        kept.shrink(self.budget_bytes, &digest);
    }

    /// A value that is loaded, or that `load` makes; of several callers at once, one loads.
    pub(crate) async fn get_or_load<F>(
        &self,
        digest: &Digest,
        bytes: fn(&V) -> usize,
        load: F,
    ) -> Result<Arc<V>, E>
    where
        F: AsyncFnOnce() -> Result<V, E>,
    {
        if let Some(value) = self.get(digest) {
            return Ok(value);
        }
        let seat = self.board(digest);
        let result = seat
            .flight
            .get_or_init(|| async {
                // It may have landed between the look above and the boarding.
                if let Some(value) = self.get(digest) {
                    return Ok(value);
                }
                let value = Arc::new(load().await?);
                self.insert(*digest, Arc::clone(&value), bytes(&value));
                Ok(value)
            })
            .await;
        result.clone()
    }

    /// How many values are kept.
    pub(crate) fn count(&self) -> usize {
        self.kept.read().values.len()
    }

    fn board(&self, digest: &Digest) -> Seat<'_, V, E> {
        let mut flights = self.flights.lock();
        let flight = Arc::clone(flights.entry(*digest).or_default());
        Seat {
            flights: &self.flights,
            digest: *digest,
            flight,
        }
    }

    fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }
}

impl<V> Kept<V> {
    /// Gives up the least recently used until the rest fits, with a sixteenth to spare so that not every
    /// load has to look for room. What has just come in stays, however large.
    fn shrink(&mut self, budget_bytes: usize, newest: &Digest) {
        if self.bytes <= budget_bytes {
            return;
        }
        let goal = budget_bytes - budget_bytes / 16;
        let mut by_use: Vec<(u64, Digest)> = self
            .values
            .iter()
            .map(|(digest, value)| (value.last_use.load(Ordering::Relaxed), *digest))
            .filter(|(_, digest)| digest != newest)
            .collect();
        by_use.sort_unstable();
        for (_, digest) in by_use {
            if self.bytes <= goal {
                return;
            }
            if let Some(value) = self.values.remove(&digest) {
                self.bytes -= value.bytes;
            }
        }
    }
}

/// One caller's part in a flight. The flight is forgotten when it has landed, or when everyone has left.
struct Seat<'a, V, E> {
    flights: &'a Mutex<HashMap<Digest, Arc<Flight<V, E>>>>,
    digest: Digest,
    flight: Arc<Flight<V, E>>,
}

impl<V, E> Drop for Seat<'_, V, E> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        if let Entry::Occupied(entry) = flights.entry(self.digest) {
            let ours = Arc::ptr_eq(entry.get(), &self.flight);
            // The map's and ours.
            let alone = Arc::strong_count(&self.flight) <= 2;
            if ours && (alone || self.flight.initialized()) {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    type Texts = Loaded<String, &'static str>;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let loaded = Texts::new(100);
        for name in ["a", "b", "c"] {
            loaded.insert(digest(name), Arc::new(name.into()), 30);
        }
        assert!(loaded.get(&digest("a")).is_some());
        loaded.insert(digest("d"), Arc::new("d".into()), 30);
        let kept: Vec<bool> = ["a", "b", "c", "d"]
            .map(|name| loaded.get(&digest(name)).is_some())
            .into();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn one_that_is_larger_than_the_budget_still_runs() {
        let loaded = Texts::new(100);
        loaded.insert(digest("a"), Arc::new("a".into()), 30);
        loaded.insert(digest("b"), Arc::new("b".into()), 1_000);
        assert!(loaded.get(&digest("a")).is_none());
        assert!(loaded.get(&digest("b")).is_some());
    }

    #[tokio::test]
    async fn many_callers_load_once() {
        let loaded = Texts::new(100);
        let loads = AtomicU32::new(0);
        let go = Notify::new();
        let caller = || {
            loaded.get_or_load(&DIGEST, String::len, async || {
                loads.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
                Ok("value".to_owned())
            })
        };
        static DIGEST: std::sync::LazyLock<Digest> = std::sync::LazyLock::new(|| digest("x"));
        let (first, second, ()) = tokio::join!(caller(), caller(), async { go.notify_one() });
        assert_eq!((first.unwrap(), second.unwrap()), shared("value"));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert!(loaded.flights.lock().is_empty());
    }

    fn shared(text: &str) -> (Arc<String>, Arc<String>) {
        (Arc::new(text.into()), Arc::new(text.into()))
    }

    #[tokio::test]
    async fn a_failure_is_shared_but_not_kept() {
        let loaded = Texts::new(100);
        let digest = digest("x");
        let failed = loaded
            .get_or_load(&digest, String::len, async || Err("no"))
            .await;
        assert_eq!(failed, Err("no"));
        let value = loaded
            .get_or_load(&digest, String::len, async || Ok("yes".to_owned()))
            .await;
        assert_eq!(value.unwrap().as_str(), "yes");
    }

    #[tokio::test]
    async fn a_loader_that_is_dropped_hands_over() {
        let loaded = Texts::new(100);
        let digest = digest("x");
        let mut first = Box::pin(
            loaded.get_or_load(&digest, String::len, async || std::future::pending().await),
        );
        assert!(futures::poll!(&mut first).is_pending());
        let mut second =
            Box::pin(loaded.get_or_load(&digest, String::len, async || Ok("second".to_owned())));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.unwrap().as_str(), "second");
        assert!(loaded.flights.lock().is_empty());
    }
}
