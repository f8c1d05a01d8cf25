//! Watches that WeChat goes on pushing tickets: without one for twelve hours, a platform gets no token, and
//! none of its accounts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::component::{ClearQuota, StartPushTicket};

use super::{CALL_TIME, PlatformLane};
use crate::accounts::Platform;
use crate::client::{CallError, Client};
use crate::clock::millis;
use crate::db::{DbError, authorisation_codes, platform_events, platforms};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(30);
/// A ticket comes every ten minutes; after three that did not, something is wrong.
const OVERDUE: Duration = Duration::from_secs(30 * 60);
/// WeChat is asked to push tickets again so often at most, by all hosts together.
const ASK: Duration = Duration::from_secs(3600);
/// How long codes and visits are kept: no code is good for so long.
const CODES_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long what WeChat told is kept for people to look at.
const EVENTS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Watches until `stop`, and forgets what nobody needs any more.
pub(super) async fn watch(lane: Arc<PlatformLane>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        for platform in lane.services.accounts.platforms() {
            if !platform.is_active() {
                continue;
            }
            if let Err(error) = lane.look_at_ticket(&platform).await {
                tracing::debug!(error = %error, "a platform's tickets can't be read");
            }
        }
        if let Err(error) = lane.forget_old().await {
            tracing::debug!(error = %error, "what platforms were told can't be forgotten now");
        }
    }
}

impl PlatformLane {
    async fn look_at_ticket(&self, platform: &Platform) -> Result<(), DbError> {
        let db = &self.services.db;
        let id = platform.app_id.as_str();
        let Some(tickets) = platforms::tickets(db, id).await? else {
            return Ok(());
        };
        let now_ms = db.now_ms();
        let age_ms = now_ms - tickets.received_at;
        self.services.metrics.note_ticket_age(id, age_ms / 1000);
        if age_ms < millis(OVERDUE) {
            return Ok(());
        }
        tracing::error!(
            platform.app_id = id,
            age_minutes = age_ms / 60_000,
            "WeChat has pushed no ticket for long; without one for twelve hours, the platform and all its \
             accounts get no tokens"
        );
        if platforms::take_turn_to_ask(db, id, now_ms - millis(ASK)).await? {
            match start(&self.services.client, platform).await {
                Ok(()) => tracing::info!(platform.app_id = id, "WeChat was asked to push tickets"),
                Err(error) => tracing::warn!(
                    platform.app_id = id,
                    error = %error,
                    "WeChat can't be asked to push tickets"
                ),
            }
        }
        Ok(())
    }

    async fn forget_old(&self) -> Result<(), DbError> {
        let db = self.services.db.background();
        let now_ms = db.now_ms();
        authorisation_codes::forget(&db, now_ms - millis(CODES_KEPT)).await?;
        while platform_events::forget(&db, now_ms - millis(EVENTS_KEPT)).await? {}
        Ok(())
    }
}

/// Asks WeChat to push tickets again, if it has stopped.
///
/// # Errors
/// WeChat refuses, or does not answer.
pub async fn start(client: &Client, platform: &Platform) -> Result<(), CallError> {
    let call = StartPushTicket {
        component_app_id: &platform.app_id,
        secret: &platform.secret,
    };
    let deadline = Instant::now() + CALL_TIME;
    client.call_with(None, &call, deadline).await.map(drop)
}

/// Begins the day of a platform's own calls anew. WeChat allows ten a month.
///
/// # Errors
/// WeChat refuses, or does not answer.
pub async fn clear_quota(client: &Client, platform: &Platform) -> Result<(), CallError> {
    let call = ClearQuota {
        component_app_id: &platform.app_id,
        secret: &platform.secret,
    };
    let deadline = Instant::now() + CALL_TIME;
    client.call_with(None, &call, deadline).await.map(drop)
}
