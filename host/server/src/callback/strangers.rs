//! Callbacks that come by a third-party platform for an account that this host does not serve: one that has
//! just been authorised and is not known here yet, one that nobody has claimed, one that has withdrawn, or one
//! of WeChat's own, by which it tests a platform before its release.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use wxhost_wechat::envelope::{self, Authentic, CallbackQuery};
use wxhost_wechat::reply::{Addressing, Reply};

use super::CallbackLane;
use super::routes::{self, BODY_LIMITS, Ending};
use crate::accounts::{Account, Platform};
use crate::db::DbError;
use crate::db::authorisations::{self, AuthorisationRow, STANDING};
use crate::http::body;
use crate::platform::release_test;

/// How long a callback waits for an account that is being made: less than WeChat waits.
const APPEARS: Duration = Duration::from_secs(4);
/// How often it is looked for then.
const LOOK: Duration = Duration::from_millis(50);

/// What has come, and where.
#[derive(Clone, Copy)]
pub(super) struct Stranger<'a> {
    pub(super) platform: &'a str,
    pub(super) app_id: &'a str,
    pub(super) query: &'a CallbackQuery<'a>,
}

impl Stranger<'_> {
    /// Answers it, once it is authentic under the platform's keys.
    pub(super) async fn answer(
        &self,
        lane: &Arc<CallbackLane>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Ending, Ending> {
        let services = &lane.services;
        let now = services.clock.now_seconds();
        let platform = services.accounts.platform(self.platform);
        let platform = platform.filter(|platform| platform.is_active());
        let receiver = match &platform {
            Some(platform) => &platform.receiver,
            None => services.accounts.decoy(),
        };
        if envelope::check_query(receiver, self.query, now).is_err() {
            body::let_go(body, BODY_LIMITS).await;
            return Err(routes::unknown_account());
        }
        let body = routes::read(&lane.bodies, body, headers).await?;
        let opened = envelope::authenticate(receiver, self.query, &body, now);
        let platform = platform.ok_or_else(routes::unknown_account)?;
        let opened = opened.map_err(|_| routes::unknown_account())?;
        if release_test::is_account(self.app_id) {
            return Ok(self.answer_test(lane, &platform, &opened));
        }
        match self.appears(lane).await {
            Ok(Some(account)) => {
                let authorisation = account.authorisation.as_ref();
                let by = authorisation.ok_or_else(routes::unknown_account)?;
                let told = (self.query, opened, headers);
                routes::run(lane, &account, &by.receiver, told).await
            }
            // WeChat would only send it again, and tell the user that the service is broken.
            Ok(None) => Ok(Ending::success()),
            Err(NotYet) => Err(Ending::refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "account-not-ready",
            )),
        }
    }

    fn answer_test(
        &self,
        lane: &CallbackLane,
        platform: &Arc<Platform>,
        opened: &Authentic,
    ) -> Ending {
        let Ok(message) = opened.read(&platform.receiver) else {
            return Ending::success();
        };
        let services = &lane.services;
        let now = services.clock.now_seconds();
        let told = (&message, &*opened.clear);
        match release_test::answer(services, platform, self.app_id, told) {
            None => Ending::success(),
            Some(text) => {
                let addressing = Addressing {
                    to: &message.from_user,
                    from: &message.to_user,
                    create_time: now.unsigned_abs(),
                };
                // What WeChat itself demands breaks no limit of its own.
                let Ok(reply) = Reply::Text(text).to_xml(&addressing, None) else {
                    return Ending::success();
                };
                let sealing = (opened.format, opened.sealing);
                routes::reply(&platform.receiver, self.query, sealing, &reply, now)
            }
        }
    }

    /// The account, once this host serves it; nothing if it will not. Where it can't be told, it is as if it
    /// were on its way.
    async fn appears(&self, lane: &CallbackLane) -> Result<Option<Arc<Account>>, NotYet> {
        let services = &lane.services;
        let until = Instant::now() + APPEARS;
        loop {
            // What can't be read now may be in a moment.
            let _ = services.accounts.refresh().await;
            let known = services.accounts.get(self.app_id);
            if let Some(account) = known {
                let is_served = account.authorisation.as_ref().is_some_and(|by| {
                    by.platform.app_id.as_str() == self.platform && account.is_active()
                });
                if is_served {
                    return Ok(Some(account));
                }
            }
            let found = authorisations::find(&services.db, self.app_id, self.platform);
            if !is_on_its_way(&found.await) {
                return Ok(None);
            }
            if Instant::now() >= until {
                return Err(NotYet);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// It can't be served yet.
struct NotYet;

/// Whether an account is still being made: its authorisation has not come yet, or its first look is due.
fn is_on_its_way(found: &Result<Option<AuthorisationRow>, DbError>) -> bool {
    match found {
        Err(_) | Ok(None) => true,
        Ok(Some(row)) => row.state == STANDING && row.facts_at.is_none() && row.due_at.is_some(),
    }
}
