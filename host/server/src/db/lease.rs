//! The right to a row that one host has for a time: by the database's clock, so that hosts agree on when it
//! runs out, under a name that is its owner's alone.

use std::time::Duration;

use super::Database;
use crate::clock::millis;

/// Who leases, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Lease<'a> {
    /// The host's loop, or this very lease.
    pub owner: &'a str,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// When the lease runs out.
    pub until_ms: i64,
}

impl<'a> Lease<'a> {
    /// One that begins now.
    pub fn begin(db: &Database, owner: &'a str, time: Duration) -> Self {
        let now_ms = db.now_ms();
        Self {
            owner,
            now_ms,
            until_ms: now_ms + millis(time),
        }
    }
}
