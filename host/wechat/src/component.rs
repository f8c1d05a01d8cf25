//! Third-party platforms (第三方平台, component): what WeChat tells a platform about itself and about the
//! accounts that have let it serve them, and what such an account grants.
//!
//! - [`Event`]: what comes to the platform's event URL, read from a body that
//!   [`crate::envelope::authenticate`] has opened.
//! - [`permission`]: the permission sets (权限集), and which one a call of the API needs.
//! - [`link`]: the addresses at which an account's administrator grants them.
//! - [`release_test`]: what WeChat checks before it releases a platform (全网发布检测).

mod event;
pub mod link;
pub mod permission;
pub mod release_test;

pub use event::{Event, EventError, Told};
