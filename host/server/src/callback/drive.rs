//! Driving a run: claimed among the hosts, executed once, settled for every delivery that waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::room::Room;
use super::task::CallbackTask;
use super::work::Work;
use super::{Arrival, CallbackLane, Delivery, nonce_kept};
use crate::inbox::{Answer, Run, Settled};
use crate::outbox;
use crate::random;
use crate::run::{Ended, HeldUp};
use crate::store::redis::{Claim, ClaimRequest, LEASE, Redis};
use crate::store::{StoreAway, keys};

/// How often a claim is renewed while the plugin runs.
const RENEWAL: Duration = Duration::from_millis(1_500);
/// How often an event that runs elsewhere is looked at, should no wake come.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

const _: () = assert!(
    RENEWAL.as_millis() * 2 < LEASE.as_millis(),
    "one renewal may be lost"
);

/// Wakes who waits for events that other hosts run.
#[derive(Debug, Default)]
pub struct SettledElsewhere {
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

impl SettledElsewhere {
    /// An event (by its key in Redis) was settled somewhere.
    pub fn wake(&self, event_key: &str) {
        if let Some(waiting) = self.waiting.lock().get(event_key) {
            waiting.notify_waiters();
        }
    }

    fn listen(&self, event_key: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock();
        Arc::clone(waiting.entry(event_key.to_owned()).or_default())
    }

    fn leave(&self, event_key: &str) {
        self.waiting.lock().remove(event_key);
    }
}

/// Who runs an event, as far as other hosts are concerned.
enum Turn {
    /// This host, and the claim is in Redis under this owner.
    Ours(String),
    /// This host; Redis is away or not used.
    Alone,
    /// Nobody any more.
    Settled(Settled),
}

impl CallbackLane {
    /// The work on the run of a new event, and what it is about.
    pub(super) fn begin(
        self: &Arc<Self>,
        run: &Arc<Run>,
        (event_id, room): (String, Room),
        delivery: Delivery,
    ) -> (Work, Arc<Arrival>) {
        let (lane, run) = (Arc::clone(self), Arc::clone(run));
        if self.services.store.shared().is_none() {
            let arrival = self.arrival((event_id, room), delivery);
            let arriving = Arc::clone(&arrival);
            let work = Work::new(&self.runs, async move {
                let _end = SettledAtLast(&lane, &run);
                let settled = match lane.settled_earlier(&arriving).await {
                    Some(settled) => settled,
                    None => lane.execute(&run, &arriving).await,
                };
                lane.settle(&run, settled);
            });
            return (work, arrival);
        }
        let (timestamp, nonce) = (delivery.timestamp.clone(), delivery.nonce.clone());
        let body_hash = delivery.body_hash;
        let arrival = self.arrival((event_id, room), delivery);
        let arriving = Arc::clone(&arrival);
        let work = Work::new(&self.runs, async move {
            let Some(redis) = lane.services.store.shared() else {
                return;
            };
            let _end = SettledAtLast(&lane, &run);
            if let Some(settled) = lane.settled_earlier(&arriving).await {
                return lane.settle(&run, settled);
            }
            let owner = random::unique_name();
            let request = ClaimRequest {
                app_id: arriving.context.account.app_id.as_str(),
                event_id: &arriving.context.event_id,
                owner: &owner,
                timestamp: &timestamp,
                nonce: &nonce,
                body_hash,
                nonce_kept: nonce_kept(&arriving.context.account),
                counts: true,
            };
            let turn = lane.take_turn(redis, &run, request).await;
            lane.take_part(redis, &run, &arriving, turn).await;
        });
        (work, arrival)
    }

    async fn take_part(&self, redis: &Redis, run: &Arc<Run>, arrival: &Arc<Arrival>, turn: Turn) {
        let owner = match turn {
            Turn::Settled(settled) => return self.settle(run, settled),
            Turn::Alone => {
                let settled = self.execute(run, arrival).await;
                return self.settle(run, settled);
            }
            Turn::Ours(owner) => owner,
        };
        let settled = tokio::select! {
            settled = self.execute(run, arrival) => settled,
            never = renew(redis, arrival, &owner) => match never {},
        };
        self.settle(run, settled.clone());
        let app_id = arrival.context.account.app_id.as_str();
        let event_id = &arrival.context.event_id;
        match settled {
            Settled::Answered(answer) => redis.answer(app_id, event_id, owner, answer),
            Settled::HeldUp | Settled::Replayed => {
                // A Redis that went away meanwhile forgets the claim by itself.
                let _: Result<(), StoreAway> = redis.abandon(app_id, event_id, &owner).await;
            }
        }
    }

    /// Executes an event. While the host is held up, it is tried again for as long as deliveries of the
    /// event may come.
    async fn execute(&self, run: &Run, arrival: &Arrival) -> Settled {
        let patience = self.settings.answer_wait * self.settings.deliveries;
        let patience = tokio::time::Instant::from_std(run.started()) + patience;
        let app_id = &arrival.context.account.app_id;
        if let Some(receipt) = outbox::receipt_of(app_id, &arrival.message) {
            self.services.receipts.add(receipt);
        }
        if !self.has_turn(arrival, patience).await {
            return Settled::HeldUp;
        }
        let task = CallbackTask::new(run, arrival, self.settings.answer_wait);
        match self.runner.run(&task, patience).await {
            Ended::Answered(rendered) => Settled::Answered(rendered.answer),
            Ended::Late => Settled::Answered(Answer::nothing()),
            Ended::Before(answer) => Settled::Answered(Answer::reply(&answer)),
            Ended::HeldUp(_) => Settled::HeldUp,
        }
    }

    /// Waits until the account's and its tenant's rates let the event's run begin; not beyond `patience`.
    pub(super) async fn has_turn(&self, arrival: &Arrival, patience: tokio::time::Instant) -> bool {
        let context = &arrival.context;
        let holders = context.account.holders();
        match self.services.quotas.callback_turn(holders, patience).await {
            Ok(()) => true,
            Err(over) => {
                let held_up = HeldUp {
                    code: "over-quota",
                    detail: over.to_string(),
                };
                self.runner.hold_up(context, held_up);
                false
            }
        }
    }

    /// Ends a run for everybody who waits for it. A refused one leaves the event to be begun anew.
    pub(super) fn settle(&self, run: &Arc<Run>, settled: Settled) {
        let replayed = settled == Settled::Replayed;
        run.settle(settled);
        if replayed {
            self.table.forget(run);
        }
    }

    /// Claims the event, or waits for the host that has it.
    async fn take_turn(&self, redis: &Redis, run: &Run, mut request: ClaimRequest<'_>) -> Turn {
        loop {
            let Ok((claim, deliveries)) = redis.claim(request).await else {
                return Turn::Alone;
            };
            run.raise_deliveries(deliveries);
            request.counts = false;
            match claim {
                Claim::Claimed => return Turn::Ours(request.owner.to_owned()),
                Claim::Answered(answer) => {
                    return Turn::Settled(Settled::Answered(Answer::reply(&answer)));
                }
                Claim::Replayed => return Turn::Settled(Settled::Replayed),
                Claim::Running => {
                    let event_key = keys::event(request.app_id, request.event_id);
                    let answer = self.wait_for_other_host(redis, &event_key, request).await;
                    self.settled_elsewhere.leave(&event_key);
                    if let Some(answer) = answer {
                        return Turn::Settled(Settled::Answered(answer));
                    }
                }
            }
        }
    }

    /// The answer of the host that runs the event; None when it has given the event up (or died).
    async fn wait_for_other_host(
        &self,
        redis: &Redis,
        event_key: &str,
        request: ClaimRequest<'_>,
    ) -> Option<Answer> {
        let settled = self.settled_elsewhere.listen(event_key);
        loop {
            let woken = settled.notified();
            tokio::pin!(woken);
            // From here on no wake is missed.
            woken.as_mut().enable();
            match redis.look(request.app_id, request.event_id).await {
                Ok(Some(Claim::Answered(answer))) => return Some(Answer::reply(&answer)),
                Ok(Some(_)) => {}
                Ok(None) | Err(StoreAway) => return None,
            }
            // The period heals a wake that was lost.
            let _ = tokio::time::timeout(LOOK_AGAIN, woken).await;
        }
    }
}

/// Sees to it that a run ends, even if its work panics: who waits for it is told at once.
struct SettledAtLast<'a>(&'a CallbackLane, &'a Arc<Run>);

impl Drop for SettledAtLast<'_> {
    fn drop(&mut self) {
        if self.1.settled().is_none() {
            self.0.settle(self.1, Settled::HeldUp);
        }
    }
}

/// Keeps a claim until it is dropped.
async fn renew(redis: &Redis, arrival: &Arrival, owner: &str) -> std::convert::Infallible {
    let app_id = arrival.context.account.app_id.as_str();
    loop {
        tokio::time::sleep(RENEWAL).await;
        if let Ok(false) = redis.renew(app_id, &arrival.context.event_id, owner).await {
            // Emptied, or taken over: the database still lets only one commit through.
            tracing::warn!(
                account.app_id = app_id,
                event.id = arrival.context.event_id,
                "a claim was lost while its plugin ran"
            );
        }
    }
}
