//! One attempt at an event: load, call, check, commit; again at once where what was read has changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_runtime::{Call, CallReport, FailureCode};

use super::decision::{self, Decision, Rejected};
use super::record::{Tally, log_text};
use super::reruns::{Meeting, Turn};
use super::{Ended, EndedTask, EventContext, HeldUp, Runner, Task};
use crate::accounts::Account;
use crate::capabilities::{CallCapabilities, CapabilityParts};
use crate::contacts::UserAction;
use crate::db::commit::{self, AnswerWay, Commit, Committed, LaneRow, ReadSet};
use crate::db::ledger::MoneyWrite;
use crate::db::personal::PersonalEffects;
use crate::db::{DbError, patiently};
use crate::effects::MoneyStep;
use crate::plugins::Deployment;
use crate::random;

/// Runs of one event when what it reads keeps changing under it. Repeated runs queue up behind each
/// other on this host, so only other hosts and first runs can still come between.
const MAX_RUNS: u32 = 24;
/// A call that ran out of time is the host's failure if the host took more than this share of it.
const HOSTS_SHARE: f64 = 0.5;

/// What to do after a run.
enum Step<A, B> {
    Ended(Ended<A, B>),
    /// What was read has changed: run again, behind others that wait for the same key.
    Again {
        key: String,
    },
    /// An effect can't be done.
    Unfit(Rejected),
}

type StepOf<T> = Step<<T as Task>::Answer, <<T as Task>::Row as LaneRow>::Before>;

impl Runner {
    /// Runs an event until something is settled, or the host is held up.
    pub(super) async fn attempt<T: Task>(&self, task: &T, tally: &mut Tally) -> EndedTask<T> {
        let account = &task.context().account;
        if let Some(decided) = task.by_host() {
            return match self.finish(task, ReadSet::default(), decided, tally).await {
                Step::Ended(ended) => ended,
                Step::Again { key } => Ended::HeldUp(tally.held_up("conflict", key)),
                Step::Unfit(rejected) => {
                    Ended::HeldUp(tally.held_up("unavailable", rejected.reason))
                }
            };
        }
        let Some(deployment) = &account.plugin.deployment else {
            tally.outcome = "no-plugin".into();
            return Ended::Answered(task.nothing());
        };
        let tenant = &account.tenant.id;
        let plugin = match self.services.plugins.load(deployment, tenant).await {
            Ok(plugin) => plugin,
            Err(error) => {
                tracing::error!(
                    account.app_id = %account.app_id,
                    plugin.digest = %deployment.digest,
                    trace_id = task.context().trace_id,
                    error = %error,
                    "a plugin could not be loaded"
                );
                return Ended::HeldUp(tally.held_up("unavailable", error.to_string()));
            }
        };
        if !plugin.handles(T::HANDLER) {
            tally.outcome = "no-handler".into();
            return Ended::Answered(task.nothing());
        }
        // The time of loading is the host's, not the plugin's.
        let deadline = Instant::now() + self.call_deadline;
        tally.waited = Duration::ZERO;
        let mut turn = None;
        let mut runs = 0;
        loop {
            runs += 1;
            tally.runs += 1;
            let capabilities = Arc::new(self.capabilities(task, deployment, deadline));
            let call = Call {
                tenant: Arc::clone(&account.tenant.permits),
                capabilities: Arc::clone(&capabilities) as _,
                limits: self.services.plugins.limits(deployment),
                deadline,
            };
            let report = task.call(&self.services.runtime, &plugin, call).await;
            match self.conclude(task, &capabilities, report, tally).await {
                Step::Ended(ended) => return ended,
                Step::Again { key } if runs < MAX_RUNS => {
                    self.services.metrics.reruns.inc();
                    // Dropped first: it may be the same key.
                    drop(turn.take());
                    match self.next_turn(account, key, (deadline, tally)).await {
                        Ok(next) => turn = Some(next),
                        Err(held_up) => return Ended::HeldUp(held_up),
                    }
                }
                Step::Again { key } => {
                    let detail =
                        format!("{key:?} was changed by other events in each of {MAX_RUNS} runs");
                    return Ended::HeldUp(tally.held_up("conflict", detail));
                }
                // `conclude` has dealt with it.
                Step::Unfit(rejected) => {
                    return Ended::HeldUp(tally.held_up("unavailable", rejected.reason));
                }
            }
        }
    }

    /// Waits for one's turn to run again behind the others that met on this key.
    async fn next_turn(
        &self,
        account: &Account,
        key: String,
        (deadline, tally): (Instant, &mut Tally),
    ) -> Result<Turn<'_>, HeldUp> {
        let meeting = Meeting {
            tenant: account.tenant.id.to_string(),
            app_id: account.app_id.to_string(),
            key,
        };
        let asked = Instant::now();
        let turn = self.reruns.enter(meeting, deadline).await;
        tally.waited += asked.elapsed();
        turn.map_err(|none| tally.held_up("overloaded", none.to_string()))
    }

    fn capabilities<T: Task>(
        &self,
        task: &T,
        deployment: &Arc<Deployment>,
        deadline: Instant,
    ) -> CallCapabilities {
        CallCapabilities::new(CapabilityParts {
            account: Arc::clone(&task.context().account),
            deployment: Arc::clone(deployment),
            services: Arc::clone(&self.services),
            deadline,
        })
    }

    /// What comes of one run of the handler.
    async fn conclude<T: Task>(
        &self,
        task: &T,
        capabilities: &CallCapabilities,
        report: CallReport<T::Outcome>,
        tally: &mut Tally,
    ) -> StepOf<T> {
        if let Some(held_up) = self.hosts_failure(capabilities, &report, tally) {
            return Step::Ended(Ended::HeldUp(held_up));
        }
        let backtrace = report
            .result
            .as_ref()
            .err()
            .and_then(|failure| failure.backtrace.as_deref());
        tally.log = log_text(&report.log, backtrace);
        let failed = report.result.is_err();
        let decided = decision::decide(task, report.result);
        if let Some(warning) = &decided.warning {
            let log = tally.log.get_or_insert_default();
            log.push_str(&format!("WARN  {warning}\n"));
        }
        if failed {
            let context = task.context();
            tracing::info!(
                account.app_id = %context.account.app_id,
                event.id = context.event_id,
                trace_id = context.trace_id,
                outcome = %decided.outcome,
                "a plugin failed"
            );
        }
        let reads = capabilities.take_reads();
        match self.finish(task, reads, decided, tally).await {
            Step::Unfit(Rejected { code, reason }) => {
                let decided = decision::failed(task, code.into(), reason);
                // Nothing of it can be unfit any more.
                self.finish(task, ReadSet::default(), decided, tally).await
            }
            step => step,
        }
    }

    /// Whether a call came to nothing because of the host: there was no place for it, what it had to
    /// read could not be reached, or waiting for the host took its time.
    fn hosts_failure<O>(
        &self,
        capabilities: &CallCapabilities,
        report: &CallReport<O>,
        tally: &mut Tally,
    ) -> Option<HeldUp> {
        let failure = report.result.as_ref().err()?;
        if failure.code == FailureCode::Overloaded {
            return Some(tally.held_up("overloaded", failure.message.clone()));
        }
        if capabilities.database_was_away() {
            let detail = "what the plugin read could not be reached: the database is away";
            return Some(tally.held_up("unavailable", detail));
        }
        let waited = tally.waited + report.queued + capabilities.waited_for_host();
        let timed_out = failure.code == FailureCode::Timeout;
        (timed_out && waited > self.call_deadline.mul_f64(HOSTS_SHARE)).then(|| {
            let detail = format!(
                "the host took {} ms of the call's {} ms",
                waited.as_millis(),
                self.call_deadline.as_millis()
            );
            tally.held_up("overloaded", detail)
        })
    }

    /// Answers, and commits what there is to commit.
    async fn finish<T: Task>(
        &self,
        task: &T,
        reads: ReadSet,
        decided: Decision<T::Answer>,
        tally: &mut Tally,
    ) -> StepOf<T> {
        tally.outcome = decided.outcome.clone();
        tally.error.clone_from(&decided.error);
        if decided.effects.is_empty() && !task.is_to_be_committed() {
            return Step::Ended(Ended::Answered(decided.answer));
        }
        // Most calls end above: they need no room for what a commit needs.
        Box::pin(self.commit(task, reads, decided, tally)).await
    }

    async fn commit<T: Task>(
        &self,
        task: &T,
        reads: ReadSet,
        decided: Decision<T::Answer>,
        tally: &mut Tally,
    ) -> StepOf<T> {
        let Decision {
            answer, effects, ..
        } = decided;
        let Some(row) = task.row(&answer) else {
            return Step::Ended(Ended::Answered(answer));
        };
        let is_empty = effects.is_empty();
        let sends = effects.sends();
        let holders = task.context().account.holders();
        let room = match patiently(self.services.quotas.take(holders, &effects)).await {
            Ok(Ok(room)) => room,
            Ok(Err(over)) => {
                return Step::Unfit(Rejected {
                    code: "over-quota",
                    reason: over.to_string(),
                });
            }
            Err(error) => return Step::Ended(self.not_committed(task, &error, tally)),
        };
        let money = match patiently(self.money(task.context(), effects.money)).await {
            Ok(Ok(money)) => money,
            Ok(Err(reason)) => {
                return Step::Unfit(Rejected {
                    code: "invalid-effect",
                    reason,
                });
            }
            Err(error) => return Step::Ended(self.not_committed(task, &error, tally)),
        };
        // What is not written need not be checked: an answer alone is as true as when it was read.
        let reads = if is_empty { ReadSet::default() } else { reads };
        let context = task.context();
        let sender = task.sender().map(UserAction::into_update);
        let request = Commit {
            app_id: context.account.app_id.as_str(),
            event_id: &context.event_id,
            reads: &reads,
            writes: &effects.writes,
            version: random::version(),
            personal: PersonalEffects {
                sender: sender.as_ref(),
                steps: &effects.steps,
            },
            money: &money,
            trace_id: &context.trace_id,
            now_ms: self.services.clock.now_ms(),
        };
        match patiently(commit::commit(&self.services.db, &row, &request)).await {
            Ok(Committed::Done(way)) => {
                room.used();
                if !money.is_empty() {
                    self.services.checkout.wake();
                }
                if sends || way == AnswerWay::Outbox {
                    tally.is_sighted = true;
                    self.services.outbox.wake(request.app_id);
                }
                match way {
                    AnswerWay::Passive => {}
                    AnswerWay::Outbox => tally.outcome = "late".into(),
                    // WeChat would refuse it later, and nobody would see why.
                    AnswerWay::Nowhere => {
                        if let Some(reason) = task.unsendable(&answer) {
                            tally.outcome = "late-unsendable".into();
                            tally.error = Some(reason);
                        }
                    }
                }
                Step::Ended(match way {
                    AnswerWay::Passive => Ended::Answered(answer),
                    AnswerWay::Outbox | AnswerWay::Nowhere => Ended::Late,
                })
            }
            Ok(Committed::Before(before)) => {
                // Whoever committed it has told of its sender: twice would open a scene twice.
                tally.is_sighted = true;
                Step::Ended(Ended::Before(before))
            }
            Ok(Committed::Conflict { key }) => Step::Again { key },
            Ok(Committed::Unfit { reason }) => Step::Unfit(Rejected {
                code: "invalid-effect",
                reason,
            }),
            Err(error) => Step::Ended(self.not_committed(task, &error, tally)),
        }
    }

    /// What effects do with money, at which merchants, if the plugin may; or why it may not.
    async fn money(
        &self,
        context: &EventContext,
        steps: Vec<MoneyStep>,
    ) -> Result<Result<Vec<MoneyWrite>, String>, DbError> {
        let app_id = context.account.app_id.as_str();
        let deployment = context.account.plugin.deployment.as_ref();
        let wanted = deployment.map_or(&[][..], |deployment| &deployment.wanted.pay);
        let mut writes = Vec::with_capacity(steps.len());
        for step in steps {
            let asked_by = &context.event_id;
            let write = self
                .services
                .checkout
                .resolve((app_id, wanted), step, asked_by);
            match write.await? {
                Ok(write) => writes.push(write),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(writes))
    }

    fn not_committed<T: Task>(&self, task: &T, error: &DbError, tally: &mut Tally) -> EndedTask<T> {
        let event_id = &task.context().event_id;
        tracing::debug!(event.id = event_id, error = %error, "a commit failed");
        let detail = "the effects could not be committed: the database is away";
        Ended::HeldUp(tally.held_up("unavailable", detail))
    }
}
