//! Tokens for unit tests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Tokens, TokensParts};
use crate::accounts::Accounts;
use crate::client::Transport;
use crate::clock::Clock;
use crate::seal::MasterKeys;
use crate::store::{MemoryCache, Store};
use crate::telemetry::Metrics;

/// Tokens of one host alone, with a WeChat at `base`.
pub(crate) fn tokens(
    accounts: &Arc<Accounts>,
    keys: &Arc<MasterKeys>,
    store: Store,
    base: &str,
) -> Arc<Tokens> {
    Tokens::new(TokensParts {
        accounts: Arc::clone(accounts),
        store,
        keys: Arc::clone(keys),
        transport: Arc::new(Transport::open(base, &[]).unwrap()),
        metrics: Arc::new(Metrics::new()),
        clock: Clock,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    })
}

/// Tokens of a host that reaches no WeChat: nobody listens on port 1.
pub(crate) fn unconnected(accounts: &Arc<Accounts>, keys: &Arc<MasterKeys>) -> Arc<Tokens> {
    let store = Store::Memory(Arc::new(MemoryCache::new()));
    tokens(accounts, keys, store, "http://127.0.0.1:1")
}
