//! The rules of money: where an order and a refund can go from where they stand ([`OrderState`], [`RefundState`]),
//! and which books money moves between ([`Movement`]). Pure: what is written when, and in which transaction, is
//! `db::ledger`'s.
//!
//! What WeChat Pay says is a fact. A fact can be told late, twice and out of order; what it may change is decided
//! here, in one place, for notifications, queries and answers alike. Money that has come is never talked away by
//! a later word.

mod movement;
mod order;
mod refund;

pub use self::movement::{Movement, PAYERS, order_book, refund_book};
pub use self::order::{OrderFact, OrderState};
pub use self::refund::{RefundFact, RefundState};

/// What a fact does to where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<S> {
    /// It turns.
    To(S),
    /// It was so already, or the fact is overtaken.
    Stays,
    /// The fact contradicts what is written: it is for people to look at.
    Contradicts,
}

/// A state as it is stored, and the way back.
macro_rules! words {
    ($name:ident { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            /// The one of a stored word.
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == word)
            }
        }
    };
}
use words;
