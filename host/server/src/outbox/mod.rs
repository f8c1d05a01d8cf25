//! The outbox's sender: what was decided to be sent leaves from here.
//!
//! Every host runs the loop. It goes from lane to lane ([`crate::db::outbox`]; an account's lines for one
//! API), leases rows that are due, some of each account in turn, so that no account waits behind
//! another's flood, and sends each row in a task of its own (`attempt`): begin (opt-out, ledger), call
//! WeChat, settle as the error code advises (`verdict`). An account whose calls hang gets fewer places,
//! and rests (`places`). The loop is woken when this host has added something ([`Wake`]) and looks by
//! period, for what other hosts left.
//!
//! A host that dies before `begin` has sent nothing. One that dies after it, and a call without an
//! answer, leave a row that may have been sent. It is marked so for good (`unsure_at`) and sent once
//! more at most, where nothing tells WeChat that it is the same; see `verdict`.

mod attempt;
mod places;
mod review;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::attempt::post;
use self::places::{Health, Places};
pub use self::review::{ReceiptWriter, Receipts, receipt_of, receipts};
pub(crate) use self::verdict::{Fate, Lesson, Verdict, judge};
use crate::accounts::Accounts;
use crate::client::Client;
use crate::clock::millis;
use crate::db::allowance::Scenes;
use crate::db::outbox::{self, Leased, NewPause, SendLane};
use crate::db::{Database, DbError};
use crate::random;
use crate::telemetry::Metrics;

/// Lanes that are looked at in one go.
const LANES_AT_ONCE: i64 = 128;
/// Lanes of an account: one for each API that something is sent by.
const LANES_OF_ACCOUNT: i64 = 8;
/// How often the loop looks by itself.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells the sender of this host that something was put into the outbox.
#[derive(Debug, Default)]
pub struct Wake {
    accounts: Mutex<BTreeSet<String>>,
    notify: Notify,
}

impl Wake {
    /// Something of this account was put in.
    pub fn wake(&self, app_id: &str) {
        let mut accounts = self.accounts.lock();
        if !accounts.contains(app_id) {
            accounts.insert(app_id.to_owned());
        }
        drop(accounts);
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.accounts.lock())
    }
}

/// What the sender works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Where the rows are.
    pub db: Database,
    /// Whose they are.
    pub accounts: Arc<Accounts>,
    /// Calls WeChat.
    pub client: Arc<Client>,
    /// Rings when there is something new.
    pub wake: Arc<Wake>,
    /// What became of rows.
    pub metrics: Arc<Metrics>,
    /// How many customer-service messages WeChat takes.
    pub scenes: Scenes,
}

/// The loop's state.
struct Round {
    owner: Arc<str>,
    sends: JoinSet<Health>,
    places: Places,
    /// The lane that was looked at last: the next look begins after it.
    cursor: SendLane,
    /// Lanes that may have more due than there was room for, by account.
    hungry: BTreeMap<String, BTreeSet<SendLane>>,
    /// The account of them that was served last: the next one comes first.
    served: String,
    /// Accounts of which something has been sent: what stood behind it may be due.
    moved: BTreeSet<String>,
    /// When all lanes are looked at next.
    next_look: Instant,
    /// When rows are looked for next that no lane shows.
    housekeeping: Instant,
}

impl Round {
    /// Hungry lanes, those of the account after the one that was served last first.
    fn hungry_in_turn(&self) -> Vec<SendLane> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let after = (Excluded(self.served.as_str()), Unbounded);
        let before = (Unbounded, Included(self.served.as_str()));
        let accounts = self.hungry.range::<str, _>(after);
        let accounts = accounts.chain(self.hungry.range::<str, _>(before));
        accounts.flat_map(|(_, lanes)| lanes).cloned().collect()
    }
}

impl Sender {
    /// Sends until `stop`, and asks what became of what WeChat holds; what is under way then is finished.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.send_all(&stop), self.follow_reviews(&stop));
    }

    async fn send_all(&self, stop: &CancellationToken) {
        let mut round = Round {
            owner: random::unique_name().into(),
            sends: JoinSet::new(),
            places: Places::default(),
            cursor: SendLane::default(),
            hungry: BTreeMap::new(),
            served: String::new(),
            moved: BTreeSet::new(),
            next_look: Instant::now(),
            housekeeping: Instant::now(),
        };
        loop {
            let more = match self.turn(&mut round).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::debug!(error = %error, "the outbox can't be read");
                    false
                }
            };
            if stop.is_cancelled() {
                break;
            }
            if more {
                self.reap(&mut round).await;
                continue;
            }
            let has_room = round.places.has_room(Instant::now());
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = round.sends.join_next_with_id() => self.ended(&mut round, ended).await,
                () = self.wake.notify.notified(), if has_room => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            self.reap(&mut round).await;
        }
        while round.sends.join_next().await.is_some() {}
    }

    /// Leases rows and begins to send them. Whether there are more lanes to look at now.
    async fn turn(&self, round: &mut Round) -> Result<bool, DbError> {
        if self.db.is_own_clock_off() {
            return Ok(false);
        }
        if round.housekeeping <= Instant::now() {
            self.keep_house(&round.owner).await?;
            round.housekeeping = Instant::now() + PERIOD;
        }
        let mut accounts = self.wake.take();
        accounts.append(&mut round.moved);
        for app_id in accounts {
            let after = SendLane {
                app_id: app_id.clone(),
                path: String::new(),
            };
            let page =
                outbox::send_lanes(&self.db, &after, self.db.now_ms(), LANES_OF_ACCOUNT).await?;
            let mut own = page.due;
            own.retain(|lane| lane.app_id == app_id);
            if !own.is_empty() {
                round.hungry.entry(app_id).or_default().extend(own);
            }
        }
        for lane in round.hungry_in_turn() {
            if !round.places.has_room(Instant::now()) {
                return Ok(false);
            }
            self.serve(round, lane).await?;
        }
        self.look(round).await
    }

    /// Looks at the next lanes, if it is time. Whether there are more to look at.
    async fn look(&self, round: &mut Round) -> Result<bool, DbError> {
        if Instant::now() < round.next_look {
            return Ok(false);
        }
        let page =
            outbox::send_lanes(&self.db, &round.cursor, self.db.now_ms(), LANES_AT_ONCE).await?;
        for lane in page.due {
            if !round.places.has_room(Instant::now()) {
                return Ok(false);
            }
            round.cursor = lane.clone();
            self.serve(round, lane).await?;
        }
        let is_over = page.next.is_none();
        round.cursor = page.next.unwrap_or_default();
        if is_over {
            round.next_look = Instant::now() + PERIOD;
        }
        Ok(!is_over)
    }

    /// Leases and begins what an account's lane has due, as far as there is room.
    async fn serve(&self, round: &mut Round, lane: SendLane) -> Result<(), DbError> {
        let room = match self.rest_of(&lane.app_id) {
            None => round.places.room_of(&lane.app_id, Instant::now()),
            Some(_) => 0,
        };
        let mut is_hungry = true;
        if room > 0 {
            round.served.clone_from(&lane.app_id);
            let lease = self.lease(&round.owner);
            let limit = i64::try_from(room).unwrap_or(1);
            let rows = outbox::lease(&self.db, &lane, lease, limit).await?;
            is_hungry = rows.len() == room;
            for row in rows {
                self.begin(round, row);
            }
        }
        if is_hungry {
            round
                .hungry
                .entry(lane.app_id.clone())
                .or_default()
                .insert(lane);
        } else if let Some(lanes) = round.hungry.get_mut(&lane.app_id) {
            lanes.remove(&lane);
            if lanes.is_empty() {
                round.hungry.remove(&lane.app_id);
            }
        }
        Ok(())
    }

    /// For how long an account's calls rest, because WeChat leaves them without an answer.
    fn rest_of(&self, app_id: &str) -> Option<Duration> {
        self.client.rest_of(&*self.accounts.get(app_id)?)
    }

    fn begin(&self, round: &mut Round, row: Leased) {
        let (sender, owner) = (self.clone(), Arc::clone(&round.owner));
        let app_id = row.app_id.clone();
        let send = async move { sender.attempt(row, &owner).await };
        let task = round.sends.spawn(send);
        round.places.take(task.id(), &app_id, Instant::now());
    }

    /// Looks for rows that no lane shows: of a host of the version before, and those whose time is over.
    async fn keep_house(&self, owner: &str) -> Result<(), DbError> {
        outbox::adopt(&self.db).await?;
        let lease = self.lease(owner);
        for row in outbox::lease_expired(&self.db, lease).await? {
            self.end_expired(&row, owner).await?;
        }
        Ok(())
    }

    async fn reap(&self, round: &mut Round) {
        while let Some(ended) = round.sends.try_join_next_with_id() {
            self.ended(round, ended).await;
        }
    }

    async fn ended(
        &self,
        round: &mut Round,
        ended: Result<(tokio::task::Id, Health), tokio::task::JoinError>,
    ) {
        let (id, health) = match ended {
            Ok(ended) => ended,
            // It has panicked; its row is looked at when its lease has run out.
            Err(error) => (error.id(), Health::Unknown),
        };
        let Some(app_id) = round.places.give_back(id, health) else {
            return;
        };
        round.moved.insert(app_id.clone());
        let Some(rest) = self.rest_of(&app_id).filter(|_| health == Health::Silent) else {
            return;
        };
        // Other hosts need not find out by themselves, and the operator sees it among the pauses.
        let pause = NewPause {
            app_id: &app_id,
            path: "",
            until_ms: self.db.now_ms() + millis(rest),
            reason: "no-answers",
            errcode: None,
            ends: false,
        };
        let paused = outbox::pause(&self.db, pause);
        if let Err(error) = paused.await {
            tracing::debug!(account.app_id = app_id, error = %error, "a pause can't be kept");
        }
    }
}
