//! Events that are acknowledged before they are answered, and events whose host died meanwhile.
//!
//! WeChat's last delivery must be answered in time, else the user is told that the service is broken.
//! So when a run takes longer, or the host can't run the event at all, the event is kept in the database
//! (sealed: it is what a user wrote) and acknowledged; the run's commit then sends its answer to the
//! outbox. Should the host die first, or have been held up, the event's lease runs out and a host takes
//! it up again ([`take_up`]).
//!
//! An event is given up only after it was begun again and again and never ended (it may be what kills
//! the hosts), or when its answer is of no use any more. It is a dead letter then, with its body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wxhost_wechat::envelope::Format;
use wxhost_wechat::message::Message;

use super::room::Purpose;
use super::task::CallbackTask;
use super::{Arrival, CallbackLane, Reception};
use crate::db::inbox::{self, Acknowledged, PendingEvent};
use crate::db::{DbError, Lease, patiently};
use crate::inbox::{Admission, Answer, Run, Settled};
use crate::random;
use crate::run::{Ended, EventContext};
use crate::seal::{Place, SealError};
use crate::store::redis::Claim;

/// How much longer than a call may take an event's lease lasts.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Events taken up in one round.
const TAKEN_AT_ONCE: i64 = 32;
/// How often an event is begun that never ends: it may be what kills the hosts.
const MAX_ATTEMPTS: i64 = 5;
/// Age at which an event is given up. WeChat takes a customer-service message for 48 hours.
const LONGEST_AGE: Duration = Duration::from_secs(48 * 3600);
/// The shortest and the longest time until an event is tried again that the host could not run.
const PAUSES: std::ops::RangeInclusive<i64> = 2_000..=300_000;

/// How often events that were left are looked for, more or less.
const SWEEP: Duration = Duration::from_secs(2);

/// Takes up events that were acknowledged and not ended, until `stop`.
pub(super) async fn take_up(lane: Arc<CallbackLane>, stop: CancellationToken) {
    loop {
        // Not in step with other hosts: one that can't open an event would take it up again and again
        // just before one that can.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP / 2 + random::up_to(SWEEP)) => {}
        }
        if lane.services.db.is_own_clock_off() {
            continue;
        }
        match lane.take_up_pending().await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "acknowledged events are taken up"),
            Err(error) => tracing::debug!(error = %error, "pending events can't be read"),
        }
    }
}

/// Why an event could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// What is to be done with an event that was leased.
enum Opened {
    Run(Box<Arrival>),
    /// This host can't read it now; another one may, or this one later.
    Later(String),
    /// It is a dead letter, for this reason.
    Dead(&'static str),
}

impl CallbackLane {
    /// Keeps an event that is not answered yet, and acknowledges it.
    pub(super) async fn acknowledge_unfinished(
        &self,
        run: &Arc<Run>,
        arrival: &Arrival,
    ) -> Reception {
        let kept = match self.keep(run, arrival).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(
                    account.app_id = %arrival.context.account.app_id,
                    event.id = arrival.context.event_id,
                    error = %error,
                    "an event can't be kept, so it is not acknowledged"
                );
                return Reception::Unavailable;
            }
        };
        let event = match kept {
            (_, Acknowledged::Done { answer }) => {
                return Reception::Answered(Answer::reply(&answer));
            }
            (event, Acknowledged::Kept) => event,
        };
        let Some(answer) = self.answered_meanwhile(run, arrival).await else {
            return Reception::Answered(Answer::nothing());
        };
        let noted = inbox::answer_passively(&self.services.db, &event, answer.as_str());
        match patiently(noted).await {
            Ok(true) => Reception::Answered(answer),
            // Its commit, or the next run, sends the answer: not twice, so not here.
            Ok(false) => Reception::Answered(Answer::nothing()),
            Err(error) => {
                tracing::warn!(account.app_id = event.app_id, error = %error, "an answered event stays pending");
                Reception::Answered(Answer::nothing())
            }
        }
    }

    async fn keep(
        &self,
        run: &Run,
        arrival: &Arrival,
    ) -> Result<(PendingEvent, Acknowledged), KeepError> {
        let context = &arrival.context;
        let event = PendingEvent {
            app_id: context.account.app_id.as_str().to_owned(),
            event_id: context.event_id.clone(),
            event: self.seal_event(arrival)?,
            lease_owner: random::unique_name(),
            attempts: 0,
            created_at: self.services.db.now_ms(),
        };
        // Where nobody is at work any more, the next round takes it up.
        let lease_until = match run.settled() {
            None => self.lease(&event.lease_owner).until_ms,
            Some(_) => self.services.db.now_ms(),
        };
        let kept = inbox::acknowledge(&self.services.db, &event, lease_until);
        let kept = patiently(kept).await?;
        Ok((event, kept))
    }

    /// Takes up events that were acknowledged and are not ended. Returns how many.
    ///
    /// # Errors
    /// The database can't be reached.
    async fn take_up_pending(self: &Arc<Self>) -> Result<usize, DbError> {
        self.return_unreturned().await?;
        let owner = random::unique_name();
        let events =
            inbox::lease_pending(&self.services.db, TAKEN_AT_ONCE, self.lease(&owner)).await?;
        let taken = events.len();
        for event in events {
            self.take_up_one(event).await;
        }
        Ok(taken)
    }

    async fn take_up_one(self: &Arc<Self>, event: PendingEvent) {
        let arrival = match self.open(&event) {
            Opened::Run(arrival) => arrival,
            Opened::Later(reason) => {
                tracing::warn!(
                    account.app_id = event.app_id,
                    event.id = event.event_id,
                    error = reason,
                    "an acknowledged event waits"
                );
                return self.postpone(event).await;
            }
            Opened::Dead(reason) => return self.bury(&event, reason).await,
        };
        let now = Instant::now();
        let mut admission = self.table.admit(&event.app_id, &event.event_id, now);
        if let Admission::Known(run) = &admission
            && run.settled().is_some()
        {
            // It ended here without a commit, and nobody got its answer.
            self.table.forget(run);
            admission = self.table.admit(&event.app_id, &event.event_id, now);
        }
        let Admission::New(run) = admission else {
            // It runs on this host; the lease was too short for it.
            return self.postpone(event).await;
        };
        let lane = Arc::clone(self);
        self.runs.spawn(async move {
            lane.run_late(&run, &arrival, event).await;
        });
    }

    /// Runs an event whose answer can only go out late, and ends its row.
    async fn run_late(&self, run: &Arc<Run>, arrival: &Arrival, event: PendingEvent) {
        run.mark_late();
        let task = CallbackTask::new(run, arrival, self.settings.answer_wait);
        // It is tried again by its row, not here.
        let no_patience = tokio::time::Instant::now();
        if !self.has_turn(arrival, no_patience).await {
            self.postpone(event).await;
            return self.settle(run, Settled::HeldUp);
        }
        let settled = match self.runner.run(&task, no_patience).await {
            Ended::HeldUp(_) => {
                self.postpone(event).await;
                Settled::HeldUp
            }
            Ended::Late | Ended::Before(_) => Settled::Answered(Answer::nothing()),
            // No plugin was asked, so nothing was committed.
            Ended::Answered(_) => {
                let ended = inbox::answer_passively(&self.services.db, &event, "").await;
                if let Err(error) = ended {
                    tracing::warn!(account.app_id = event.app_id, error = %error, "an event without a plugin stays pending");
                }
                Settled::Answered(Answer::nothing())
            }
        };
        self.settle(run, settled);
    }

    /// Gives a leased event back: that the host could not run it is not the event's fault.
    async fn postpone(&self, mut event: PendingEvent) {
        let age = self.services.db.now_ms() - event.created_at;
        let pause = (age / 4).clamp(*PAUSES.start(), *PAUSES.end());
        let jitter = Duration::from_millis(pause.unsigned_abs() / 4);
        let jitter = i64::try_from(random::up_to(jitter).as_millis()).unwrap_or_default();
        let due_at = self.services.db.now_ms() + pause + jitter;
        if let Err(error) = inbox::postpone(&self.services.db, &event, due_at).await {
            tracing::debug!(account.app_id = event.app_id, error = %error, "an event can't be given back now");
            // The row has its body.
            event.event = String::new();
            self.unreturned.lock().push(event);
        }
    }

    /// Takes back the attempts of events that could not be given back before.
    async fn return_unreturned(&self) -> Result<(), DbError> {
        loop {
            let Some(event) = self.unreturned.lock().pop() else {
                return Ok(());
            };
            let due_at = self.services.db.now_ms();
            if let Err(error) = inbox::postpone(&self.services.db, &event, due_at).await {
                self.unreturned.lock().push(event);
                return Err(error);
            }
        }
    }

    async fn bury(&self, event: &PendingEvent, reason: &'static str) {
        tracing::error!(
            account.app_id = event.app_id,
            event.id = event.event_id,
            attempts = event.attempts,
            reason,
            "an acknowledged event is a dead letter"
        );
        self.services.metrics.dead_events.inc();
        if let Err(error) = inbox::bury(&self.services.db, event, reason).await {
            // Its lease runs out, and whoever takes it up next comes to the same end.
            tracing::debug!(account.app_id = event.app_id, error = %error, "a dead letter can't be noted now");
        }
    }

    /// The answer, if the run ended between the time-out and the acknowledgement.
    async fn answered_meanwhile(&self, run: &Run, arrival: &Arrival) -> Option<Answer> {
        if let Some(Settled::Answered(answer)) = run.settled() {
            return Some(answer.clone());
        }
        let redis = self.services.store.shared()?;
        let app_id = arrival.context.account.app_id.as_str();
        match redis.look(app_id, &arrival.context.event_id).await {
            Ok(Some(Claim::Answered(answer))) => Some(Answer::reply(&answer)),
            _ => None,
        }
    }

    fn open(&self, event: &PendingEvent) -> Opened {
        let age = self.services.db.now_ms() - event.created_at;
        if event.attempts > MAX_ATTEMPTS {
            return Opened::Dead("never-ended");
        }
        if age > i64::try_from(LONGEST_AGE.as_millis()).unwrap_or(i64::MAX) {
            return Opened::Dead("too-old");
        }
        // An account that is not in memory is not gone: this host may not be able to open its keys yet,
        // or not have looked. So with a body sealed under a key that it has not got yet.
        let Some(account) = self.services.accounts.get(&event.app_id) else {
            return Opened::Later("this host does not know the account".to_owned());
        };
        match self.open_event(event) {
            Err(error) => Opened::Later(error.to_string()),
            Ok(None) => Opened::Later("the body is of another kind".to_owned()),
            Ok(Some((format, clear))) => {
                let of_tenant = &account.tenant.arrival_bytes;
                let Some(room) = self.rooms.take(of_tenant, clear.len(), Purpose::Run) else {
                    return Opened::Later("events under way hold as much as they may".to_owned());
                };
                let Ok(message) = Message::read(&clear) else {
                    return Opened::Later("the body can't be read".to_owned());
                };
                Opened::Run(Box::new(Arrival {
                    context: EventContext {
                        account,
                        event_id: event.event_id.clone(),
                        kind: message.content.kind(),
                        trace_id: random::unique_name(),
                        created_at: event.created_at,
                        started: Instant::now(),
                    },
                    message,
                    clear,
                    format,
                    _room: room,
                }))
            }
        }
    }

    fn seal_event(&self, arrival: &Arrival) -> Result<String, SealError> {
        let context = &arrival.context;
        let place = Place::event(context.account.app_id.as_str(), &context.event_id);
        let mut plain = vec![match arrival.format {
            Format::Xml => b'x',
            Format::Json => b'j',
        }];
        plain.extend_from_slice(&arrival.clear);
        self.services.keys.seal(place, &plain)
    }

    /// The inverse of [`seal_event`](Self::seal_event); none if the box holds something else.
    fn open_event(&self, event: &PendingEvent) -> Result<Option<(Format, Vec<u8>)>, SealError> {
        let place = Place::event(&event.app_id, &event.event_id);
        let plain = self.services.keys.open(place, &event.event)?;
        Ok(plain.split_first().and_then(|(format, clear)| {
            let format = match format {
                b'x' => Format::Xml,
                b'j' => Format::Json,
                _ => return None,
            };
            Some((format, clear.to_vec()))
        }))
    }

    fn lease<'a>(&self, owner: &'a str) -> Lease<'a> {
        let time = self.settings.call_deadline + LEASE_MARGIN;
        Lease::begin(&self.services.db, owner, time)
    }
}
