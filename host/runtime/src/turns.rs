//! Whose upload is worked on next. Few children run at once, each may take a minute, and what they work on
//! comes from strangers: so no tenant's deployments take more than one place, the tenant that was served
//! longest ago comes first, and what an event waits for goes before all deployments and has a place of its
//! own.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::refusal::CompileError;

/// Deployments of one tenant that may wait. Each keeps its upload in memory.
const WAITING_PER_TENANT: usize = 8;
/// Deployments that may wait in all.
const WAITING: usize = 256;

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A plugin that an event waits for.
    ColdStart,
    /// A deployment, or a part of one.
    Deploy,
}

/// The places.
#[derive(Debug)]
pub(crate) struct Turns {
    places: u32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    running: u32,
    deploying: u32,
    waiting: Vec<Waiting>,
    tenants: HashMap<Arc<str>, Tenant>,
    served: u64,
    tickets: u64,
}

/// A tenant that waits or runs.
#[derive(Debug, Default)]
struct Tenant {
    waiting: usize,
    cold_starts: u32,
    deploys: u32,
    /// When it was served last, counted in places given out.
    served: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    tenant: Arc<str>,
    errand: Errand,
    told: oneshot::Sender<()>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    tenant: Arc<str>,
    errand: Errand,
}

impl Turns {
    pub(crate) fn new(places: u32) -> Arc<Self> {
        Arc::new(Self {
            places: places.max(1),
            queue: Mutex::default(),
        })
    }

    /// A place, as soon as it is this tenant's turn; refused at once if too much waits already.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        tenant: &str,
        errand: Errand,
    ) -> Result<Turn, CompileError> {
        let tenant: Arc<str> = tenant.into();
        let (ticket, is_told) = self.queue.lock().enter(&tenant, errand)?;
        let mut waiter = Waiter {
            turns: self,
            tenant: &tenant,
            errand,
            ticket,
            is_settled: false,
        };
        self.queue.lock().admit(self.places);
        // The sender goes with its entry, which leaves the queue when it is told.
        if is_told.await.is_err() {
            return Err(CompileError::Busy);
        }
        waiter.is_settled = true;
        drop(waiter);
        Ok(Turn {
            turns: Arc::clone(self),
            tenant,
            errand,
        })
    }
}

/// One that waits; its place in the queue is given up if it leaves.
struct Waiter<'a> {
    turns: &'a Turns,
    tenant: &'a Arc<str>,
    errand: Errand,
    ticket: u64,
    is_settled: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut queue = self.turns.queue.lock();
        // It may have been given a turn that it never saw.
        if !queue.leave(self.ticket) {
            queue.end(self.tenant, self.errand);
            queue.admit(self.turns.places);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.turns.queue.lock();
        queue.end(&self.tenant, self.errand);
        queue.admit(self.turns.places);
    }
}

impl Queue {
    fn enter(
        &mut self,
        tenant: &Arc<str>,
        errand: Errand,
    ) -> Result<(u64, oneshot::Receiver<()>), CompileError> {
        let known = self.tenants.entry(Arc::clone(tenant)).or_default();
        let too_many = known.waiting >= WAITING_PER_TENANT || self.waiting.len() >= WAITING;
        // Cold starts are bounded by the calls that wait for them.
        if errand == Errand::Deploy && too_many {
            self.tidy(tenant);
            return Err(CompileError::Busy);
        }
        known.waiting += 1;
        self.tickets += 1;
        let (told, is_told) = oneshot::channel();
        self.waiting.push(Waiting {
            ticket: self.tickets,
            tenant: Arc::clone(tenant),
            errand,
            told,
        });
        Ok((self.tickets, is_told))
    }

    /// Gives free places to those whose turn it is.
    fn admit(&mut self, places: u32) {
        while let Some(at) = self.next(places) {
            let next = self.waiting.remove(at);
            self.served += 1;
            self.running += 1;
            let tenant = self.tenants.entry(next.tenant).or_default();
            tenant.waiting = tenant.waiting.saturating_sub(1);
            tenant.served = self.served;
            match next.errand {
                Errand::ColdStart => tenant.cold_starts += 1,
                Errand::Deploy => {
                    tenant.deploys += 1;
                    self.deploying += 1;
                }
            }
            // Whoever waited holds the receiver until its place is dropped, and that needs this lock.
            let _ = next.told.send(());
        }
    }

    fn next(&self, places: u32) -> Option<usize> {
        if self.running >= places {
            return None;
        }
        let may_deploy = self.deploying < places.saturating_sub(1).max(1);
        let rank = |waiting: &Waiting| {
            let tenant = self.tenants.get(&waiting.tenant)?;
            match waiting.errand {
                Errand::ColdStart => Some((0, tenant.cold_starts, tenant.served, waiting.ticket)),
                Errand::Deploy if may_deploy && tenant.deploys == 0 => {
                    Some((1, 0, tenant.served, waiting.ticket))
                }
                Errand::Deploy => None,
            }
        };
        let ranked = self.waiting.iter().enumerate();
        let ranked = ranked.filter_map(|(at, waiting)| Some((rank(waiting)?, at)));
        ranked.min().map(|(_, at)| at)
    }

    fn end(&mut self, tenant: &Arc<str>, errand: Errand) {
        self.running = self.running.saturating_sub(1);
        if let Some(known) = self.tenants.get_mut(tenant) {
            match errand {
                Errand::ColdStart => known.cold_starts = known.cold_starts.saturating_sub(1),
                Errand::Deploy => known.deploys = known.deploys.saturating_sub(1),
            }
        }
        if errand == Errand::Deploy {
            self.deploying = self.deploying.saturating_sub(1);
        }
        self.tidy(tenant);
    }

    /// Tells whether it was still waiting.
    fn leave(&mut self, ticket: u64) -> bool {
        let Some(at) = self.waiting.iter().position(|one| one.ticket == ticket) else {
            return false;
        };
        let gone = self.waiting.remove(at);
        if let Some(known) = self.tenants.get_mut(&gone.tenant) {
            known.waiting = known.waiting.saturating_sub(1);
        }
        self.tidy(&gone.tenant);
        true
    }

    /// Forgets a tenant that neither waits nor runs.
    fn tidy(&mut self, tenant: &Arc<str>) {
        let is_idle =
            |known: &Tenant| known.waiting == 0 && known.cold_starts == 0 && known.deploys == 0;
        if self.tenants.get(tenant).is_some_and(is_idle) {
            self.tenants.remove(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, poll};

    use super::*;

    type Waits<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Turn, CompileError>> + 'a>>;

    fn deploy<'a>(turns: &'a Arc<Turns>, tenant: &'a str) -> Waits<'a> {
        Box::pin(turns.wait(tenant, Errand::Deploy))
    }

    fn cold_start<'a>(turns: &'a Arc<Turns>, tenant: &'a str) -> Waits<'a> {
        Box::pin(turns.wait(tenant, Errand::ColdStart))
    }

    async fn waits(one: &mut Waits<'_>) -> bool {
        poll!(one).is_pending()
    }

    #[tokio::test]
    async fn one_tenants_deployments_take_one_place() {
        let turns = Turns::new(3);
        let bomb = deploy(&turns, "a").await.unwrap();
        let mut second = deploy(&turns, "a");
        assert!(waits(&mut second).await);
        let good = deploy(&turns, "b").now_or_never();
        assert!(good.is_some_and(|turn| turn.is_ok()));
        drop(bomb);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_cold_start_finds_a_place_beside_deployments() {
        let turns = Turns::new(3);
        let _bombs = [
            deploy(&turns, "a").await.unwrap(),
            deploy(&turns, "b").await.unwrap(),
        ];
        assert!(waits(&mut deploy(&turns, "c")).await);
        assert!(cold_start(&turns, "c").now_or_never().is_some());
    }

    #[tokio::test]
    async fn cold_starts_go_before_deployments() {
        let turns = Turns::new(1);
        let running = deploy(&turns, "a").await.unwrap();
        let mut deploying = deploy(&turns, "b");
        let mut starting = cold_start(&turns, "c");
        assert!(waits(&mut deploying).await && waits(&mut starting).await);
        drop(running);
        assert!(waits(&mut deploying).await);
        drop(starting.await.unwrap());
        assert!(deploying.await.is_ok());
    }

    #[tokio::test]
    async fn who_was_served_longest_ago_comes_first() {
        let turns = Turns::new(1);
        let running = deploy(&turns, "a").await.unwrap();
        let mut bombs: Vec<_> = (0..3).map(|_| deploy(&turns, "a")).collect();
        for bomb in &mut bombs {
            assert!(waits(bomb).await);
        }
        let mut good = deploy(&turns, "b");
        assert!(waits(&mut good).await);
        drop(running);
        assert!(
            waits(&mut bombs[0]).await,
            "it came first, but had its turn"
        );
        assert!(good.await.is_ok());
    }

    #[tokio::test]
    async fn a_tenant_that_queues_too_much_is_refused_at_once() {
        let turns = Turns::new(1);
        let _running = deploy(&turns, "a").await.unwrap();
        let mut queued: Vec<_> = (0..WAITING_PER_TENANT)
            .map(|_| deploy(&turns, "a"))
            .collect();
        for one in &mut queued {
            assert!(waits(one).await);
        }
        let refused = deploy(&turns, "a").await;
        assert!(matches!(refused, Err(CompileError::Busy)));
        assert!(waits(&mut deploy(&turns, "b")).await, "others still queue");
    }

    #[tokio::test]
    async fn who_leaves_gives_its_place_back() {
        let turns = Turns::new(1);
        let running = deploy(&turns, "a").await.unwrap();
        let mut leaving = deploy(&turns, "b");
        let mut staying = deploy(&turns, "c");
        assert!(waits(&mut leaving).await && waits(&mut staying).await);
        // One that leaves after it was told, but before it knew.
        drop(running);
        drop(leaving);
        assert!(staying.await.is_ok());
        let queue = turns.queue.lock();
        assert_eq!(
            (queue.running, queue.waiting.len(), queue.tenants.len()),
            (0, 0, 0)
        );
    }
}
