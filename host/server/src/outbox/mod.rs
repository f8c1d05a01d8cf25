//! The outbox's delivery: what was decided to be sent leaves from here.
//!
//! Every host runs the loop. It leases rows that are due ([`crate::db::outbox`]), some of each account in
//! turn, so that no account waits behind another's flood, and sends each row in a task of its own:
//! begin (opt-out, ledger), call WeChat, settle as the error code advises (`verdict`). The loop is woken
//! when this host has added something ([`Bell`]) and looks by period, for what other hosts left.
//!
//! A host that dies before `begin` has sent nothing. One that dies after it leaves a row that may have
//! been sent: when its lease has run out it is sent again, as WeChat's documents advise after a
//! time-out. A template message carries a `client_msg_id`, by which WeChat sends it once all the same.

#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::{self, Call, InvalidCall, Method, template};
use wxhost_wechat::errcode::{self, NotSent};
use wxhost_wechat::id::OpenId;

pub(crate) use self::verdict::until_morning;
use self::verdict::{Fate, Lesson, MAX_AGE, Verdict, judge};
use crate::accounts::{Account, Accounts};
use crate::client::{CallError, Client};
use crate::clock::Clock;
use crate::db::allowance::{self, Person, Scenes};
use crate::db::outbox::{self, Begun, Final, Kind, Lease, Leased, Outgoing, Report};
use crate::db::{Database, DbError};
use crate::random;
use crate::telemetry::{Metrics, OutboxLabels, Word};
use crate::tokens::jittered;

/// Sends at the same time, on one host.
const IN_FLIGHT: usize = 64;
/// Sends at the same time for one account, on one host: its pace. WeChat takes some tens a second.
const IN_FLIGHT_PER_ACCOUNT: usize = 8;
/// Accounts that are looked at in one round.
const ACCOUNTS_AT_ONCE: i64 = 32;
/// How often the loop looks by itself.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a row is this host's. Longer than a send and the noting of its result.
const LEASE: Duration = Duration::from_secs(60);
/// How long a send may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an account rests that is disabled.
const DISABLED_REST: Duration = Duration::from_secs(60);
/// Over how long twice those are spread that wait for the same moment, such as midnight.
const MAX_SPREAD: Duration = Duration::from_secs(10 * 60);
/// The wait between two tries to note a result.
const NOTE_PAUSE: Duration = Duration::from_millis(500);
/// Tries to note a result: as long as the lease is sure to hold.
const NOTE_TRIES: u32 = 60;

const _: () = assert!(
    SEND_TIMEOUT.as_millis() + NOTE_PAUSE.as_millis() * NOTE_TRIES as u128 <= LEASE.as_millis(),
    "a result is noted while the lease holds"
);

/// Rings when something was put into the outbox.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// Something was put in.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// What the delivery works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where the rows are.
    pub db: Database,
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Calls WeChat.
    pub client: Arc<Client>,
    /// Rings when there is something new.
    pub bell: Arc<Bell>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Clock,
    /// How many customer-service messages WeChat takes.
    pub scenes: Scenes,
}

/// What `call` sends, for the outbox.
///
/// # Errors
/// A limit of WeChat's that it breaks.
pub fn outgoing(kind: Kind, open_id: &OpenId, call: &impl Call) -> Result<Outgoing, InvalidCall> {
    let request = call.request()?;
    Ok(Outgoing {
        kind,
        open_id: open_id.as_str().to_owned(),
        payload: request.json().unwrap_or_default().to_owned(),
        path: request.path.into_owned(),
    })
}

/// What is under way on this host.
#[derive(Default)]
struct UnderWay {
    sends: JoinSet<()>,
    accounts: HashMap<tokio::task::Id, String>,
    /// The account that was served last: the next round begins after it.
    cursor: String,
}

impl Delivery {
    /// Sends until `stop`; what is under way then is finished.
    pub async fn run(self, stop: CancellationToken) {
        let owner: Arc<str> = random::unique_name().into();
        let mut under_way = UnderWay::default();
        loop {
            let leased = match self.top_up(&owner, &mut under_way).await {
                Ok(leased) => leased,
                Err(error) => {
                    tracing::debug!(error = %error, "the outbox can't be read");
                    0
                }
            };
            if stop.is_cancelled() {
                break;
            }
            if leased > 0 && under_way.has_room() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = under_way.sends.join_next_with_id() => under_way.note(ended),
                () = self.bell.0.notified(), if under_way.has_room() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            while let Some(ended) = under_way.sends.try_join_next_with_id() {
                under_way.note(ended);
            }
        }
        while under_way.sends.join_next().await.is_some() {}
    }

    /// Leases rows and begins to send them, account after account. Returns how many.
    async fn top_up(&self, owner: &Arc<str>, under_way: &mut UnderWay) -> Result<usize, DbError> {
        let mut leased = 0;
        if !under_way.has_room() {
            return Ok(leased);
        }
        for app_id in self.due_accounts(&under_way.cursor).await? {
            let room = under_way.room_of(&app_id);
            if room == 0 {
                continue;
            }
            let lease = self.lease(owner);
            let limit = i64::try_from(room).unwrap_or(1);
            let rows = outbox::lease(&self.db, &app_id, lease, limit).await?;
            leased += rows.len();
            for row in rows {
                let (delivery, owner) = (self.clone(), Arc::clone(owner));
                let send = async move { delivery.deliver(&row, &owner).await };
                let task = under_way.sends.spawn(send);
                under_way.accounts.insert(task.id(), app_id.clone());
            }
            under_way.cursor = app_id;
            if !under_way.has_room() {
                break;
            }
        }
        Ok(leased)
    }

    /// Accounts that have something due, beginning after the one that was served last.
    async fn due_accounts(&self, cursor: &str) -> Result<Vec<String>, DbError> {
        let now_ms = self.clock.now_ms();
        let mut due = outbox::due_accounts(&self.db, cursor, now_ms, ACCOUNTS_AT_ONCE).await?;
        if due.is_empty() && !cursor.is_empty() {
            due = outbox::due_accounts(&self.db, "", now_ms, ACCOUNTS_AT_ONCE).await?;
        }
        Ok(due)
    }

    /// Sends a row and notes what came of it.
    async fn deliver(&self, row: &Leased, owner: &str) {
        let tried = match self.admit(row, owner).await {
            Ok(Some(account)) => {
                let begun_ms = self.clock.now_ms();
                let outcome = self.send(row, &account).await;
                let verdict = judge(row, row.attempts + 1, &outcome, self.clock.now_ms());
                self.learn(row, &verdict, begun_ms).await;
                self.note(row, owner, &verdict).await
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
    }

    /// The account to send with, if the row is to be sent now; if not, why is noted.
    async fn admit(&self, row: &Leased, owner: &str) -> Result<Option<Arc<Account>>, DbError> {
        let now_ms = self.clock.now_ms();
        let end = |end, reason| Verdict {
            fate: Fate::End(end),
            report: Report {
                reason: Some(reason),
                ..Report::default()
            },
            lesson: None,
        };
        let Some(account) = self.accounts.get(&row.app_id) else {
            let verdict = end(Final::Dead, "no-account");
            return self.note(row, owner, &verdict).await.map(|()| None);
        };
        if now_ms.saturating_sub(row.created_at) > millis(MAX_AGE) {
            let verdict = end(Final::Dead, "too-old");
            return self.note(row, owner, &verdict).await.map(|()| None);
        }
        if !account.is_active() {
            let (until, reason) = (now_ms + millis(DISABLED_REST), "account-disabled");
            outbox::pause(&self.db, &row.app_id, "", until, reason).await?;
            let report = Report {
                reason: Some(reason),
                ..Report::default()
            };
            let lease = self.lease(owner);
            outbox::postpone(&self.db, row, lease, until, &report, true).await?;
            return Ok(None);
        }
        let verdict = match outbox::begin(&self.db, row, self.lease(owner), &self.scenes).await? {
            Begun::Go => return Ok(Some(account)),
            Begun::Lost => return Ok(None),
            Begun::OptedOut => end(Final::Skipped, "opted-out"),
            Begun::Refused(refusal) => end(Final::Skipped, refusal.as_str()),
        };
        self.note(row, owner, &verdict).await.map(|()| None)
    }

    /// Sends; WeChat's id of the message, where it has one.
    async fn send(
        &self,
        row: &Leased,
        account: &Arc<Account>,
    ) -> Result<Option<String>, CallError> {
        let outgoing = &row.outgoing;
        let request = api::generic(
            Method::Post,
            &outgoing.path,
            Vec::new(),
            outgoing.payload.clone(),
        );
        let mut request = request.map_err(CallError::Invalid)?;
        // A template message carries an id of its own, and the others end the same.
        request.idempotent = matches!(outgoing.kind, Kind::Template | Kind::Tags | Kind::Remark);
        let deadline = Instant::now() + SEND_TIMEOUT;
        let answer = self.client.send(account, &request, deadline).await?;
        // A page of a proxy's says nothing about the message; an errcode of 0 does.
        errcode::sent(&answer).map_err(|said| match said {
            NotSent::Refused(refusal) => CallError::Refused(refusal),
            NotSent::Unsaid => CallError::Answer(said.to_string()),
        })?;
        Ok(match outgoing.kind {
            // An answer without an id is a success all the same.
            Kind::Template | Kind::Subscription => template::Send::answer(&answer)
                .ok()
                .map(|sent| sent.msg_id.to_string()),
            Kind::LateAnswer | Kind::CustomerMessage | Kind::Tags | Kind::Remark => None,
        })
    }

    /// Keeps what an answer teaches about other rows. It is a help, not a promise.
    async fn learn(&self, row: &Leased, verdict: &Verdict, begun_ms: i64) {
        let Some(lesson) = verdict.lesson else {
            return;
        };
        let person = Person {
            app_id: &row.app_id,
            open_id: &row.outgoing.open_id,
        };
        let reason = verdict.report.reason.unwrap_or_default();
        let now_ms = self.clock.now_ms();
        let (db, app_id) = (&self.db, &row.app_id);
        let kept = match lesson {
            Lesson::Exhausted => allowance::exhaust(db, person, begun_ms).await,
            Lesson::Unused => allowance::release(db, person, begun_ms).await,
            Lesson::NotFollowing => allowance::note_unfollowed(db, person, begun_ms).await,
            Lesson::RestApi(rest) => {
                let until = now_ms + millis(spread(rest));
                outbox::pause(db, app_id, &row.outgoing.path, until, reason).await
            }
            Lesson::RestAccount(rest) => {
                let until = now_ms + millis(spread(rest));
                outbox::pause(db, app_id, "", until, reason).await
            }
        };
        if let Err(error) = kept {
            tracing::debug!(account.app_id = app_id, error = %error, "what WeChat said can't be kept");
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
        let (wait, counts) = match verdict.fate {
            Fate::End(end) => {
                if outbox::settle(&self.db, row, lease, end, report).await? {
                    self.count(row, end.as_str());
                    if end != Final::Sent {
                        tell(row, end.as_str(), report);
                    }
                }
                return Ok(());
            }
            Fate::Again(wait) => (wait, true),
            Fate::Uncounted(wait) => (wait, false),
        };
        let due_at = lease.now_ms + millis(spread(wait));
        if outbox::postpone(&self.db, row, lease, due_at, report, counts).await? {
            self.count(row, "again");
            tell(row, "again", report);
        }
        Ok(())
    }

    fn lease<'a>(&self, owner: &'a str) -> Lease<'a> {
        let now_ms = self.clock.now_ms();
        Lease {
            owner,
            now_ms,
            until_ms: now_ms + millis(LEASE),
        }
    }

    fn count(&self, row: &Leased, outcome: &'static str) {
        let labels = OutboxLabels {
            kind: Word(row.outgoing.kind.as_str().into()),
            outcome: Word(outcome.into()),
        };
        self.metrics.outbox.get_or_create(&labels).inc();
    }
}

impl UnderWay {
    fn has_room(&self) -> bool {
        self.sends.len() < IN_FLIGHT
    }

    fn room_of(&self, app_id: &str) -> usize {
        let of_account = self.accounts.values().filter(|own| *own == app_id).count();
        let own = IN_FLIGHT_PER_ACCOUNT.saturating_sub(of_account);
        own.min(IN_FLIGHT.saturating_sub(self.sends.len()))
    }

    fn note(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            // It has panicked; its row is looked at when its lease has run out.
            Err(error) => error.id(),
        };
        self.accounts.remove(&id);
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

/// A bit longer, so that what was refused together is not tried together.
pub(crate) fn spread(wait: Duration) -> Duration {
    wait + jittered(wait.min(MAX_SPREAD)) / 2
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}
