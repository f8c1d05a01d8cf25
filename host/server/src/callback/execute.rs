//! Executing an event: run the handler, commit its effects, write the record.

use std::sync::Arc;
use std::time::Duration;

use wxhost_runtime::{Call, CallReport, Failure, Handler, Outcome, Plugin, PluginLog};

use super::answer::{self, Rendered};
use super::{Arrival, Lane, event};
use crate::accounts::Deployment;
use crate::capabilities::{CallCapabilities, CapabilityParts};
use crate::contacts::Observation;
use crate::db::calls::{Callee, Entry, Record};
use crate::db::commit::{self, Commit, Committed, ReadSet};
use crate::db::outbox::Outgoing;
use crate::db::personal::PersonalEffects;
use crate::db::{DbError, patiently};
use crate::effects::{self, Cause, Sorted};
use crate::inbox::{Answer, Run, Settled};
use crate::random;

/// Runs of one event when what it reads keeps changing under it. Repeated runs queue up behind each
/// other on this host, so only other hosts and first runs can still come between.
const MAX_RUNS: u32 = 24;
/// Age of a run from which on it may have been acknowledged without an answer: below a delivery's own
/// time nobody gives up waiting.
const MAY_BE_LATE: f64 = 0.8;

/// How a call ended, for its record.
#[derive(Debug, Default)]
struct Ended {
    outcome: std::borrow::Cow<'static, str>,
    error: Option<String>,
    log: Option<String>,
    runs: u32,
    /// Whether the commit has written what the event tells of its sender.
    sighted: bool,
}

/// What a handler's outcome comes to.
struct Decided {
    rendered: Rendered,
    effects: Sorted,
    outcome: std::borrow::Cow<'static, str>,
    error: Option<String>,
}

/// What to do after a run.
enum Step {
    Settled(Settled),
    /// What was read has changed: run again, behind others that wait for the same key.
    Again {
        key: String,
    },
    /// An effect can't be done.
    Unfit {
        reason: String,
    },
}

impl Lane {
    /// Executes an event and hands in its record.
    pub(super) async fn execute(&self, run: &Run, arrival: &Arc<Arrival>) -> Settled {
        let mut ended = Ended::default();
        let settled = match &arrival.account.deployment {
            None => {
                ended.outcome = "no-plugin".into();
                Settled::Answered(Answer::nothing())
            }
            Some(deployment) => {
                let deployment = Arc::clone(deployment);
                self.run_plugin(run, arrival, deployment, &mut ended).await
            }
        };
        if !ended.sighted
            && let Some(observation) = sender(arrival)
        {
            self.parts.sightings.add(observation);
        }
        self.record(run, arrival, ended);
        settled
    }

    async fn run_plugin(
        &self,
        run: &Run,
        arrival: &Arc<Arrival>,
        deployment: Arc<Deployment>,
        ended: &mut Ended,
    ) -> Settled {
        let plugin = match self.parts.plugins.load(&deployment).await {
            Ok(plugin) => plugin,
            Err(error) => {
                tracing::error!(
                    account.app_id = %arrival.account.app_id,
                    plugin.digest = %deployment.digest,
                    trace_id = arrival.trace_id,
                    error = %error,
                    "a plugin could not be loaded"
                );
                ended.outcome = "unavailable".into();
                ended.error = Some(error.to_string());
                return Settled::Unavailable;
            }
        };
        if !plugin.handles(Handler::Callback) {
            ended.outcome = "no-handler".into();
            return Settled::Answered(Answer::nothing());
        }
        let event = event::from_message(&arrival.message, &arrival.event_id);
        let deadline =
            tokio::time::Instant::from_std(run.started()) + self.parts.settings.call_deadline;
        let mut queue_place = None;
        loop {
            ended.runs += 1;
            let capabilities = Arc::new(CallCapabilities::new(CapabilityParts {
                account: Arc::clone(&arrival.account),
                deployment: Arc::clone(&deployment),
                services: Arc::clone(&self.parts.services),
                deadline,
            }));
            let call = Call {
                tenant: Arc::clone(&arrival.account.tenant.permits),
                capabilities: Arc::clone(&capabilities) as _,
                limits: deployment.limits,
                deadline,
            };
            let report = self
                .parts
                .runtime
                .call_callback(&plugin, call, &event)
                .await;
            match self
                .conclude(run, arrival, &plugin, &capabilities, report, ended)
                .await
            {
                Step::Settled(settled) => return settled,
                // `conclude` has dealt with it.
                Step::Unfit { .. } => return Settled::Unavailable,
                Step::Again { key } if ended.runs < MAX_RUNS => {
                    self.parts.metrics.reruns.inc();
                    // Dropped first: the next key may share the lock.
                    drop(queue_place.take());
                    queue_place = Some(self.rerun_place(arrival, &key).await);
                }
                Step::Again { key } => {
                    ended.outcome = "conflict".into();
                    ended.error = Some(format!(
                        "{key:?} was changed by other events in each of {MAX_RUNS} runs"
                    ));
                    return Settled::Unavailable;
                }
            }
        }
    }

    /// What comes of one run of the handler.
    async fn conclude(
        &self,
        run: &Run,
        arrival: &Arrival,
        plugin: &Plugin,
        capabilities: &CallCapabilities,
        report: CallReport,
        ended: &mut Ended,
    ) -> Step {
        let backtrace = report
            .result
            .as_ref()
            .err()
            .and_then(|failure| failure.backtrace.as_deref());
        ended.log = log_text(&report.log, backtrace);
        let failed = report.result.is_err();
        let decided = decide(arrival, report.result);
        if failed {
            tracing::info!(
                account.app_id = %arrival.account.app_id,
                plugin.digest = %plugin.digest(),
                event.id = arrival.event_id,
                trace_id = arrival.trace_id,
                outcome = %decided.outcome,
                "a plugin failed"
            );
        }
        ended.outcome = decided.outcome.clone();
        ended.error.clone_from(&decided.error);
        if failed && capabilities.database_was_away() {
            ended.outcome = "unavailable".into();
            return Step::Settled(Settled::Unavailable);
        }
        let may_be_late =
            run.is_late() || run.age() > self.parts.settings.answer_wait.mul_f64(MAY_BE_LATE);
        match self
            .finish(arrival, capabilities, decided, may_be_late, ended)
            .await
        {
            Step::Unfit { reason } => {
                let decided = Decided::failed(arrival, "invalid-effect".into(), reason);
                ended.outcome = decided.outcome.clone();
                ended.error.clone_from(&decided.error);
                // Nothing of it can be unfit any more.
                self.finish(arrival, capabilities, decided, may_be_late, ended)
                    .await
            }
            step => step,
        }
    }

    /// Answers, and commits what there is to commit.
    async fn finish(
        &self,
        arrival: &Arrival,
        capabilities: &CallCapabilities,
        decided: Decided,
        may_be_late: bool,
        ended: &mut Ended,
    ) -> Step {
        if decided.effects.is_empty() && !may_be_late {
            return Step::Settled(Settled::Answered(decided.rendered.answer));
        }
        let late = decided.rendered.late(arrival).filter(|_| may_be_late);
        // Most calls end above: they need no room for what a commit needs.
        Box::pin(self.commit(arrival, capabilities.take_reads(), decided, late, ended)).await
    }

    async fn commit(
        &self,
        arrival: &Arrival,
        reads: ReadSet,
        decided: Decided,
        late: Option<Outgoing>,
        ended: &mut Ended,
    ) -> Step {
        // What is not written need not be checked: an answer alone is as true as when it was read.
        let reads = if decided.effects.is_empty() {
            ReadSet::default()
        } else {
            reads
        };
        let sender = sender(arrival).map(Observation::into_sighting);
        let request = Commit {
            app_id: arrival.account.app_id.as_str(),
            event_id: &arrival.event_id,
            reads: &reads,
            writes: &decided.effects.writes,
            version: random::version(),
            answer: decided.rendered.answer.as_str(),
            late: late.as_ref(),
            personal: PersonalEffects {
                sender: sender.as_ref(),
                steps: &decided.effects.steps,
            },
            trace_id: &arrival.trace_id,
            now_ms: self.parts.services.clock.now_ms(),
        };
        let committed = patiently(commit::commit(&self.parts.services.db, &request)).await;
        if let Ok(Committed::Done { late: is_late }) = committed
            && (decided.effects.sends() || is_late && late.is_some())
        {
            ended.sighted = true;
            self.parts.outbox.ring();
        }
        match committed {
            Ok(Committed::Done { late: false }) => {
                Step::Settled(Settled::Answered(decided.rendered.answer))
            }
            Ok(Committed::Done { late: true }) => {
                if late.is_some() {
                    ended.outcome = "late".into();
                }
                Step::Settled(Settled::Answered(Answer::nothing()))
            }
            Ok(Committed::Before { answer }) => {
                // Whoever committed it has told of its sender: twice would open a scene twice.
                ended.sighted = true;
                Step::Settled(Settled::Answered(Answer::reply(&answer)))
            }
            Ok(Committed::Conflict { key }) => Step::Again { key },
            Ok(Committed::Unfit { reason }) => Step::Unfit { reason },
            Err(error) => {
                self.report_lost_commit(arrival, &error);
                ended.outcome = "unavailable".into();
                ended.error =
                    Some("the effects could not be committed: the database is away".to_owned());
                Step::Settled(Settled::Unavailable)
            }
        }
    }

    fn report_lost_commit(&self, arrival: &Arrival, error: &DbError) {
        tracing::warn!(
            account.app_id = %arrival.account.app_id,
            event.id = arrival.event_id,
            trace_id = arrival.trace_id,
            error = %error,
            "effects could not be committed; WeChat is left to deliver the event again"
        );
    }

    /// Waits for one's turn to run again: runs that met on a key go one after the other.
    async fn rerun_place(&self, arrival: &Arrival, key: &str) -> tokio::sync::MutexGuard<'_, ()> {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one((arrival.account.app_id.as_str(), key));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "any bits of the hash will do"
        )]
        let index = hash as usize % self.rerun_locks.len();
        self.rerun_locks[index].lock().await
    }

    fn record(&self, run: &Run, arrival: &Arrival, ended: Ended) {
        self.parts.metrics.count_call(&ended.outcome);
        let deployment = arrival.account.deployment.as_ref();
        let callee = Callee {
            app_id: arrival.account.app_id.clone(),
            version: deployment.map(|d| d.version).unwrap_or_default(),
            digest: deployment.map(|deployment| deployment.digest),
        };
        let entry = Entry {
            event_id: arrival.event_id.as_str().into(),
            event_kind: arrival.message.content.kind().into(),
            outcome: ended.outcome.as_ref().into(),
            error: ended.error.map(Into::into),
            log: ended.log.map(Into::into),
            duration_us: micros(run.age()),
            runs: i64::from(ended.runs),
            trace_id: arrival.trace_id.as_str().into(),
            created_at: arrival.created_at,
        };
        let record = Record::new(callee, ended.outcome.clone(), &entry);
        self.parts.records.add(record);
    }
}

/// What the event tells of the person who caused it.
fn sender(arrival: &Arrival) -> Option<Observation> {
    Observation::of(
        &arrival.account.app_id,
        &arrival.message,
        arrival.created_at,
    )
}

/// What the handler's result means for the user and the tenant.
fn decide(arrival: &Arrival, result: Result<Outcome, Failure>) -> Decided {
    let (outcome, error) = match result {
        Ok(outcome) => {
            let cause = Cause {
                app_id: arrival.account.app_id.as_str(),
                event_id: &arrival.event_id,
            };
            let rendered = answer::of_outcome(arrival, outcome.reply);
            match (rendered, effects::sort(outcome.effects, cause)) {
                (Ok(rendered), Ok(effects)) => {
                    let replied = !rendered.answer.is_nothing();
                    return Decided {
                        rendered,
                        effects,
                        outcome: if replied { "replied" } else { "no-reply" }.into(),
                        error: None,
                    };
                }
                (Err(error), _) => ("invalid-reply".into(), error.to_string()),
                (_, Err(error)) => ("invalid-effect".into(), error.to_string()),
            }
        }
        Err(failure) => (failure.code.as_str(), failure.message),
    };
    Decided::failed(arrival, outcome, error)
}

impl Decided {
    /// The answer for when the plugin fails, and nothing else.
    fn failed(arrival: &Arrival, outcome: std::borrow::Cow<'static, str>, error: String) -> Self {
        Self {
            rendered: answer::fallback(arrival),
            effects: Sorted::default(),
            outcome,
            error: Some(error),
        }
    }
}

/// The plugin's log as the record keeps it: a line each, the backtrace of a trap last.
fn log_text(log: &PluginLog, backtrace: Option<&str>) -> Option<String> {
    use std::fmt::Write;
    let mut text = String::new();
    for line in log.lines() {
        let _ = writeln!(text, "{:5} {}", line.level.as_str(), line.text);
    }
    if log.dropped() > 0 {
        let _ = writeln!(text, "({} more lines were dropped)", log.dropped());
    }
    if let Some(backtrace) = backtrace {
        text.push_str(backtrace);
    }
    (!text.is_empty()).then_some(text)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
