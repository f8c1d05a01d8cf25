//! Events that were seen: what is under way is joined, what was answered is answered alike.
//!
//! WeChat delivers a callback again when it was not answered in time: the same event, a fresh
//! signature. [`Table`] knows the events of this host and [`Nonces`] the nonces that came with them;
//! other hosts' events are in Redis (`store::redis`). Neither makes effects happen once: the
//! database's `inbox` table does (`db::commit`).
//!
//! `settings`: how an account's callbacks come; `opt_out_words` are part of them.

mod keyed;
mod nonces;
mod opt_out_words;
mod run;
mod settings;
mod table;

pub use nonces::{Nonces, UsedNonce, body_hash};
pub use opt_out_words::{Asked, OptOutWords};
pub use run::{Answer, Run, Settled};
pub use settings::{
    CallbackChange, CallbackSettings, KeyChange, MAX_FALLBACK_BYTES, NewCallbacks, WINDOW_SECONDS,
};
pub(crate) use settings::{decoy, mode_of};
pub use table::{Admission, EVENT_TABLE_BYTES, Table};
