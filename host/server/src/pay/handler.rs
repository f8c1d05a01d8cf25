//! The account's plugin is told of a fact, once: its effects are committed with the event.

use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::time::Instant;
use wxhost_runtime::{Call, CallReport, Fault, Handler, Plugin, Runtime, payment as wit};
use wxhost_wechat::id::OpenId;

use super::PayLane;
use crate::accounts::Account;
use crate::backoff;
use crate::capabilities::{contact_of, order_of, refund_of};
use crate::clock::millis;
use crate::contacts::{Act, UserAction};
use crate::db::DbError;
use crate::db::commit::{Commit, LaneRow, Taken};
use crate::db::contacts::{self, Contacts};
use crate::db::ledger::events::{self, End, EventRow};
use crate::db::ledger::{Number, orders, refunds};
use crate::effects::{self, Cause};
use crate::run::{Decision, Ended, EventContext, Rejected, Task};

/// How often a plugin is asked that fails: over a day and a half.
const MAX_ATTEMPTS: i64 = 24;
/// The wait after the first failure; doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(2 * 3600);
/// How long the host tries to have a call made that it can't make at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a plugin was not told.
enum Untold {
    /// The host could not do its part: it is tried for as long as it takes.
    HeldUp(String),
    /// The plugin failed.
    Failed(String),
    /// It can't be told.
    Never(String),
}

impl From<DbError> for Untold {
    fn from(error: DbError) -> Self {
        Self::HeldUp(error.to_string())
    }
}

impl PayLane {
    /// Tells the account's plugin of a fact, and notes how that ended.
    pub(super) async fn tell(&self, event: EventRow, owner: &str) {
        let db = self.services.db.background();
        let told = self.try_to_tell(&event, owner).await;
        let again_at = || {
            let beyond = u32::try_from(event.attempts).unwrap_or(u32::MAX);
            let wait = backoff::doubled(FIRST_WAIT, beyond.saturating_sub(1), MAX_WAIT);
            db.now_ms() + millis(backoff::jittered(wait))
        };
        let end = match &told {
            Ok(()) => End::Done,
            Err(Untold::HeldUp(why)) => End::Again(again_at(), why),
            Err(Untold::Failed(why)) if event.attempts < MAX_ATTEMPTS => {
                End::Again(again_at(), why)
            }
            Err(Untold::Failed(why) | Untold::Never(why)) => {
                tracing::error!(
                    account.app_id = event.app_id,
                    event.id = event.id,
                    reason = why,
                    "a plugin could not be told of money; the event waits for somebody to look at it"
                );
                End::Failed(why)
            }
        };
        let key = (&*event.app_id, &*event.id, owner);
        if let Err(error) = events::end(&db, key, end).await {
            tracing::debug!(error = %error, "how an event ended can't be kept; its lease ends by itself");
        }
    }

    async fn try_to_tell(&self, event: &EventRow, owner: &str) -> Result<(), Untold> {
        let account = self.services.accounts.get(&event.app_id);
        let Some(account) = account else {
            return Err(Untold::HeldUp("the account is not known yet".to_owned()));
        };
        let described = self.described(event).await?;
        let binding = self.services.checkout.merchants();
        let binding = binding.binding(&event.app_id, &event.mch_id);
        // Under a partner's app id, a person has another open id.
        let payer = binding
            .filter(|binding| binding.seller.app_id == account.app_id)
            .and_then(|_| payer(&account, &described));
        let task = PaymentTask {
            event: described,
            payer,
            owner: owner.to_owned(),
            context: context(account, event),
        };
        match self.runner.run(&task, Instant::now() + PATIENCE).await {
            Ended::Answered(answer) => answer.map_err(Untold::Failed),
            // Another host had it.
            Ended::Before(()) | Ended::Late => Ok(()),
            Ended::HeldUp(held_up) => Err(Untold::HeldUp(held_up.detail)),
        }
    }

    /// The event as the plugin is told it: with the order as it stands now.
    async fn described(&self, event: &EventRow) -> Result<wit::Event, Untold> {
        let db = &self.services.db;
        let gone = |what: &str| Untold::Never(format!("its {what} is gone"));
        let orders = orders::of_number(db, &event.app_id, &event.out_trade_no).await?;
        let of_merchant = |order: &orders::OrderRow| order.mch_id == event.mch_id;
        let order = orders.into_iter().find(of_merchant);
        let order = order.ok_or_else(|| gone("order"))?;
        let refund = match &event.out_refund_no {
            None => None,
            Some(number) => {
                let number = Number {
                    app_id: &event.app_id,
                    mch_id: &event.mch_id,
                    number,
                };
                let refund = refunds::find(db, number).await?;
                Some(refund_of(refund.ok_or_else(|| gone("refund"))?))
            }
        };
        let fact = match (&*event.kind, refund) {
            ("paid", _) => wit::Fact::Paid,
            ("closed", _) => wit::Fact::Closed,
            ("refunded", Some(refund)) => wit::Fact::Refunded(refund),
            ("refund-failed", Some(refund)) => wit::Fact::RefundFailed(refund),
            // A newer host tells it.
            (kind, _) => return Err(Untold::HeldUp(format!("{kind} is not known here"))),
        };
        let contact = match &order.open_id {
            None => None,
            Some(open_id) => {
                let wanted = Contacts {
                    app_id: &event.app_id,
                    open_ids: &[open_id],
                };
                contacts::find_all(db, wanted).await?.pop().map(contact_of)
            }
        };
        Ok(wit::Event {
            id: event.id.clone(),
            fact,
            order: order_of(order),
            contact,
        })
    }
}

/// That somebody has paid: the account may write to them after it.
fn payer(account: &Account, event: &wit::Event) -> Option<UserAction> {
    let order = &event.order;
    let is_paid = matches!(event.fact, wit::Fact::Paid);
    Some(UserAction {
        app_id: account.app_id.clone(),
        open_id: OpenId::parse(order.open_id.as_ref().filter(|_| is_paid)?).ok()?,
        union_id: None,
        at_ms: i64::try_from(order.paid_at?).ok()?,
        act: Act::Payment,
    })
}

fn context(account: Arc<Account>, event: &EventRow) -> EventContext {
    EventContext {
        account,
        event_id: event.id.clone(),
        kind: Handler::Payment.as_str(),
        trace_id: event.id.clone(),
        created_at: event.created_at,
        started: std::time::Instant::now(),
    }
}

/// One call.
struct PaymentTask {
    event: wit::Event,
    /// Who has paid, where that is what it tells.
    payer: Option<UserAction>,
    /// Who has the event leased.
    owner: String,
    context: EventContext,
}

/// The event's own row.
struct PaymentRow {
    owner: String,
}

impl LaneRow for PaymentRow {
    type Before = ();

    async fn take(
        &self,
        db: &mut AnyConnection,
        commit: &Commit<'_>,
    ) -> Result<Taken<'_, ()>, DbError> {
        let key = (commit.app_id, commit.event_id, &*self.owner);
        match events::take(db, key).await? {
            true => Ok(Taken::Fresh),
            false => Ok(Taken::Before(())),
        }
    }
}

impl Task for PaymentTask {
    type Outcome = wit::Outcome;
    /// Or by which word the plugin failed.
    type Answer = Result<(), String>;
    type Row = PaymentRow;

    const HANDLER: Handler = Handler::Payment;

    fn context(&self) -> &EventContext {
        &self.context
    }

    async fn call(
        &self,
        runtime: &Runtime,
        plugin: &Plugin,
        call: Call,
    ) -> CallReport<wit::Outcome> {
        runtime.call_payment(plugin, call, &self.event).await
    }

    fn decide(&self, outcome: wit::Outcome) -> Result<Decision<Self::Answer>, Rejected> {
        let cause = Cause {
            app_id: self.context.account.app_id.as_str(),
            event_id: &self.context.event_id,
        };
        let effects = effects::sort(outcome.effects, cause).map_err(|error| Rejected {
            code: "invalid-effect",
            reason: error.to_string(),
        })?;
        Ok(Decision {
            answer: Ok(()),
            effects,
            outcome: "ok".into(),
            error: None,
            warning: None,
        })
    }

    fn nothing(&self) -> Self::Answer {
        Ok(())
    }

    fn fallback(&self, code: &str, _fault: Option<Fault>) -> Self::Answer {
        Err(code.to_owned())
    }

    fn is_to_be_committed(&self) -> bool {
        true
    }

    fn sender(&self) -> Option<UserAction> {
        self.payer.clone()
    }

    fn row(&self, answer: &Self::Answer) -> Option<Self::Row> {
        // What failed is told again.
        answer.is_ok().then(|| PaymentRow {
            owner: self.owner.clone(),
        })
    }
}
