//! What a host holds of an account's access token and tickets, and of how WeChat answers it lately.
//! Values only: nothing here asks anybody. [`crate::accounts`] keeps [`Slots`] beside each account,
//! [`crate::tokens`] fills them, [`crate::client`] uses them.
//!
//! - `token`: what a token is, how early it counts as ended and when it is renewed.
//! - `slot`: what a host holds of each, beside the account. `flight`: the fetch under way. `budget`:
//!   how often WeChat may be asked.
//! - `settings`: how an account calls WeChat. `attention`: what an account's owner must mend. `address`: that WeChat refuses this host's address.
//! - `breaker`: whether calls of an account are worth being made now.

mod address;
mod attention;
mod breaker;
mod budget;
mod error;
mod flight;
mod settings;
mod slot;
mod token;

pub(crate) use self::address::AddressGate;
pub use self::address::AddressRefusal;
pub use self::attention::{Attention, TokenLine};
pub(crate) use self::breaker::Breaker;
pub(crate) use self::budget::fetch_rate;
pub use self::error::TokenError;
pub(crate) use self::flight::{FLIGHT, Flight, Landed, Purpose};
pub use self::settings::{CredentialChange, CredentialSettings};
pub(crate) use self::slot::Slot;
pub use self::slot::Slots;
pub use self::token::{Credential, Token, TokenState};
pub(crate) use self::token::{Facts, hash, slack, spread};
