//! The callback lane: from an opened delivery to what WeChat is told.
//!
//! A delivery is admitted to its event's run ([`crate::inbox`]); the run is driven once
//! (`drive`), by the first delivery's host; every delivery waits for it within WeChat's five
//! seconds. When the last delivery would run out of time, the event is kept in the database and
//! acknowledged, and the answer goes to the outbox.

mod answer;
mod drive;
mod event;
mod execute;
mod pending;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use wxhost_runtime::Runtime;
use wxhost_wechat::envelope::{CallbackQuery, Format, Opened};
use wxhost_wechat::message::Message;

use self::work::Work;
use crate::accounts::{Account, Accounts};
use crate::capabilities::Services;
use crate::contacts::Sightings;
use crate::inbox::{Admission, Answer, Nonces, Run, Settled, Table, body_hash};
use crate::outbox::Bell;
use crate::plugins::Plugins;
use crate::records::Records;
use crate::seal::MasterKeys;
use crate::telemetry::Metrics;

pub use drive::SettledBell;

/// How much longer than its own time a delivery is held that is not the last one: WeChat hangs up
/// first and delivers again.
const HOLD: Duration = Duration::from_secs(2);
/// Locks for runs that are repeated after a conflict.
const RERUN_LOCKS: usize = 256;

/// What the lane works with.
pub struct LaneParts {
    /// The accounts, for events that are taken up again.
    pub accounts: Arc<Accounts>,
    /// Where plugins run.
    pub runtime: Arc<Runtime>,
    /// Where plugins come from.
    pub plugins: Arc<Plugins>,
    /// Where events and plugins find what lasts, and what is outside.
    pub services: Arc<Services>,
    /// Seals the events that are kept.
    pub keys: Arc<MasterKeys>,
    /// Takes the call records.
    pub records: Records,
    /// Takes what events tell of contacts.
    pub sightings: Sightings,
    /// Rings when an event has something to send.
    pub outbox: Arc<Bell>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How the lane behaves.
    pub settings: LaneSettings,
}

/// How the lane behaves.
#[derive(Debug, Clone, Copy)]
pub struct LaneSettings {
    /// How long a delivery waits for its answer.
    pub answer_wait: Duration,
    /// Deliveries that WeChat makes of one event.
    pub deliveries: u32,
    /// How long a call of a plugin may take in all.
    pub call_deadline: Duration,
}

/// The callback lane of a host.
pub struct Lane {
    parts: LaneParts,
    table: Table,
    nonces: Nonces,
    rerun_locks: Vec<Mutex<()>>,
    hasher: std::hash::RandomState,
    bell: Arc<SettledBell>,
    /// Runs under way; they outlive the connections that began them.
    runs: TaskTracker,
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
    /// Hash of the body as it came.
    pub body_hash: u64,
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
    /// What the event needs can't be reached: WeChat is to deliver it again.
    Unavailable,
    /// The nonce came before with another body.
    Replayed,
}

/// What a run needs to know of the delivery that began it.
#[derive(Debug)]
struct Arrival {
    account: Arc<Account>,
    message: Message,
    clear: Vec<u8>,
    format: Format,
    event_id: String,
    trace_id: String,
    /// Unix milliseconds of the first delivery.
    created_at: i64,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane")
            .field("settings", &self.parts.settings)
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane that has seen nothing.
    pub fn new(parts: LaneParts) -> Self {
        Self {
            parts,
            table: Table::new(),
            nonces: Nonces::new(),
            rerun_locks: (0..RERUN_LOCKS).map(|_| Mutex::default()).collect(),
            hasher: std::hash::RandomState::new(),
            bell: Arc::default(),
            runs: TaskTracker::new(),
        }
    }

    /// Rings when another host has settled an event.
    pub fn bell(&self) -> &Arc<SettledBell> {
        &self.bell
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
        let first_use = self.nonces.admit(
            app_id,
            &delivery.timestamp,
            &delivery.nonce,
            delivery.body_hash,
            nonce_kept(&delivery.account),
            now,
        );
        if !first_use {
            return Reception::Replayed;
        }
        let event_id = delivery.message.event_id();
        match self.table.admit(app_id, &event_id, now) {
            Admission::New(run) => {
                run.count_delivery();
                let (work, arrival) = self.begin(&run, event_id, delivery);
                self.wait(&run, &arrival, Some(work)).await
            }
            Admission::Known(run) => {
                self.parts.metrics.joined.inc();
                self.join(&run, app_id, &event_id).await;
                let arrival = self.arrival(event_id, delivery);
                self.wait(&run, &arrival, None).await
            }
        }
    }

    fn arrival(&self, event_id: String, delivery: Delivery) -> Arc<Arrival> {
        Arc::new(Arrival {
            account: delivery.account,
            message: delivery.message,
            clear: delivery.clear,
            format: delivery.format,
            event_id,
            trace_id: delivery.trace_id,
            created_at: self.parts.services.clock.now_ms(),
        })
    }

    /// Counts a further delivery, here and where other hosts see it.
    async fn join(&self, run: &Run, app_id: &str, event_id: &str) {
        run.count_delivery();
        if run.settled().is_some() {
            return;
        }
        if let Some(redis) = self.parts.services.store.shared() {
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
        arrival: &Arc<Arrival>,
        mut work: Option<Work>,
    ) -> Reception {
        let settings = &self.parts.settings;
        if let Some(reception) = settled_within(settings.answer_wait, run, &mut work).await {
            return reception;
        }
        if run.deliveries() >= settings.deliveries {
            drop(work);
            return self.acknowledge_unfinished(run, arrival).await;
        }
        let reception = settled_within(HOLD, run, &mut work).await;
        reception.unwrap_or(Reception::StillRunning)
    }
}

/// What the run comes to, if it does in time.
async fn settled_within(time: Duration, run: &Run, work: &mut Option<Work>) -> Option<Reception> {
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
    let settled = tokio::time::timeout(time, settled).await.ok()?;
    Some(settled.into())
}

impl From<&Settled> for Reception {
    fn from(settled: &Settled) -> Self {
        match settled {
            Settled::Answered(answer) => Self::Answered(answer.clone()),
            Settled::Unavailable => Self::Unavailable,
            Settled::Replayed => Self::Replayed,
        }
    }
}

impl Delivery {
    /// The delivery of an opened body.
    pub fn new(
        account: Arc<Account>,
        query: &CallbackQuery<'_>,
        opened: Opened,
        body: &[u8],
        trace_id: String,
    ) -> Self {
        Self {
            account,
            message: opened.message,
            clear: opened.clear,
            format: opened.format,
            timestamp: query.timestamp.as_deref().unwrap_or_default().to_owned(),
            nonce: query.nonce.as_deref().unwrap_or_default().to_owned(),
            body_hash: body_hash(body),
            trace_id,
        }
    }
}

/// A nonce can be used again while its timestamp is inside the window: at most twice its width.
fn nonce_kept(account: &Account) -> Duration {
    Duration::from_secs(2 * account.receiver.window_seconds())
}
