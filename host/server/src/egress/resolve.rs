//! From a name to the addresses that are connected to, each checked first.
//!
//! The check is made on what the connection is then opened to, so a name that changes its mind between
//! two looks ("rebinding") gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolving};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::address::AddressPolicy;

/// Look-ups of the system at the same time. Each occupies a thread until the system gives up, long
/// after the plugin that asked has gone; so names that never answer must not use up the threads.
const MAX_LOOKUPS: usize = 64;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host name, in the order to try them.
    ///
    /// # Errors
    /// The name does not exist, or nobody answers for it.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let turn = Arc::clone(&self.lookups).acquire_owned().await;
        let turn = turn.map_err(io::Error::other)?;
        let host = host.to_owned();
        // In a task, so that the place is kept until the look-up has really ended.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            drop(turn);
            found.map(|found| found.map(|address| address.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// A name has addresses, and none of them may be reached.
#[derive(Debug, Error)]
#[error("the name has no address that may be reached")]
pub(super) struct NoneReachable;

/// What the HTTP client asks: gives only addresses that may be connected to.
pub(super) struct CheckedResolver {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) policy: Arc<AddressPolicy>,
}

impl reqwest::dns::Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, policy) = (Arc::clone(&self.resolver), Arc::clone(&self.policy));
        Box::pin(async move {
            let found = resolver.addresses(name.as_str()).await?;
            let reachable: Vec<SocketAddr> = found
                .iter()
                .filter(|address| policy.permits(**address))
                .map(|address| SocketAddr::new(*address, 0))
                .take(MAX_ADDRESSES)
                .collect();
            if reachable.is_empty() {
                return Err(NoneReachable.into());
            }
            Ok(Box::new(reachable.into_iter()) as Addrs)
        })
    }
}
