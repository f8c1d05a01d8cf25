//! A callback as a task for the runner: how its handler is called, and what its outcome means.

use std::time::Duration;

use wxhost_runtime::{Call, CallReport, Fault, Handler, Outcome, Plugin, Runtime, callback as wit};
use wxhost_wechat::message::Content;

use super::answer::{self, Rendered};
use super::{Arrival, event};
use crate::contacts::UserAction;
use crate::db::inbox::CallbackRow;
use crate::effects::{self, Cause};
use crate::inbox::{Asked, Run};
use crate::run::{Decision, EventContext, Rejected, Task};

/// Age of a run, as a share of what a delivery waits, from which on its event may have been acknowledged
/// without an answer: below a delivery's own time nobody gives up waiting.
const MAY_BE_LATE: f64 = 0.8;

/// A callback that is to be run.
pub(super) struct CallbackTask<'a> {
    run: &'a Run,
    arrival: &'a Arrival,
    event: wit::Event,
    /// From this age of the run on, its event may have been acknowledged.
    may_be_late_after: Duration,
}

impl<'a> CallbackTask<'a> {
    /// The task of a run whose deliveries wait for `answer_wait` each.
    pub(super) fn new(run: &'a Run, arrival: &'a Arrival, answer_wait: Duration) -> Self {
        Self {
            run,
            arrival,
            event: event::from_message(&arrival.message, &arrival.context.event_id),
            may_be_late_after: answer_wait.mul_f64(MAY_BE_LATE),
        }
    }
}

impl Task for CallbackTask<'_> {
    type Outcome = Outcome;
    type Answer = Rendered;
    type Row = CallbackRow;

    const HANDLER: Handler = Handler::Callback;

    fn context(&self) -> &EventContext {
        &self.arrival.context
    }

    /// The words that stop and resume messages are the host's to answer.
    fn by_host(&self) -> Option<Decision<Rendered>> {
        let Content::Text(text) = &self.arrival.message.content else {
            return None;
        };
        let words = self
            .arrival
            .context
            .account
            .callbacks
            .opt_out_words
            .as_ref()?;
        let asked = words.asked(&text.content)?;
        let open_id = &self.arrival.message.from_user;
        let is_stopped = asked == Asked::Stop;
        Some(Decision {
            answer: answer::text(self.arrival, words.answer(asked)),
            effects: effects::opt_out(open_id, is_stopped),
            outcome: if is_stopped { "opted-out" } else { "opted-in" }.into(),
            error: None,
            warning: None,
        })
    }

    async fn call(&self, runtime: &Runtime, plugin: &Plugin, call: Call) -> CallReport<Outcome> {
        runtime.call_callback(plugin, call, &self.event).await
    }

    fn decide(&self, outcome: Outcome) -> Result<Decision<Rendered>, Rejected> {
        let context = &self.arrival.context;
        let cause = Cause {
            app_id: context.account.app_id.as_str(),
            event_id: &context.event_id,
        };
        let rejected = |code, error: &dyn std::error::Error| Rejected {
            code,
            reason: error.to_string(),
        };
        let answer = answer::of_outcome(self.arrival, outcome.reply)
            .map_err(|error| rejected("invalid-reply", &error))?;
        let effects = effects::sort(outcome.effects, cause)
            .map_err(|error| rejected("invalid-effect", &error))?;
        let replied = !answer.answer.is_nothing();
        Ok(Decision {
            warning: answer.cut.map(|cut| cut.to_string()),
            answer,
            effects,
            outcome: if replied { "replied" } else { "no-reply" }.into(),
            error: None,
        })
    }

    fn nothing(&self) -> Rendered {
        Rendered::nothing()
    }

    fn fallback(&self, _code: &str, _fault: Option<Fault>) -> Rendered {
        answer::fallback(self.arrival)
    }

    fn is_to_be_committed(&self) -> bool {
        self.run.is_late() || self.run.age() > self.may_be_late_after
    }

    /// Whether the answer is late turns out in the transaction, so its late form is always there.
    fn row(&self, answer: &Rendered) -> Option<CallbackRow> {
        Some(CallbackRow {
            answer: answer.answer.to_shared(),
            late: answer.late(self.arrival).ok().flatten(),
        })
    }

    fn unsendable(&self, answer: &Rendered) -> Option<String> {
        answer.late(self.arrival).err()
    }

    fn sender(&self) -> Option<UserAction> {
        UserAction::of(
            &self.arrival.context.account.app_id,
            &self.arrival.message,
            self.arrival.context.created_at,
        )
    }
}
