//! WeChat's protocol for official accounts, pure: bytes in, values out. No IO, no clock, no randomness.
//!
//! WeChat's servers call an account's URL with a signed query and an XML or JSON body, in clear or
//! sealed with AES; the answer to that call is the reply that the user sees. In the other direction an
//! account calls WeChat's API with a token. This crate knows every byte of both and nothing else; who the account is, what time it is and where random bytes
//! come from is told by the caller, so everything here can be tested by table and fuzzed.
//!
//! Reading order:
//!
//! 1. [`id`] and [`secret`]: what an account is known by, and what it must keep to itself.
//! 2. [`signature`] and [`cipher`]: the two mechanisms that protect a callback.
//! 3. [`body`], [`tree`], [`xml`], [`json`]: hostile bytes become an ordered tree within limits;
//!    `lenient` reads what is authentic and yet not well-formed.
//! 4. [`message`]: the tree becomes a typed value; what has no type stays beside it.
//! 5. [`reply`]: what an account may answer, and WeChat's limits on it.
//! 6. [`envelope`]: the whole exchange: [`envelope::verify_url`], [`envelope::open`],
//!    [`envelope::seal`].
//! 7. [`api`]: calls to WeChat and their answers; [`errcode`]: how it refuses.
//! 8. [`component`]: third-party platforms: what they are told, what accounts grant them, the links by which.
//! 9. [`oauth`]: how a user tells a page who they are; [`jssdk`]: signatures for an account's web pages.
//! 10. [`pay`]: WeChat Pay, by which people pay to a merchant.
//!
//! The rules come from WeChat's documents 接入概述 (server configuration), 接收普通消息 and 接收事件推送
//! (messages and events), 被动回复用户消息 (replies) and 消息加解密说明 (encryption).

pub mod id;
pub mod secret;

pub mod cipher;
pub mod signature;

pub mod body;
pub mod json;
mod lenient;
pub mod tree;
pub mod xml;

pub mod message;
pub mod reply;

pub mod envelope;

pub mod api;
pub use api::customer_message;
pub mod component;
pub mod errcode;
pub mod jssdk;
pub mod oauth;
pub mod pay;
