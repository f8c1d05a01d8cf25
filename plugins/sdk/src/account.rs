//! The account that the event came to.

use crate::host;

pub use crate::bindings::wxhost::plugin::account::{Info, Mode};

/// The account's public facts. Cheap: answered from the host's memory.
#[must_use]
pub fn info() -> Info {
    host::account::get()
}
