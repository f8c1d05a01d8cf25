//! Durable values of this account. Reads are functions here; writes are effects of the
//! [`Outcome`](crate::Outcome).
//!
//! A read-then-write needs no lock: when another event changed what this call has read, the host runs
//! the handler again with fresh values, and only the last run counts.

use crate::error::{Error as Failure, Result};
use crate::host;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::kv::{Entry, Error, Item, Page, Version};

/// Items that [`items`] asks for at a time; the host's maximum.
const PAGE_ITEMS: u32 = 100;

/// The value under a key with its version, if there is one.
///
/// # Errors
///
/// When the key is not valid or the host's database cannot be reached.
pub fn get(key: &str) -> Result<Option<Entry>, Error> {
    host::kv::get(key)
}

/// The text under a key, if there is one.
///
/// # Errors
///
/// As [`get`]; and when the value is not UTF-8.
pub fn get_text(key: &str) -> Result<Option<String>> {
    match get(key)? {
        Some(entry) => Ok(Some(String::from_utf8(entry.value)?)),
        None => Ok(None),
    }
}

/// The JSON value under a key, if there is one.
///
/// # Errors
///
/// As [`get`]; and when the value does not fit the type.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    match get(key)? {
        Some(entry) => serde_json::from_slice(&entry.value)
            .map(Some)
            .map_err(|error| Failure::bug(format!("the value of {key} does not fit: {error}"))),
        None => Ok(None),
    }
}

/// One page of the values whose keys begin with `prefix`: `limit` of them at most (1 to 100), after the
/// place that `cursor` names.
///
/// # Errors
///
/// When prefix or cursor are not valid or the host's database cannot be reached.
pub fn page(prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
    host::kv::list(prefix, cursor, limit)
}

/// All values whose keys begin with `prefix`, in byte order of the keys, page after page. Ends after the
/// first error. Each page counts against the reads that a call may make.
pub fn items(prefix: &str) -> impl Iterator<Item = Result<Item, Error>> {
    Items {
        prefix,
        loaded: Vec::new().into_iter(),
        next: Some(None),
    }
}

/// The iterator of [`items`].
struct Items<'p> {
    prefix: &'p str,
    loaded: std::vec::IntoIter<Item>,
    /// The cursor of the next page; `None` after the last one.
    next: Option<Option<String>>,
}

impl Iterator for Items<'_> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.loaded.next() {
                return Some(Ok(item));
            }
            let cursor = self.next.take()?;
            match page(self.prefix, cursor.as_deref(), PAGE_ITEMS) {
                Ok(page) => {
                    self.loaded = page.items.into_iter();
                    self.next = page.next.map(Some);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
