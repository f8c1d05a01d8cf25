//! Has an account's plugin compose what a push sends to the recipients of a block, some at a time. When a
//! call fails, it is made again for each half of its recipients, until those are found that it fails for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use wxhost_runtime::{Call, CallReport, Fault, Handler, Plugin, Runtime, push as wit};

use super::PushLane;
use super::content::{Way, Ways};
use super::sender::LEASE;
use crate::accounts::Account;
use crate::capabilities::contact_of;
use crate::clock::millis;
use crate::db::DbError;
use crate::db::contacts::{self, Contacts};
use crate::db::push::{self, Block, LeasedLane, Outcome, PushRow};
use crate::effects;
use crate::printable::in_row;
use crate::run::{Decision, Ended, EventContext, Rejected, Task};

/// Recipients of one call.
const CALL_RECIPIENTS: usize = 100;
/// What the host knows of the recipients of one call, in bytes.
const CALL_BYTES: usize = 256 << 10;
/// Calls that may fail in a block while none succeeds, before the plugin is taken to fail for everyone.
const FAILURES_WITHOUT_SUCCESS: u32 = 16;
/// Calls that may fail in a block at all.
const MAX_FAILURES: u32 = 128;
/// How long the recipients are looked for that a plugin fails for.
const LONGEST: Duration = Duration::from_secs(30);
/// How long after a renewal the lane's lease is renewed before another call. A call takes less than what is
/// left of it then.
const RENEWAL: Duration = Duration::from_secs(10);
/// Messages for one recipient.
const MAX_WAYS: usize = 4;
/// Bytes of a reason to skip a recipient.
const MAX_REASON_BYTES: usize = 128;
/// How long the host tries to have a call made that it can't make at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent to one recipient, or what became of them without that.
pub(super) type Composed = Result<Ways, Outcome>;

/// Why a block can't be composed now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Postponed {
    /// The host could not do its part.
    #[error("the host could not call the plugin")]
    HeldUp,
    /// The plugin says that something it needs did not answer.
    #[error("the plugin waits for what it needs")]
    Dependency,
    /// What is known of the recipients can't be read.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Why a call composed nothing.
enum Unfit {
    /// It can't be made now.
    Postponed(Postponed),
    /// The plugin failed, by this stable word.
    Failed(String),
}

/// Has the plugin compose for those of a block who wait. However long that takes, the account's lane is
/// this host's meanwhile.
pub(super) async fn compose(
    (lane, leased): (&PushLane, &LeasedLane),
    account: &Arc<Account>,
    (push, data): (&PushRow, &Value),
    block: &Block,
) -> Result<Vec<Composed>, Postponed> {
    let mut renewed_at = Instant::now();
    let ms = |at: i64| u64::try_from(at).unwrap_or_default();
    let composer = Composer {
        lane,
        account,
        push: wit::Push {
            id: push.id.clone(),
            kind: push.kind.clone(),
            data: data.to_string(),
            created_at: ms(push.created_at),
            expires_at: ms(push.expires_at),
        },
    };
    let mut composed: Vec<Composed> = block.outcomes.iter().cloned().map(Err).collect();
    let waiting = block.outcomes.iter().enumerate();
    let waiting: Vec<usize> = waiting
        .filter_map(|(place, outcome)| outcome.is_open().then_some(place))
        .collect();
    let recipients = recipients(lane, &push.app_id, block, &waiting).await?;
    let mut work: Vec<&[wit::Recipient]> = calls(&recipients).collect();
    // From the first one on: the last of the stack is taken first.
    work.reverse();
    let (mut failures, mut done) = (Failures::new(), 0);
    while let Some(call) = work.pop() {
        if renewed_at.elapsed() >= RENEWAL {
            let until_ms = lane.db.now_ms() + millis(LEASE);
            if push::renew(&lane.db, leased, until_ms).await?.is_none() {
                return Err(Postponed::HeldUp);
            }
            renewed_at = Instant::now();
        }
        let composed_now = match failures.last_word() {
            Some(code) => Err(Unfit::Failed(code)),
            None => composer.call(call).await,
        };
        let results = match composed_now {
            Ok(results) => {
                failures.succeeded();
                results
            }
            Err(Unfit::Postponed(postponed)) => return Err(postponed),
            Err(Unfit::Failed(code)) => {
                failures.failed(&code);
                if call.len() > 1 && failures.last_word().is_none() {
                    let (first, second) = call.split_at(call.len() / 2);
                    work.extend([second, first]);
                    continue;
                }
                vec![Err(Outcome::Failed(code)); call.len()]
            }
        };
        for result in results {
            composed[waiting[done]] = result;
            done += 1;
        }
    }
    Ok(composed)
}

/// How often a plugin failed for recipients of a block.
#[derive(Debug)]
struct Failures {
    count: u32,
    has_succeeded: bool,
    code: String,
    give_up_at: Instant,
}

impl Failures {
    fn new() -> Self {
        Self {
            count: 0,
            has_succeeded: false,
            code: String::new(),
            give_up_at: Instant::now() + LONGEST,
        }
    }

    fn succeeded(&mut self) {
        self.has_succeeded = true;
    }

    fn failed(&mut self, code: &str) {
        self.count += 1;
        code.clone_into(&mut self.code);
    }

    /// By which word the plugin is taken to fail for all who are left, if it is.
    fn last_word(&self) -> Option<String> {
        let most = match self.has_succeeded {
            true => MAX_FAILURES,
            false => FAILURES_WITHOUT_SUCCESS,
        };
        let is_late = self.count > 0 && Instant::now() >= self.give_up_at;
        (self.count >= most || is_late).then(|| self.code.clone())
    }
}

/// The recipients at these places, with what the host knows of them.
async fn recipients(
    lane: &PushLane,
    app_id: &str,
    block: &Block,
    places: &[usize],
) -> Result<Vec<wit::Recipient>, Postponed> {
    let open_ids: Vec<&str> = places
        .iter()
        .map(|place| &*block.open_ids[*place])
        .collect();
    let wanted = Contacts {
        app_id,
        open_ids: &open_ids,
    };
    let found = contacts::find_all(&lane.db, wanted).await;
    let found = found?.into_iter();
    let mut found: HashMap<String, _> = found
        .map(|contact| (contact.open_id.clone(), contact_of(contact)))
        .collect();
    let recipients = open_ids.into_iter().map(|open_id| wit::Recipient {
        open_id: open_id.to_owned(),
        contact: found.remove(open_id),
    });
    Ok(recipients.collect())
}

/// Recipients in calls.
fn calls(recipients: &[wit::Recipient]) -> impl Iterator<Item = &[wit::Recipient]> {
    let mut rest = recipients;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(CALL_RECIPIENTS).take_while(|recipient| {
            let contact = recipient.contact.as_ref();
            bytes += contact.map_or(0, |contact| contact.attributes.len() + contact.remark.len());
            bytes <= CALL_BYTES
        });
        let (call, others) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = others;
        (!call.is_empty()).then_some(call)
    })
}

/// Calls an account's plugin for one push.
struct Composer<'a> {
    lane: &'a PushLane,
    account: &'a Arc<Account>,
    push: wit::Push,
}

impl Composer<'_> {
    async fn call(&self, recipients: &[wit::Recipient]) -> Result<Vec<Composed>, Unfit> {
        let task = ComposeTask {
            push: &self.push,
            recipients,
            context: EventContext {
                account: Arc::clone(self.account),
                event_id: self.push.id.clone(),
                kind: Handler::Push.as_str(),
                trace_id: self.push.id.clone(),
                created_at: self.lane.db.now_ms(),
                started: std::time::Instant::now(),
            },
        };
        let patience = Instant::now() + PATIENCE;
        match self.lane.runner.run(&task, patience).await {
            Ended::Answered(answer) => answer,
            Ended::Late | Ended::HeldUp(_) => Err(Unfit::Postponed(Postponed::HeldUp)),
            Ended::Before(never) => match never {},
        }
    }
}

/// One call.
struct ComposeTask<'a> {
    push: &'a wit::Push,
    recipients: &'a [wit::Recipient],
    context: EventContext,
}

impl Task for ComposeTask<'_> {
    type Outcome = Vec<wit::Composition>;
    type Answer = Result<Vec<Composed>, Unfit>;
    type Row = std::convert::Infallible;

    const HANDLER: Handler = Handler::Push;

    fn context(&self) -> &EventContext {
        &self.context
    }

    async fn call(
        &self,
        runtime: &Runtime,
        plugin: &Plugin,
        call: Call,
    ) -> CallReport<Vec<wit::Composition>> {
        runtime
            .call_push(plugin, call, self.push, self.recipients)
            .await
    }

    fn decide(
        &self,
        compositions: Vec<wit::Composition>,
    ) -> Result<Decision<Self::Answer>, Rejected> {
        let (given, wanted) = (compositions.len(), self.recipients.len());
        if given != wanted {
            return Err(invalid(format!(
                "{given} compositions for {wanted} recipients"
            )));
        }
        let composed = self.recipients.iter().zip(compositions);
        let composed: Result<_, String> = composed
            .map(|(recipient, composition)| self.composed(recipient, composition))
            .collect();
        Ok(Decision {
            answer: Ok(composed.map_err(invalid)?),
            effects: effects::Sorted::default(),
            outcome: "composed".into(),
            error: None,
            warning: None,
        })
    }

    fn nothing(&self) -> Self::Answer {
        Err(Unfit::Failed("no-handler".into()))
    }

    fn fallback(&self, code: &str, fault: Option<Fault>) -> Self::Answer {
        Err(match fault {
            Some(Fault::Dependency) => Unfit::Postponed(Postponed::Dependency),
            _ => Unfit::Failed(code.to_owned()),
        })
    }

    fn row(&self, _answer: &Self::Answer) -> Option<Self::Row> {
        None
    }
}

fn invalid(reason: String) -> Rejected {
    Rejected {
        code: "invalid-composition",
        reason,
    }
}

impl ComposeTask<'_> {
    fn composed(
        &self,
        recipient: &wit::Recipient,
        composition: wit::Composition,
    ) -> Result<Composed, String> {
        let open_id = &recipient.open_id;
        let messages = match composition {
            wit::Composition::Skip(reason) => return Ok(Err(Outcome::Skipped(skipped(&reason)))),
            wit::Composition::Send(messages) => messages,
        };
        let count = messages.len();
        if !(1..=MAX_WAYS).contains(&count) {
            return Err(format!(
                "{open_id}: {count} messages; 1 to {MAX_WAYS} are allowed"
            ));
        }
        let ways = messages.into_iter().map(|message| {
            let sent = effects::message(message)?;
            if sent.open_id != *open_id {
                return Err(format!("a message to {} instead", sent.open_id));
            }
            Way::of(sent)
        });
        let ways: Result<Vec<Way>, String> = ways.collect();
        let ways = ways.map_err(|reason| format!("{open_id}: {reason}"))?;
        Ok(Ok(Ways(ways)))
    }
}

/// A plugin's reason, in one short row.
fn skipped(reason: &str) -> String {
    let reason = in_row(reason);
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    match reason.trim().is_empty() {
        true => "by-plugin".to_owned(),
        false => reason[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(attributes: usize) -> wit::Recipient {
        let contact = crate::db::contacts::Contact {
            attributes: "x".repeat(attributes),
            ..Default::default()
        };
        wit::Recipient {
            open_id: "o".into(),
            contact: Some(contact_of(contact)),
        }
    }

    #[test]
    fn calls_hold_so_many_recipients_and_so_many_bytes_of_what_is_known() {
        let sizes = |recipients: &[wit::Recipient]| -> Vec<usize> {
            calls(recipients).map(<[_]>::len).collect()
        };
        assert_eq!(sizes(&vec![somebody(2); 250]), [100, 100, 50]);
        assert_eq!(sizes(&vec![somebody(8 << 10); 40]), [32, 8]);
        assert_eq!(sizes(&vec![somebody(CALL_BYTES + 1); 2]), [1, 1]);
        assert!(sizes(&[]).is_empty());
    }

    #[test]
    fn a_plugin_that_fails_for_everyone_is_not_asked_for_each() {
        let failing = |times: u32, succeeds: bool| {
            let mut failures = Failures::new();
            if succeeds {
                failures.succeeded();
            }
            (0..times).for_each(|_| failures.failed("trap"));
            failures.last_word()
        };
        assert_eq!(failing(15, false), None);
        assert_eq!(failing(16, false).as_deref(), Some("trap"));
        assert_eq!(failing(127, true), None);
        assert_eq!(failing(128, true).as_deref(), Some("trap"));
        let mut late = Failures::new();
        late.give_up_at = Instant::now();
        assert_eq!(late.last_word(), None);
        late.failed("timeout");
        assert_eq!(late.last_word().as_deref(), Some("timeout"));
    }

    #[test]
    fn a_reason_is_one_short_row() {
        assert_eq!(skipped("not today"), "not today");
        assert_eq!(skipped(""), "by-plugin");
        assert_eq!(skipped("a\nb"), r"a\nb");
        assert!(skipped(&"贵".repeat(100)).len() <= MAX_REASON_BYTES);
    }
}
