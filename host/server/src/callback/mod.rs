//! The callback lane: from an opened delivery to what WeChat is told.
//!
//! A delivery is admitted to its event's run ([`crate::inbox`]); the run is driven once
//! (`drive`), by the first delivery's host; every delivery waits for it within WeChat's five
//! seconds. When the last delivery would run out of time, or the host could not run the event, the
//! event is kept in the database and acknowledged, and the answer goes to the outbox. A delivery that
//! is not the last one is held until WeChat hangs up: it surely delivers again then, while a 5xx may be
//! shown to the contact at once.

mod answer;
mod drive;
mod earlier;
mod event;
mod pending;
mod room;
mod routes;
mod strangers;
mod task;
mod unreadable;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_wechat::envelope::{Authentic, CallbackQuery, Format};
use wxhost_wechat::message::Message;

use self::room::{ARRIVALS_BYTES, Purpose, Room, Rooms};
use self::work::Work;
use crate::accounts::Account;
use crate::db::inbox::PendingEvent;
use crate::http::body::ReadBudget;
use crate::http::router::Routes;
use crate::inbox::{
    Admission, Answer, EVENT_TABLE_BYTES, Nonces, Run, Settled, Table, UsedNonce, body_hash,
};
use crate::run::{EventContext, Runner};
use crate::services::Services;

pub use drive::SettledElsewhere;
pub use unreadable::Unreadable;

/// How much longer than its own time a delivery is held that is not the last one: WeChat hangs up
/// first and delivers again.
const HOLD: Duration = Duration::from_secs(2);
/// Seconds between two deliveries of one event: WeChat waits so long before it hangs up.
const SECONDS_BETWEEN_DELIVERIES: u64 = 5;

/// How the lane behaves.
#[derive(Debug, Clone, Copy)]
pub struct DeliverySettings {
    /// How long a delivery waits for its answer.
    pub answer_wait: Duration,
    /// Deliveries that WeChat makes of one event.
    pub deliveries: u32,
    /// How long a call of a plugin may take in all.
    pub call_deadline: Duration,
}

/// The callback lane of a host.
pub struct CallbackLane {
    services: Arc<Services>,
    settings: DeliverySettings,
    runner: Runner,
    table: Table,
    rooms: Rooms,
    nonces: Nonces,
    settled_elsewhere: Arc<SettledElsewhere>,
    /// Room for bodies that are read.
    bodies: ReadBudget,
    /// Runs under way; they outlive the connections that began them.
    runs: TaskTracker,
    /// Leased events whose attempts are still to be taken back: the database was away.
    unreturned: Mutex<Vec<PendingEvent>>,
    started: Instant,
    /// Whether a host of an earlier version was at work before, once asked.
    has_earlier: OnceCell<bool>,
}

/// An authentic delivery of a callback.
#[derive(Debug)]
pub struct Delivery {
    /// The account that it is for.
    pub account: Arc<Account>,
    /// The message.
    pub message: Message,
    /// The body in clear.
    pub clear: Vec<u8>,
    /// How the body was written, and the reply will be.
    pub format: Format,
    /// `timestamp` of the query.
    pub timestamp: String,
    /// `nonce` of the query.
    pub nonce: String,
    /// Hash of the body as it came, where no signature covers it.
    pub body_hash: Option<u64>,
    /// Trace that the delivery belongs to.
    pub trace_id: String,
}

/// What a delivery is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reception {
    /// This, to be sealed as the account asks.
    Answered(Answer),
    /// Nothing yet: the event still runs, and WeChat will deliver it again.
    StillRunning,
    /// The event can be neither run nor kept: WeChat is to deliver it again.
    Unavailable,
    /// The nonce came before with another body.
    Replayed,
}

/// What a run needs to know of the delivery that began it.
#[derive(Debug)]
struct Arrival {
    context: EventContext,
    message: Message,
    clear: Vec<u8>,
    format: Format,
    _room: Room,
}

impl std::fmt::Debug for CallbackLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackLane")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl CallbackLane {
    /// A lane that has seen nothing.
    pub fn new(services: Arc<Services>, settings: DeliverySettings) -> Self {
        Self {
            runner: Runner::new(Arc::clone(&services), settings.call_deadline),
            table: Table::new(
                services
                    .metrics
                    .held_bytes("event-table", EVENT_TABLE_BYTES),
            ),
            rooms: Rooms::new(ARRIVALS_BYTES, &services.metrics),
            services,
            settings,
            nonces: Nonces::new(),
            settled_elsewhere: Arc::default(),
            bodies: routes::read_budget(),
            runs: TaskTracker::new(),
            unreturned: Mutex::default(),
            started: Instant::now(),
            has_earlier: OnceCell::new(),
        }
    }

    /// Where WeChat calls.
    pub fn routes(self: &Arc<Self>) -> Routes {
        routes::routes(self)
    }

    /// Spawns what the lane does by itself.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        loops.spawn(pending::take_up(Arc::clone(self), stop.clone()));
    }

    /// What the lane shares with the others.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Told when another host has settled an event.
    pub fn settled_elsewhere(&self) -> &Arc<SettledElsewhere> {
        &self.settled_elsewhere
    }

    /// Waits until the runs under way have ended. No delivery may come in any more.
    pub async fn drain(&self) {
        self.runs.close();
        self.runs.wait().await;
    }

    /// Answers a delivery.
    pub async fn receive(self: &Arc<Self>, delivery: Delivery) -> Reception {
        let now = Instant::now();
        let app_id = delivery.account.app_id.as_str();
        let used = UsedNonce {
            app_id,
            timestamp: &delivery.timestamp,
            nonce: &delivery.nonce,
        };
        let kept = nonce_kept(&delivery.account);
        if let Some(body_hash) = delivery.body_hash
            && !self.nonces.admit(used, body_hash, kept, now)
        {
            return Reception::Replayed;
        }
        let event_id = delivery.message.event_id();
        let floor = delivery.least_number();
        match self.table.admit(app_id, &event_id, now) {
            Admission::New(run) => {
                run.count_delivery();
                run.raise_deliveries(floor);
                let Some(room) = self.room(&delivery, Purpose::Run) else {
                    return self.turn_away(&run, event_id, delivery).await;
                };
                let (work, arrival) = self.begin(&run, (event_id, room), delivery);
                self.wait(&run, Some(&arrival), Some(work)).await
            }
            Admission::Known(run) => {
                self.services.metrics.joined.inc();
                self.join(&run, app_id, &event_id).await;
                run.raise_deliveries(floor);
                // Without room it can wait, but not keep the event.
                let room = self.room(&delivery, Purpose::Run);
                let arrival = room.map(|room| self.arrival((event_id, room), delivery));
                self.wait(&run, arrival.as_ref(), None).await
            }
        }
    }

    fn room(&self, delivery: &Delivery, purpose: Purpose) -> Option<Room> {
        let of_tenant = &delivery.account.tenant.arrival_bytes;
        self.rooms.take(of_tenant, delivery.clear.len(), purpose)
    }

    /// Tells a delivery what it is told when the host is held up: there is no room for its event to run in.
    async fn turn_away(&self, run: &Arc<Run>, event_id: String, delivery: Delivery) -> Reception {
        self.services.metrics.without_room.inc();
        tracing::debug!(
            account.app_id = %delivery.account.app_id,
            event.id = event_id,
            limit_bytes = ARRIVALS_BYTES,
            "events under way hold as much as they may; this one can't run"
        );
        self.settle(run, Settled::HeldUp);
        if run.deliveries() < self.settings.deliveries {
            drop(delivery);
            tokio::time::sleep(self.settings.answer_wait + HOLD).await;
            return Reception::StillRunning;
        }
        match self.room(&delivery, Purpose::Keep) {
            None => Reception::Unavailable,
            Some(room) => {
                let arrival = self.arrival((event_id, room), delivery);
                self.acknowledge_unfinished(run, &arrival).await
            }
        }
    }

    fn arrival(&self, (event_id, room): (String, Room), delivery: Delivery) -> Arc<Arrival> {
        Arc::new(Arrival {
            context: EventContext {
                account: delivery.account,
                event_id,
                kind: delivery.message.content.kind(),
                trace_id: delivery.trace_id,
                created_at: self.services.clock.now_ms(),
                started: Instant::now(),
            },
            message: delivery.message,
            clear: delivery.clear,
            format: delivery.format,
            _room: room,
        })
    }

    /// Counts a further delivery, here and where other hosts see it.
    async fn join(&self, run: &Run, app_id: &str, event_id: &str) {
        run.count_delivery();
        if run.settled().is_some() {
            return;
        }
        if let Some(redis) = self.services.store.shared() {
            // Without Redis the own count must do.
            if let Ok(deliveries) = redis.count_delivery(app_id, event_id).await {
                run.raise_deliveries(deliveries);
            }
        }
    }

    /// Waits for the run as long as this delivery may, and does its work if that is this delivery's.
    async fn wait(
        &self,
        run: &Arc<Run>,
        arrival: Option<&Arc<Arrival>>,
        mut work: Option<Work>,
    ) -> Reception {
        let settings = &self.settings;
        let arrived = tokio::time::Instant::now();
        match settled_within(settings.answer_wait, run, &mut work).await {
            Some(Settled::Answered(answer)) => return Reception::Answered(answer),
            Some(Settled::Replayed) => return Reception::Replayed,
            Some(Settled::HeldUp) | None => {}
        }
        if run.deliveries() >= settings.deliveries {
            drop(work);
            return match arrival {
                Some(arrival) => self.acknowledge_unfinished(run, arrival).await,
                None => Reception::Unavailable,
            };
        }
        let hold = settings.answer_wait + HOLD;
        let rest = hold.saturating_sub(arrived.elapsed());
        match settled_within(rest, run, &mut work).await {
            Some(Settled::Answered(answer)) => Reception::Answered(answer),
            Some(Settled::Replayed) => Reception::Replayed,
            Some(Settled::HeldUp) => {
                drop(work);
                tokio::time::sleep_until(arrived + hold).await;
                Reception::StillRunning
            }
            None => Reception::StillRunning,
        }
    }
}

/// What the run comes to, if it does in time.
async fn settled_within(time: Duration, run: &Run, work: &mut Option<Work>) -> Option<Settled> {
    let settled = async {
        match work {
            None => run.wait().await,
            // The answer may be there before the work is: what remains is done behind it.
            Some(work) => tokio::select! {
                biased;
                settled = run.wait() => settled,
                () = work => run.wait().await,
            },
        }
    };
    tokio::time::timeout(time, settled).await.ok().cloned()
}

impl Delivery {
    /// The delivery of a body that was opened, and read as this message.
    pub fn new(
        account: Arc<Account>,
        query: &CallbackQuery<'_>,
        opened: Authentic,
        message: Message,
        trace_id: String,
    ) -> Self {
        Self {
            account,
            message,
            body_hash: nonce_covers(&opened).then(|| body_hash(&opened.clear)),
            clear: opened.clear,
            format: opened.format,
            timestamp: query.timestamp.as_deref().unwrap_or_default().to_owned(),
            nonce: query.nonce.as_deref().unwrap_or_default().to_owned(),
            trace_id,
        }
    }
}

impl Delivery {
    /// The number that this delivery has at least among its event's, by its age: both times are
    /// WeChat's. It holds where the count of deliveries was lost.
    fn least_number(&self) -> u32 {
        least_number(&self.timestamp, self.message.create_time)
    }
}

fn least_number(timestamp: &str, create_time: u64) -> u32 {
    let sent: u64 = timestamp.parse().unwrap_or_default();
    let age = sent.saturating_sub(create_time);
    u32::try_from(age / SECONDS_BETWEEN_DELIVERIES)
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

/// Whether a nonce is good for one body only. Of a sealed one the signature covers the ciphertext, so that
/// only WeChat can have made it, and WeChat seals a re-send anew, at times under the same nonce.
fn nonce_covers(opened: &Authentic) -> bool {
    opened.sealing.is_none()
}

/// A nonce can be used again while its timestamp is inside the window: at most twice its width.
fn nonce_kept(account: &Account) -> Duration {
    Duration::from_secs(2 * account.callbacks.receiver.window_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_tells_by_its_age_which_one_it_is_at_least() {
        for (timestamp, create_time, number) in [
            ("1700000000", 1_700_000_000, 1),
            ("1700000004", 1_700_000_000, 1),
            ("1700000005", 1_700_000_000, 2),
            ("1700000010", 1_700_000_000, 3),
            // Not later than it was made: clocks differ.
            ("1699999990", 1_700_000_000, 1),
            ("", 1_700_000_000, 1),
            ("18446744073709551615", 0, u32::MAX),
        ] {
            assert_eq!(least_number(timestamp, create_time), number, "{timestamp}");
        }
    }
}
