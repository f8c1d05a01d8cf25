//! Deciding on logins: users who open the tenant's web pages in WeChat.
//!
//! ```
//! use wxhost_sdk::login::{Login, LoginHandler, Verdict};
//! use wxhost_sdk::prelude::*;
//!
//! pub struct Members;
//!
//! impl LoginHandler for Members {
//!     fn decide(login: &Login) -> Result<Verdict> {
//!         if login.snapshot_user {
//!             return Ok(Verdict::refuse("snapshot"));
//!         }
//!         let level = if login.follows() { "member" } else { "guest" };
//!         Ok(Verdict::admit().claim("level", level))
//!     }
//! }
//!
//! wxhost_sdk::register!(Members, handlers = [login]);
//! # use wxhost_sdk::testing::{TestHost, login};
//! # let decided = TestHost::new().decide::<Members>(&login("oA"));
//! # assert_eq!(decided.result.unwrap(), Verdict::admit().claim("level", "guest"));
//! # fn main() {}
//! ```

use crate::contacts::Contact;
use crate::error::Result;

pub use crate::bindings::login::exports::wxhost::plugin::login_handler::{
    Claim, Login, Scope, Verdict,
};

/// Decides on who logs in.
///
/// It reads like any handler and changes nothing. The host may ask again about the same login.
pub trait LoginHandler {
    /// Decides on one login.
    ///
    /// # Errors
    ///
    /// Yours. Nobody is let in then: the user is told to try again.
    fn decide(login: &Login) -> Result<Verdict>;
}

impl Login {
    /// Whether the host knows that the person follows the account.
    #[must_use]
    pub fn follows(&self) -> bool {
        let following = |contact: &Contact| contact.following;
        self.contact.as_ref().and_then(following) == Some(true)
    }
}

impl Verdict {
    /// Lets them in, with no claims yet.
    #[must_use]
    pub fn admit() -> Self {
        Self::Admit(Vec::new())
    }

    /// And says this of them; 16 claims in all. Who is refused stays refused.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Self::Admit(claims) = &mut self {
            claims.push(Claim {
                name: name.into(),
                value: value.into(),
            });
        }
        self
    }

    /// Leads them back without being logged in, for this reason.
    pub fn refuse(reason: impl Into<String>) -> Self {
        Self::Refuse(reason.into())
    }
}
