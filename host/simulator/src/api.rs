//! The API side of the pretend WeChat: what `api.weixin.qq.com` answers, over real HTTP.
//!
//! Every rule is at least as strict as WeChat's document of it; where the documents are silent, the
//! stricter reading is taken. Time is the machine's, moved forward on request and never waited for.
//!
//! In reading order:
//!
//! * [`ApiServer`] listens; [`Settings`] and [`AppSettings`] tell it what exists; [`Control`] changes
//!   and shows it, in process and under `/_sim/…`.
//! * `exchange`: one request from its arrival to its answer, faults and record included.
//! * `world`: all that the pretend WeChat knows; `routes`: which paths there are.
//! * `app`, `tokens`, `tickets`, `quota`: one account, its credentials and its limits.
//! * One file per family of calls.
//! * `pay`: WeChat Pay, which has an address of its own in life.

mod server;

mod arrival;
mod control;
mod exchange;
mod fault;
mod record;
mod rid;
mod staging;

mod answer;
mod body;
mod refusal;
mod routes;
mod world;

mod app;
mod component;
mod component_doors;
mod quota;
mod tickets;
mod tokens;

mod allowance;
mod followers;
mod form;
mod html;
mod keywords;
mod login;
mod media;
mod menu;
mod shown;
mod templates;

mod address_calls;
mod articles;
mod code_calls;
mod component_calls;
mod customer_calls;
mod desk;
mod login_calls;
mod login_doors;
mod mass_calls;
mod media_calls;
mod menu_calls;
mod quota_calls;
mod subscription_calls;
mod tag_calls;
mod template_calls;
mod token_calls;
mod user_calls;

mod pay;

#[cfg(test)]
mod tests;

pub use app::{AppKind, AppSettings};
pub use component::ComponentSettings;
pub use control::{Control, ControlError};
pub use server::{ApiServer, Settings};
