//! Orders that a plugin makes and sees.

use tokio::time::Instant;
use wxhost_runtime::{MoneyRight, Wanted, money as wit, pay};
use wxhost_wechat::id::OpenId;
use wxhost_wechat::pay::{Fen, OutTradeNo};

use crate::accounts::Account;
use crate::checkout::{Invocation, NewOrder, OrderError, Placed, Scene};
use crate::db::DbError;
use crate::db::ledger::orders::{self, OrderRow};
use crate::db::ledger::refunds::{self, RefundRow};
use crate::ledger::{OrderState, RefundState};
use crate::services::Services;

/// What a plugin may do with money, for one account.
pub(super) struct Money<'a> {
    pub(super) services: &'a Services,
    pub(super) account: &'a Account,
    pub(super) wanted: &'a Wanted,
    pub(super) deadline: Instant,
}

/// Why the ledger is not read.
pub(super) enum Unread {
    NotGranted(String),
    Database(DbError),
}

impl From<DbError> for Unread {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

impl Money<'_> {
    fn may(&self) -> Result<(), String> {
        match self.wanted.pay.contains(&MoneyRight::Orders) {
            true => Ok(()),
            false => {
                Err("the manifest does not ask for it: [grants] pay = [\"orders\"]".to_owned())
            }
        }
    }

    pub(super) async fn create(
        &self,
        request: pay::OrderRequest,
    ) -> Result<pay::Placed, pay::Error> {
        self.may().map_err(pay::Error::NotGranted)?;
        let new = new_order(request).map_err(pay::Error::InvalidArgument)?;
        let checkout = &self.services.checkout;
        let placed = checkout.place(self.account, new, self.deadline).await;
        placed_of(placed.map_err(error_of)?)
    }

    pub(super) async fn query(&self, out_trade_no: &str) -> Result<wit::Order, pay::Error> {
        self.may().map_err(pay::Error::NotGranted)?;
        let checkout = &self.services.checkout;
        let app_id = self.account.app_id.as_str();
        let found = checkout.order(app_id, (out_trade_no, None)).await;
        let order = found.map_err(|error| error_of(error.into()))?;
        let order = order.ok_or(pay::Error::UnknownOrder)?;
        let binding = checkout.binding_of(order.number()).map_err(error_of)?;
        let settled = checkout.settled(&binding, order, self.deadline).await;
        settled.map(order_of).map_err(error_of)
    }

    pub(super) async fn order(&self, out_trade_no: &str) -> Result<Option<wit::Order>, Unread> {
        self.may().map_err(Unread::NotGranted)?;
        let app_id = self.account.app_id.as_str();
        let found = self
            .services
            .checkout
            .order(app_id, (out_trade_no, None))
            .await?;
        Ok(found.map(order_of))
    }

    pub(super) async fn orders(
        &self,
        open_id: &str,
        limit: u32,
    ) -> Result<Vec<wit::Order>, Unread> {
        self.may().map_err(Unread::NotGranted)?;
        let wanted = (self.account.app_id.as_str(), Some(open_id), None);
        let rows = orders::list(&self.services.db, wanted, (i64::MAX, limit)).await?;
        Ok(rows.into_iter().map(order_of).collect())
    }

    pub(super) async fn refunds(&self, out_trade_no: &str) -> Result<Vec<wit::Refund>, Unread> {
        self.may().map_err(Unread::NotGranted)?;
        let app_id = self.account.app_id.as_str();
        let order = self
            .services
            .checkout
            .order(app_id, (out_trade_no, None))
            .await?;
        let Some(order) = order else {
            return Ok(Vec::new());
        };
        let rows = refunds::of_order(&self.services.db, order.number()).await?;
        Ok(rows.into_iter().map(refund_of).collect())
    }
}

fn new_order(request: pay::OrderRequest) -> Result<NewOrder, String> {
    let said = |name: &str, error: &dyn std::fmt::Display| format!("{name}: {error}");
    let scene = match request.scene {
        pay::Scene::Jsapi(open_id) => {
            Scene::Jsapi(OpenId::parse(&open_id).map_err(|e| said("scene", &e))?)
        }
        pay::Scene::Native => Scene::Native,
        pay::Scene::App => Scene::App,
        pay::Scene::H5(h5) => Scene::H5 {
            payer_client_ip: h5.payer_client_ip,
            kind: h5.kind,
        },
    };
    // Beyond all that is kept is beyond all limits, too.
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(NewOrder {
        out_trade_no: OutTradeNo::parse(&request.out_trade_no)
            .map_err(|e| said("out-trade-no", &e))?,
        merchant: request.merchant,
        scene,
        description: request.description,
        total: Fen::parse_positive(signed(request.total)).map_err(|e| said("total", &e))?,
        attach: request.attach,
        expires_at: request.expires_at.map(signed),
    })
}

fn placed_of(placed: Placed) -> Result<pay::Placed, pay::Error> {
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| pay::Error::InvalidArgument(error.to_string()))
    };
    Ok(pay::Placed {
        invocation: match placed.invocation {
            Invocation::Jsapi(it) => pay::Invocation::Jsapi(json(serde_json::to_string(&it))?),
            Invocation::App(it) => pay::Invocation::App(json(serde_json::to_string(&it))?),
            Invocation::Native(code) => pay::Invocation::Native(code),
            Invocation::H5(address) => pay::Invocation::H5(address),
        },
        order: order_of(placed.order),
        page_url: placed.page_url,
    })
}

fn error_of(error: OrderError) -> pay::Error {
    match error {
        OrderError::NoMerchant(why) => pay::Error::NotGranted(why.to_string()),
        OrderError::Invalid(why) => pay::Error::InvalidArgument(why),
        OrderError::Differs(field) => pay::Error::OrderDiffers(field.to_owned()),
        OrderError::AlreadyPaid => pay::Error::AlreadyPaid,
        OrderError::Closed => pay::Error::Closed,
        OrderError::Over(limit, most) => pay::Error::OverLimit(format!("{limit}: {most} fen")),
        OrderError::Unknown => pay::Error::UnknownOrder,
        OrderError::Refused(refusal) => pay::Error::Refused(pay::Refusal {
            code: refusal.code,
            message: refusal.message,
        }),
        // The tenant can do nothing about these but wait.
        OrderError::Owner(_)
        | OrderError::Contradiction(_)
        | OrderError::Unsure(_)
        | OrderError::Database(_) => pay::Error::Unavailable,
    }
}

/// Times before 1970 and sums below nothing are nobody's.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// An order as plugins see it.
pub fn order_of(row: OrderRow) -> wit::Order {
    let state = match row.state() {
        OrderState::New | OrderState::Unpaid => wit::OrderState::Unpaid,
        OrderState::Paid => wit::OrderState::Paid,
        OrderState::Closed => wit::OrderState::Closed,
        OrderState::Failed => wit::OrderState::Failed,
    };
    wit::Order {
        out_trade_no: row.out_trade_no,
        merchant: row.mch_id,
        description: row.description,
        total: unsigned(row.total),
        state,
        open_id: row.open_id,
        attach: row.attach,
        created_at: unsigned(row.created_at),
        expires_at: unsigned(row.expires_at),
        paid_at: row.paid_at.map(unsigned),
        transaction_id: row.transaction_id,
        refunded: unsigned(row.refunded),
    }
}

/// A refund as plugins see it.
pub fn refund_of(row: RefundRow) -> wit::Refund {
    let state = match row.state() {
        RefundState::Held => wit::RefundState::Held,
        RefundState::Asked | RefundState::Processing => wit::RefundState::Processing,
        RefundState::Succeeded => wit::RefundState::Succeeded,
        RefundState::Abnormal => wit::RefundState::Abnormal,
        RefundState::Failed => wit::RefundState::Failed,
    };
    wit::Refund {
        out_refund_no: row.out_refund_no,
        out_trade_no: row.out_trade_no,
        amount: unsigned(row.amount),
        state,
        reason: row.reason,
        error: row.error,
    }
}
