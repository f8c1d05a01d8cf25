//! What an answer of WeChat's means for a row of the outbox: the advice of the error code, made into
//! times and words. Pure.

use std::time::Duration;

use wxhost_wechat::errcode::{Advice, ApiError, Class};

use crate::client::CallError;
use crate::db::outbox::{Final, Leased, Report};

/// Tries of a row that say something about it. With the waits between them they span half an hour.
const MAX_ATTEMPTS: i64 = 12;
/// How long a row may wait for a quota or an account's owner.
pub(super) const MAX_AGE: Duration = Duration::from_secs(72 * 3600);
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
/// How long an account rests that can't call WeChat at all before its owner has acted.
const BLOCKED_REST: Duration = Duration::from_secs(20);
/// How long an API rests that the account has no right to.
const RIGHTS_REST: Duration = Duration::from_secs(30 * 60);
/// How long an API rests that is called too often by the minute.
const MINUTE_REST: Duration = Duration::from_secs(60);
/// Beijing's clock, by which WeChat counts days, before UTC's.
const BEIJING: Duration = Duration::from_secs(8 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) fate: Fate,
    pub(super) report: Report,
    /// What is learnt for other rows.
    pub(super) lesson: Option<Lesson>,
}

/// What becomes of a row itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It ends.
    End(Final),
    /// It is tried again after this time.
    Again(Duration),
    /// The same, and this try said nothing about it.
    Uncounted(Duration),
}

/// What an answer teaches about other rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lesson {
    /// The person takes no more customer-service messages.
    Exhausted,
    /// The room in the person's ledger was not used.
    Unused,
    /// The person does not follow.
    NotFollowing,
    /// This API rests for the account.
    RestApi(Duration),
    /// The account rests.
    RestAccount(Duration),
}

/// Judges what came of a try of `row`, its `attempts` counted with this one.
pub(super) fn judge(
    row: &Leased,
    attempts: i64,
    outcome: &Result<Option<String>, CallError>,
    now_ms: i64,
) -> Verdict {
    match outcome {
        Ok(msgid) => Verdict {
            fate: Fate::End(Final::Sent),
            report: Report {
                reason: row.is_unsure.then_some("repeated-after-unknown-outcome"),
                msgid: msgid.clone(),
                ..Report::default()
            },
            lesson: None,
        },
        Err(CallError::Refused(refusal)) => refused(row, attempts, refusal, now_ms),
        Err(error @ (CallError::NoSecret | CallError::AccountBlocked { .. })) => Verdict {
            fate: Fate::Uncounted(BLOCKED_REST),
            report: said(error),
            lesson: Some(Lesson::RestAccount(BLOCKED_REST)),
        },
        Err(error @ CallError::Invalid(_)) => Verdict {
            fate: Fate::End(Final::Failed),
            report: said(error),
            lesson: unused(row),
        },
        Err(error) => Verdict {
            fate: again(attempts, Duration::from_secs(1)),
            report: said(error),
            lesson: None,
        },
    }
}

fn refused(row: &Leased, attempts: i64, refusal: &ApiError, now_ms: i64) -> Verdict {
    let code = refusal.errcode;
    let told = code.on(&row.outgoing.path);
    let first_wait = Duration::from_secs(code.first_wait_seconds());
    let (fate, lesson) = match (told.advice(), told.class()) {
        _ if code.exhausts_person() => (Fate::End(Final::Failed), Some(Lesson::Exhausted)),
        _ if code.is_not_following() => (Fate::End(Final::Failed), Some(Lesson::NotFollowing)),
        _ if code.is_minute_limit() => (
            Fate::Uncounted(MINUTE_REST),
            Some(Lesson::RestApi(MINUTE_REST)),
        ),
        (Advice::Backoff | Advice::RefreshToken, _) => (again(attempts, first_wait), None),
        (Advice::NextDay, _) => {
            let rest = until_morning(now_ms);
            (Fate::Uncounted(rest), Some(Lesson::RestApi(rest)))
        }
        (Advice::Alert, Class::Rights) => (
            Fate::Uncounted(RIGHTS_REST),
            Some(Lesson::RestApi(RIGHTS_REST)),
        ),
        (Advice::Alert, _) => (
            Fate::Uncounted(BLOCKED_REST),
            Some(Lesson::RestAccount(BLOCKED_REST)),
        ),
        (Advice::Never | Advice::Fallback | Advice::Await, _) => {
            (Fate::End(Final::Failed), unused(row))
        }
    };
    Verdict {
        fate,
        report: Report {
            reason: Some("wechat-refused"),
            errcode: Some(code.0),
            errmsg: Some(refusal.errmsg.replace('\0', "")),
            msgid: None,
        },
        lesson,
    }
}

/// Longer after each try, until there have been enough.
fn again(attempts: i64, first: Duration) -> Fate {
    if attempts >= MAX_ATTEMPTS {
        return Fate::End(Final::Dead);
    }
    let doublings = u32::try_from(attempts - 1).unwrap_or_default();
    let wait = first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
    Fate::Again(wait.min(MAX_WAIT.max(first)))
}

fn unused(row: &Leased) -> Option<Lesson> {
    row.outgoing.kind.is_counted().then_some(Lesson::Unused)
}

fn said(error: &CallError) -> Report {
    Report {
        reason: Some(error.code()),
        errmsg: Some(error.to_string()),
        ..Report::default()
    }
}

/// Time until WeChat's next day begins.
pub(crate) fn until_morning(now_ms: i64) -> Duration {
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    let beijing = i64::try_from(BEIJING.as_millis()).unwrap_or_default();
    let passed = now_ms.saturating_add(beijing).rem_euclid(day);
    Duration::from_millis((day - passed).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use wxhost_wechat::errcode;

    use super::*;
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
            },
            attempts: 0,
            is_unsure: false,
            is_reserved: false,
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
        let verdict = judge(&row(kind), attempts, &outcome, NOW);
        assert_eq!(verdict.report.errcode, Some(code));
        (verdict.fate, verdict.lesson)
    }

    #[test]
    fn each_code_is_treated_as_its_advice_says() {
        use Fate::{Again, End, Uncounted};
        use Lesson::{Exhausted, NotFollowing, RestAccount, RestApi, Unused};
        let morning = until_morning(NOW);
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
                (Uncounted(RIGHTS_REST), Some(RestApi(RIGHTS_REST))),
            ),
            (
                Kind::Template,
                50007,
                (Uncounted(BLOCKED_REST), Some(RestAccount(BLOCKED_REST))),
            ),
            (Kind::Subscription, 43101, (End(Final::Failed), None)),
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
        let verdict = judge(&row(Kind::LateAnswer), 1, &Err(CallError::NoSecret), NOW);
        assert_eq!(verdict.fate, Fate::Uncounted(BLOCKED_REST));
        assert_eq!(verdict.report.reason, Some("no-secret"));
    }

    #[test]
    fn a_time_out_may_have_been_a_success_and_is_repeated_slowly() {
        let verdict = judge(&row(Kind::LateAnswer), 2, &Err(CallError::Timeout), NOW);
        assert_eq!(verdict.fate, Fate::Again(2 * SECOND));
    }

    #[test]
    fn wechats_day_turns_over_in_beijing() {
        // 2023-11-14 22:13:20 UTC is 06:13:20 in Beijing.
        let left = Duration::from_secs(24 * 3600 - (6 * 3600 + 13 * 60 + 20));
        assert_eq!(until_morning(NOW), left);
        let midnight = NOW + i64::try_from(left.as_millis()).unwrap();
        assert_eq!(until_morning(midnight), DAY);
    }
}
