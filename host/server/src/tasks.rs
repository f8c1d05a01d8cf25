//! What a host does by itself: look for changed accounts, listen to other hosts, take up events that
//! were left, forget what is old.
//!
//! Every loop is without input, repeats harmlessly, is woken by a signal where there is one and by
//! time where the signal was lost, and ends when the host stops.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::callback::CallbackLane;
use crate::clock::{beijing_day, millis};
use crate::db::{Database, audit, calls, inbox, outbox, push, quotas};
use crate::keys::ApiKeys;
use crate::plugins::Plugins;
use crate::services::Services;
use crate::store::Redis;
use crate::store::keys;
use crate::tokens::Tokens;

/// How often the database is asked for changed accounts.
const REFRESH: Duration = Duration::from_secs(1);
/// How often it is stored when API keys were last used.
const USES: Duration = Duration::from_secs(30);
/// How often old rows are deleted.
const RETENTION: Duration = Duration::from_secs(600);
/// How long the ids of committed events are kept: WeChat's deliveries lie within 15 s, an attacker's
/// replay within the window of the account's timestamps.
const COMMITTED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a receipt waits for the outcome of its message.
const RECEIPTS_KEPT: Duration = Duration::from_secs(3600);
/// How long a lost subscription waits before it is made again.
const RESUBSCRIBE: Duration = Duration::from_millis(500);

/// Keeps the accounts, API keys and merchants up to date, and looks at the database's clock.
pub async fn refresh(services: Arc<Services>, stop: CancellationToken) {
    let (accounts, api_keys) = (&services.accounts, &services.api_keys);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = accounts.woken() => {}
            () = tokio::time::sleep(REFRESH) => {}
        }
        let merchants = services.checkout.merchants();
        if let Err(error) = accounts
            .refresh()
            .await
            .and(api_keys.refresh().await)
            .and(merchants.refresh().await)
        {
            tracing::warn!(error = %error, "changed accounts can't be read; going on with what is known");
        }
        if let Err(error) = services.db.read_clock().await {
            tracing::debug!(error = %error, "the database's clock can't be read; counting on");
        }
    }
}

/// Stores when API keys were last used; the last time after `stop`.
pub async fn store_uses(api_keys: Arc<ApiKeys>, stop: CancellationToken) {
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = stop.cancelled() => stopped = true,
            () = tokio::time::sleep(USES) => {}
        }
        if let Err(error) = api_keys.store_uses().await {
            tracing::debug!(error = %error, "uses of API keys can't be stored now");
        }
    }
}

/// Who takes what other hosts publish.
pub struct Subscriber {
    /// Where it is published.
    pub redis: Arc<Redis>,
    /// Settled events.
    pub lane: Arc<CallbackLane>,
    /// Changed accounts.
    pub accounts: Arc<Accounts>,
    /// Renewed and refused tokens.
    pub tokens: Arc<Tokens>,
}

/// Takes news of settled events, changed accounts and tokens from other hosts.
pub async fn listen_to_hosts(subscriber: Subscriber, stop: CancellationToken) {
    let listening = async {
        loop {
            if let Err(error) = listen(&subscriber).await {
                tracing::debug!(error = %error, "the subscription to redis was lost");
            }
            tokio::time::sleep(RESUBSCRIBE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = listening => {}
    }
}

async fn listen(subscriber: &Subscriber) -> redis::RedisResult<()> {
    let mut subscription = subscriber.redis.subscription().await?;
    for channel in [keys::SETTLED, keys::CHANGED, keys::TOKEN] {
        subscription.subscribe(channel).await?;
    }
    // What was published before the subscription did not come.
    subscriber.accounts.wake();
    subscriber.tokens.mark_stale();
    let mut messages = subscription.into_on_message();
    while let Some(message) = messages.next().await {
        match message.get_channel_name() {
            keys::CHANGED => subscriber.accounts.wake(),
            keys::TOKEN => subscriber
                .tokens
                .on_notification(&message.get_payload::<String>()?),
            _ => {
                let event_key: String = message.get_payload()?;
                subscriber.lane.settled_elsewhere().wake(&event_key);
            }
        }
    }
    Ok(())
}

/// How long rows are kept for people to look at.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Call records.
    pub calls: Duration,
    /// The audit.
    pub audit: Duration,
    /// What was sent, or not.
    pub outbox: Duration,
}

/// Deletes rows that nobody needs any more, and plugins that nobody uses.
pub async fn forget_old(db: Database, plugins: Arc<Plugins>, kept: Kept, stop: CancellationToken) {
    let mut beat = tokio::time::interval(RETENTION);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        if db.is_own_clock_off() {
            continue;
        }
        let now_ms = db.now_ms();
        let events = inbox::forget_done(&db, now_ms - millis(COMMITTED_KEPT)).await;
        let records = calls::delete_older(&db, now_ms - millis(kept.calls)).await;
        let entries = audit::delete_older(&db, now_ms - millis(kept.audit)).await;
        let sent = outbox::forget(&db, now_ms - millis(kept.outbox)).await;
        let pushed = push::forget(&db, now_ms - millis(kept.outbox)).await;
        let receipts = push::forget_receipts(&db, now_ms - millis(RECEIPTS_KEPT)).await;
        let used = quotas::tidy(&db, beijing_day(now_ms)).await;
        if let Err(error) = events
            .and(records)
            .and(entries)
            .and(sent)
            .and(pushed)
            .and(receipts)
            .and(used)
        {
            tracing::warn!(error = %error, "old rows can't be deleted");
        }
        if let Err(error) = plugins.forget_unused(now_ms).await {
            tracing::warn!(error = %error, "plugins that nobody uses can't be deleted");
        }
    }
}
