//! The nonces that came with deliveries, and a hash of the body that each came with.
//!
//! In plain mode the signature covers timestamp and nonce, not the body: whoever has seen one
//! delivery could post any body under its signature. So a nonce is good for one body, for as long as
//! its account's window lets the timestamp pass.
//!
//! Accounts share the room, and none makes the host forget another's: each nonce expires by its own
//! account's window, and in a flood an account that has more than its share gives up its own oldest.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::keyed::KeyedMap;

/// Nonces remembered. A nonce takes about 60 bytes.
const MAX_NONCES: usize = 1 << 21;
/// Locks that the nonces are spread over.
const SHARDS: usize = 64;
/// How often a full shard looks through all accounts for what has expired.
const SWEEP_SECONDS: u32 = 1;

/// A nonce as it came with a delivery.
#[derive(Debug, Clone, Copy, Hash)]
pub struct UsedNonce<'a> {
    /// The account.
    pub app_id: &'a str,
    /// `timestamp` of the query.
    pub timestamp: &'a str,
    /// `nonce` of the query.
    pub nonce: &'a str,
}

/// The nonces that came to this host.
#[derive(Debug)]
pub struct Nonces {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    most_per_shard: usize,
    started: Instant,
}

#[derive(Debug, Default)]
struct Shard {
    /// By hashes of nonces: of which body, and until when.
    known: KeyedMap<u64, Known>,
    /// By hashes of accounts: their nonces, oldest first.
    accounts: KeyedMap<u64, VecDeque<Due>>,
    swept_at: u32,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    body_hash: u64,
    /// Seconds after the start.
    until: u32,
}

/// When a nonce expires.
#[derive(Debug, Clone, Copy)]
struct Due {
    key: u64,
    until: u32,
}

impl Nonces {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self::with_capacity(MAX_NONCES)
    }

    fn with_capacity(nonces: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            most_per_shard: (nonces / SHARDS).max(1),
            started: Instant::now(),
        }
    }

    /// Remembers a nonce with its body for `kept` at least (less in a flood of the same account);
    /// false if it came before with another body.
    pub fn admit(&self, used: UsedNonce<'_>, body_hash: u64, kept: Duration, now: Instant) -> bool {
        let key = self.hasher.hash_one(used);
        let account = self.hasher.hash_one(used.app_id);
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let now = seconds(now.saturating_duration_since(self.started));
        // A second more, for the part of one that is cut off.
        let until = now.saturating_add(seconds(kept)).saturating_add(1);
        // Bits that the shard's map does not look at, else all its keys would begin at the same places.
        let mut shard = self.shards[(key >> 48) as usize % SHARDS].lock();
        if let Some(known) = shard.known.get(&key)
            && known.until > now
        {
            return known.body_hash == body_hash;
        }
        shard.forget_expired_of(account, now);
        shard.make_room(account, now, self.most_per_shard);
        shard.known.insert(key, Known { body_hash, until });
        let own = shard.accounts.entry(account).or_default();
        own.push_back(Due { key, until });
        true
    }
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new()
    }
}

impl Shard {
    fn forget_expired_of(&mut self, account: u64, now: u32) {
        let Some(own) = self.accounts.get_mut(&account) else {
            return;
        };
        while let Some(due) = own.front().copied().filter(|due| due.until <= now) {
            own.pop_front();
            forget(&mut self.known, due);
        }
    }

    /// Makes room for one more nonce of an account.
    fn make_room(&mut self, account: u64, now: u32, most: usize) {
        if self.known.len() < most {
            return;
        }
        if now >= self.swept_at.saturating_add(SWEEP_SECONDS) {
            self.swept_at = now;
            self.sweep(now);
            if self.known.len() < most {
                return;
            }
        }
        let share = (most / self.accounts.len().max(1)).max(1);
        let own = self.accounts.get(&account).map_or(0, VecDeque::len);
        if own >= share {
            return self.give_up(account, 1);
        }
        // Somebody else has more than a share. All that is above it goes at once, so that this is rare.
        let largest = self.accounts.iter().max_by_key(|(_, nonces)| nonces.len());
        if let Some((&largest, nonces)) = largest {
            self.give_up(largest, nonces.len().saturating_sub(share).max(1));
        }
    }

    fn give_up(&mut self, account: u64, count: usize) {
        let Some(nonces) = self.accounts.get_mut(&account) else {
            return;
        };
        for due in nonces.drain(..count.min(nonces.len())) {
            forget(&mut self.known, due);
        }
    }

    fn sweep(&mut self, now: u32) {
        let known = &mut self.known;
        self.accounts.retain(|_, nonces| {
            while let Some(due) = nonces.front().copied().filter(|due| due.until <= now) {
                nonces.pop_front();
                forget(known, due);
            }
            !nonces.is_empty()
        });
    }
}

/// Forgets a nonce, unless it has come again since.
fn forget(known: &mut KeyedMap<u64, Known>, due: Due) {
    if known
        .get(&due.key)
        .is_some_and(|known| known.until == due.until)
    {
        known.remove(&due.key);
    }
}

/// A hash of a body, equal on every host.
pub fn body_hash(body: &[u8]) -> u64 {
    use sha1::{Digest, Sha1};
    let digest = Sha1::digest(body);
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn admit_for(nonces: &Nonces, app_id: &str, nonce: &str, body: &str, now: Instant) -> bool {
        let used = UsedNonce {
            app_id,
            timestamp: "1411525903",
            nonce,
        };
        nonces.admit(used, body_hash(body.as_bytes()), KEPT, now)
    }

    fn admit(nonces: &Nonces, nonce: &str, body: &str, now: Instant) -> bool {
        admit_for(nonces, "wx1", nonce, body, now)
    }

    fn held(nonces: &Nonces) -> usize {
        let shards = nonces.shards.iter();
        shards.map(|shard| shard.lock().known.len()).sum()
    }

    #[test]
    fn a_replayed_nonce_is_good_for_its_own_body_only() {
        let nonces = Nonces::new();
        let now = Instant::now();
        assert!(admit(&nonces, "1", "pay me 1", now));
        assert!(admit(&nonces, "1", "pay me 1", now));
        assert!(!admit(&nonces, "1", "pay me 1000", now));
        assert!(admit(&nonces, "2", "pay me 1000", now));
    }

    #[test]
    fn a_nonce_is_remembered_through_the_window() {
        let nonces = Nonces::new();
        let now = Instant::now();
        assert!(admit(&nonces, "1", "a", now));
        let late = now + KEPT - Duration::from_secs(1);
        assert!(!admit(&nonces, "1", "b", late));
        assert!(
            admit(&nonces, "1", "b", now + 3 * KEPT),
            "the window is over"
        );
        assert!(!admit(&nonces, "1", "a", now + 3 * KEPT));
    }

    #[test]
    fn an_account_of_a_short_window_forgets_no_other_accounts_nonces() {
        let nonces = Nonces::new();
        let now = Instant::now();
        assert!(admit(&nonces, "1", "a", now));
        let short = Duration::from_secs(20);
        let mut at = now;
        // Every shard sees many of its windows pass.
        for nonce in 0..10_000_u32 {
            at += Duration::from_millis(50);
            let nonce = nonce.to_string();
            let used = UsedNonce {
                app_id: "wx2",
                timestamp: "1411525903",
                nonce: &nonce,
            };
            assert!(nonces.admit(used, 1, short, at));
        }
        assert!(at < now + KEPT, "the window of the first is not over");
        assert!(!admit(&nonces, "1", "b", at));
        // The other account's own are gone in time.
        assert!(held(&nonces) < 1_000, "{} nonces are held", held(&nonces));
    }

    #[test]
    fn a_flood_of_one_account_forgets_its_own_and_no_others() {
        let nonces = Nonces::with_capacity(SHARDS * 64);
        let now = Instant::now();
        for nonce in 0..256 {
            assert!(admit_for(&nonces, "wx2", &nonce.to_string(), "a", now));
        }
        for nonce in 0..50_000 {
            admit(&nonces, &nonce.to_string(), "a", now);
        }
        for nonce in 0..256 {
            assert!(!admit_for(&nonces, "wx2", &nonce.to_string(), "b", now));
        }
        assert!(!admit(&nonces, "49999", "b", now), "the newest is kept");
    }

    #[test]
    fn an_account_that_filled_the_room_makes_way_for_others() {
        let nonces = Nonces::with_capacity(SHARDS * 64);
        let now = Instant::now();
        for nonce in 0..50_000 {
            admit(&nonces, &nonce.to_string(), "a", now);
        }
        for nonce in 0..256 {
            assert!(admit_for(&nonces, "wx2", &nonce.to_string(), "a", now));
        }
        for nonce in 0..256 {
            assert!(!admit_for(&nonces, "wx2", &nonce.to_string(), "b", now));
        }
    }

    #[test]
    fn a_flood_of_nonces_does_not_grow_without_end() {
        let nonces = Nonces::with_capacity(SHARDS * 8);
        let now = Instant::now();
        for nonce in 0..10_000 {
            admit(&nonces, &nonce.to_string(), "a", now);
        }
        let held = held(&nonces);
        assert!(held <= SHARDS * 16, "{held} nonces are held");
        let listed: usize = nonces
            .shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock();
                shard
                    .accounts
                    .values()
                    .map(VecDeque::len)
                    .collect::<Vec<_>>()
            })
            .sum();
        assert_eq!(listed, held);
    }
}
