//! Values of this account that may be lost at any moment. Unlike [`kv`](crate::kv), writes take effect
//! at once and are no part of the event's commit.

use crate::error::{Error as Failure, Result};
use crate::host;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::cache::Error;

/// The value under a key; absent when it was never set, has expired or was lost.
///
/// # Errors
///
/// When the key is not valid or the cache cannot be reached.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::cache::get(key)
}

/// The JSON value under a key. What does not fit the type counts as absent.
///
/// # Errors
///
/// As [`get`].
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    Ok(get(key)?.and_then(|value| serde_json::from_slice(&value).ok()))
}

/// Keeps a value for `ttl_seconds` (1 to 86,400).
///
/// # Errors
///
/// When the key is not valid, the value is longer than 64 KiB or the cache cannot be reached.
pub fn set(key: &str, value: &[u8], ttl_seconds: u32) -> Result<(), Error> {
    host::cache::set(key, value, ttl_seconds)
}

/// Keeps a value as JSON for `ttl_seconds` (1 to 86,400).
///
/// # Errors
///
/// As [`set`]; and when the value has no JSON form.
pub fn set_json(key: &str, value: &impl Serialize, ttl_seconds: u32) -> Result<()> {
    let value = serde_json::to_vec(value).map_err(|error| Failure::bug(error.to_string()))?;
    Ok(set(key, &value, ttl_seconds)?)
}

/// Forgets a value; forgetting what is not there is no error.
///
/// # Errors
///
/// When the key is not valid or the cache cannot be reached.
pub fn delete(key: &str) -> Result<(), Error> {
    host::cache::delete(key)
}
