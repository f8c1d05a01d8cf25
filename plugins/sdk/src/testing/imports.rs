//! The imports of a plugin, answered from memory. Same names and shapes as the generated ones.

use crate::account::Info;
use crate::contacts::Contact;
use crate::kv::Entry;
use crate::log::Level;
use crate::wechat_api::{Quota, User};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

thread_local! {
    /// The host of the call that this thread is in.
    static CURRENT: RefCell<Option<State>> = const { RefCell::new(None) };
}

/// Longest key in bytes, as the real host has it.
const MAX_KEY_BYTES: usize = 256;

/// Longest value of the cache in bytes, as the real host has it.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// What the host knows.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) account: Info,
    pub(crate) config: String,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) values: BTreeMap<String, Entry>,
    pub(crate) contacts: BTreeMap<String, Contact>,
    /// Followers, quotas, menu and answers, as WeChat would give them.
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) quotas: BTreeMap<String, Quota>,
    pub(crate) menu: Option<String>,
    pub(crate) answers: BTreeMap<String, Result<String, crate::wechat_api::Error>>,
    /// What other systems answer, by URL.
    pub(crate) web: BTreeMap<String, Result<crate::egress::Response, crate::egress::Error>>,
    /// What was asked of WeChat's API, other than by the typed functions, and of other systems.
    pub(crate) api_calls: Vec<crate::wechat_api::Request>,
    pub(crate) fetches: Vec<crate::egress::Request>,
    /// Orders by their numbers, with what was asked for, and their refunds.
    pub(crate) orders: BTreeMap<String, super::money::TestOrder>,
    pub(crate) now_ms: u64,
    pub(crate) unavailable: bool,
    /// Cached values and when they expire, in milliseconds.
    cached: BTreeMap<String, (Vec<u8>, u64)>,
    log: Vec<(Level, String)>,
    /// How many values were ever stored: the next version.
    stored: u64,
    /// How many numbers were drawn: the same ones in every test.
    drawn: u64,
}

impl State {
    pub(crate) fn new(account: Info) -> Self {
        Self {
            account,
            config: "{}".to_owned(),
            secrets: BTreeSet::new(),
            values: BTreeMap::new(),
            contacts: BTreeMap::new(),
            users: BTreeMap::new(),
            quotas: BTreeMap::new(),
            menu: None,
            answers: BTreeMap::new(),
            web: BTreeMap::new(),
            api_calls: Vec::new(),
            fetches: Vec::new(),
            orders: BTreeMap::new(),
            now_ms: 1_700_000_000_000,
            unavailable: false,
            cached: BTreeMap::new(),
            log: Vec::new(),
            stored: 0,
            drawn: 0,
        }
    }

    /// Stores a value under a new version.
    pub(crate) fn store(&mut self, key: &str, value: Vec<u8>) {
        self.stored += 1;
        self.values.insert(
            key.to_owned(),
            Entry {
                value,
                version: self.stored,
            },
        );
    }

    /// Does something while this state answers the imports; what it returned and what it logged.
    pub(crate) fn during<T>(&mut self, call: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
        CURRENT.set(Some(self.clone()));
        let result = call();
        *self = CURRENT
            .take()
            .expect("nothing else takes the state of a call");
        (result, std::mem::take(&mut self.log))
    }
}

/// Asks the host of the current call.
pub(super) fn ask<T>(question: impl FnOnce(&mut State) -> T) -> T {
    CURRENT.with_borrow_mut(|state| {
        let state = state.as_mut();
        question(state.expect("the host answers only inside TestHost::run or TestHost::deliver"))
    })
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && is_prefix(key)
}

fn is_prefix(prefix: &str) -> bool {
    prefix.len() <= MAX_KEY_BYTES && !prefix.chars().any(char::is_control)
}

pub(crate) mod account {
    use super::{Info, ask};

    pub(crate) fn get() -> Info {
        ask(|state| state.account.clone())
    }
}

pub(crate) mod config {
    use super::ask;

    pub(crate) fn get() -> String {
        ask(|state| state.config.clone())
    }

    pub(crate) fn has_secret(name: &str) -> bool {
        ask(|state| state.secrets.contains(name))
    }
}

pub(crate) mod kv {
    use super::{Entry, ask, is_key, is_prefix};
    use crate::kv::{Error, Item, Page};

    pub(crate) fn get(key: &str) -> Result<Option<Entry>, Error> {
        ask(|state| {
            if !is_key(key) {
                return Err(Error::InvalidKey);
            }
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            Ok(state.values.get(key).cloned())
        })
    }

    /// The cursor is the last key of the page before.
    pub(crate) fn list(prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let limit = limit.clamp(1, 100) as usize;
        ask(|state| {
            if !is_prefix(prefix) {
                return Err(Error::InvalidKey);
            }
            if cursor.is_some_and(|cursor| !cursor.starts_with(prefix)) {
                return Err(Error::InvalidCursor);
            }
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            let mut rest = state
                .values
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .filter(|(key, _)| cursor.is_none_or(|cursor| key.as_str() > cursor))
                .map(|(key, entry)| Item {
                    key: key.clone(),
                    entry: entry.clone(),
                });
            let items: Vec<Item> = rest.by_ref().take(limit).collect();
            let next = match (rest.next(), items.last()) {
                (Some(_), Some(last)) => Some(last.key.clone()),
                _ => None,
            };
            Ok(Page { items, next })
        })
    }
}

pub(crate) mod cache {
    use super::{MAX_VALUE_BYTES, State, ask, is_key};
    use crate::cache::Error;

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        ask(|state| {
            check(state, key)?;
            let live = state
                .cached
                .get(key)
                .filter(|(_, expires_ms)| *expires_ms > state.now_ms);
            Ok(live.map(|(value, _)| value.clone()))
        })
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_seconds: u32) -> Result<(), Error> {
        ask(|state| {
            check(state, key)?;
            if value.len() > MAX_VALUE_BYTES {
                return Err(Error::ValueTooLarge);
            }
            let expires_ms = state.now_ms + u64::from(ttl_seconds.clamp(1, 86_400)) * 1000;
            state
                .cached
                .insert(key.to_owned(), (value.to_vec(), expires_ms));
            Ok(())
        })
    }

    pub(crate) fn delete(key: &str) -> Result<(), Error> {
        ask(|state| {
            check(state, key)?;
            state.cached.remove(key);
            Ok(())
        })
    }

    fn check(state: &State, key: &str) -> Result<(), Error> {
        if !is_key(key) {
            return Err(Error::InvalidKey);
        }
        if state.unavailable {
            Err(Error::Unavailable)
        } else {
            Ok(())
        }
    }
}

pub(crate) mod contacts {
    use super::ask;
    use crate::contacts::{Contact, Error};

    pub(crate) fn get(open_id: &str) -> Result<Option<Contact>, Error> {
        ask(|state| {
            let plain = open_id.bytes().all(|byte| byte.is_ascii_graphic());
            if !plain || !(1..=128).contains(&open_id.len()) {
                return Err(Error::InvalidOpenId);
            }
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            Ok(state.contacts.get(open_id).cloned())
        })
    }
}

pub(crate) mod wechat_api {
    use super::{State, ask};
    use crate::wechat_api::{Error, Quota, Refusal, Request, User};

    pub(crate) fn user_info(open_id: &str) -> Result<User, Error> {
        asked(|state| {
            let user = state.users.get(open_id).cloned();
            user.ok_or_else(|| refused(40003, "invalid openid"))
        })
    }

    pub(crate) fn menu_get() -> Result<String, Error> {
        asked(|state| {
            let menu = state.menu.clone();
            menu.ok_or_else(|| refused(46003, "menu no exist"))
        })
    }

    pub(crate) fn quota_get(cgi_path: &str) -> Result<Quota, Error> {
        asked(|state| {
            let quota = state.quotas.get(cgi_path).copied();
            quota.ok_or_else(|| refused(76021, "cgi_path not found"))
        })
    }

    pub(crate) fn call(request: &Request) -> Result<String, Error> {
        asked(|state| {
            state.api_calls.push(request.clone());
            match state.answers.get(&request.path) {
                Some(answer) => answer.clone(),
                None => Err(Error::NotGranted(request.path.clone())),
            }
        })
    }

    fn asked<T>(question: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        ask(|state| {
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            question(state)
        })
    }

    fn refused(errcode: i64, errmsg: &str) -> Error {
        Error::Refused(Refusal {
            errcode,
            errmsg: errmsg.to_owned(),
        })
    }
}

pub(crate) mod egress {
    use super::ask;
    use crate::egress::{Error, Part, Request, Response};

    pub(crate) fn fetch(request: &Request) -> Result<Response, Error> {
        ask(|state| {
            state.fetches.push(request.clone());
            let values = request.headers.iter().flat_map(|header| &header.value);
            for part in values.chain(&request.body) {
                if let Part::Secret(name) = part
                    && !state.secrets.contains(name)
                {
                    return Err(Error::UnknownSecret(name.clone()));
                }
            }
            match state.web.get(&request.url) {
                Some(answer) => answer.clone(),
                None => Err(Error::NotGranted(host_of(&request.url).to_owned())),
            }
        })
    }

    fn host_of(url: &str) -> &str {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or(rest)
    }
}

pub(crate) use super::money::{orders, pay};

pub(crate) mod log {
    use super::{Level, ask};

    pub(crate) fn write(level: Level, message: &str) {
        ask(|state| state.log.push((level, message.to_owned())));
    }
}

pub(crate) mod time {
    use super::ask;

    pub(crate) fn now_ms() -> u64 {
        ask(|state| state.now_ms)
    }
}

pub(crate) mod random {
    use super::ask;

    pub(crate) fn bytes(length: u32) -> Vec<u8> {
        (0..length.min(4096))
            .map(|_| number().to_le_bytes()[0])
            .collect()
    }

    /// SplitMix64: spread out, and the same in every run.
    pub(crate) fn number() -> u64 {
        ask(|state| {
            state.drawn += 1;
            let mut number = state.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            number ^ (number >> 31)
        })
    }
}
