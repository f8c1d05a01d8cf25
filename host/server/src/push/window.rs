//! One turn of a push: some of its recipients are noted, sent to, and settled.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use wxhost_wechat::id::OpenId;

use super::PushLane;
use super::content::{Content, Way, message_id};
use super::pace::Pace;
use crate::accounts::Account;
use crate::clock::millis;
use crate::db::DbError;
use crate::db::allowance::{self, ContactKey, Refusal};
use crate::db::outbox::{Final, Leased};
use crate::db::push::{self, Admitted, Block, LeasedLane, Outcome, PushRow, Window};
use crate::outbox::{Fate, Lesson, Verdict, judge, post, spread};

/// How long the lane of an account rests that is disabled, or that this host can't read.
const ACCOUNT_REST: Duration = Duration::from_secs(60);
/// How long after a window was noted WeChat is sure to know its messages' ids: ten minutes, less the time
/// that a window takes.
const IDS_KNOWN: Duration = Duration::from_secs(9 * 60);
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

/// Sends of one push of an account whose lane this host has.
pub(super) struct Sender<'a> {
    pub(super) lane: &'a PushLane,
    pub(super) leased: &'a LeasedLane,
    pub(super) push: &'a PushRow,
    pub(super) pace: &'a mut Pace,
}

/// What came of one recipient, for now.
struct Tried {
    outcome: Outcome,
    /// When a recipient that still waits is tried next, from now.
    wait: Duration,
    /// For how long nothing of the account leaves.
    rest: Option<Duration>,
}

impl Tried {
    fn ended(outcome: Outcome) -> Self {
        Self {
            outcome,
            wait: Duration::ZERO,
            rest: None,
        }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::ended(Outcome::Failed(why.into()))
    }
}

/// What came of one message of a push for one recipient.
enum OfWay {
    /// That is what came of the recipient.
    Tried(Tried),
    /// WeChat does not take it this way.
    NotThisWay(Outcome),
}

impl Sender<'_> {
    /// Sends to some recipients, takes over more of the audience, or ends the push.
    pub(super) async fn turn(&mut self) -> Result<Next, DbError> {
        let db = &self.lane.db;
        let now_ms = db.now_ms();
        match push::next_block(db, self.push, now_ms).await? {
            Ok(block) => self.window(block, now_ms).await,
            Err(_) if self.push.audience.is_some() => {
                push::expand(db, self.leased, self.push).await?;
                Ok(Next::Now)
            }
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

    async fn window(&mut self, mut block: Block, now_ms: i64) -> Result<Next, DbError> {
        let Some(account) = self.account() else {
            return Ok(Next::Rest(ACCOUNT_REST));
        };
        // Written by this or a newer version; a newer one's is left to it.
        let Ok(content) = serde_json::from_str::<Content>(&self.push.content) else {
            return Ok(Next::Rest(ACCOUNT_REST));
        };
        let before = block.outcomes.clone();
        recover(&mut block, &content);
        if self.push.expires_at <= now_ms {
            block.outcomes.iter_mut().for_each(expire);
            return self.settle(&block, &before, 0).await;
        }
        let Some(places) = next_places(&block, self.pace.size()) else {
            return self.settle(&block, &before, 0).await;
        };
        let chat = content.has_chat().then_some(&self.lane.scenes);
        let admitted = push::admit(
            &self.lane.db,
            self.leased,
            (&block, places.clone()),
            (chat, now_ms),
        );
        let Some(admitted) = admitted.await? else {
            return Ok(Next::Now);
        };
        let tried = self.send_all(&account, &content, (&block, places), &admitted);
        let tried = tried.await;
        let (mut wait, mut rest) = (Duration::ZERO, None);
        for (place, tried) in tried {
            wait = wait.max(tried.wait);
            rest = rest.max(tried.rest);
            block.outcomes[place] = tried.outcome;
        }
        self.pace.learn(wait.is_zero() && rest.is_none());
        let due_at = match block.outcomes.contains(&Outcome::FRESH) {
            true => 0,
            false => self.lane.db.now_ms() + millis(wait),
        };
        let next = self.settle(&block, &before, due_at).await?;
        Ok(rest.map_or(next, |rest| Next::Rest(spread(rest))))
    }

    fn account(&self) -> Option<Arc<Account>> {
        let account = self.lane.services.accounts.get(&self.push.app_id);
        account.filter(|account| account.is_active())
    }

    /// Sends to those at `places` who wait.
    async fn send_all(
        &self,
        account: &Arc<Account>,
        content: &Content,
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
                tries,
                unsure_at,
            };
            Some(async move {
                let tried = self.send(account, content, recipient, *admitted).await;
                (place, tried)
            })
        });
        let sends: Vec<_> = sends.collect();
        let at_once = sends.len().max(1);
        let sends = futures::stream::iter(sends).buffer_unordered(at_once);
        sends.collect().await
    }

    /// Sends to one person, by the first way that WeChat takes.
    async fn send(
        &self,
        account: &Arc<Account>,
        content: &Content,
        recipient: Recipient<'_>,
        admitted: Admitted,
    ) -> Tried {
        let is_forgotten = |at: i64| self.lane.db.now_ms() - at >= millis(IDS_KNOWN);
        if recipient.unsure_at.is_some_and(is_forgotten) {
            // WeChat would not know that it is the same message any more.
            return Tried::ended(Outcome::Unsure);
        }
        if admitted == Admitted::OptedOut {
            return Tried::ended(Outcome::Skipped("opted-out".into()));
        }
        let Ok(person) = OpenId::parse(recipient.open_id) else {
            return Tried::failed("invalid-open-id");
        };
        let mut last = Outcome::Skipped(Refusal::Closed.as_str().into());
        for (number, way) in (0..).zip(content.ways()) {
            if let (true, Admitted::NotByChat(refusal)) = (way.is_chat(), admitted) {
                last = Outcome::Skipped(refusal.as_str().into());
                continue;
            }
            let sent = self.send_by(account, (number, way), (&person, recipient));
            match sent.await {
                OfWay::Tried(tried) => return tried,
                OfWay::NotThisWay(outcome) => last = outcome,
            }
        }
        Tried::ended(last)
    }

    async fn send_by(
        &self,
        account: &Arc<Account>,
        (number, way): (u32, &Way),
        (open_id, recipient): (&OpenId, Recipient<'_>),
    ) -> OfWay {
        let (app_id, push_id) = (&self.push.app_id, &self.push.id);
        let id = message_id(app_id, push_id, open_id.as_str());
        let Ok(outgoing) = way.outgoing(open_id, &id) else {
            return OfWay::NotThisWay(Outcome::Failed("invalid-message".into()));
        };
        let row = Leased {
            id,
            app_id: app_id.clone(),
            event_id: push_id.clone(),
            trace_id: push_id.clone(),
            outgoing,
            fence: self.leased.fence,
            attempts: recipient.tries.into(),
            unsure: 0,
            unsure_at: None,
            is_reserved: way.is_chat(),
            no_right: None,
            created_at: self.push.created_at,
        };
        // Closed never.
        let _place = self.lane.places.acquire().await;
        let begun_ms = self.lane.db.now_ms();
        let client = &self.lane.services.client;
        let sent = post(client, account, &row.outgoing).await;
        let verdict = judge(&row, begun_ms, &sent, self.lane.db.now_ms());
        self.learn(&row, &verdict, begun_ms).await;
        conclude(way, number, recipient, verdict)
    }

    /// Keeps what an answer teaches of a person. It is a help, not a promise.
    async fn learn(&self, row: &Leased, verdict: &Verdict, begun_ms: i64) {
        let person = ContactKey {
            app_id: &row.app_id,
            open_id: &row.outgoing.open_id,
        };
        let db = &self.lane.db;
        let is_postponed = !matches!(verdict.fate, Fate::End(_));
        let kept = match verdict.lesson {
            Some(Lesson::Exhausted) => allowance::exhaust(db, person, begun_ms).await,
            Some(Lesson::NotFollowing) => allowance::note_unfollowed(db, person, begun_ms).await,
            Some(Lesson::Unused) => allowance::release(db, person, begun_ms).await,
            // Its room is taken anew when it is tried again.
            _ if is_postponed && row.is_reserved => allowance::release(db, person, begun_ms).await,
            _ => Ok(()),
        };
        if let Err(error) = kept {
            tracing::debug!(account.app_id = row.app_id, error = %error, "what WeChat said can't be kept");
        }
    }

    /// Keeps the outcomes, for as long as the lease is sure to hold: what is not kept may have been sent.
    async fn settle(
        &self,
        block: &Block,
        before: &[Outcome],
        due_at: i64,
    ) -> Result<Next, DbError> {
        let window = Window {
            lane: self.leased,
            block,
            before,
            due_at,
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

/// Whom something is sent to, and what is known of it.
#[derive(Clone, Copy)]
struct Recipient<'a> {
    open_id: &'a str,
    tries: u32,
    unsure_at: Option<i64>,
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
fn recover(block: &mut Block, content: &Content) {
    let Some((places, noted_at)) = block.noted.take() else {
        return;
    };
    let end = places.end.min(block.outcomes.len());
    for outcome in &mut block.outcomes[places.start.min(end)..end] {
        if let Outcome::Open { tries, unsure_at } = *outcome {
            *outcome = match content.may_be_repeated() {
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

/// What a verdict on a message means for its recipient.
fn conclude(way: &Way, number: u32, recipient: Recipient<'_>, verdict: Verdict) -> OfWay {
    let report = verdict.report;
    let why = report.errcode.map_or_else(
        || report.reason.unwrap_or_default().to_owned(),
        |code| code.to_string(),
    );
    let (tries, unsure_at) = (recipient.tries, recipient.unsure_at);
    let unsure_at = unsure_at.or(verdict.unsure_since);
    let open = |tries, wait, rest| {
        OfWay::Tried(Tried {
            outcome: Outcome::Open { tries, unsure_at },
            wait,
            rest,
        })
    };
    match (verdict.fate, verdict.lesson) {
        (Fate::End(Final::Sent), _) => OfWay::Tried(Tried::ended(Outcome::Sent {
            way: number,
            msgid: report.msgid,
        })),
        (Fate::End(Final::Held), _) => OfWay::Tried(Tried::ended(Outcome::Held {
            msgid: report.msgid,
        })),
        (Fate::End(Final::Failed), Some(Lesson::Exhausted | Lesson::NoRight(_))) => {
            OfWay::NotThisWay(Outcome::Failed(why))
        }
        (Fate::End(Final::Unknown), _) => OfWay::Tried(Tried::ended(Outcome::Unsure)),
        (Fate::End(_), _) => OfWay::Tried(Tried::failed(why)),
        // Shown twice if it was sent after all.
        (_, _) if verdict.unsure_since.is_some() && way.is_chat() => {
            OfWay::Tried(Tried::ended(Outcome::Unsure))
        }
        (Fate::Again(wait), _) => open(tries + 1, wait, None),
        (
            Fate::Uncounted(_) | Fate::NotTried(_),
            Some(Lesson::RestApi(rest) | Lesson::RestAccount(rest)),
        ) => open(tries, Duration::ZERO, Some(rest)),
        (Fate::Uncounted(wait) | Fate::NotTried(wait), _) => open(tries, wait, Some(wait)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::content::BuiltIn;
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

    fn content(kind: BuiltIn) -> Content {
        let data = match kind {
            BuiltIn::Template => json!({"template_id": "T1", "fields": {}}),
            _ => json!({"content": "hi"}),
        };
        Content::read(kind, &data).expect("fits")
    }

    #[test]
    fn who_was_noted_and_not_settled_may_have_been_sent_to() {
        for (kind, expected) in [
            (BuiltIn::Text, ["s0", "?", "?", "?", ""]),
            // WeChat knows a template message by its id for a while.
            (
                BuiltIn::Template,
                ["s0", "~0 1000", "~1 1000", "~2 900", ""],
            ),
        ] {
            let mut found = block(&["s0", "", "~1", "~2 900", ""], Some((1..4, 1_000)));
            recover(&mut found, &content(kind));
            assert_eq!(results(&found), expected);
            assert_eq!(found.noted, None);
        }
        let mut short = block(&["", ""], Some((1..9, 1)));
        recover(&mut short, &content(BuiltIn::Text));
        assert_eq!(results(&short), ["", "?"]);
    }

    #[test]
    fn when_the_time_is_over_who_may_have_been_sent_to_is_told_apart() {
        let mut found = block(&["s0", "", "~1", "~1 900"], None);
        found.outcomes.iter_mut().for_each(expire);
        assert_eq!(results(&found), ["s0", "kexpired", "kexpired", "?"]);
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
