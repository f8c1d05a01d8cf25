//! The account's orders, as the host's ledger has them. Nothing leaves the host.
//!
//! `plugin.toml` must ask for it: `[grants] pay = ["orders"]`.

use crate::host;

pub use crate::bindings::wxhost::plugin::money::{Order, OrderState, Refund, RefundState};
pub use crate::bindings::wxhost::plugin::orders::Error;

/// The order of this number, if there is one.
///
/// # Errors
///
/// When it is not granted, or the ledger can't be reached.
pub fn get(out_trade_no: &str) -> Result<Option<Order>, Error> {
    host::orders::get(out_trade_no)
}

/// A person's newest orders, newest first; 1 to 20.
///
/// # Errors
///
/// When it is not granted, or the ledger can't be reached.
pub fn list(open_id: &str, limit: u32) -> Result<Vec<Order>, Error> {
    host::orders::list(open_id, limit)
}

/// The refunds of an order, oldest first.
///
/// # Errors
///
/// When it is not granted, or the ledger can't be reached.
pub fn refunds(out_trade_no: &str) -> Result<Vec<Refund>, Error> {
    host::orders::refunds(out_trade_no)
}

impl Order {
    /// Whether it is this person's.
    #[must_use]
    pub fn is_of(&self, open_id: &str) -> bool {
        self.open_id.as_deref() == Some(open_id)
    }

    /// Whether it is paid, whatever was given back since.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.state == OrderState::Paid
    }
}

/// A sum of fen in yuan, with two decimals: `12.34`.
#[must_use]
pub fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}
