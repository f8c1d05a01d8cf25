//! What an answer of WeChat's means for a row of the outbox: the advice of the error code, made into
//! times and words; and whether a row may be tried again of which nobody knows what came. Pure.

use std::borrow::Cow;
use std::time::Duration;

use wxhost_wechat::errcode::{Advice, ApiError, Class};

use crate::backoff;
use crate::client::CallError;
use crate::clock::millis;
use crate::db::outbox::{Final, Idempotence, Leased, Report};

/// Tries of a row that say something about it. With the waits between them they span half an hour.
const MAX_ATTEMPTS: i64 = 12;
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long an account rests that can't call WeChat at all before its owner has acted.
const BLOCKED_REST: Duration = Duration::from_secs(20);
/// How long messages over an API end at once that the account has no right to.
const RIGHTS_REST: Duration = Duration::from_secs(30 * 60);
/// How long WeChat knows a `client_msg_id`: ten minutes, less the time that a call takes to arrive.
const CLIENT_MSG_ID_KNOWN: Duration = Duration::from_secs(10 * 60 - 15);
/// Tries without an answer of something that would be shown twice.
const MAX_UNSURE: i64 = 2;

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) fate: Fate,
    pub(crate) report: Report,
    /// What is learnt for other rows.
    pub(crate) lesson: Option<Lesson>,
    /// When the try began, if nobody knows what came of it.
    pub(crate) unsure_since: Option<i64>,
}

/// What becomes of a row itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It ends.
    End(Final),
    /// It is tried again after this time.
    Again(Duration),
    /// The same, and this try said nothing about it.
    Uncounted(Duration),
    /// It was not tried, and is looked at again after this time.
    NotTried(Duration),
}

/// What an answer teaches about other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// The contact takes no more customer-service messages.
    Exhausted,
    /// The room in the contact's ledger was not used.
    Unused,
    /// The contact does not follow.
    NotFollowing,
    /// This API rests for the account.
    RestApi(Duration),
    /// The account has no right to this API: what is to be sent over it ends.
    NoRight(Duration),
    /// The account rests.
    RestAccount(Duration),
}

impl Verdict {
    fn new(fate: Fate, report: Report) -> Self {
        Self {
            fate,
            report,
            lesson: None,
            unsure_since: None,
        }
    }

    /// It ends without being tried.
    pub(super) fn end(end: Final, reason: &'static str) -> Self {
        Self::new(Fate::End(end), because(reason))
    }

    /// It is not tried yet.
    pub(super) fn not_tried(wait: Duration, reason: &'static str) -> Self {
        Self::new(Fate::NotTried(wait), because(reason))
    }

    /// It is not tried yet, nor is anything else of the account.
    pub(super) fn rest_account(rest: Duration, reason: &'static str) -> Self {
        Self {
            lesson: Some(Lesson::RestAccount(rest)),
            ..Self::not_tried(rest, reason)
        }
    }

    fn learn(mut self, lesson: Option<Lesson>) -> Self {
        self.lesson = lesson;
        self
    }

    /// The row with this try among those of which nobody knows what came, if it is one.
    pub(super) fn marked<'a>(&self, row: &'a Leased) -> Cow<'a, Leased> {
        match self.unsure_since {
            None => Cow::Borrowed(row),
            Some(since) => Cow::Owned(with_unsure_try(row, since)),
        }
    }
}

fn with_unsure_try(row: &Leased, since_ms: i64) -> Leased {
    Leased {
        unsure: row.unsure + 1,
        unsure_at: row.unsure_at.or(Some(since_ms)),
        ..row.clone()
    }
}

fn because(reason: &'static str) -> Report {
    Report {
        reason: Some(reason),
        ..Report::default()
    }
}

/// Whether a row may be tried at `now_ms`, after the tries of which nobody knows what came.
pub(super) fn may_repeat(row: &Leased, now_ms: i64) -> bool {
    is_harmless(row, now_ms) || row.unsure < MAX_UNSURE
}

/// Whether nothing is shown twice if an earlier try was a success and this one is too.
fn is_harmless(row: &Leased, now_ms: i64) -> bool {
    let Some(unsure_at) = row.unsure_at else {
        return true;
    };
    match row.outgoing.kind.facts().idempotence {
        Idempotence::Nature => true,
        Idempotence::ClientMsgId => now_ms.saturating_sub(unsure_at) < millis(CLIENT_MSG_ID_KNOWN),
        Idempotence::None => false,
    }
}

/// Judges what came of a try of `row` that began at `begun_ms`.
pub(crate) fn judge(
    row: &Leased,
    begun_ms: i64,
    outcome: &Result<Option<String>, CallError>,
    now_ms: i64,
) -> Verdict {
    let attempts = row.attempts + 1;
    match outcome {
        Ok(msgid) => {
            let mark = !is_harmless(row, begun_ms);
            let report = Report {
                reason: mark.then_some("repeated-after-unknown-outcome"),
                msgid: msgid.clone(),
                ..Report::default()
            };
            Verdict::new(Fate::End(Final::Sent), report)
        }
        Err(CallError::Refused(refusal)) => refused(row, attempts, refusal, now_ms),
        Err(error @ (CallError::NoSecret | CallError::AccountBlocked { .. })) => {
            let rest = Some(Lesson::RestAccount(BLOCKED_REST));
            Verdict::new(Fate::Uncounted(BLOCKED_REST), said(error)).learn(rest)
        }
        // Nothing was sent. Another host may do better, or this one after a while; the row keeps its room
        // in the ledger until then.
        Err(error @ CallError::AddressRefused { .. }) => {
            Verdict::new(Fate::Uncounted(BLOCKED_REST), said(error))
        }
        Err(error @ CallError::Resting { wait }) => {
            Verdict::new(Fate::Uncounted(*wait), said(error))
        }
        Err(error @ CallError::Invalid(_)) => {
            Verdict::new(Fate::End(Final::Failed), said(error)).learn(unused(row))
        }
        Err(error) if error.may_have_been_done() => unsure(row, begun_ms, error, now_ms),
        Err(error) => Verdict::new(again(attempts, Duration::from_secs(1)), said(error)),
    }
}

/// Nobody knows what came of the try.
fn unsure(row: &Leased, begun_ms: i64, error: &CallError, now_ms: i64) -> Verdict {
    let marked = with_unsure_try(row, begun_ms);
    let fate = again(row.attempts + 1, Duration::from_secs(1));
    let wait = match fate {
        Fate::Again(wait) => wait,
        Fate::End(_) | Fate::Uncounted(_) | Fate::NotTried(_) => Duration::ZERO,
    };
    let may_repeat = may_repeat(&marked, now_ms.saturating_add(millis(wait)));
    let fate = match fate {
        Fate::Again(_) if may_repeat => fate,
        _ => Fate::End(Final::Unknown),
    };
    Verdict {
        unsure_since: Some(begun_ms),
        ..Verdict::new(fate, said(error))
    }
}

fn refused(row: &Leased, attempts: i64, refusal: &ApiError, now_ms: i64) -> Verdict {
    let code = refusal.errcode;
    let told = code.on(&row.outgoing.path);
    let first_wait = Duration::from_secs(code.first_wait_seconds());
    let limit_rest = backoff::limit_rest(told, now_ms);
    let (fate, lesson) = match (limit_rest, told.advice(), told.class()) {
        _ if code.exhausts_user() => (Fate::End(Final::Failed), Some(Lesson::Exhausted)),
        _ if code.is_not_following() => (Fate::End(Final::Failed), Some(Lesson::NotFollowing)),
        (_, Advice::Await, _) => (Fate::End(Final::Held), None),
        (Some(rest), ..) => (Fate::Uncounted(rest), Some(Lesson::RestApi(rest))),
        (None, Advice::Backoff | Advice::RefreshToken | Advice::NextDay, _) => {
            (again(attempts, first_wait), None)
        }
        (_, Advice::Alert, Class::Rights) => {
            (Fate::End(Final::Failed), Some(Lesson::NoRight(RIGHTS_REST)))
        }
        (_, Advice::Alert, _) => (
            Fate::Uncounted(BLOCKED_REST),
            Some(Lesson::RestAccount(BLOCKED_REST)),
        ),
        (_, Advice::Never | Advice::Fallback, _) => (Fate::End(Final::Failed), unused(row)),
    };
    let reason = match (fate, lesson) {
        (Fate::End(Final::Held), _) => "held-for-review",
        (_, Some(Lesson::NoRight(_))) => "no-right",
        _ => "wechat-refused",
    };
    let report = Report {
        reason: Some(reason),
        errcode: Some(code.0),
        errmsg: Some(refusal.errmsg.replace('\0', "")),
        msgid: None,
    };
    Verdict::new(fate, report).learn(lesson)
}

/// Longer after each try, until there have been enough.
fn again(attempts: i64, first: Duration) -> Fate {
    if attempts >= MAX_ATTEMPTS {
        return Fate::End(Final::Dead);
    }
    let doublings = u32::try_from(attempts - 1).unwrap_or_default();
    Fate::Again(backoff::doubled(first, doublings, MAX_WAIT.max(first)))
}

fn unused(row: &Leased) -> Option<Lesson> {
    row.outgoing
        .kind
        .facts()
        .is_counted
        .then_some(Lesson::Unused)
}

fn said(error: &CallError) -> Report {
    Report {
        reason: Some(error.code()),
        errmsg: Some(error.to_string()),
        ..Report::default()
    }
}

#[cfg(test)]
mod tests {
    use wxhost_wechat::errcode;

    use super::*;
    use crate::backoff::MINUTE_REST;
    use crate::clock::until_midnight;
    use crate::db::outbox::{Kind, Outgoing};

    const NOW: i64 = 1_700_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn row(kind: Kind) -> Leased {
        Leased {
            id: "1".into(),
            app_id: "wx01".into(),
            event_id: "m:1".into(),
            trace_id: "t".into(),
            outgoing: Outgoing {
                kind,
                open_id: "oA".into(),
                path: path_of(kind).into(),
                payload: "{}".into(),
                expires_at: None,
            },
            fence: 1,
            attempts: 0,
            unsure: 0,
            unsure_at: None,
            is_reserved: false,
            no_right: None,
            created_at: NOW,
        }
    }

    fn path_of(kind: Kind) -> &'static str {
        match kind {
            Kind::Template => "/cgi-bin/message/template/send",
            Kind::Subscription => "/cgi-bin/message/subscribe/bizsend",
            Kind::LateAnswer | Kind::CustomerMessage => "/cgi-bin/message/custom/send",
            Kind::Tags => "/cgi-bin/tags/members/batchtagging",
            Kind::Remark => "/cgi-bin/user/info/updateremark",
        }
    }

    #[test]
    fn a_mini_programs_wrong_app_id_is_the_messages_fault_and_not_the_accounts() {
        let failed = Fate::End(Final::Failed);
        assert_eq!(after(Kind::Template, 40013, 1), (failed, None));
        assert_eq!(after(Kind::Subscription, 40013, 1), (failed, None));
        let custom = after(Kind::CustomerMessage, 40013, 1);
        assert_eq!(custom, (failed, Some(Lesson::Unused)));
    }

    fn after(kind: Kind, code: i64, attempts: i64) -> (Fate, Option<Lesson>) {
        let body = format!(r#"{{"errcode":{code},"errmsg":"no"}}"#);
        let refusal = errcode::read(body.as_bytes()).unwrap_err();
        let outcome = Err(CallError::Refused(refusal));
        let row = Leased {
            attempts: attempts - 1,
            ..row(kind)
        };
        let verdict = judge(&row, NOW, &outcome, NOW);
        assert_eq!(verdict.report.errcode, Some(code));
        (verdict.fate, verdict.lesson)
    }

    #[test]
    fn each_code_is_treated_as_its_advice_says() {
        use Fate::{Again, End, Uncounted};
        use Lesson::{Exhausted, NoRight, NotFollowing, RestAccount, RestApi, Unused};
        let morning = until_midnight(NOW);
        for (kind, code, expected) in [
            (Kind::CustomerMessage, -1, (Again(SECOND), None)),
            (Kind::CustomerMessage, 40001, (Again(SECOND), None)),
            (
                Kind::LateAnswer,
                45015,
                (End(Final::Failed), Some(Exhausted)),
            ),
            (
                Kind::LateAnswer,
                45047,
                (End(Final::Failed), Some(Exhausted)),
            ),
            (
                Kind::CustomerMessage,
                45002,
                (End(Final::Failed), Some(Unused)),
            ),
            (
                Kind::CustomerMessage,
                424_242,
                (End(Final::Failed), Some(Unused)),
            ),
            (Kind::Template, 40037, (End(Final::Failed), None)),
            (
                Kind::Template,
                43004,
                (End(Final::Failed), Some(NotFollowing)),
            ),
            (
                Kind::Template,
                45009,
                (Uncounted(morning), Some(RestApi(morning))),
            ),
            (
                Kind::Template,
                45011,
                (Uncounted(MINUTE_REST), Some(RestApi(MINUTE_REST))),
            ),
            (
                Kind::Template,
                48001,
                (End(Final::Failed), Some(NoRight(RIGHTS_REST))),
            ),
            (
                Kind::Template,
                50007,
                (Uncounted(BLOCKED_REST), Some(RestAccount(BLOCKED_REST))),
            ),
            (Kind::Subscription, 43101, (End(Final::Failed), None)),
            (Kind::Template, 40252, (End(Final::Held), None)),
        ] {
            assert_eq!(after(kind, code, 1), expected, "{code}");
        }
    }

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (1..=MAX_ATTEMPTS)
            .map(|attempts| after(Kind::Template, -1, attempts).0)
            .collect();
        assert_eq!(waits[..3], [1, 2, 4].map(|n| Fate::Again(SECOND * n)));
        assert_eq!(waits[10], Fate::Again(MAX_WAIT));
        assert_eq!(waits[11], Fate::End(Final::Dead));
        let far = after(Kind::Template, -1, i64::MAX).0;
        assert_eq!(far, Fate::End(Final::Dead));
    }

    #[test]
    fn an_account_without_a_secret_waits_for_one() {
        let verdict = judge(&row(Kind::LateAnswer), NOW, &Err(CallError::NoSecret), NOW);
        assert_eq!(verdict.fate, Fate::Uncounted(BLOCKED_REST));
        assert_eq!(verdict.report.reason, Some("no-secret"));
    }

    /// A row after tries without an answer, the first of which began `ago` before now.
    fn after_unsure(kind: Kind, unsure: i64, ago: Duration) -> Leased {
        Leased {
            attempts: unsure,
            unsure,
            unsure_at: (unsure > 0).then_some(NOW - millis(ago)),
            ..row(kind)
        }
    }

    #[test]
    fn what_would_be_shown_twice_is_repeated_once_and_the_rest_as_long_as_it_is_harmless() {
        use Fate::{Again, End};
        let unknown = End(Final::Unknown);
        for (kind, unsure, ago, expected) in [
            (Kind::CustomerMessage, 0, 0, Again(SECOND)),
            (Kind::CustomerMessage, 1, 1, unknown),
            (Kind::LateAnswer, 0, 0, Again(SECOND)),
            (Kind::LateAnswer, 1, 1, unknown),
            (Kind::Subscription, 1, 1, unknown),
            (Kind::Template, 1, 1, Again(2 * SECOND)),
            (Kind::Template, 5, 500, Again(32 * SECOND)),
            (Kind::Template, 5, 580, unknown),
            (Kind::Template, 1, 600, unknown),
            (Kind::Tags, 5, 6000, Again(32 * SECOND)),
            (Kind::Remark, 11, 6000, unknown),
        ] {
            let row = after_unsure(kind, unsure, SECOND * ago);
            for error in [CallError::Timeout, CallError::Broken, CallError::TooLarge] {
                let verdict = judge(&row, NOW, &Err(error), NOW);
                assert_eq!(verdict.fate, expected, "{kind:?} {unsure} {ago}");
                let marked = verdict.marked(&row);
                assert_eq!(marked.unsure, unsure + 1);
                assert_eq!(marked.unsure_at, row.unsure_at.or(Some(NOW)));
            }
        }
    }

    #[test]
    fn what_waits_for_its_account_to_answer_again_keeps_its_room_in_the_ledger() {
        let rests = CallError::Resting { wait: 7 * SECOND };
        let verdict = judge(&row(Kind::CustomerMessage), NOW, &Err(rests), NOW);
        assert_eq!(verdict.fate, Fate::Uncounted(7 * SECOND));
        assert_eq!((verdict.lesson, verdict.unsure_since), (None, None));
    }

    #[test]
    fn what_never_left_is_no_unknown_outcome() {
        for error in [CallError::Unreachable, CallError::TokenTimeout] {
            let verdict = judge(&row(Kind::LateAnswer), NOW, &Err(error), NOW);
            assert_eq!(verdict.fate, Fate::Again(SECOND));
            assert_eq!(verdict.unsure_since, None);
        }
    }

    #[test]
    fn a_success_after_an_unknown_outcome_says_so_where_it_may_have_been_shown_twice() {
        let marked = Some("repeated-after-unknown-outcome");
        for (kind, unsure, ago, expected) in [
            (Kind::CustomerMessage, 0, 0, None),
            (Kind::CustomerMessage, 1, 1, marked),
            (Kind::Subscription, 1, 1, marked),
            (Kind::Template, 3, 500, None),
            (Kind::Template, 1, 600, marked),
            (Kind::Tags, 3, 6000, None),
        ] {
            let row = after_unsure(kind, unsure, SECOND * ago);
            let verdict = judge(&row, NOW, &Ok(None), NOW);
            assert_eq!(verdict.fate, Fate::End(Final::Sent));
            assert_eq!(verdict.report.reason, expected, "{kind:?} {unsure} {ago}");
        }
    }
}
