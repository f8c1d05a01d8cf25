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
mod logins;
pub(crate) mod money;
mod people;
mod pushes;

use crate::account::{Info, Mode};
use crate::contacts::Contact;
use crate::egress;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handler::CallbackHandler;
use crate::kv::Entry;
use crate::log::Level;
use crate::login::{Login, LoginHandler, Verdict};
use crate::outcome::{Effect, Expectation, Outcome};
use crate::payment::{self, PaymentHandler};
use crate::push::{Composition, Push, PushHandler, Recipient};
use crate::reply::Reply;
use crate::wechat_api::{self, Quota, User};
use imports::State;

pub use events::{click, event, image, scan, subscribe, subscribe_by, text};
pub use logins::login;
pub use money::{closed, paid, refund_failed, refunded};
pub use people::{contact, recipient, user};
pub use pushes::push;

/// The host that a test sets up, calls and looks into.
#[derive(Debug)]
pub struct TestHost {
    state: State,
    /// The messages that were committed, in their order.
    sent: Vec<Effect>,
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

/// What came of composing a push.
#[derive(Debug)]
pub struct Composing {
    /// What the handler returned.
    pub result: Result<Vec<Composition>>,
    /// What it wrote to its log.
    pub log: Vec<(Level, String)>,
}

/// What came of deciding on a login.
#[derive(Debug)]
pub struct Deciding {
    /// What the handler returned.
    pub result: Result<Verdict>,
    /// What it wrote to its log.
    pub log: Vec<(Level, String)>,
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
            sent: Vec::new(),
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

    /// With a contact; [`contact`] makes one to begin with.
    #[must_use]
    pub fn contact(mut self, contact: Contact) -> Self {
        self.state.contacts.insert(contact.open_id.clone(), contact);
        self
    }

    /// With a follower as WeChat knows it; [`user`] makes one to begin with.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.state.users.insert(user.open_id.clone(), user);
        self
    }

    /// With this menu, WeChat's JSON. Without one WeChat refuses with 46003.
    #[must_use]
    pub fn menu(mut self, menu: &serde_json::Value) -> Self {
        self.state.menu = Some(menu.to_string());
        self
    }

    /// With what is left of a path's quota.
    #[must_use]
    pub fn quota(mut self, cgi_path: &str, quota: Quota) -> Self {
        self.state.quotas.insert(cgi_path.to_owned(), quota);
        self
    }

    /// With what WeChat answers at a path. Every path without an answer is not granted.
    #[must_use]
    pub fn api(mut self, path: &str, answer: Result<serde_json::Value, wechat_api::Error>) -> Self {
        let answer = answer.map(|json| json.to_string());
        self.state.answers.insert(path.to_owned(), answer);
        self
    }

    /// With what another system answers at a URL. Every URL without an answer is not granted.
    #[must_use]
    pub fn web(mut self, url: &str, answer: Result<egress::Response, egress::Error>) -> Self {
        self.state.web.insert(url.to_owned(), answer);
        self
    }

    /// At this time, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at_ms(mut self, now_ms: u64) -> Self {
        self.state.now_ms = now_ms;
        self
    }

    /// With a database, a cache and a WeChat that cannot be reached.
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

    /// Has the handler compose a push. [`push`] and [`recipient`] make what it gets; who is a
    /// [`contact`](Self::contact) of the host comes with what is known of them.
    pub fn compose<P: PushHandler>(&mut self, push: &Push, recipients: &[Recipient]) -> Composing {
        let mut recipients = recipients.to_vec();
        for recipient in &mut recipients {
            if recipient.contact.is_none() {
                recipient.contact = self.state.contacts.get(&recipient.open_id).cloned();
            }
        }
        let (result, log) = self.state.during(|| P::compose_all(push, &recipients));
        Composing { result, log }
    }

    /// Has the handler decide on a login, which [`login`] makes. Who is a [`contact`](Self::contact) of the
    /// host comes with what is known of them.
    pub fn decide<P: LoginHandler>(&mut self, login: &Login) -> Deciding {
        let mut login = login.clone();
        if login.contact.is_none() {
            login.contact = self.state.contacts.get(&login.open_id).cloned();
        }
        let (result, log) = self.state.during(|| P::decide(&login));
        Deciding { result, log }
    }

    /// Has the handler handle a fact about money, and commits what it returns. [`paid`], [`closed`], [`refunded`]
    /// and [`refund_failed`] make facts; of an order that the host knows they tell that one.
    pub fn pay<P: PaymentHandler>(&mut self, event: &payment::Event) -> Run {
        let event = self.state.told(event);
        let (result, log) = self.state.during(|| P::handle(&event));
        let mut run = Run {
            result,
            log,
            committed: false,
        };
        if let Ok(outcome) = &run.result {
            run.committed = self.commit(&outcome.effects);
        }
        run
    }

    /// An order, as the ledger has it.
    #[must_use]
    pub fn order(&self, out_trade_no: &str) -> Option<&crate::orders::Order> {
        self.state.orders.get(out_trade_no).map(|kept| &kept.order)
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

    /// What is remembered of a person.
    #[must_use]
    pub fn contact_of(&self, open_id: &str) -> Option<&Contact> {
        self.state.contacts.get(open_id)
    }

    /// The messages that were committed, but for those to people who opted out.
    #[must_use]
    pub fn sent(&self) -> &[Effect] {
        &self.sent
    }

    /// What was asked of WeChat's API by [`wechat_api::call`] and its kin.
    #[must_use]
    pub fn api_calls(&self) -> &[wechat_api::Request] {
        &self.state.api_calls
    }

    /// What was asked of other systems.
    #[must_use]
    pub fn fetches(&self) -> &[egress::Request] {
        &self.state.fetches
    }

    /// Applies all effects, or none if one of them expects something that is not so.
    fn commit(&mut self, effects: &[Effect]) -> bool {
        let expected = effects.iter().all(|effect| {
            let (key, expectation) = match effect {
                Effect::KvPut(put) => (&put.key, &put.expect),
                Effect::KvDelete(delete) => (&delete.key, &delete.expect),
                Effect::Refund(refund) => return self.state.may_refund(refund),
                _ => return true,
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
                    Effect::SendMessage(message) => self.send(&message.open_id, effect),
                    Effect::SendTemplate(message) => self.send(&message.open_id, effect),
                    Effect::SendSubscription(message) => self.send(&message.open_id, effect),
                    Effect::ChangeTags(change) => {
                        self.person(&change.open_id).change_tags(change);
                    }
                    Effect::SetRemark(change) => {
                        self.person(&change.open_id)
                            .remark
                            .clone_from(&change.remark);
                    }
                    Effect::SetAttributes(change) => {
                        self.person(&change.open_id)
                            .change_attributes(&change.attributes);
                    }
                    Effect::SetOptOut(change) => {
                        self.person(&change.open_id).opted_out = change.opted_out;
                    }
                    Effect::Refund(refund) => self.state.refund(refund),
                    Effect::CloseOrder(number) => self.state.close(number),
                }
            }
        }
        expected
    }

    fn person(&mut self, open_id: &str) -> &mut Contact {
        let contacts = &mut self.state.contacts;
        contacts
            .entry(open_id.to_owned())
            .or_insert_with(|| contact(open_id))
    }

    fn send(&mut self, open_id: &str, message: &Effect) {
        if !self.person(open_id).opted_out {
            self.sent.push(message.clone());
        }
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
