//! How many of an item are left. Values are compared when they are set: nothing is sold twice.

use serde::{Deserialize, Serialize};
use wxhost_sdk::prelude::*;

use crate::settings::Item;

/// What an order keeps of the stock, until it is paid or given back.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The item.
    pub(crate) key: String,
    /// How many.
    pub(crate) count: u64,
}

fn stock_key(item: &str) -> String {
    format!("stock/{item}")
}

fn kept_key(out_trade_no: &str) -> String {
    format!("kept/{out_trade_no}")
}

/// How many are left.
pub(crate) fn left(item: &Item) -> Result<u64> {
    Ok(kv::get_json(&stock_key(&item.key))?.unwrap_or(item.stock))
}

/// What an order keeps.
pub(crate) fn kept(out_trade_no: &str) -> Result<Option<Kept>> {
    kv::get_json(&kept_key(out_trade_no))
}

/// Keeps so many for an order.
pub(crate) fn keep(
    outcome: Outcome,
    (item, left): (&Item, u64),
    (out_trade_no, count): (&str, u64),
) -> Result {
    let kept = Kept {
        key: item.key.clone(),
        count,
    };
    outcome
        .put_json(stock_key(&item.key), &left.saturating_sub(count))?
        .put_json(kept_key(out_trade_no), &kept)
}

/// Gives back what an order keeps, once.
pub(crate) fn give_back(outcome: Outcome, item: Option<&Item>, out_trade_no: &str) -> Result {
    let (Some(item), Some(kept)) = (item, kept(out_trade_no)?) else {
        return Ok(outcome);
    };
    let left = left(item)?;
    let outcome = outcome.put_json(stock_key(&item.key), &left.saturating_add(kept.count))?;
    Ok(outcome.delete(kept_key(out_trade_no)))
}
