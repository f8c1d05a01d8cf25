//! What WeChat tells at a platform's event URL: kept, acknowledged, then seen to.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use wxhost_wechat::component::{Event, Told};

use super::exchange::{ExchangeError, Wanted};
use super::{LEASE, PERIOD, PlatformLane, while_leased};
use crate::accounts::Platform;
use crate::audit::{Action, Author};
use crate::backoff;
use crate::clock::millis;
use crate::db::platform_events::{self, End, PlatformEventRow};
use crate::db::{DbError, Lease, accounts, authorisations};
use crate::digest::sha256_hex;
use crate::random;
use crate::seal::{Place, SealError};
use crate::settings::ChangeError;
use crate::tokens::TicketError;

/// Events that a host sees to at the same time.
const AT_ONCE: u32 = 16;
/// Attempts before an event is given up. An authorisation code is good for ten minutes to an hour.
const MAX_ATTEMPTS: i64 = 20;
/// The wait after the first failure; doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Why an event can't be kept: WeChat is to tell it again.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A ticket can't.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Why an event is not done.
#[derive(Debug, thiserror::Error)]
enum Undone {
    /// It may be later.
    #[error("{0}")]
    Again(String),
    /// It can't be.
    #[error("{0}")]
    Never(String),
}

impl From<DbError> for Undone {
    fn from(error: DbError) -> Self {
        Self::Again(error.to_string())
    }
}

impl PlatformLane {
    /// Keeps what WeChat has told a platform. It may be acknowledged then.
    ///
    /// # Errors
    /// It can't be kept now.
    pub async fn keep(
        &self,
        platform: &Platform,
        event: &Event,
        clear: &[u8],
    ) -> Result<(), KeepError> {
        let services = &self.services;
        let told_at = told_at_ms(event);
        if let Told::Ticket(ticket) = &event.told {
            let tokens = services.client.tokens();
            return Ok(tokens.keep_ticket(platform, ticket, told_at).await?);
        }
        let id = identity(event);
        let platform_id = platform.app_id.as_str();
        let sealed = services
            .keys
            .seal(Place::platform_event(platform_id, &id), clear)?;
        let needs_nobody = matches!(event.told, Told::Other { .. });
        let row = PlatformEventRow {
            platform: platform_id.to_owned(),
            kind: event.told.kind().chars().take(64).collect(),
            app_id: event.told.app_id().map(ToString::to_string),
            told_at,
            received_at: services.db.now_ms(),
            body_sealed: sealed,
            state: if needs_nobody { "done" } else { "due" }.to_owned(),
            attempts: 0,
            error: None,
            id,
        };
        if platform_events::keep(&services.db, &row).await? && !needs_nobody {
            self.told.notify_one();
        }
        Ok(())
    }

    async fn see_to(&self, row: &PlatformEventRow) -> Result<(), Undone> {
        let services = &self.services;
        let place = Place::platform_event(&row.platform, &row.id);
        let clear = services.keys.open(place, &row.body_sealed);
        let clear = clear.map_err(|error| Undone::Again(error.to_string()))?;
        let event = Event::read(&clear).map_err(|error| Undone::Never(error.to_string()))?;
        let Some(platform) = services.accounts.platform(&row.platform) else {
            return Err(Undone::Again("the platform is not known yet".to_owned()));
        };
        match &event.told {
            Told::Authorised {
                app_id,
                code,
                pre_auth_code,
                ..
            } => {
                let wanted = Wanted {
                    code,
                    app_id: Some(app_id),
                    told_at_ms: row.told_at,
                    pre_auth_code: pre_auth_code.as_ref(),
                    state_digest: None,
                };
                match self.exchange(&platform, wanted).await {
                    Ok(_) => Ok(()),
                    Err(error @ ExchangeError::Refused(_)) => Err(Undone::Never(error.to_string())),
                    Err(error) => Err(Undone::Again(error.to_string())),
                }
            }
            Told::Withdrawn { app_id } => {
                let withdrawn = self.withdraw(&platform, app_id.as_str(), row.told_at).await;
                withdrawn.map_err(|error| Undone::Again(error.to_string()))
            }
            Told::Ticket(_) | Told::Other { .. } => Ok(()),
        }
    }

    /// Notes that an account's owner lets a platform serve it no more: it stops at once, on all hosts.
    pub(super) async fn withdraw(
        &self,
        platform: &Platform,
        app_id: &str,
        told_at_ms: i64,
    ) -> Result<(), ChangeError> {
        let services = &self.services;
        let now_ms = services.db.now_ms();
        let platform_id = platform.app_id.as_str();
        let mut change = services.db.change().await?;
        let told = (told_at_ms, now_ms);
        if authorisations::withdraw(&mut change, app_id, platform_id, told).await? {
            accounts::touch(&mut change, app_id, now_ms).await?;
            Author::host()
                .note(
                    &mut change,
                    Action::AuthorisationTurn,
                    Some(app_id),
                    "withdrawn",
                )
                .await?;
            change.commit().await?;
            tracing::warn!(
                account.app_id = app_id,
                platform.app_id = platform_id,
                "an account's owner lets the platform serve it no more; it rests from now on"
            );
            services.announce_change().await;
        }
        Ok(())
    }
}

/// When WeChat says it happened, Unix milliseconds.
fn told_at_ms(event: &Event) -> i64 {
    i64::try_from(event.create_time)
        .unwrap_or(i64::MAX / 1000)
        .saturating_mul(1000)
}

/// What makes two tellings the same event.
fn identity(event: &Event) -> String {
    let code = match &event.told {
        Told::Authorised { code, .. } => code.expose(),
        _ => "",
    };
    let app_id = event.told.app_id().map(|id| id.as_str());
    sha256_hex(format!(
        "{}\n{}\n{}\n{code}",
        event.told.kind(),
        event.create_time,
        app_id.unwrap_or_default()
    ))
}

/// Sees to what was told, until `stop`.
pub(super) async fn see_to(lane: Arc<PlatformLane>, stop: CancellationToken) {
    let owner = random::unique_name();
    let db = lane.services.db.background();
    while !stop.is_cancelled() {
        let lease = Lease::begin(&db, &owner, LEASE);
        let events = match platform_events::lease(&db, lease, AT_ONCE).await {
            Ok(events) => events,
            Err(error) => {
                tracing::debug!(error = %error, "what platforms were told can't be read");
                Vec::new()
            }
        };
        if events.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = lane.told.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            continue;
        }
        let one = async |event: PlatformEventRow| {
            let key = (&*event.platform, &*event.id);
            let (db, owner) = (&db, &*owner);
            let renew = || {
                async move {
                    // Another host sees to it where this fails.
                    let lease = Lease::begin(db, owner, LEASE);
                    let _ = platform_events::renew(db, key, lease).await;
                }
                .boxed()
            };
            let end = while_leased(lane.see_to(&event), renew).await;
            if let Err(error) = &end {
                tracing::warn!(
                    platform.app_id = event.platform,
                    platform.event = event.kind,
                    account.app_id = event.app_id,
                    error = %error,
                    "what a platform was told is not done"
                );
            }
            let text = end.as_ref().err().map(ToString::to_string);
            let text = text.unwrap_or_default();
            let end = match end {
                Ok(()) => End::Done,
                Err(Undone::Again(_)) if event.attempts < MAX_ATTEMPTS => {
                    let beyond = u32::try_from(event.attempts).unwrap_or(u32::MAX);
                    let wait = backoff::doubled(FIRST_WAIT, beyond.saturating_sub(1), MAX_WAIT);
                    End::Again(db.now_ms() + millis(backoff::jittered(wait)), &text)
                }
                Err(_) => End::Failed(&text),
            };
            if let Err(error) = platform_events::end(db, key, owner, end).await {
                tracing::debug!(error = %error, "how an event of a platform ended can't be kept");
            }
        };
        futures::stream::iter(events)
            .for_each_concurrent(None, one)
            .await;
    }
}
