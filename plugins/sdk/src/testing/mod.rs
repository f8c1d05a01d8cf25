//! A host in memory, for `cargo test`.
//!
//! ```
//! use wxhost_sdk::prelude::*;
//! use wxhost_sdk::testing::{self, TestHost};
//!
//! pub struct Greeter;
//!
//! impl CallbackHandler for Greeter {
//!     fn on_subscribe(event: &Event, _: &Subscribe) -> Result {
//!         Ok(Outcome::reply(Reply::text("Welcome!")).put("newest", event.open_id.as_str()))
//!     }
//! }
//!
//! let mut host = TestHost::new();
//! let run = host.deliver::<Greeter>(&testing::subscribe().from_user("oAnna"));
//! assert_eq!(run.reply_text(), Some("Welcome!"));
//! assert_eq!(host.text("newest"), Some("oAnna"));
//! ```

mod events;
pub(crate) mod imports;

use crate::account::{Info, Mode};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handler::CallbackHandler;
use crate::kv::Entry;
use crate::log::Level;
use crate::outcome::{Effect, Expectation, Outcome};
use crate::reply::Reply;
use imports::State;

pub use events::{click, event, image, scan, subscribe, subscribe_by, text};

/// The host that a test sets up, calls and looks into.
#[derive(Debug)]
pub struct TestHost {
    state: State,
}

/// What came of a call.
#[derive(Debug)]
pub struct Run {
    /// What the handler returned.
    pub result: Result,
    /// What it wrote to its log.
    pub log: Vec<(Level, String)>,
    /// Whether its effects took hold: false after an error, after a broken expectation, and after
    /// [`TestHost::run`], which commits nothing.
    pub committed: bool,
}

impl TestHost {
    /// A host with an account of safe mode, empty settings, no values, and a clock that stands still at
    /// 1,700,000,000 seconds.
    #[must_use]
    pub fn new() -> Self {
        let account = Info {
            app_id: "wx0123456789abcdef".to_owned(),
            original_id: "gh_0123456789ab".to_owned(),
            name: "Test".to_owned(),
            mode: Mode::Safe,
        };
        Self {
            state: State::new(account),
        }
    }

    /// With these settings.
    #[must_use]
    pub fn config(mut self, config: &serde_json::Value) -> Self {
        self.state.config = config.to_string();
        self
    }

    /// With a secret of this name.
    #[must_use]
    pub fn secret(mut self, name: &str) -> Self {
        self.state.secrets.insert(name.to_owned());
        self
    }

    /// For this account.
    #[must_use]
    pub fn account(mut self, account: Info) -> Self {
        self.state.account = account;
        self
    }

    /// With a stored value.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.state.store(key, value.into());
        self
    }

    /// At this time, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at_ms(mut self, now_ms: u64) -> Self {
        self.state.now_ms = now_ms;
        self
    }

    /// With a database and a cache that cannot be reached.
    #[must_use]
    pub fn unavailable(mut self) -> Self {
        self.state.unavailable = true;
        self
    }

    /// Lets time pass.
    pub fn advance_ms(&mut self, ms: u64) {
        self.state.now_ms += ms;
    }

    /// Calls the handler and commits what it returns.
    pub fn deliver<P: CallbackHandler>(&mut self, event: &Event) -> Run {
        let mut run = self.run::<P>(event);
        if let Ok(outcome) = &run.result {
            run.committed = self.commit(&outcome.effects);
        }
        run
    }

    /// Calls the handler and commits nothing.
    pub fn run<P: CallbackHandler>(&mut self, event: &Event) -> Run {
        let (result, log) = self.state.during(|| P::handle(event));
        Run {
            result,
            log,
            committed: false,
        }
    }

    /// The stored value under a key.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.state
            .values
            .get(key)
            .map(|entry| entry.value.as_slice())
    }

    /// The stored value under a key, if it is text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(key)?).ok()
    }

    /// Applies all effects, or none if one of them expects something that is not so.
    fn commit(&mut self, effects: &[Effect]) -> bool {
        let expected = effects.iter().all(|effect| {
            let (key, expectation) = match effect {
                Effect::KvPut(put) => (&put.key, &put.expect),
                Effect::KvDelete(delete) => (&delete.key, &delete.expect),
            };
            holds(expectation, self.state.values.get(key))
        });
        if expected {
            for effect in effects {
                match effect {
                    Effect::KvPut(put) => self.state.store(&put.key, put.value.clone()),
                    Effect::KvDelete(delete) => {
                        self.state.values.remove(&delete.key);
                    }
                }
            }
        }
        expected
    }
}

impl Default for TestHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// The outcome, if the handler succeeded.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.result.as_ref().ok()
    }

    /// The reply, if there is one.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        self.outcome()?.reply.as_ref()
    }

    /// The reply's text, if it is a text.
    #[must_use]
    pub fn reply_text(&self) -> Option<&str> {
        match self.reply()? {
            Reply::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The effects; none after an error.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        self.outcome().map_or(&[], |outcome| &outcome.effects)
    }

    /// The error, if the handler failed.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.result.as_ref().err()
    }
}

/// Tells whether an expectation is true of what is stored.
fn holds(expectation: &Expectation, stored: Option<&Entry>) -> bool {
    match expectation {
        Expectation::Any => true,
        Expectation::Absent => stored.is_none(),
        Expectation::Unchanged(version) => stored.is_some_and(|entry| entry.version == *version),
    }
}

#[cfg(test)]
mod tests;
