//! WeChat's API (服务端接口): each call as a value that becomes a [`Request`], and the reading of its
//! answer.
//!
//! ```
//! use wxhost_wechat::api::{Call, token::Ticket};
//!
//! let request = Ticket::Jsapi.request()?;
//! assert_eq!(request.path, "/cgi-bin/ticket/getticket");
//! let fresh = Ticket::answer(br#"{"errcode":0,"ticket":"t","expires_in":7200}"#)?;
//! assert_eq!(fresh.expires_in_seconds, 7200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A module per family of WeChat's documents; field names are WeChat's. The limits that the documents
//! state are checked when a request is built, so that a broken call costs neither quota nor time. Where
//! a request goes, with which token, how long and how often is the client's work.

mod answer;
mod call;
mod json;
mod limit;
mod percent;
#[cfg(test)]
mod testing;

pub mod component;
pub mod oauth;
pub mod open_account;
pub mod token;

pub mod customer_message;
pub mod mass;
mod notice;
pub mod subscription;
pub mod template;
pub mod template_review;

pub mod blacklist;
pub mod tag;
pub mod user;

pub mod material;
pub mod media;

pub mod draft;
pub mod publication;

pub mod kf_account;
pub mod kf_session;

pub mod menu;
pub mod qrcode;
pub mod short_key;

pub mod network;
pub mod quota;

pub use answer::{AnswerError, Done, LongId};
pub use call::{Body, Call, MAX_PATH_BYTES, Method, Multipart, Request, generic, is_plain_path};
pub use limit::{InvalidCall, Unit};
