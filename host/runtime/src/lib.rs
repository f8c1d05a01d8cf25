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
//! * `check` refuses (`manifest` is what a plugin says of itself), `compile` compiles in a child process, `native` keeps native code on disk, `loaded`
//!   keeps plugins in memory, `foundry` ties these together;
//! * `call` runs an event; `permits` says when, `limits` how much; `outcome` measures what came of it,
//!   `failure` names what went wrong;
//! * `imports` and `wasi` are what a plugin may call.

mod bindings;
mod call;
mod capabilities;
mod check;
pub mod compile;
mod digest;
mod engine;
mod failure;
mod foundry;
mod imports;
mod limits;
mod loaded;
mod log;
mod manifest;
mod native;
mod outcome;
mod permits;
mod plugin;
mod runtime;
mod state;
mod wasi;

#[cfg(test)]
mod guests;

pub use bindings::exports::wxhost::plugin::callback_handler::{Fault, Outcome, PluginError};
pub use bindings::wxhost::plugin::{
    account, callback, contacts, effects, egress, messages, reply, wechat_api,
};
pub use bindings::wxhost::plugin::{account::Info as AccountInfo, cache::Error as CacheError};
pub use bindings::wxhost::plugin::{
    kv::Entry as KvEntry, kv::Error as KvError, kv::Item as KvItem, kv::Page as KvPage,
};
pub use call::{Call, CallReport};
pub use capabilities::Capabilities;
pub use check::{CheckedPlugin, DeployError, MAX_UPLOAD_BYTES};
pub use compile::{CompileError, CompileLimits, Compiler};
pub use digest::{Digest, DigestError};
pub use engine::engine_config;
pub use failure::{Failure, FailureCode};
pub use foundry::LoadError;
pub use limits::CallLimits;
pub use log::{LogLevel, LogLine, PluginLog};
pub use manifest::{InvalidGrant, Manifest, Origin, PathPrefix, Wanted, is_plain_path};
pub use permits::TenantPermits;
pub use plugin::{Handler, Plugin};
pub use runtime::{Runtime, RuntimeError, RuntimeSettings};
