//! Runs one plugin safely.
//!
//! A *plugin* is a WebAssembly component of some tenant: hostile until proven otherwise, and it is never
//! proven otherwise. This crate checks it ([`Runtime::check`]), compiles it, keeps it ready
//! ([`Runtime::load`]) and runs it ([`Runtime::call_callback`]): every event in a fresh store and a fresh
//! instance, under limits on time, memory, stack, host calls, log and effects. It knows wasmtime and the
//! contract in `wit/`; it knows nothing of HTTP, SQL or Redis. All that a plugin can learn from the world
//! goes through one trait, [`Capabilities`].
//!
//! Where to look:
//!
//! * [`engine_config`] holds every setting of the sandbox, with its reason;
//! * `job` is all that is done with what a stranger uploaded: `check` reads it (`manifest` is what a plugin
//!   says of itself, `demands` what it costs), `schema` checks settings; `compile` has it done in a `child`
//!   process with limits, `turns` says whose is next, `refusal` names what is wrong;
//! * `artifact` is what comes of it, `native` keeps it on disk, `loaded` keeps plugins in memory, `foundry`
//!   ties these together;
//! * `call` runs an event; `permits` and `places` say when, `limits` and `cpu` how much; `outcome` measures
//!   what came of it, `failure` and `backtrace` tell what went wrong;
//! * `imports` and `wasi` are what a plugin may call.

mod artifact;
mod backtrace;
mod bindings;
mod bounds;
mod call;
mod capabilities;
mod check;
mod child;
pub mod compile;
mod contract;
mod cpu;
mod demands;
mod digest;
mod engine;
mod failure;
mod foundry;
mod imports;
mod job;
mod limits;
mod loaded;
mod log;
mod manifest;
mod native;
mod outcome;
mod permits;
mod places;
mod plugin;
mod refusal;
mod runtime;
mod schema;
mod state;
mod turns;
mod wasi;

#[cfg(test)]
mod guests;

pub use bindings::exports::wxhost::plugin::callback_handler::Outcome;
pub use bindings::exports::wxhost::plugin::login_handler as login;
pub use bindings::exports::wxhost::plugin::payment_handler as payment;
pub use bindings::exports::wxhost::plugin::push_handler as push;
pub use bindings::wxhost::plugin::failure::{Fault, PluginError};
pub use bindings::wxhost::plugin::{
    account, callback, contacts, effects, egress, messages, money, orders, pay, reply, wechat_api,
};
pub use bindings::wxhost::plugin::{account::Info as AccountInfo, cache::Error as CacheError};
pub use bindings::wxhost::plugin::{
    kv::Entry as KvEntry, kv::Error as KvError, kv::Item as KvItem, kv::Page as KvPage,
};
pub use bounds::MAX_UPLOAD_BYTES;
pub use call::{Call, CallReport};
pub use capabilities::Capabilities;
pub use compile::{CompileLimits, Compiler};
pub use contract::{CONTRACT_VERSION, Handler, MoneyRight};
pub use digest::{Digest, DigestError};
pub use engine::engine_config;
pub use failure::{Failure, FailureCode};
pub use foundry::{CheckedPlugin, LoadError};
pub use limits::CallLimits;
pub use log::{LogLevel, LogLine, PluginLog};
pub use manifest::{
    BUILT_IN_PUSH_KINDS, InvalidGrant, Manifest, Origin, PathPrefix, PushKind, Wanted,
    is_plain_path,
};
pub use permits::TenantPermits;
pub use plugin::Plugin;
pub use refusal::{CompileError, DeployError};
pub use runtime::{Runtime, RuntimeError, RuntimeSettings};
pub use schema::ConfigError;
