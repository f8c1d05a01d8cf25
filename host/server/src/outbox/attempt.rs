//! One try of a row: whether it may leave, the call, what is learnt, what is noted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_wechat::api::{self, Call as _, Method, template};
use wxhost_wechat::errcode::{self, NotSent};

use super::Sender;
use super::places::Health;
use super::verdict::{Fate, Lesson, Verdict, judge, may_repeat};
use crate::accounts::Account;
use crate::backoff::spread;
use crate::client::{CallError, Client};
use crate::clock::millis;
use crate::db::allowance::{self, ContactKey};
use crate::db::outbox::{
    self, Begun, Final, Idempotence, Leased, MAX_AGE_MS, NewPause, Outgoing, Postponement, Report,
    Transport,
};
use crate::db::{DbError, Lease, accounts};
use crate::telemetry::{OutboxLabels, Word};

/// How long a row is this host's. Longer than a send and the noting of its result.
const LEASE: Duration = Duration::from_secs(60);
/// How long a send may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an account rests that is disabled, or that this host cannot read.
const ACCOUNT_REST: Duration = Duration::from_secs(60);
/// How long after a row was put in the ledger may still learn why it may be sent: what callbacks tell
/// is written behind their answers, by whichever host got them.
const CONTACT_UPDATES_LAG: Duration = Duration::from_secs(2);
/// The wait between two tries to note a result.
const NOTE_PAUSE: Duration = Duration::from_millis(500);
/// Tries to note a result: as long as the lease is sure to hold.
const NOTE_TRIES: u32 = 60;

const _: () = assert!(
    SEND_TIMEOUT.as_millis() + NOTE_PAUSE.as_millis() * NOTE_TRIES as u128 <= LEASE.as_millis(),
    "a result is noted while the lease holds"
);

impl Sender {
    /// A lease that begins now.
    pub(super) fn lease<'a>(&self, owner: &'a str) -> Lease<'a> {
        Lease::begin(&self.db, owner, LEASE)
    }

    /// Tries to send a row and notes what came of it.
    pub(super) async fn attempt(self, row: Leased, owner: &str) -> Health {
        let mut health = Health::Unknown;
        let tried = match self.admit(&row, owner).await {
            Ok(Some(account)) => {
                let begun_ms = self.db.now_ms();
                let outcome = post(&self.client, &account, &row.outgoing).await;
                health = health_of(&outcome);
                let verdict = judge(&row, begun_ms, &outcome, self.db.now_ms());
                self.learn(&row, &verdict, begun_ms).await;
                self.note(&row, owner, &verdict).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = tried {
            tracing::warn!(
                account.app_id = row.app_id,
                outbox.id = row.id,
                trace_id = row.trace_id,
                error = %error,
                "what came of a message can't be noted; it is looked at again when its lease has run out"
            );
        }
        health
    }

    /// Ends a row whose time is over.
    pub(super) async fn end_expired(&self, row: &Leased, owner: &str) -> Result<(), DbError> {
        let verdict =
            overdue(row, self.db.now_ms()).unwrap_or_else(|| Verdict::end(Final::Dead, "too-old"));
        self.note_once(row, owner, &verdict).await
    }

    /// The account to send with, if the row is to be sent now; if not, why is noted.
    async fn admit(&self, row: &Leased, owner: &str) -> Result<Option<Arc<Account>>, DbError> {
        let now_ms = self.db.now_ms();
        let verdict = match self.accounts.get(&row.app_id) {
            None => self.without_account(row).await?,
            Some(account) => match (
                overdue(row, now_ms).or_else(|| forbidden(row, now_ms)),
                account.unserved(),
            ) {
                (Some(verdict), _) => verdict,
                (None, Some(why)) => Verdict::rest_account(ACCOUNT_REST, why.code()),
                (None, None) => {
                    let lease = self.lease(owner);
                    match outbox::begin(&self.db, row, lease, &self.scenes).await? {
                        Begun::Go => return Ok(Some(account)),
                        Begun::Lost => return Ok(None),
                        Begun::OptedOut => Verdict::end(Final::Skipped, "opted-out"),
                        Begun::Refused(refusal) => unforeseen(row, refusal.as_str(), now_ms),
                    }
                }
            },
        };
        self.learn(row, &verdict, now_ms).await;
        self.note(row, owner, &verdict).await.map(|()| None)
    }

    /// An account that this host does not know may be one that it cannot read, such as one that was
    /// sealed with a newer key: only what is not in the database is gone.
    async fn without_account(&self, row: &Leased) -> Result<Verdict, DbError> {
        Ok(
            match accounts::find(&self.db, &row.app_id).await?.is_some() {
                true => Verdict::rest_account(ACCOUNT_REST, "account-unreadable"),
                false => Verdict::end(Final::Dead, "no-account"),
            },
        )
    }

    /// Keeps what an answer teaches about other rows. It is a help, not a promise.
    async fn learn(&self, row: &Leased, verdict: &Verdict, begun_ms: i64) {
        let Some(lesson) = verdict.lesson else {
            return;
        };
        let contact = ContactKey {
            app_id: &row.app_id,
            open_id: &row.outgoing.open_id,
        };
        let pause = |path, rest, ends| NewPause {
            app_id: &row.app_id,
            path,
            until_ms: self.db.now_ms() + millis(spread(rest)),
            reason: verdict.report.reason.unwrap_or_default(),
            errcode: verdict.report.errcode,
            ends,
        };
        let (db, path) = (&self.db, &*row.outgoing.path);
        let kept = match lesson {
            Lesson::Exhausted => allowance::exhaust(db, contact, begun_ms).await,
            Lesson::Unused => allowance::release(db, contact, begun_ms).await,
            Lesson::NotFollowing => allowance::note_unfollowed(db, contact, begun_ms).await,
            Lesson::RestApi(rest) => outbox::pause(db, pause(path, rest, false)).await,
            Lesson::NoRight(rest) => outbox::pause(db, pause(path, rest, true)).await,
            Lesson::RestAccount(rest) => outbox::pause(db, pause("", rest, false)).await,
        };
        if let Err(error) = kept {
            tracing::debug!(account.app_id = row.app_id, error = %error, "what WeChat said can't be kept");
        }
    }

    /// Notes what came of a row, as long as the lease is sure to hold: a result that is lost sends the
    /// message again.
    async fn note(&self, row: &Leased, owner: &str, verdict: &Verdict) -> Result<(), DbError> {
        for _ in 1..NOTE_TRIES {
            match self.note_once(row, owner, verdict).await {
                Err(DbError::Unavailable(_) | DbError::Conflict(_)) => {
                    tokio::time::sleep(NOTE_PAUSE).await;
                }
                noted => return noted,
            }
        }
        self.note_once(row, owner, verdict).await
    }

    async fn note_once(&self, row: &Leased, owner: &str, verdict: &Verdict) -> Result<(), DbError> {
        let (lease, report) = (self.lease(owner), &verdict.report);
        let row = verdict.marked(row);
        let (wait, uncounted) = match verdict.fate {
            Fate::End(end) => {
                if outbox::settle(&self.db, &row, lease, end, report).await? {
                    self.count(&row, end.as_str());
                    if end != Final::Sent {
                        tell(&row, end.as_str(), report);
                    }
                }
                return Ok(());
            }
            Fate::Again(wait) => (wait, 0),
            Fate::Uncounted(wait) => (wait, 1),
            Fate::NotTried(wait) => (wait, 0),
        };
        let wait = Postponement {
            due_at: lease.now_ms + millis(spread(wait)),
            report,
            uncounted,
        };
        if outbox::postpone(&self.db, &row, lease, wait).await? {
            self.count(&row, "again");
            tell(&row, "again", report);
        }
        Ok(())
    }

    fn count(&self, row: &Leased, outcome: &'static str) {
        let labels = OutboxLabels {
            kind: Word(row.outgoing.kind.as_str().into()),
            outcome: Word(outcome.into()),
        };
        self.metrics.outbox.get_or_create(&labels).inc();
    }
}

/// Sends; WeChat's id of the message, where it has one.
pub(crate) async fn post(
    client: &Client,
    account: &Arc<Account>,
    outgoing: &Outgoing,
) -> Result<Option<String>, CallError> {
    let facts = outgoing.kind.facts();
    let Transport::AccountApi = facts.transport;
    let request = api::generic(
        Method::Post,
        &outgoing.path,
        Vec::new(),
        outgoing.payload.clone(),
    );
    let mut request = request.map_err(CallError::Invalid)?;
    request.idempotent = facts.idempotence != Idempotence::None;
    let deadline = Instant::now() + SEND_TIMEOUT;
    let answer = client.send(account, &request, deadline).await?;
    errcode::sent(&answer).map_err(|said| match said {
        NotSent::Refused(refusal) => CallError::Refused(refusal),
        NotSent::Unsaid => CallError::Answer(said.to_string()),
    })?;
    // An answer without an id is a success all the same.
    let sent = facts.reads_msgid.then(|| template::Send::answer(&answer));
    Ok(sent
        .and_then(Result::ok)
        .map(|sent| sent.msg_id.to_string()))
}

/// How a row ends whose time is over, if it is.
fn overdue(row: &Leased, now_ms: i64) -> Option<Verdict> {
    let latest = row.created_at.saturating_add(MAX_AGE_MS);
    let expires_at = row.outgoing.expires_at.unwrap_or(latest);
    (expires_at <= now_ms).then(|| match expires_at < latest {
        _ if row.unsure > 0 => Verdict::end(Final::Unknown, "unknown-outcome"),
        true => Verdict::end(Final::Skipped, "expired"),
        false => Verdict::end(Final::Dead, "too-old"),
    })
}

/// How a row ends that must not be tried: the account has no right to its API, or nobody knows whether
/// it was sent before.
fn forbidden(row: &Leased, now_ms: i64) -> Option<Verdict> {
    if !may_repeat(row, now_ms) {
        return Some(Verdict::end(Final::Unknown, "unknown-outcome"));
    }
    let errcode = row.no_right?;
    let mut verdict = Verdict::end(Final::Failed, "no-right");
    verdict.report.errcode = Some(errcode);
    Some(verdict)
}

/// What the ledger refuses waits for what callbacks have told and is not written yet.
fn unforeseen(row: &Leased, reason: &'static str, now_ms: i64) -> Verdict {
    let known_ms = row.created_at.saturating_add(millis(CONTACT_UPDATES_LAG));
    match u64::try_from(known_ms - now_ms) {
        Ok(wait_ms @ 1..) => {
            let wait = Duration::from_millis(wait_ms).min(CONTACT_UPDATES_LAG);
            Verdict::not_tried(wait, "awaiting-callbacks")
        }
        _ => Verdict::end(Final::Skipped, reason),
    }
}

fn health_of(outcome: &Result<Option<String>, CallError>) -> Health {
    match outcome {
        Ok(_) | Err(CallError::Refused(_)) => Health::Answers,
        Err(error) if error.is_silence() => Health::Silent,
        Err(_) => Health::Unknown,
    }
}

fn tell(row: &Leased, outcome: &str, report: &Report) {
    tracing::info!(
        account.app_id = row.app_id,
        outbox.id = row.id,
        outbox.kind = row.outgoing.kind.as_str(),
        trace_id = row.trace_id,
        wechat.errcode = report.errcode,
        reason = report.reason,
        outcome,
        "a message was not sent"
    );
}
