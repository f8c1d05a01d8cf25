//! How many requests, or look-ups of names, are under way at the same time: bounded for each tenant, and for
//! the host.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Tenants on the list before those with nothing under way are taken from it.
const MAX_IDLE_TENANTS: usize = 256;

/// Who may send now.
#[derive(Debug)]
pub(super) struct Turns {
    per_tenant: usize,
    host: Arc<Semaphore>,
    tenants: Mutex<HashMap<Box<str>, Weak<Semaphore>>>,
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _tenants: OwnedSemaphorePermit,
    _hosts: OwnedSemaphorePermit,
}

impl Turns {
    /// Lets so many be under way for each tenant, and in all.
    pub(super) fn new(per_tenant: usize, on_host: usize) -> Self {
        Self {
            per_tenant,
            host: Arc::new(Semaphore::new(on_host)),
            tenants: Mutex::default(),
        }
    }

    /// Waits for a turn, in order of arrival within a tenant.
    pub(super) async fn wait(&self, tenant: &str) -> Option<Turn> {
        let own = self.of(tenant).acquire_owned().await.ok()?;
        let hosts = Arc::clone(&self.host).acquire_owned().await.ok()?;
        Some(Turn {
            _tenants: own,
            _hosts: hosts,
        })
    }

    fn of(&self, tenant: &str) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock();
        if let Some(known) = tenants.get(tenant).and_then(Weak::upgrade) {
            return known;
        }
        if tenants.len() >= MAX_IDLE_TENANTS {
            tenants.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = Arc::new(Semaphore::new(self.per_tenant));
        tenants.insert(tenant.into(), Arc::downgrade(&turns));
        turns
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::task::unconstrained;

    use super::*;

    const MAX_PER_TENANT: usize = 16;
    const MAX_ON_HOST: usize = 256;

    /// A turn, if there is one now.
    fn at_once(turns: &Turns, tenant: &str) -> Option<Turn> {
        // Tokio makes a task that takes many permits in a row wait, too.
        unconstrained(turns.wait(tenant)).now_or_never().flatten()
    }

    #[tokio::test]
    async fn one_tenant_cannot_use_up_the_host() {
        let turns = Turns::new(MAX_PER_TENANT, MAX_ON_HOST);
        let mut held = Vec::new();
        for _ in 0..MAX_PER_TENANT {
            held.push(at_once(&turns, "greedy").expect("a turn"));
        }
        assert!(at_once(&turns, "greedy").is_none());
        assert!(at_once(&turns, "modest").is_some());
        held.pop();
        assert!(at_once(&turns, "greedy").is_some());
    }

    #[tokio::test]
    async fn the_host_has_a_bound_of_its_own() {
        let turns = Turns::new(MAX_PER_TENANT, MAX_ON_HOST);
        let mut held = Vec::new();
        for number in 0..MAX_ON_HOST {
            let tenant = format!("tenant{number}");
            held.push(at_once(&turns, &tenant).expect("a turn"));
        }
        assert!(at_once(&turns, "another").is_none());
        held.pop();
        assert!(at_once(&turns, "another").is_some());
    }

    #[tokio::test]
    async fn tenants_with_nothing_under_way_are_forgotten() {
        let turns = Turns::new(MAX_PER_TENANT, MAX_ON_HOST);
        for number in 0..10 * MAX_IDLE_TENANTS {
            let turn = at_once(&turns, &format!("tenant{number}"));
            drop(turn.expect("a turn"));
        }
        assert!(turns.tenants.lock().len() <= MAX_IDLE_TENANTS);
    }
}
