//! Events that are acknowledged before they are answered, and events whose host died meanwhile.
//!
//! WeChat's last delivery must be answered in time, else the user is told that the service is broken.
//! So when a run takes longer, the event is kept in the database (sealed: it is what a user wrote)
//! and acknowledged; the run's commit then sends its answer to the outbox. Should the host die first,
//! the event's lease runs out and another host takes it up again ([`Lane::take_up_pending`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use wxhost_wechat::envelope::Format;
use wxhost_wechat::message::Message;

use super::{Arrival, Lane, Reception};
use crate::db::commit::{self, Commit, Committed, ReadSet};
use crate::db::inbox::{self, Acknowledged, PendingEvent};
use crate::db::personal::PersonalEffects;
use crate::db::{DbError, patiently};
use crate::inbox::{Admission, Answer, Run, Settled};
use crate::random;
use crate::seal::{Place, SealError};
use crate::store::redis::Claim;

/// How much longer than a call may take an event's lease lasts.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Events taken up in one round.
const TAKEN_AT_ONCE: i64 = 32;
/// How often an event is taken up again before it is given up: it may be what kills the hosts.
const MAX_ATTEMPTS: i64 = 5;

/// Why an event could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Lane {
    /// Keeps an event that still runs, and acknowledges it.
    pub(super) async fn acknowledge_unfinished(
        &self,
        run: &Arc<Run>,
        arrival: &Arrival,
    ) -> Reception {
        let app_id = arrival.account.app_id.as_str();
        match self.keep(arrival).await {
            Ok(Acknowledged::Done { answer }) => Reception::Answered(Answer::reply(&answer)),
            Ok(Acknowledged::Kept) => match self.answered_meanwhile(run, arrival).await {
                None => Reception::Answered(Answer::nothing()),
                Some(answer) => {
                    let taken_back =
                        inbox::unacknowledge(&self.parts.services.db, app_id, &arrival.event_id)
                            .await;
                    // If not, the event is run again and its answer goes out late: once too often
                    // is better than never, and effects still happen once.
                    if let Err(error) = taken_back {
                        tracing::warn!(account.app_id = app_id, error = %error, "an answered event stays pending");
                    }
                    Reception::Answered(answer)
                }
            },
            Err(error) => {
                tracing::warn!(
                    account.app_id = app_id,
                    event.id = arrival.event_id,
                    error = %error,
                    "an event can't be kept, so it is not acknowledged"
                );
                Reception::Unavailable
            }
        }
    }

    async fn keep(&self, arrival: &Arrival) -> Result<Acknowledged, KeepError> {
        let event = PendingEvent {
            app_id: arrival.account.app_id.as_str().to_owned(),
            event_id: arrival.event_id.clone(),
            event: self.seal_event(arrival)?,
            attempts: 0,
            created_at: arrival.created_at,
        };
        let kept = inbox::acknowledge(&self.parts.services.db, &event, self.lease_until());
        Ok(patiently(kept).await?)
    }

    /// Takes up events that were acknowledged by a host that did not end them. Returns how many.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn take_up_pending(self: &Arc<Self>) -> Result<usize, DbError> {
        let now_ms = self.parts.services.clock.now_ms();
        let events = inbox::lease_pending(
            &self.parts.services.db,
            TAKEN_AT_ONCE,
            self.lease_until(),
            now_ms,
        )
        .await?;
        let taken = events.len();
        for event in events {
            self.take_up(event).await?;
        }
        Ok(taken)
    }

    async fn take_up(self: &Arc<Self>, event: PendingEvent) -> Result<(), DbError> {
        let opened = match self.open_event(&event) {
            Err(error @ SealError::UnknownKey { .. }) => {
                // The master key is being changed, and this host has not got the new one yet. The
                // event is for a host that has.
                tracing::warn!(account.app_id = event.app_id, event.id = event.event_id, error = %error, "an acknowledged event is left to another host");
                return Ok(());
            }
            opened => opened.ok().flatten(),
        };
        let arrival = opened.and_then(|opened| self.arrival_again(&event, opened));
        let Some(arrival) = arrival.filter(|_| event.attempts <= MAX_ATTEMPTS) else {
            tracing::error!(
                account.app_id = event.app_id,
                event.id = event.event_id,
                attempts = event.attempts,
                "an acknowledged event is given up"
            );
            return self.give_up(&event).await;
        };
        let now = Instant::now();
        let Admission::New(run) = self.table.admit(&event.app_id, &event.event_id, now) else {
            // It runs on this host; the lease was too short for it.
            return Ok(());
        };
        let lane = Arc::clone(self);
        self.runs.spawn(async move {
            let settled = lane.execute_late(&run, &Arc::new(arrival)).await;
            lane.settle(&run, settled);
        });
        Ok(())
    }

    /// Executes an event whose answer can only go out late, and ends its row even where the handler
    /// has changed nothing.
    async fn execute_late(&self, run: &Run, arrival: &Arc<Arrival>) -> Settled {
        run.mark_late();
        self.execute(run, arrival).await
    }

    /// Ends an event that can't be run.
    async fn give_up(&self, event: &PendingEvent) -> Result<(), DbError> {
        let nothing = Commit {
            app_id: &event.app_id,
            event_id: &event.event_id,
            reads: &ReadSet::default(),
            writes: &[],
            version: random::version(),
            answer: "",
            late: None,
            personal: PersonalEffects::default(),
            trace_id: "",
            now_ms: self.parts.services.clock.now_ms(),
        };
        commit::commit(&self.parts.services.db, &nothing)
            .await
            .map(|_: Committed| ())
    }

    /// The answer, if the run ended between the time-out and the acknowledgement.
    async fn answered_meanwhile(&self, run: &Run, arrival: &Arrival) -> Option<Answer> {
        if let Some(Settled::Answered(answer)) = run.settled() {
            return Some(answer.clone());
        }
        let redis = self.parts.services.store.shared()?;
        let app_id = arrival.account.app_id.as_str();
        match redis.look(app_id, &arrival.event_id).await {
            Ok(Some(Claim::Answered(answer))) => Some(Answer::reply(&answer)),
            _ => None,
        }
    }

    fn arrival_again(
        &self,
        event: &PendingEvent,
        (format, clear): (Format, Vec<u8>),
    ) -> Option<Arrival> {
        let account = self.parts.accounts.get(&event.app_id)?;
        let message = Message::from_tree(format.parse(&clear).ok()?).ok()?;
        Some(Arrival {
            account,
            message,
            clear,
            format,
            event_id: event.event_id.clone(),
            trace_id: random::unique_name(),
            created_at: event.created_at,
        })
    }

    fn seal_event(&self, arrival: &Arrival) -> Result<String, SealError> {
        let place = Place::event(arrival.account.app_id.as_str(), &arrival.event_id);
        let mut plain = vec![match arrival.format {
            Format::Xml => b'x',
            Format::Json => b'j',
        }];
        plain.extend_from_slice(&arrival.clear);
        self.parts.keys.seal(place, &plain)
    }

    /// The inverse of [`seal_event`](Self::seal_event); none if the box holds something else.
    fn open_event(&self, event: &PendingEvent) -> Result<Option<(Format, Vec<u8>)>, SealError> {
        let place = Place::event(&event.app_id, &event.event_id);
        let plain = self.parts.keys.open(place, &event.event)?;
        Ok(plain.split_first().and_then(|(format, clear)| {
            let format = match format {
                b'x' => Format::Xml,
                b'j' => Format::Json,
                _ => return None,
            };
            Some((format, clear.to_vec()))
        }))
    }

    fn lease_until(&self) -> i64 {
        let lease = self.parts.settings.call_deadline + LEASE_MARGIN;
        self.parts.services.clock.now_ms()
            + i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2)
    }
}
