//! A pretend WeChat, with a pretend WeChat Pay: what stands on the other side of the wire, for `wxhost demo`, for trying things
//! by hand and for tests. It has two sides that know nothing of each other: callbacks, which it sends,
//! and [`api`], which it answers.
//!
//! It is as strict as WeChat wherever WeChat's rule is known, and stricter where it is not, so that
//! a host which satisfies it has nothing to fear from the real one. Everything travels over real HTTP.
//!
//! In reading order:
//!
//! * [`Environment`]: where the pretend WeChat takes the time and chance from.
//! * [`SimulatedAccount`]: an official account as WeChat's settings page knows it.
//! * [`SimulatedComponent`]: a third-party platform, by which an account's callbacks may travel.
//! * [`UserAction`]: what a user does; [`Callback`]: what WeChat tells the host about it.
//! * [`Envelope`]: a callback signed, and encrypted where the mode asks for it, ready to be posted.
//! * [`WechatPlatform`]: posts, waits five seconds, sends again, mutes; answers with a [`Delivery`].
//! * [`Shown`]: what the user sees of it; [`Flaw`]: what is wrong with an answer.
//! * [`Forgery`]: what an attacker sends.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use wxhost_simulator::{
//!     PushSettings, Shown, SimulatedAccount, SystemEnvironment, UserAction, WechatPlatform,
//! };
//! use wxhost_wechat::{envelope::Mode, id::OpenId};
//!
//! let wechat = WechatPlatform::new(PushSettings::default(), Arc::new(SystemEnvironment))?;
//! let url = "http://127.0.0.1:8080";
//! let account = SimulatedAccount::register(url, Mode::Safe, &SystemEnvironment);
//! let user = OpenId::parse("oUser0000000000000000000001")?;
//! let delivery = wechat.user_does(&account, &user, &UserAction::text("你好")).await;
//! assert_ne!(delivery.shown, Shown::ServiceFault);
//! # Ok(())
//! # }
//! ```

mod environment;

mod account;
mod callback;
mod component;
mod envelope;
mod user_action;

mod answer;
mod delivery;
mod forgery;
mod platform;
mod standing;

pub mod api;

pub use account::SimulatedAccount;
pub use answer::{Flaw, SERVICE_FAULT, Shown};
pub use callback::{Callback, Field};
pub use component::SimulatedComponent;
pub use delivery::{Attempt, Delivery, Outcome};
pub use envelope::{Envelope, Stamp};
pub use environment::{Environment, SeededEnvironment, SystemEnvironment};
pub use forgery::Forgery;
pub use platform::{
    HttpAnswer, PlatformError, PostError, PushSettings, UrlRefused, WechatPlatform,
};
pub use user_action::UserAction;
