//! What the host remembers of the people who met this account. Reads are functions here; what a plugin
//! changes (tags, remark, attributes, opt-out) are effects of the [`Outcome`](crate::Outcome).

use crate::error::{Error as Failure, Result};
use crate::host;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::contacts::{Contact, Error, Interactions};

/// What is known of a person; `None` where the host never met the open id. A contact is written behind
/// the answer, so the event in hand may not be in it yet. Counts as a read of [`kv`](crate::kv).
///
/// # Errors
///
/// When it is no open id or the host's database cannot be reached.
pub fn get(open_id: &str) -> Result<Option<Contact>, Error> {
    host::contacts::get(open_id)
}

impl Contact {
    /// The attributes as a value of your own type.
    ///
    /// # Errors
    ///
    /// When they don't fit the type.
    pub fn attributes<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.attributes)
            .map_err(|error| Failure::bug(format!("a contact's attributes do not fit: {error}")))
    }
}
