//! Handling what money does: orders that are paid or closed, refunds that arrive or do not.
//!
//! ```
//! use wxhost_sdk::payment::{Event, PaymentHandler};
//! use wxhost_sdk::prelude::{Outcome, Result};
//!
//! pub struct Shop;
//!
//! impl PaymentHandler for Shop {
//!     fn on_paid(event: &Event) -> Result {
//!         Ok(Outcome::none().put(format!("paid/{}", event.order.out_trade_no), "1"))
//!     }
//! }
//!
//! wxhost_sdk::register!(Shop, handlers = [payment]);
//! # use wxhost_sdk::testing::{TestHost, paid};
//! # let mut host = TestHost::new();
//! # host.pay::<Shop>(&paid("order-1", "oA", 5800));
//! # assert_eq!(host.text("paid/order-1"), Some("1"));
//! # fn main() {}
//! ```
//!
//! The host has verified each fact and written it to its ledger before the handler hears of it, and commits the
//! effects of the handler with it, once.

use crate::error::Result;
use crate::orders::Refund;
use crate::outcome::Outcome as CallbackOutcome;

pub use crate::bindings::payment::exports::wxhost::plugin::payment_handler::{
    Event, Fact, Outcome,
};

/// Handles what money does. Implement the facts that you care for; the others change nothing.
///
/// An [`Outcome`](crate::Outcome) serves as in callbacks; a reply in it goes nowhere. After an error the host asks
/// again, with growing pauses over a day.
pub trait PaymentHandler {
    /// Handles any fact. The default calls the method of its kind.
    ///
    /// # Errors
    ///
    /// As the method of the kind.
    fn handle(event: &Event) -> Result {
        match &event.fact {
            Fact::Paid => Self::on_paid(event),
            Fact::Closed => Self::on_closed(event),
            Fact::Refunded(refund) => Self::on_refunded(event, refund),
            Fact::RefundFailed(refund) => Self::on_refund_failed(event, refund),
        }
    }

    /// The order is paid.
    ///
    /// # Errors
    ///
    /// None by default; yours are recorded and shown to the tenant.
    fn on_paid(_event: &Event) -> Result {
        Ok(CallbackOutcome::none())
    }

    /// The order can't be paid any more, and nobody has: release what was kept for it.
    ///
    /// # Errors
    ///
    /// As [`on_paid`](Self::on_paid).
    fn on_closed(_event: &Event) -> Result {
        Ok(CallbackOutcome::none())
    }

    /// The payer has the money of a refund.
    ///
    /// # Errors
    ///
    /// As [`on_paid`](Self::on_paid).
    fn on_refunded(_event: &Event, _refund: &Refund) -> Result {
        Ok(CallbackOutcome::none())
    }

    /// A refund came to nothing, or is stuck.
    ///
    /// # Errors
    ///
    /// As [`on_paid`](Self::on_paid).
    fn on_refund_failed(_event: &Event, _refund: &Refund) -> Result {
        Ok(CallbackOutcome::none())
    }
}
