//! Write plugins for wxhost in Rust.
//!
//! A plugin answers what users write to a WeChat official account and what happens around it. It is a
//! type that implements [`CallbackHandler`] and is named to [`register!`]:
//!
//! ```
//! use wxhost_sdk::prelude::*;
//!
//! pub struct Hello;
//!
//! impl CallbackHandler for Hello {
//!     fn on_text(_: &Event, text: &Text) -> Result {
//!         Reply::text(format!("You wrote: {}", text.content)).into()
//!     }
//! }
//!
//! wxhost_sdk::register!(Hello);
//! # fn main() {}
//! ```
//!
//! A handler is a function. What it reads comes from [`config`], [`kv`], [`cache`], [`contacts`],
//! [`account`], [`time`] and [`random`], and from outside by [`wechat_api`] and [`egress`]; what it
//! changes it returns: an [`Outcome`] is the [`Reply`] and the effects ([`message`]s among them), which
//! the host commits together, exactly once for each event.
//!
//! ```
//! use wxhost_sdk::prelude::*;
//!
//! pub struct Counter;
//!
//! impl CallbackHandler for Counter {
//!     fn on_text(event: &Event, _: &Text) -> Result {
//!         let key = format!("count/{}", event.open_id);
//!         let count = kv::get_json::<u64>(&key)?.unwrap_or(0) + 1;
//!         Outcome::reply(Reply::text(count.to_string())).put_json(key, &count)
//!     }
//! }
//! # use wxhost_sdk::testing::{self, TestHost};
//! # let mut host = TestHost::new();
//! # host.deliver::<Counter>(&testing::text("a"));
//! # assert_eq!(host.deliver::<Counter>(&testing::text("b")).reply_text(), Some("2"));
//! ```
//!
//! Beside callbacks a plugin may compose [`push`]es, what its tenant's system has sent to many, and decide on
//! [`login`]s, of users who open its tenant's pages. It makes orders that people [`pay`], sees the account's
//! [`orders`], and handles each [`payment`].
//!
//! Plugins are built for `wasm32-unknown-unknown`. On any other target the functions above are answered
//! by [`testing`], so `cargo test` needs neither WebAssembly nor a host.

pub mod account;
#[cfg(any(test, all(target_arch = "wasm32", feature = "arena")))]
mod arena;
#[doc(hidden)]
pub mod bindings;
pub mod cache;
pub mod config;
pub mod contacts;
pub mod egress;
mod error;
pub mod event;
mod handler;
pub mod kv;
pub mod log;
pub mod login;
pub mod message;
pub mod orders;
mod outcome;
pub mod pay;
pub mod payment;
pub mod push;
pub mod random;
#[doc(hidden)]
pub mod register;
mod reply;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;
pub mod wechat_api;

pub use error::{Error, Fault, Result};
pub use event::{Content, Event};
pub use handler::CallbackHandler;
pub use outcome::{
    AttributeChange, Effect, Expectation, KvDelete, KvPut, OptOutChange, Outcome, RefundRequest,
    RemarkChange, TagChange,
};
pub use reply::{Article, Music, Reply, Video};

/// What nearly every plugin needs.
pub mod prelude {
    pub use crate::event::{Content, Event, Image, Location, Scan, Subscribe, Text, View, Voice};
    pub use crate::{Article, CallbackHandler, Error, Outcome, Reply, Result};
    pub use crate::{account, cache, config, contacts, kv, log};
}

#[cfg(target_arch = "wasm32")]
use bindings::wxhost::plugin as host;
#[cfg(not(target_arch = "wasm32"))]
use testing::imports as host;
