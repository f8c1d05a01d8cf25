//! A handler's run on one event, whichever lane the event came by: load the plugin, call it, check what
//! it read, commit its effects together with the lane's own row, record the call. How it ended is
//! returned; what follows from that is the lane's.
//!
//! A failure has an owner. The plugin's (a trap, an error, an invalid reply) is final: the lane's
//! fallback is the answer. The host's (no place, no database, a plugin that can't be loaded, conflicts
//! that do not end) settles nothing: the run is [`Ended::HeldUp`], and the event is to be run again.

mod attempt;
mod decision;
mod record;
mod reruns;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_runtime::{Call, CallReport, Fault, Handler, Plugin, Runtime};

pub use self::decision::{Decision, Rejected};
use self::record::Tally;
use self::reruns::Reruns;
use crate::accounts::Account;
use crate::contacts::UserAction;
use crate::db::commit::LaneRow;
use crate::random;
use crate::services::Services;

/// The longest pause after the host was held up for the first time; each further one may be twice as
/// long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What runs of all lanes have in common to know of their event.
#[derive(Debug)]
pub struct EventContext {
    /// The account that it concerns.
    pub account: Arc<Account>,
    /// Names it within the account.
    pub event_id: String,
    /// What kind of event, as in WIT.
    pub kind: &'static str,
    /// Trace that it belongs to.
    pub trace_id: String,
    /// When it came, Unix milliseconds.
    pub created_at: i64,
    /// When it came, for durations.
    pub started: std::time::Instant,
}

/// What a lane gives to have an event run.
pub trait Task: Sync {
    /// What the handler gives back.
    type Outcome: Send;
    /// What an answer is in this lane.
    type Answer: Send + Sync;
    /// The lane's own row of the event; `Infallible` where runs commit nothing.
    type Row: LaneRow;

    /// The handler that a plugin must export.
    const HANDLER: Handler;

    /// The event.
    fn context(&self) -> &EventContext;

    /// What is decided without the plugin, where the host itself knows what to do.
    fn by_host(&self) -> Option<Decision<Self::Answer>> {
        None
    }

    /// Calls the handler.
    fn call(
        &self,
        runtime: &Runtime,
        plugin: &Plugin,
        call: Call,
    ) -> impl Future<Output = CallReport<Self::Outcome>> + Send;

    /// What the handler's outcome comes to.
    ///
    /// # Errors
    /// An outcome that breaks the contract, with a stable code and a sentence for the tenant.
    fn decide(&self, outcome: Self::Outcome) -> Result<Decision<Self::Answer>, Rejected>;

    /// The answer where no plugin is to be asked.
    fn nothing(&self) -> Self::Answer;

    /// The answer for when the plugin fails: by which stable word, and whose fault it is where the plugin
    /// said so itself.
    fn fallback(&self, code: &str, fault: Option<Fault>) -> Self::Answer;

    /// Whether the run must be committed even if there are no effects: somebody else may have
    /// acknowledged the event meanwhile.
    fn is_to_be_committed(&self) -> bool {
        false
    }

    /// The row as the commit is to leave it; none where runs commit nothing.
    fn row(&self, answer: &Self::Answer) -> Option<Self::Row>;

    /// Why an answer that is too late can't be sent at all, if that is so: said at once in the record.
    fn unsendable(&self, _answer: &Self::Answer) -> Option<String> {
        None
    }

    /// What the event tells of the contact who caused it.
    fn sender(&self) -> Option<UserAction> {
        None
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended<A, B> {
    /// With this answer; whatever effects there are have been committed.
    Answered(A),
    /// Likewise, but the event had been acknowledged: the answer, if any, is in the outbox.
    Late,
    /// The event had been committed before.
    Before(B),
    /// The host could not do its part: nothing is settled.
    HeldUp(HeldUp),
}

/// Why the host could not do its part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUp {
    /// A stable word, for records and metrics.
    pub code: &'static str,
    /// For the operator.
    pub detail: String,
}

/// How a task's run ends.
pub type EndedTask<T> = Ended<<T as Task>::Answer, <<T as Task>::Row as LaneRow>::Before>;

/// Runs handlers, for all lanes of a host.
pub struct Runner {
    services: Arc<Services>,
    /// How long a call may take in all, repeated runs included.
    call_deadline: Duration,
    reruns: Reruns,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("call_deadline", &self.call_deadline)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner whose calls take `call_deadline` at most.
    pub fn new(services: Arc<Services>, call_deadline: Duration) -> Self {
        Self {
            services,
            call_deadline,
            reruns: Reruns::default(),
        }
    }

    /// Runs an event and hands in its record. While the host is held up it is tried again, with
    /// growing pauses, until `patience` ends.
    pub async fn run<T: Task>(&self, task: &T, patience: Instant) -> EndedTask<T> {
        let mut tally = Tally::default();
        let mut pause = FIRST_PAUSE;
        let ended = loop {
            let ended = self.attempt(task, &mut tally).await;
            let Ended::HeldUp(held_up) = &ended else {
                break ended;
            };
            let again_at = Instant::now() + pause / 2 + random::up_to(pause / 2);
            if again_at >= patience {
                self.report(task, held_up);
                break ended;
            }
            tokio::time::sleep_until(again_at).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        // Who runs the event in the end tells of its sender: twice would open a scene twice.
        if !tally.is_sighted
            && !matches!(ended, Ended::HeldUp(_))
            && let Some(action) = task.sender()
        {
            self.services.contact_updates.add(action);
        }
        self.record(task.context(), tally);
        ended
    }

    /// Records that the host holds up an event before its run begins.
    pub fn hold_up(&self, context: &EventContext, held_up: HeldUp) {
        let mut tally = Tally::default();
        tally.held_up(held_up.code, held_up.detail);
        self.record(context, tally);
    }

    fn report(&self, task: &impl Task, held_up: &HeldUp) {
        let context = task.context();
        tracing::warn!(
            account.app_id = %context.account.app_id,
            event.id = context.event_id,
            trace_id = context.trace_id,
            outcome = held_up.code,
            error = held_up.detail,
            "the host could not run an event"
        );
    }
}
