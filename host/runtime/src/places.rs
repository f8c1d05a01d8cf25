//! Who may run now on this host, over all tenants. There are as many places as the pool has room for, and
//! a call keeps its place while it sleeps or waits for somebody; so what is free is shared out with care:
//!
//! * A quarter of the places is kept for tenants that hold next to none: one call in 64 places, or one. So
//!   however long some sleep, whoever comes next finds a place.
//! * Of the rest no tenant takes more than it leaves free, so a tenant that is alone has half of the
//!   places. Nobody can tell beforehand who will sleep, and no place is taken back: what a lone tenant had
//!   of the other half would be gone for as long as it sleeps, and newcomers would share the reserve
//!   alone. It costs nothing where calls compute, for half of the places keeps all processors busy.
//! * Of those who wait, the tenant that holds least comes first, measured against what it may run at once.
//! * As many may wait as there is room for, each until its time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// No place in the queue, or none became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overloaded;

/// A tenant's part: what it holds, and how much it counts.
#[derive(Debug)]
pub(crate) struct Share {
    id: u64,
    weight: u32,
    /// Changes under the lock of [`Places`] only.
    held: AtomicU32,
}

impl Share {
    pub(crate) fn new(weight: u32) -> Arc<Self> {
        static IDS: AtomicU32 = AtomicU32::new(0);
        Arc::new(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed).into(),
            weight: weight.max(1),
            held: AtomicU32::new(0),
        })
    }

    fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }

    /// What it holds against its weight. Multiplied out, so that nothing is lost to rounding.
    fn load(&self, other: &Self) -> std::cmp::Ordering {
        let weighed = |held: u32, weight: u32| u64::from(held) * u64::from(weight);
        weighed(self.held(), other.weight).cmp(&weighed(other.held(), self.weight))
    }
}

/// The host's places.
#[derive(Debug)]
pub(crate) struct Places {
    queue_length: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Places that are kept for tenants that hold fewer than `first`.
    reserve: u32,
    first: u32,
    free: u32,
    waiting: u32,
    tickets: u64,
    /// By tenant, each in the order in which its calls came. None of the queues is empty.
    queues: HashMap<u64, VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    share: Arc<Share>,
    told: oneshot::Sender<()>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    share: Arc<Share>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.state.lock().give_back(&self.share);
    }
}

impl Places {
    pub(crate) fn new(places: u32, queue_length: u32) -> Self {
        Self {
            queue_length,
            state: Mutex::new(State {
                reserve: places / 4,
                first: (places / 64).max(1),
                free: places,
                waiting: 0,
                tickets: 0,
                queues: HashMap::new(),
            }),
        }
    }

    /// A place, now or when it is this call's turn, but not after `until`.
    pub(crate) async fn enter(
        &self,
        share: &Arc<Share>,
        until: Instant,
    ) -> Result<Place<'_>, Overloaded> {
        let mut waiter = {
            let mut state = self.state.lock();
            // Whoever waits does so because it may not have what is free: this overtakes nobody who could.
            if state.fits(share) && !state.queues.contains_key(&share.id) {
                state.take(share);
                return Ok(self.place(share));
            }
            if state.waiting >= self.queue_length {
                return Err(Overloaded);
            }
            let (ticket, told) = state.queue_up(share);
            Waiter {
                places: self,
                share,
                ticket,
                told,
                is_settled: false,
            }
        };
        match timeout_at(until, &mut waiter.told).await {
            Ok(Ok(())) => {
                waiter.is_settled = true;
                Ok(self.place(share))
            }
            // Dropping the waiter takes it out of the queue.
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }

    fn place(&self, share: &Arc<Share>) -> Place<'_> {
        Place {
            places: self,
            share: Arc::clone(share),
        }
    }
}

impl State {
    /// Whether a tenant may take another place.
    fn fits(&self, share: &Share) -> bool {
        let held = share.held();
        match self.free.checked_sub(1) {
            None => false,
            Some(_) if held < self.first => true,
            Some(left) => left >= self.reserve && left > held,
        }
    }

    fn take(&mut self, share: &Share) {
        self.free -= 1;
        share.held.fetch_add(1, Ordering::Relaxed);
    }

    fn give_back(&mut self, share: &Share) {
        self.free += 1;
        share.held.fetch_sub(1, Ordering::Relaxed);
        while let Some(id) = self.next() {
            let Some(queue) = self.queues.get_mut(&id) else {
                return;
            };
            let next = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&id);
            }
            if let Some(next) = next {
                self.waiting -= 1;
                self.take(&next.share);
                // Whoever waited keeps the receiver until it has left the queue, which needs this lock.
                let _ = next.told.send(());
            }
        }
    }

    /// The tenant whose first call comes next.
    fn next(&self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let firsts = self.queues.values().filter_map(VecDeque::front);
        let fitting = firsts.filter(|first| self.fits(&first.share));
        let next = fitting.min_by(|a, b| {
            let by_load = a.share.load(&b.share);
            by_load.then(a.ticket.cmp(&b.ticket))
        });
        next.map(|first| first.share.id)
    }

    fn queue_up(&mut self, share: &Arc<Share>) -> (u64, oneshot::Receiver<()>) {
        let (told, is_told) = oneshot::channel();
        self.tickets += 1;
        self.waiting += 1;
        let queue = self.queues.entry(share.id).or_default();
        queue.push_back(Waiting {
            ticket: self.tickets,
            share: Arc::clone(share),
            told,
        });
        (self.tickets, is_told)
    }

    /// Tells whether it was still waiting.
    fn leave(&mut self, share: &Share, ticket: u64) -> bool {
        let Some(queue) = self.queues.get_mut(&share.id) else {
            return false;
        };
        let before = queue.len();
        queue.retain(|waiting| waiting.ticket != ticket);
        let left = queue.len() < before;
        if queue.is_empty() {
            self.queues.remove(&share.id);
        }
        self.waiting -= u32::from(left);
        left
    }
}

/// One call that waits.
struct Waiter<'a> {
    places: &'a Places,
    share: &'a Arc<Share>,
    ticket: u64,
    told: oneshot::Receiver<()>,
    is_settled: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut state = self.places.state.lock();
        // It may have been given a place that it never saw.
        if !state.leave(self.share, self.ticket) {
            state.give_back(self.share);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::time::Duration;

    use futures::{FutureExt, poll};

    use super::*;

    type Waits<'a> = Pin<Box<dyn Future<Output = Result<Place<'a>, Overloaded>> + 'a>>;

    fn enter<'a>(places: &'a Places, share: &'a Arc<Share>) -> Waits<'a> {
        let until = Instant::now() + Duration::from_secs(60);
        Box::pin(places.enter(share, until))
    }

    /// As many places as a tenant gets at once.
    fn grab<'a>(places: &'a Places, share: &'a Arc<Share>, most: usize) -> Vec<Place<'a>> {
        (0..most)
            .map_while(|_| enter(places, share).now_or_never()?.ok())
            .collect()
    }

    #[tokio::test]
    async fn sleepers_leave_places_to_those_who_come_next() {
        let places = Places::new(256, 4096);
        let sleepers: Vec<_> = (0..5).map(|_| Share::new(64)).collect();
        let asleep: Vec<_> = sleepers
            .iter()
            .map(|share| grab(&places, share, 64))
            .collect();
        let held: Vec<_> = asleep.iter().map(Vec::len).collect();
        assert_eq!(held, [64, 64, 64, 4, 4]);
        let neighbours: Vec<_> = (0..14).map(|_| Share::new(64)).collect();
        let found = neighbours.iter().map(|share| grab(&places, share, 64));
        assert!(
            found
                .collect::<Vec<_>>()
                .iter()
                .all(|found| found.len() == 4)
        );
    }

    #[tokio::test]
    async fn one_tenant_leaves_as_many_places_as_it_takes() {
        let places = Places::new(9, 8);
        let (first, second) = (Share::new(64), Share::new(64));
        let held = grab(&places, &first, 64);
        let others = grab(&places, &second, 64);
        assert_eq!((held.len(), others.len()), (4, 2));
    }

    #[tokio::test]
    async fn who_holds_least_for_its_weight_comes_first() {
        let places = Places::new(20, 8);
        let (heavy, light) = (Share::new(8), Share::new(1));
        let _heavy = grab(&places, &heavy, 3);
        let _light = grab(&places, &light, 2);
        let others: Vec<_> = (0..15).map(|_| Share::new(1)).collect();
        let mut others: Vec<_> = others.iter().map(|share| grab(&places, share, 1)).collect();
        assert_eq!(places.state.lock().free, 0);
        let mut by_light = enter(&places, &light);
        let mut by_heavy = enter(&places, &heavy);
        assert!(poll!(&mut by_light).is_pending() && poll!(&mut by_heavy).is_pending());
        // Three of eight are less than two of one, and then only the reserve is left.
        others.truncate(9);
        assert!(poll!(&mut by_light).is_pending());
        assert!(by_heavy.now_or_never().is_some_and(|place| place.is_ok()));
    }

    #[tokio::test]
    async fn those_who_wait_of_one_tenant_are_served_in_order() {
        let places = Places::new(1, 8);
        let share = Share::new(8);
        let running = enter(&places, &share).await.unwrap();
        let mut first = enter(&places, &share);
        let mut second = enter(&places, &share);
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(running);
        assert!(poll!(&mut second).is_pending(), "it must not overtake");
        drop(first.await.unwrap());
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let places = Places::new(1, 1);
        let share = Share::new(8);
        let _running = enter(&places, &share).await.unwrap();
        let mut waiting = enter(&places, &share);
        assert!(poll!(&mut waiting).is_pending());
        let refused = enter(&places, &share).now_or_never();
        assert!(refused.is_some_and(|place| place.is_err()));
    }

    #[tokio::test]
    async fn waiting_ends_in_time() {
        let places = Places::new(1, 8);
        let share = Share::new(8);
        let _running = enter(&places, &share).await.unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        assert!(places.enter(&share, until).await.is_err());
        assert_eq!(places.state.lock().waiting, 0);
    }

    #[tokio::test]
    async fn a_place_that_was_given_to_who_has_left_goes_on_to_the_next() {
        let places = Places::new(1, 8);
        let share = Share::new(8);
        let running = enter(&places, &share).await.unwrap();
        let mut leaving = enter(&places, &share);
        let mut staying = enter(&places, &share);
        assert!(poll!(&mut leaving).is_pending() && poll!(&mut staying).is_pending());
        drop(running);
        drop(leaving);
        drop(staying.await.unwrap());
        let state = places.state.lock();
        assert_eq!((state.free, state.waiting, share.held()), (1, 0, 0));
    }
}
