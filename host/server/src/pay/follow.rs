//! What WeChat Pay did not tell is found by asking: unpaid orders in its own rhythm and when their time is over,
//! refunds until they have ended. What is due is done here, too: orders are closed, refunds sent, plugins told.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{LEASE, PERIOD, PayLane};
use crate::checkout::OrderError;
use crate::clock::millis;
use crate::db::ledger::orders::{self, OrderRow};
use crate::db::ledger::refunds::{self, RefundRow};
use crate::db::ledger::{events, payments};
use crate::db::{DbError, Lease, merchants};
use crate::ledger::{OrderState, RefundState};
use crate::merchants::Merchant;
use crate::random;
use crate::services::Services;

/// Orders, refunds and events that a host is at at the same time, of each.
const AT_ONCE: u32 = 32;
/// How long after its time is over an order is closed: WeChat Pay lets a payment end that has begun.
const GRACE: Duration = Duration::from_secs(30);
/// The pause after WeChat Pay could not be asked.
const PAUSE: Duration = Duration::from_secs(15);
/// How long a call of WeChat Pay may take.
const CALL_TIME: Duration = Duration::from_secs(5);
/// How often platform certificates are looked at: WeChat Pay wants less than twelve hours.
const CERTIFICATES: Duration = Duration::from_secs(6 * 3600);

/// How long before its end an API certificate is to be renewed in the merchant's console.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// Does what is due, until `stop`.
pub(super) async fn run(lane: Arc<PayLane>, stop: CancellationToken) {
    let owner = random::unique_name();
    while !stop.is_cancelled() {
        match lane.turn(&owner).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(error) => tracing::debug!(error = %error, "what is due of money can't be read"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = lane.services.checkout.woken() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

impl PayLane {
    /// Does what is due now; how much there was.
    async fn turn(&self, owner: &str) -> Result<usize, DbError> {
        let db = self.services.db.background();
        let lease = || Lease::begin(&db, owner, LEASE);
        let events = events::lease(&db, lease(), AT_ONCE).await?;
        let refunds = refunds::lease(&db, lease(), AT_ONCE).await?;
        let orders = orders::lease(&db, lease(), AT_ONCE).await?;
        let count = events.len() + refunds.len() + orders.len();
        let events = events.into_iter().map(|event| self.tell(event, owner));
        let refunds = refunds
            .into_iter()
            .map(|refund| self.see_to_refund(refund, owner));
        let orders = orders
            .into_iter()
            .map(|order| self.see_to_order(order, owner));
        futures::join!(join_all(events), join_all(refunds), join_all(orders));
        Ok(count)
    }

    /// Asks about an order, and closes it when its time is over or somebody wants that.
    async fn see_to_order(&self, order: OrderRow, owner: &str) {
        let db = self.services.db.background();
        let now_ms = db.now_ms();
        let closes_at = order.expires_at + millis(GRACE);
        let is_over = order.is_closing.is_some() || now_ms >= closes_at;
        let next = match self.look_at(&order, is_over).await {
            Ok(order) if !matches!(order.state(), OrderState::New | OrderState::Unpaid) => return,
            // A payment is under way: WeChat Pay wants five seconds.
            Ok(_) if is_over => now_ms + 5_000,
            Ok(order) => {
                let due_at = payments::due_at(order.created_at, order.expires_at, order.looks);
                match due_at >= order.expires_at {
                    true => closes_at,
                    false => due_at.max(now_ms + 1_000),
                }
            }
            Err(error) => {
                tracing::warn!(
                    account.app_id = order.app_id,
                    merchant.mch_id = order.mch_id,
                    code = error.code(),
                    error = %error,
                    "an order can't be followed now"
                );
                now_ms + millis(PAUSE) * order.looks.clamp(1, 40)
            }
        };
        if let Err(error) = orders::release(&db, order.number(), (owner, next)).await {
            tracing::debug!(error = %error, "an order can't be given back; its lease ends by itself");
        }
    }

    async fn look_at(&self, order: &OrderRow, is_over: bool) -> Result<OrderRow, OrderError> {
        let checkout = &self.services.checkout;
        let binding = checkout.binding_of(order.number())?;
        let deadline = Instant::now() + CALL_TIME;
        match is_over {
            true => checkout.close(&binding, order, deadline).await,
            false => checkout.ask(&binding, order, deadline).await,
        }
    }

    /// Sends a refund, or asks about it.
    async fn see_to_refund(&self, refund: RefundRow, owner: &str) {
        let db = self.services.db.background();
        let followed = match self.services.checkout.binding_of(refund_order(&refund)) {
            Ok(binding) => {
                self.services
                    .checkout
                    .follow_refund(&binding, &refund)
                    .await
            }
            Err(error) => Ok(Some(error.to_string())),
        };
        let why = followed.unwrap_or_else(|error| Some(error.to_string()));
        if let Some(why) = &why {
            tracing::warn!(
                account.app_id = refund.app_id,
                merchant.mch_id = refund.mch_id,
                refund.state,
                reason = why,
                "a refund waits"
            );
        }
        let now_ms = db.now_ms();
        let next = match refund.state() {
            RefundState::Asked => now_ms + millis(PAUSE) * refund.looks.clamp(1, 240),
            _ => refunds::next_look(now_ms, refund.looks),
        };
        let released = (owner, next, why.as_deref());
        if let Err(error) = refunds::release(&db, refund.number(), released).await {
            tracing::debug!(error = %error, "a refund can't be given back; its lease ends by itself");
        }
    }

    /// Reads a merchant's platform certificates soon: WeChat Pay has signed with one that is new.
    pub(super) fn renew_for(&self, merchant: &Merchant) {
        let services = Arc::clone(&self.services);
        let mch_id = merchant.mch_id.to_string();
        tokio::spawn(async move { renew(&services, &mch_id).await });
    }
}

fn refund_order(refund: &RefundRow) -> crate::db::ledger::Number<'_> {
    crate::db::ledger::Number {
        app_id: &refund.app_id,
        mch_id: &refund.mch_id,
        number: &refund.out_trade_no,
    }
}

/// Reads the platform certificates of merchants that use them, and looks for API certificates that end soon, several
/// times a day, until `stop`.
pub(super) async fn renew_certificates(lane: Arc<PayLane>, stop: CancellationToken) {
    loop {
        if let Err(error) = warn_of_ending(&lane.services).await {
            tracing::debug!(error = %error, "which certificates end soon can't be read");
        }
        for merchant in lane.services.checkout.merchants().all() {
            if merchant.is_active() && merchant.uses_certificates() {
                renew(&lane.services, merchant.mch_id.as_str()).await;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATES) => {}
        }
    }
}

async fn warn_of_ending(services: &Services) -> Result<(), DbError> {
    let db = services.db.background();
    let ending = merchants::ending(&db, db.now_ms() + millis(ENDS_SOON)).await?;
    for (mch_id, ends_at) in &ending {
        tracing::error!(
            merchant.mch_id = mch_id,
            ends_at,
            "the merchant's API certificate ends soon: add a new one"
        );
    }
    let count = i64::try_from(ending.len()).unwrap_or(i64::MAX);
    services.metrics.merchant_certificates_ending.set(count);
    Ok(())
}

async fn renew(services: &Services, mch_id: &str) {
    let Some(merchant) = services.checkout.merchants().get(mch_id) else {
        return;
    };
    let client = services.checkout.client();
    let deadline = Instant::now() + CALL_TIME;
    if let Err(error) = client.renew_certificates(&merchant, deadline).await {
        tracing::error!(
            merchant.mch_id = mch_id,
            error = %error,
            "wechat pay's platform certificates can't be renewed"
        );
    }
}
