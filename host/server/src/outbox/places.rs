//! Places to send from: an account whose calls hang cannot keep the others from sending.
//!
//! An account begins with few places and gets one more with each answer that comes promptly. A send
//! that hangs gives its place back to the others while it goes on, but its account begins nothing new
//! meanwhile. After a call without an answer the account has one place, until it answers. When it is to
//! rest is not for this room to say: the client's breaker tells, which sees all of the account's calls.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::Instant;

/// Sends at the same time, on one host, that do not hang.
const PROMPT: usize = 64;
/// Sends at the same time in all.
const ALL: usize = 512;
/// Sends at the same time for an account of which nothing is known.
const FIRST: usize = 2;
/// Sends at the same time for one account: its pace. WeChat takes some tens a second.
const PER_ACCOUNT: usize = 8;
/// How long a send may take before it counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(2);

/// What a send says of its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// WeChat answered.
    Answers,
    /// WeChat did not answer, or could not be reached.
    Silent,
    /// Nothing: WeChat was not asked.
    Unknown,
}

/// Who sends at the moment, and how the accounts do.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: HashMap<Id, Place>,
    accounts: HashMap<String, Standing>,
}

#[derive(Debug)]
struct Place {
    app_id: String,
    since: Instant,
}

#[derive(Debug)]
struct Standing {
    taken: usize,
    places: usize,
    /// Whether the last call was left without an answer.
    is_silent: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            taken: 0,
            places: FIRST,
            is_silent: false,
        }
    }
}

impl Places {
    /// Whether anybody may begin to send.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.room(now) > 0
    }

    fn room(&self, now: Instant) -> usize {
        let hanging = self.taken.values().filter(|place| place.hangs(now)).count();
        let prompt = PROMPT.saturating_sub(self.taken.len() - hanging);
        prompt.min(ALL.saturating_sub(self.taken.len()))
    }

    /// How many sends an account may begin.
    pub(super) fn room_of(&self, app_id: &str, now: Instant) -> usize {
        let own = match self.accounts.get(app_id) {
            None => FIRST,
            Some(_) if self.hangs(app_id, now) => 0,
            Some(standing) => standing.places.saturating_sub(standing.taken),
        };
        own.min(self.room(now))
    }

    fn hangs(&self, app_id: &str, now: Instant) -> bool {
        let mut taken = self.taken.values();
        taken.any(|place| place.app_id == app_id && place.hangs(now))
    }

    /// A send begins.
    pub(super) fn take(&mut self, task: Id, app_id: &str, since: Instant) {
        let standing = self.accounts.entry(app_id.to_owned()).or_default();
        standing.taken += 1;
        let app_id = app_id.to_owned();
        self.taken.insert(task, Place { app_id, since });
    }

    /// A send has ended. Its account.
    pub(super) fn give_back(&mut self, task: Id, health: Health) -> Option<String> {
        let Place { app_id, .. } = self.taken.remove(&task)?;
        let standing = self.accounts.get_mut(&app_id)?;
        standing.taken = standing.taken.saturating_sub(1);
        match health {
            Health::Answers => {
                standing.is_silent = false;
                standing.places = PER_ACCOUNT.min(standing.places + 1);
            }
            Health::Silent => {
                standing.is_silent = true;
                standing.places = 1;
            }
            Health::Unknown => {}
        }
        if standing.taken == 0 && !standing.is_silent {
            self.accounts.remove(&app_id);
        }
        Some(app_id)
    }
}

impl Place {
    fn hangs(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= HANGS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "wx01";

    /// Ids of tasks that never run.
    async fn ids(count: usize) -> Vec<Id> {
        let tasks: Vec<_> = (0..count).map(|_| tokio::spawn(async {})).collect();
        let ids = tasks.iter().map(tokio::task::JoinHandle::id).collect();
        for task in tasks {
            task.await.unwrap();
        }
        ids
    }

    #[tokio::test]
    async fn an_account_gets_more_places_the_longer_it_answers_promptly() {
        let (mut places, now) = (Places::default(), Instant::now());
        let ids = ids(40).await;
        let mut ids = ids.into_iter();
        let mut seen = Vec::new();
        for _ in 0..8 {
            let room = places.room_of(APP, now);
            seen.push(room);
            let begun: Vec<_> = ids.by_ref().take(room.min(2)).collect();
            let keep = ids.next().unwrap();
            for id in &begun {
                places.take(*id, APP, now);
            }
            // So that the account is not forgotten meanwhile.
            places.take(keep, "other", now);
            for id in begun.into_iter().skip(1) {
                places.give_back(id, Health::Answers);
            }
        }
        assert_eq!(seen[0], FIRST);
        assert!(seen.iter().all(|room| *room <= PER_ACCOUNT), "{seen:?}");
    }

    #[tokio::test]
    async fn accounts_whose_calls_hang_leave_the_places_to_others() {
        let (mut places, now) = (Places::default(), Instant::now());
        let ids = ids(PROMPT).await;
        for (n, id) in ids.iter().enumerate() {
            places.take(*id, &format!("sick{}", n / FIRST), now);
        }
        assert!(!places.has_room(now));
        let later = now + HANGS_AFTER;
        assert_eq!(places.room_of("well", later), FIRST);
        assert_eq!(places.room_of("sick0", later), 0);
        places.give_back(ids[0], Health::Silent);
        places.give_back(ids[1], Health::Silent);
        assert_eq!(places.room_of("sick0", later), 1);
    }

    #[tokio::test]
    async fn an_account_that_is_silent_has_one_place_until_it_answers() {
        let (mut places, now) = (Places::default(), Instant::now());
        for (health, room) in [
            (Health::Silent, 1),
            (Health::Unknown, 1),
            (Health::Answers, FIRST),
        ] {
            for id in ids(1).await {
                places.take(id, APP, now);
                assert_eq!(places.give_back(id, health).as_deref(), Some(APP));
            }
            assert_eq!(places.room_of(APP, now), room);
        }
    }
}
