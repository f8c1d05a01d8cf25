//! One turn of a push: some of its recipients are noted, sent to, and settled.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use super::PushLane;
use super::compose::{Composed, Postponed, compose};
use super::composition::Compositions;
use super::content::Content;
use super::pace::Pace;
use super::recipient::{Learnt, Recipient, Tried};
use crate::accounts::Account;
use crate::backoff::spread;
use crate::clock::millis;
use crate::db::DbError;
use crate::db::push::{
    self, Admitted, Block, Candidates, LeasedLane, Lessons, Outcome, PushRow, Window,
};

/// Windows of a push at once, each of another block: while one is kept, the others are sent.
const WINDOWS_AT_ONCE: usize = 3;
/// Blocks that have a window one after the other before the account's other pushes have their turn.
const BLOCKS: i64 = 8;
/// How long these take at most before they make way for other pushes.
const SHIFT: Duration = Duration::from_millis(500);
/// How long the lane of an account rests that is disabled, or that this host can't read.
const ACCOUNT_REST: Duration = Duration::from_secs(60);
/// When a block is composed that the host could not have composed.
const HELD_UP_WAIT: Duration = Duration::from_secs(2);
/// When a block is composed again for which the plugin lacked something.
const DEPENDENCY_WAIT: Duration = Duration::from_secs(60);
/// The wait between two tries to keep outcomes.
const KEEP_PAUSE: Duration = Duration::from_millis(500);
/// Tries to keep outcomes, as long as the lease is sure to hold.
const KEEP_TRIES: u32 = 60;

/// When a push has its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Now.
    Now,
    /// At this time, Unix milliseconds.
    At(i64),
    /// Nothing of the account leaves for this time.
    Rest(Duration),
    /// It has ended.
    Nothing,
}

impl Next {
    /// What comes first of two; but a rest is everyone's.
    fn sooner(self, other: Self) -> Self {
        match (self, other) {
            (Self::Rest(one), Self::Rest(another)) => Self::Rest(one.max(another)),
            (rest @ Self::Rest(_), _) | (_, rest @ Self::Rest(_)) => rest,
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::At(one), Self::At(another)) => Self::At(one.min(another)),
            (next, Self::Nothing) | (Self::Nothing, next) => next,
        }
    }
}

/// Sends of one push of an account whose lane this host has.
pub(super) struct Sender<'a> {
    pub(super) lane: &'a PushLane,
    pub(super) leased: &'a LeasedLane,
    pub(super) push: &'a PushRow,
    pub(super) pace: &'a Mutex<Pace>,
}

impl Sender<'_> {
    /// Sends to some recipients, takes over more of the audience, or ends the push.
    pub(super) async fn turn(&self) -> Result<Next, DbError> {
        let db = &self.lane.db;
        let now_ms = db.now_ms();
        let found = push::next_blocks(db, self.push, (now_ms, BLOCKS)).await?;
        let is_short = !matches!(&found, Ok(blocks) if blocks.len() as i64 == BLOCKS);
        if let (true, Some(audience)) = (is_short, &self.push.audience) {
            let Ok(audience) = serde_json::from_str(audience) else {
                // A newer version's is left to it.
                return Ok(Next::Rest(ACCOUNT_REST));
            };
            push::expand(db, self.leased, (self.push, &audience)).await?;
            return Ok(Next::Now);
        }
        match found {
            Ok(blocks) => self.work_off(blocks).await,
            Err(Some(due_at)) => Ok(Next::At(due_at)),
            Err(None) => {
                if push::finish(db, self.push, now_ms).await? {
                    tracing::info!(
                        account.app_id = self.push.app_id,
                        push.id = self.push.id,
                        "a push is done"
                    );
                }
                Ok(Next::Nothing)
            }
        }
    }

    /// A window of each block, some at once.
    async fn work_off(&self, blocks: Vec<Block>) -> Result<Next, DbError> {
        let until = Instant::now() + SHIFT;
        let rests = &AtomicBool::new(false);
        let windows = futures::stream::iter(blocks)
            .map(|block| async move {
                if rests.load(Ordering::Relaxed) || Instant::now() >= until {
                    // It is found again.
                    return Ok(Next::Now);
                }
                let next = self.window(block, self.lane.db.now_ms()).await;
                if matches!(next, Ok(Next::Rest(_))) {
                    rests.store(true, Ordering::Relaxed);
                }
                next
            })
            .buffer_unordered(WINDOWS_AT_ONCE);
        // Each to its end, whatever comes of the others: what is under way is not dropped.
        let ended: Vec<_> = windows.collect().await;
        let mut next = Next::Nothing;
        for ended in ended {
            next = next.sooner(ended?);
        }
        Ok(next)
    }

    async fn window(&self, mut block: Block, now_ms: i64) -> Result<Next, DbError> {
        let Some(account) = self.account() else {
            return Ok(Next::Rest(ACCOUNT_REST));
        };
        // Written by this or a newer version; a newer one's is left to it.
        let Ok(content) = serde_json::from_str::<Content>(&self.push.content) else {
            return Ok(Next::Rest(ACCOUNT_REST));
        };
        let before = block.outcomes.clone();
        if self.push.expires_at <= now_ms {
            recover(&mut block, |_| false);
            block.outcomes.iter_mut().for_each(expire);
            return self.settle(&block, &before, (0, Lessons::default())).await;
        }
        let compositions = match content {
            Content::Ways(ways) => Compositions::same(ways),
            Content::Composed(data) => match self.composed(&account, &data, &block).await? {
                Ok(compositions) => compositions,
                Err(next) => return Ok(next),
            },
        };
        recover(&mut block, |place| compositions.at(place).may_be_repeated());
        let Some(places) = next_places(&block, self.pace.lock().size()) else {
            return self.settle(&block, &before, (0, Lessons::default())).await;
        };
        let is_by_chat =
            |place: &usize| block.outcomes[*place].is_open() && compositions.at(*place).has_chat();
        let candidates = Candidates {
            block: &block,
            by_chat: places.clone().filter(is_by_chat).collect(),
            places: places.clone(),
            scenes: &self.lane.services.scenes,
        };
        let admitted = push::admit(&self.lane.db, self.leased, &candidates, now_ms).await?;
        let Some(admitted) = admitted else {
            return Ok(Next::Now);
        };
        let sends = self.send_all(&account, &compositions, (&block, places), &admitted);
        let tried = sends.await;
        self.conclude(block, &before, (tried, now_ms)).await
    }

    /// Keeps what came of a window.
    async fn conclude(
        &self,
        mut block: Block,
        before: &[Outcome],
        (tried, begun_ms): (Vec<(usize, Tried)>, i64),
    ) -> Result<Next, DbError> {
        let (mut wait, mut rest) = (Duration::ZERO, None);
        let mut learnt = Vec::new();
        for (place, tried) in tried {
            wait = wait.max(tried.wait);
            rest = rest.max(tried.rest);
            block.outcomes[place] = tried.outcome;
            learnt.extend(tried.lessons.into_iter().map(|lesson| (place, lesson)));
        }
        let went_well = wait.is_zero() && rest.is_none();
        self.pace.lock().learn(went_well);
        let due_at = match block.outcomes.contains(&Outcome::FRESH) {
            true => 0,
            false => self.lane.db.now_ms() + millis(wait),
        };
        let of = |wanted: Learnt| -> Vec<&str> {
            let places = learnt.iter().filter(|(_, lesson)| *lesson == wanted);
            places.map(|(place, _)| &*block.open_ids[*place]).collect()
        };
        let lessons = Lessons {
            exhausted: of(Learnt::Exhausted),
            unused: of(Learnt::Unused),
            unfollowed: of(Learnt::NotFollowing),
            begun_ms,
        };
        let next = self.settle(&block, before, (due_at, lessons)).await?;
        Ok(rest.map_or(next, |rest| Next::Rest(spread(rest))))
    }

    fn account(&self) -> Option<Arc<Account>> {
        let account = self.lane.services.accounts.get(&self.push.app_id);
        account.filter(|account| account.is_active())
    }

    /// What the account's plugin composed for a block; or when the push goes on, where it composes now.
    async fn composed(
        &self,
        account: &Arc<Account>,
        data: &Value,
        block: &Block,
    ) -> Result<Result<Compositions, Next>, DbError> {
        let db = &self.lane.db;
        if let Some(stored) = push::compositions(db, &self.push.app_id, block).await? {
            // A newer version's is left to it.
            let read = serde_json::from_str(&stored);
            return Ok(read.map_err(|_| Next::Rest(ACCOUNT_REST)));
        }
        let wait = match compose((self.lane, self.leased), account, (self.push, data), block).await
        {
            Ok(composed) => {
                self.keep(block, composed).await?;
                return Ok(Err(Next::Now));
            }
            Err(Postponed::Database(error)) => return Err(error),
            Err(Postponed::HeldUp) => HELD_UP_WAIT,
            Err(Postponed::Dependency) => DEPENDENCY_WAIT,
        };
        let due_at = db.now_ms() + millis(wait);
        push::postpone(db, self.leased, block, due_at).await?;
        Ok(Err(Next::At(due_at)))
    }

    /// Keeps what was composed, and ends those for whom nothing was.
    async fn keep(&self, block: &Block, composed: Vec<Composed>) -> Result<(), DbError> {
        let mut after = block.clone();
        for (outcome, composed) in after.outcomes.iter_mut().zip(&composed) {
            if let Err(ended) = composed {
                outcome.clone_from(ended);
            }
        }
        let compositions = Compositions::each(composed.into_iter().map(Result::ok));
        let window = Window {
            lane: self.leased,
            block: &after,
            before: &block.outcomes,
            due_at: 0,
            lessons: Lessons::default(),
        };
        push::keep_compositions(&self.lane.db, &window, &compositions.to_json()).await?;
        Ok(())
    }

    /// Sends to those at `places` who wait.
    async fn send_all(
        &self,
        account: &Arc<Account>,
        compositions: &Compositions,
        (block, places): (&Block, Range<usize>),
        admitted: &[Admitted],
    ) -> Vec<(usize, Tried)> {
        let waiting = places.zip(admitted);
        let sends = waiting.filter_map(|(place, admitted)| {
            let Outcome::Open { tries, unsure_at } = block.outcomes[place] else {
                return None;
            };
            let recipient = Recipient {
                open_id: &block.open_ids[place],
                ways: compositions.at(place),
                tries,
                unsure_at,
            };
            Some(async move { (place, self.send(account, recipient, *admitted).await) })
        });
        let sends: Vec<_> = sends.collect();
        let at_once = sends.len().max(1);
        let sends = futures::stream::iter(sends).buffer_unordered(at_once);
        sends.collect().await
    }

    /// Keeps the outcomes, for as long as the lease is sure to hold: what is not kept may have been sent.
    async fn settle(
        &self,
        block: &Block,
        before: &[Outcome],
        (due_at, lessons): (i64, Lessons<'_>),
    ) -> Result<Next, DbError> {
        let window = Window {
            lane: self.leased,
            block,
            before,
            due_at,
            lessons,
        };
        for _ in 1..KEEP_TRIES {
            match push::settle(&self.lane.db, &window).await {
                Err(DbError::Unavailable(_) | DbError::Conflict(_)) => {
                    tokio::time::sleep(KEEP_PAUSE).await;
                }
                settled => return settled.map(|_| Next::Now),
            }
        }
        push::settle(&self.lane.db, &window)
            .await
            .map(|_| Next::Now)
    }
}

/// Ends a recipient who waits when the time is over.
fn expire(outcome: &mut Outcome) {
    if let Outcome::Open { unsure_at, .. } = outcome {
        *outcome = match unsure_at {
            None => Outcome::Skipped("expired".into()),
            Some(_) => Outcome::Unsure,
        };
    }
}

/// Looks at those who were noted by somebody who did not live to tell: they may have been sent to.
fn recover(block: &mut Block, may_be_repeated: impl Fn(usize) -> bool) {
    let Some((places, noted_at)) = block.noted.take() else {
        return;
    };
    let end = places.end.min(block.outcomes.len());
    for place in places.start.min(end)..end {
        if let Outcome::Open { tries, unsure_at } = block.outcomes[place] {
            block.outcomes[place] = match may_be_repeated(place) {
                true => Outcome::Open {
                    tries,
                    unsure_at: unsure_at.or(Some(noted_at)),
                },
                false => Outcome::Unsure,
            };
        }
    }
}

/// The next places that are sent to: from the first recipient who was not tried yet, or else the first who
/// waits.
fn next_places(block: &Block, size: usize) -> Option<Range<usize>> {
    let mut outcomes = block.outcomes.iter();
    let first = outcomes.position(|outcome| *outcome == Outcome::FRESH);
    let first = first.or_else(|| block.outcomes.iter().position(Outcome::is_open))?;
    Some(first..(first + size).min(block.outcomes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(results: &[&str], noted: Option<(Range<usize>, i64)>) -> Block {
        Block {
            push_id: "p".into(),
            number: 0,
            open_ids: results.iter().map(|_| "o".to_owned()).collect(),
            outcomes: results.iter().map(|line| Outcome::parse(line)).collect(),
            noted,
        }
    }

    fn results(block: &Block) -> Vec<String> {
        block.outcomes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_was_noted_and_not_settled_may_have_been_sent_to() {
        for (may_be_repeated, expected) in [
            (false, ["s0", "?", "?", "?", ""]),
            // WeChat knows a template message by its id for a while.
            (true, ["s0", "~0 1000", "~1 1000", "~2 900", ""]),
        ] {
            let mut found = block(&["s0", "", "~1", "~2 900", ""], Some((1..4, 1_000)));
            recover(&mut found, |_| may_be_repeated);
            assert_eq!(results(&found), expected);
            assert_eq!(found.noted, None);
        }
        let mut short = block(&["", ""], Some((1..9, 1)));
        recover(&mut short, |_| false);
        assert_eq!(results(&short), ["", "?"]);
    }

    #[test]
    fn when_the_time_is_over_who_may_have_been_sent_to_is_told_apart() {
        let mut found = block(&["s0", "", "~1", "~1 900"], None);
        found.outcomes.iter_mut().for_each(expire);
        assert_eq!(results(&found), ["s0", "kexpired", "kexpired", "?"]);
    }

    #[test]
    fn a_rest_is_everyones_and_else_what_is_sooner_counts() {
        let rest = |seconds| Next::Rest(Duration::from_secs(seconds));
        for (one, another, sooner) in [
            (Next::Now, rest(1), rest(1)),
            (rest(2), rest(1), rest(2)),
            (Next::At(5), Next::Now, Next::Now),
            (Next::At(5), Next::At(4), Next::At(4)),
            (Next::Nothing, Next::At(4), Next::At(4)),
        ] {
            assert_eq!(one.sooner(another), sooner);
            assert_eq!(another.sooner(one), sooner);
        }
    }

    #[test]
    fn those_who_were_not_tried_yet_come_first() {
        for (found, expected) in [
            (&["~1", "s0", "", ""][..], Some(2..4)),
            (&["", "", "", ""], Some(0..3)),
            (&["s0", "~1", "f40003"], Some(1..3)),
            (&["s0", "?"], None),
        ] {
            assert_eq!(next_places(&block(found, None), 3), expected, "{found:?}");
        }
    }
}
