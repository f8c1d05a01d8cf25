//! The wxhost service: accounts, plugins, the callback lane, the admin API.
//!
//! A guided tour, in reading order:
//!
//! 1. [`app`] puts a host together and serves it; [`services`] is what its lanes share, [`config`] what the
//!    operator sets.
//! 2. [`http`] is what all that is served shares, and what is served beside the lanes.
//! 3. [`callback`] is the lane that WeChat's servers call: admit a delivery to its event's run ([`inbox`]), claim the event among
//!    hosts ([`store`]); [`run`], which lanes share, runs the plugin with what it may read
//!    ([`capabilities`]), commits its
//!    [`effects`] once ([`db::commit`]) and records the call ([`records`]); [`outbox`] sends what the
//!    event has to send. [`push`] is the lane of what tenants' systems send to many, [`login`] that of
//!    users who tell an account's pages who they are, [`platform`] that of accounts that come by a scan,
//!    [`pay`] that of money.
//! 4. [`accounts`] and [`plugins`]: who is served, and by which code; [`grants`]: what it may reach;
//!    [`contacts`]: who met them; [`egress`] takes plugins' requests to their tenants' own systems;
//!    [`secrets`]: what those may carry, and where to; [`keys`]: what tenants' own systems may ask for.
//! 5. [`client`] calls WeChat with the tokens that [`tokens`] keeps for all hosts; [`credentials`] is
//!    what a host holds of them, [`transport`] the connections to WeChat; [`templates`] are those that
//!    accounts have.
//! 6. [`checkout`] makes orders and refunds by the rules of the [`ledger`]; [`merchant_client`] calls WeChat
//!    Pay with the keys that [`merchants`] keeps at hand.
//! 7. [`db`] holds all SQL; [`seal`] keeps secrets closed at rest.
//! 8. [`tasks`] are the loops; [`telemetry`] is what an operator watches, where [`printable`] lets no
//!    stranger forge a row.
//!
//! `wxhost-wechat` knows the protocol, `wxhost-runtime` the sandbox; neither knows of the other.

pub mod app;
pub mod config;

pub mod callback;
pub mod checkout;
pub mod http;
pub mod inbox;
pub mod run;
pub mod services;

pub mod accounts;
pub mod capabilities;
pub mod contacts;
pub mod effects;
pub mod egress;
pub mod grants;
pub mod keys;
pub mod ledger;
pub mod login;
pub mod merchants;
pub mod outbox;
pub mod pay;
pub mod platform;
pub mod plugins;
pub mod push;
pub mod quotas;
pub mod secrets;
pub mod settings;

pub mod client;
pub mod credentials;
pub mod merchant_client;
pub mod templates;
pub mod tokens;
pub mod transport;

pub mod db;
pub mod seal;
pub mod store;

pub mod audit;
mod backoff;
mod bucket;
pub mod clock;
mod digest;
pub mod printable;
pub mod random;
pub mod records;
mod registry;
pub mod tasks;
pub mod telemetry;
pub mod write_behind;

pub use app::App;
pub use config::Config;
pub use services::StartError;
