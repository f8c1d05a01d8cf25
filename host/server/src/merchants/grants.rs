//! What an account may do at a merchant, and up to which sums.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest sum that a limit may be, fen: a hundred million yuan.
const MAX_LIMIT: i64 = 10_000_000_000;

/// What an account's plugin and its tenant's systems may do at a merchant. Sums are fen; what is absent limits
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PayGrants {
    /// The largest order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_fen: Option<i64>,
    /// The sum of a person's orders in a day (Beijing time).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_day_fen: Option<i64>,
    /// The sum of all orders in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_fen: Option<i64>,
    /// Whether money may be given back.
    pub refunds: bool,
    /// A refund of more than this waits until somebody approves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_refunds_above_fen: Option<i64>,
}

impl PayGrants {
    /// Refuses sums that can't be meant: the reason, for the operator.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, sum) in [
            ("order_fen", self.order_fen),
            ("person_day_fen", self.person_day_fen),
            ("day_fen", self.day_fen),
            ("approve_refunds_above_fen", self.approve_refunds_above_fen),
        ] {
            if sum.is_some_and(|sum| !(0..=MAX_LIMIT).contains(&sum)) {
                return Err(format!("{name} must be 0 to {MAX_LIMIT} fen"));
            }
        }
        Ok(())
    }
}
