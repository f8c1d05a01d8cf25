//! One recipient of a window: what is sent, and what comes of it.

use std::sync::Arc;
use std::time::Duration;

use wxhost_wechat::errcode::{Advice, Errcode};

use super::content::{Way, Ways, message_id};
use super::window::Sender;
use crate::accounts::Account;
use crate::clock::millis;
use crate::db::outbox::{Final, Leased};
use crate::db::push::{Admitted, Arrival, Outcome};
use crate::outbox::{Fate, Lesson, Verdict, judge, post};

/// How long after a window was noted WeChat is sure to know its messages' ids: ten minutes, less the time
/// that a window takes.
const IDS_KNOWN: Duration = Duration::from_secs(9 * 60);

/// Whom something is sent to, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Recipient<'a> {
    pub(super) open_id: &'a str,
    pub(super) ways: &'a Ways,
    pub(super) tries: u32,
    pub(super) unsure_at: Option<i64>,
}

/// What came of one recipient, for now.
pub(super) struct Tried {
    pub(super) outcome: Outcome,
    /// When a recipient that still waits is tried next, from now.
    pub(super) wait: Duration,
    /// For how long nothing of the account leaves.
    pub(super) rest: Option<Duration>,
    /// What was learnt of the contact on the way.
    pub(super) lessons: Vec<Learnt>,
}

impl Tried {
    fn ended(outcome: Outcome) -> Self {
        Self {
            outcome,
            wait: Duration::ZERO,
            rest: None,
            lessons: Vec::new(),
        }
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::ended(Outcome::Failed(why.into()))
    }

    fn with(self, lessons: Vec<Learnt>) -> Self {
        Self { lessons, ..self }
    }
}

/// What WeChat's answer taught of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learnt {
    Exhausted,
    Unused,
    NotFollowing,
}

/// What came of one message of a push for one recipient.
enum OfWay {
    /// That is what came of the recipient.
    Tried(Tried),
    /// WeChat does not take it this way.
    NotThisWay(Outcome),
}

impl Sender<'_> {
    /// Sends to one contact, by the first way that WeChat takes.
    pub(super) async fn send(
        &self,
        account: &Arc<Account>,
        recipient: Recipient<'_>,
        admitted: Admitted,
    ) -> Tried {
        let now_ms = self.lane.db.now_ms();
        let is_forgotten = |at: i64| now_ms - at >= millis(IDS_KNOWN);
        if recipient.unsure_at.is_some_and(is_forgotten) {
            // WeChat would not know that it is the same message any more.
            return Tried::ended(Outcome::Unsure);
        }
        if admitted == Admitted::OptedOut {
            return Tried::ended(Outcome::Skipped("opted-out".into()));
        }
        let (mut last, mut lessons) = (Outcome::Skipped("expired".into()), Vec::new());
        for (number, way) in (0..).zip(&recipient.ways.0) {
            if way.is_over(now_ms) {
                continue;
            }
            if let (true, Admitted::NotByChat(refusal)) = (way.is_chat(), admitted) {
                last = Outcome::Skipped(refusal.as_str().into());
                continue;
            }
            let sent = self.send_by(account, (number, way), recipient);
            match sent.await {
                (OfWay::Tried(tried), lesson) => {
                    lessons.extend(lesson);
                    return tried.with(lessons);
                }
                (OfWay::NotThisWay(outcome), lesson) => {
                    lessons.extend(lesson);
                    last = outcome;
                }
            }
        }
        Tried::ended(last).with(lessons)
    }

    async fn send_by(
        &self,
        account: &Arc<Account>,
        (number, way): (u32, &Way),
        recipient: Recipient<'_>,
    ) -> (OfWay, Option<Learnt>) {
        let (app_id, push_id) = (&self.push.app_id, &self.push.id);
        let id = message_id((app_id, push_id), recipient.open_id, number);
        let row = Leased {
            outgoing: way.outgoing(recipient.open_id, &id),
            id,
            app_id: app_id.clone(),
            event_id: push_id.clone(),
            trace_id: push_id.clone(),
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
        let lesson = learnt(&row, &verdict);
        let of_way = conclude(way, (number, &row.outgoing.path), recipient, verdict);
        (of_way, lesson)
    }
}

/// What an answer teaches of the contact.
fn learnt(row: &Leased, verdict: &Verdict) -> Option<Learnt> {
    match verdict.lesson {
        Some(Lesson::Exhausted) => Some(Learnt::Exhausted),
        Some(Lesson::NotFollowing) => Some(Learnt::NotFollowing),
        Some(Lesson::Unused) => Some(Learnt::Unused),
        // Its room is taken anew when it is tried again.
        _ if row.is_reserved && !matches!(verdict.fate, Fate::End(_)) => Some(Learnt::Unused),
        _ => None,
    }
}

/// Whether the same may reach the contact by another API.
fn takes_another_way(errcode: Option<i64>, path: &str) -> bool {
    errcode.is_some_and(|code| Errcode(code).on(path).advice() == Advice::Fallback)
}

/// What a verdict on a message means for its recipient.
fn conclude(
    way: &Way,
    (number, path): (u32, &str),
    recipient: Recipient<'_>,
    verdict: Verdict,
) -> OfWay {
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
            lessons: Vec::new(),
        })
    };
    match (verdict.fate, verdict.lesson) {
        (Fate::End(Final::Sent), _) => OfWay::Tried(Tried::ended(Outcome::Sent {
            way: number,
            msgid: report.msgid,
            arrival: Arrival::Untold,
        })),
        (Fate::End(Final::Held), _) => OfWay::Tried(Tried::ended(Outcome::Held {
            msgid: report.msgid,
        })),
        (Fate::End(Final::Failed), Some(Lesson::Exhausted | Lesson::NoRight(_))) => {
            OfWay::NotThisWay(Outcome::Failed(why))
        }
        (Fate::End(Final::Failed), _) if takes_another_way(report.errcode, path) => {
            OfWay::NotThisWay(Outcome::Failed(why))
        }
        (Fate::End(Final::Unknown), _) => OfWay::Tried(Tried::ended(Outcome::Unsure)),
        (Fate::End(_), _) => OfWay::Tried(Tried::failed(why)),
        // Shown twice if it was sent after all.
        (_, _) if verdict.unsure_since.is_some() && way.is_shown_twice() => {
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
