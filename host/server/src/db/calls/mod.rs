//! Records of calls, kept in blocks: a row for each record would cost a busy host more than the calls.
//!
//! A block holds what one host wrote at once of one account and one deployment. It is found by its
//! account and time, and goes as a whole when its newest record is too old. A record has no row of its
//! own; its id names its block and its place there.

mod block;
mod read;
mod record;

pub use block::{BATCH, write};
pub use read::{Call, CallFilter, delete_older, find, list};
pub use record::{Callee, Entry, Record};

#[cfg(test)]
mod tests;
