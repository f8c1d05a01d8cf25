//! Quotas: what tenants share has a limit for each account, and for all accounts of a tenant where the
//! operator says so, with a name that stands in the error.
//!
//! What is in use is counted by the database, in the transactions that use it (`db::quotas`). Before a
//! commit, its effects take room ([`Quotas::take`]): far from a limit by what this host knows (`meter`),
//! else by asking the database, for the exact growth. So commits of one account do not meet on a count,
//! and yet nobody gets further than what was under way on all hosts when a limit was reached.
//!
//! Log bytes are counted by each host, and the sum of all hosts is looked at every few seconds. Callbacks
//! are paced by each host for itself: those beyond the rate wait, and are held up like any run that the
//! host can't do now; nothing is lost.

mod limits;
mod meter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::limits::{COUNT, place};
use self::meter::{Amounts, Full, Sure, amounts};
pub use self::{limits::Limits, meter::Meter};
use crate::clock::beijing_day;
use crate::db::quotas::{self as stored, ACCOUNTS_AT_ONCE, Growth, Owner, Quota};
use crate::db::{Database, DbError};
use crate::effects::Sorted;

/// How often what accounts have in use is looked at, where they have used something.
const LOOK: Duration = Duration::from_secs(5);

/// Why effects are not committed, or a log is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "quota {} of {whose}: {most} at most, {in_use} in use, {asked} more asked for",
    .quota.as_str()
)]
pub struct OverQuota {
    /// Which.
    pub quota: Quota,
    /// Whose: `the account` or `the tenant`.
    pub whose: &'static str,
    /// How much may be used.
    pub most: i64,
    /// How much is.
    pub in_use: i64,
    /// How much more was asked for.
    pub asked: i64,
}

impl OverQuota {
    fn new(full: Full, whose: &'static str, asked: &Amounts) -> Self {
        Self {
            quota: full.quota,
            whose,
            most: full.most,
            in_use: full.in_use,
            asked: asked[place(full.quota)],
        }
    }
}

/// Who has quotas: an account, or a tenant for all its accounts.
#[derive(Debug, Clone)]
pub struct Holder {
    /// App id or tenant id.
    id: Arc<str>,
    /// What the operator has set.
    limits: Limits,
    meter: Arc<Meter>,
}

impl Holder {
    /// A holder; what was counted of it `before` counts on.
    pub fn new(id: &str, limits: Limits, before: Option<&Self>) -> Self {
        Self {
            id: id.into(),
            limits,
            meter: before.map_or_else(Arc::default, |before| Arc::clone(&before.meter)),
        }
    }
}

/// Whose quotas an event uses.
#[derive(Debug, Clone, Copy)]
pub struct Holders<'a> {
    /// The account's.
    pub account: &'a Holder,
    /// Its tenant's.
    pub tenant: &'a Holder,
}

/// The quotas of all accounts.
#[derive(Debug)]
pub struct Quotas {
    db: Database,
    /// What holds for an account of which the operator says nothing.
    usual: Limits,
    /// Accounts that have used something since the last look, with their tenants.
    touched: Mutex<Vec<(Holder, Holder)>>,
}

/// Room that effects have taken; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    meters: [Arc<Meter>; 2],
    asked: Amounts,
    is_used: bool,
}

impl Room {
    /// The effects are committed.
    pub fn used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for meter in &self.meters {
            meter.end(&self.asked, self.is_used);
        }
    }
}

impl Quotas {
    /// Quotas that are `usual` where the operator says nothing.
    pub fn new(db: Database, usual: Limits) -> Self {
        Self {
            db,
            usual,
            touched: Mutex::default(),
        }
    }

    /// What holds for an account of which the operator says nothing.
    pub fn usual(&self) -> &Limits {
        &self.usual
    }

    /// Takes room for effects.
    ///
    /// # Errors
    /// The database failed. Inside: a quota without room.
    pub async fn take(
        &self,
        holders: Holders<'_>,
        effects: &Sorted,
    ) -> Result<Result<Room, OverQuota>, DbError> {
        let at_most = amounts(&Growth::at_most(&effects.writes, &effects.steps));
        if let Ok(room) = self.reserve(holders, at_most, Sure::Far) {
            return Ok(Ok(room));
        }
        let app_id = &holders.account.id;
        let growth = stored::growth(&self.db, app_id, &effects.writes, &effects.steps).await?;
        self.look_at(holders).await?;
        Ok(self.reserve(holders, amounts(&growth), Sure::Asked))
    }

    /// Takes room for messages to so many people.
    ///
    /// # Errors
    /// The database failed. Inside: a quota without room.
    pub async fn take_messages(
        &self,
        holders: Holders<'_>,
        count: usize,
    ) -> Result<Result<Room, OverQuota>, DbError> {
        let asked = amounts(&Growth {
            waiting_messages: i64::try_from(count).unwrap_or(i64::MAX),
            ..Growth::default()
        });
        if let Ok(room) = self.reserve(holders, asked, Sure::Far) {
            return Ok(Ok(room));
        }
        self.look_at(holders).await?;
        Ok(self.reserve(holders, asked, Sure::Asked))
    }

    fn reserve(&self, holders: Holders<'_>, asked: Amounts, sure: Sure) -> Result<Room, OverQuota> {
        let over = |whose| move |full| OverQuota::new(full, whose, &asked);
        let Holders { account, tenant } = holders;
        let reserved = account.meter.reserve(&self.limits(account), &asked, sure);
        reserved.map_err(over("the account"))?;
        if let Err(full) = tenant.meter.reserve(&tenant.limits, &asked, sure) {
            account.meter.end(&asked, false);
            return Err(over("the tenant")(full));
        }
        self.touch(holders);
        Ok(Room {
            meters: [Arc::clone(&account.meter), Arc::clone(&tenant.meter)],
            asked,
            is_used: false,
        })
    }

    /// Counts bytes of a log.
    ///
    /// # Errors
    /// There is no room for them today.
    pub fn add_log(&self, holders: Holders<'_>, bytes: usize) -> Result<(), OverQuota> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let day = beijing_day(self.db.now_ms());
        let mut asked = [0; COUNT];
        asked[place(Quota::LogBytesADay)] = bytes;
        let over = |whose| move |full| OverQuota::new(full, whose, &asked);
        self.touch(holders);
        let Holders { account, tenant } = holders;
        let added = tenant.meter.add_log(&tenant.limits, bytes, day);
        added.map_err(over("the tenant"))?;
        let added = account.meter.add_log(&self.limits(account), bytes, day);
        added.map_err(over("the account"))
    }

    /// Waits for a callback's turn, until `patience` at most.
    ///
    /// # Errors
    /// It would be later.
    pub async fn callback_turn(
        &self,
        holders: Holders<'_>,
        patience: Instant,
    ) -> Result<(), OverQuota> {
        let over = |whose| move |full| OverQuota::new(full, whose, &[1; COUNT]);
        let Holders { account, tenant } = holders;
        let times = (Instant::now(), patience);
        let turn = tenant.meter.callback_turn(&tenant.limits, times);
        let of_tenant = turn.map_err(over("the tenant"))?;
        let limits = self.limits(account);
        let turn = account.meter.callback_turn(&limits, times);
        let turn = turn.map_err(over("the account"))?.max(of_tenant);
        if turn > times.0 {
            tokio::time::sleep_until(turn).await;
        }
        Ok(())
    }

    fn limits(&self, account: &Holder) -> Limits {
        account.limits.or(&self.usual)
    }

    fn touch(&self, holders: Holders<'_>) {
        let Holders { account, tenant } = holders;
        if account.meter.touch() {
            self.touched.lock().push((account.clone(), tenant.clone()));
        }
    }

    /// Asks the database what an account and its tenant have in use.
    async fn look_at(&self, holders: Holders<'_>) -> Result<(), DbError> {
        let day = beijing_day(self.db.now_ms());
        let owner = Owner::Account(&holders.account.id);
        let seen = stored::in_use(&self.db, owner, day).await?;
        holders.account.meter.see(table(seen), day);
        self.look_at_tenant(holders.tenant, day).await
    }

    async fn look_at_tenant(&self, tenant: &Holder, day: i64) -> Result<(), DbError> {
        let seen = if tenant.limits.is_empty() {
            Vec::new()
        } else {
            stored::in_use(&self.db, Owner::Tenant(&tenant.id), day).await?
        };
        tenant.meter.see(table(seen), day);
        Ok(())
    }

    /// Looks at what accounts have in use, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let touched = std::mem::take(&mut *self.touched.lock());
            for holders in touched.chunks(ACCOUNTS_AT_ONCE) {
                if let Err(error) = self.look_at_all(holders).await {
                    tracing::debug!(error = %error, "what accounts have in use can't be read now");
                }
            }
        }
    }

    async fn look_at_all(&self, holders: &[(Holder, Holder)]) -> Result<(), DbError> {
        for (account, _) in holders {
            // Before the look: what is used from now on is looked at the next time.
            account.meter.untouch();
        }
        let day = beijing_day(self.db.now_ms());
        let app_ids: Vec<&str> = holders.iter().map(|(account, _)| &*account.id).collect();
        let rows = stored::in_use_by_accounts(&self.db, &app_ids, day).await?;
        let mut by_account: HashMap<String, Vec<(String, i64)>> = HashMap::new();
        for (app_id, quota, amount) in rows {
            by_account.entry(app_id).or_default().push((quota, amount));
        }
        for (account, _) in holders {
            let seen = by_account.remove(&*account.id).unwrap_or_default();
            account.meter.see(table(seen), day);
        }
        let mut tenants: Vec<&Holder> = holders.iter().map(|(_, tenant)| tenant).collect();
        tenants.sort_unstable_by_key(|tenant| &tenant.id);
        tenants.dedup_by_key(|tenant| &tenant.id);
        for tenant in tenants {
            self.look_at_tenant(tenant, day).await?;
        }
        Ok(())
    }
}

fn table(rows: Vec<(String, i64)>) -> Amounts {
    let mut amounts = [0; COUNT];
    for (name, amount) in rows {
        if let Ok(quota) = name.parse() {
            amounts[place(quota)] = amount;
        }
    }
    amounts
}

#[cfg(test)]
mod tests;
