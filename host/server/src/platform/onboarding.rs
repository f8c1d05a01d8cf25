//! From an authorisation to an account: what it is, for whom, with which settings. A look is taken when an
//! authorisation comes or changes, and daily, since what WeChat told may have been lost.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::api::component::{Authorizer, GetAuthorizerInfo};
use wxhost_wechat::api::token::Fresh;
use wxhost_wechat::id::AppId;

use super::{CALL_TIME, LEASE, PERIOD, PlatformLane, while_leased};
use crate::accounts::{Account, Newcomer, OnboardingError, Platform};
use crate::audit::{Action, Author};
use crate::backoff;
use crate::client::CallError;
use crate::clock::millis;
use crate::db::authorisations::{self, AuthorisationRow, Looked};
use crate::db::invitations::{self, By};
use crate::db::{DbError, Lease, accounts, tenants};
use crate::random;
use crate::settings::ChangeError;

/// Authorisations that a host looks at at the same time.
const AT_ONCE: u32 = 16;
/// How often a look is taken where nothing is told.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// The wait after the first look in vain; doubled with each.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait after one.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// How long it is waited for an account that another host is making.
const APPEARS: Duration = Duration::from_secs(5);
/// How often it is looked for then.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to make a granted token known.
const HOLD: Duration = Duration::from_secs(5);

/// Why a look was in vain.
#[derive(Debug, thiserror::Error)]
enum Vain {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Onboarding(#[from] OnboardingError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("it is a mini program, which this host does not serve")]
    MiniProgram,
    #[error("the invitation was used for another account, or is none any more")]
    Invitation,
    #[error("another host looks at it")]
    Lost,
    #[error("the platform is not known here")]
    NoPlatform,
}

impl From<DbError> for Vain {
    fn from(error: DbError) -> Self {
        Self::Change(error.into())
    }
}

impl Vain {
    /// Whether a later look may find something else.
    fn may_change(&self) -> bool {
        match self {
            Self::MiniProgram
            | Self::Invitation
            | Self::Onboarding(OnboardingError::AnotherTenants | OnboardingError::NoOriginalId) => {
                false
            }
            Self::Call(_)
            | Self::Onboarding(OnboardingError::Change(_))
            | Self::Change(_)
            | Self::Lost
            | Self::NoPlatform => true,
        }
    }
}

impl PlatformLane {
    /// Looks at an authorisation that has just come, and makes the token known that came with it.
    pub(super) async fn settle_now(
        &self,
        platform: &Arc<Platform>,
        app_id: &AppId,
        token: Option<(Fresh, i64)>,
    ) {
        let db = &self.services.db;
        let owner = random::unique_name();
        let key = (app_id.as_str(), platform.app_id.as_str());
        let lease = Lease::begin(db, &owner, LEASE);
        match authorisations::lease_one(db, key, lease).await {
            Ok(Some(row)) => self.settle(&row, &owner).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(error = %error, "an authorisation can't be read now"),
        }
        let Some((token, asked_at_ms)) = token else {
            return;
        };
        if let Some(account) = self.appears(app_id, platform).await {
            let by = (asked_at_ms, Instant::now() + HOLD);
            let held = self
                .services
                .client
                .tokens()
                .hold_granted(&account, token, by);
            if let Err(error) = held.await {
                tracing::debug!(account.app_id = %app_id, error = %error, "a granted token is let go");
            }
        }
    }

    /// The account, once this host knows it as one that the platform serves.
    async fn appears(&self, app_id: &AppId, platform: &Platform) -> Option<Arc<Account>> {
        let accounts = &self.services.accounts;
        let until = Instant::now() + APPEARS;
        loop {
            let known = accounts.get(app_id.as_str()).filter(|account| {
                let authorisation = account.authorisation.as_ref();
                authorisation.is_some_and(|by| by.platform.app_id == platform.app_id)
            });
            if known.is_some() || Instant::now() >= until {
                return known;
            }
            let row =
                authorisations::find(&self.services.db, app_id.as_str(), platform.app_id.as_str());
            // Nobody has claimed it: there will be no account.
            if !matches!(row.await, Ok(Some(row)) if row.tenant_id.is_some()) {
                return None;
            }
            tokio::time::sleep(LOOK).await;
            // Otherwise it is seen a little later.
            let _ = accounts.refresh().await;
        }
    }

    /// Looks at an authorisation, and says how that ended.
    async fn settle(&self, row: &AuthorisationRow, owner: &str) {
        let db = &self.services.db;
        let key = (&*row.app_id, &*row.platform);
        let renew = || {
            async move {
                // Another host looks at it where this fails.
                let _ = authorisations::renew(db, key, Lease::begin(db, owner, LEASE)).await;
            }
            .boxed()
        };
        let Err(why) = while_leased(self.look_at(row, owner), renew).await else {
            return;
        };
        tracing::warn!(
            account.app_id = row.app_id,
            platform.app_id = row.platform,
            error = %why,
            "an authorisation leads to no account now"
        );
        let due_at = why.may_change().then(|| {
            let beyond = u32::try_from(row.attempts).unwrap_or(u32::MAX);
            let wait = backoff::doubled(FIRST_WAIT, beyond, MAX_WAIT);
            db.now_ms() + millis(backoff::jittered(wait))
        });
        let text = why.to_string();
        if let Err(error) = authorisations::postpone(db, key, owner, (&text, due_at)).await {
            tracing::debug!(error = %error, "how a look at an authorisation ended can't be kept");
        }
    }

    async fn look_at(&self, row: &AuthorisationRow, owner: &str) -> Result<(), Vain> {
        let services = &self.services;
        let platform = services.accounts.platform(&row.platform);
        let platform = platform.ok_or(Vain::NoPlatform)?;
        let app_id = AppId::parse(&row.app_id)
            .map_err(|error| Vain::Change(ChangeError::invalid("app_id", error)))?;
        let call = GetAuthorizerInfo {
            component_app_id: &platform.app_id,
            app_id: &app_id,
        };
        let deadline = Instant::now() + CALL_TIME;
        let told = services
            .client
            .call_for_platform(&platform, &call, deadline)
            .await;
        let authorizer = match told {
            Ok(authorizer) => authorizer,
            Err(CallError::Refused(refusal)) if refusal.errcode.is_not_authorised() => {
                // What was told of it was lost.
                let now_ms = services.db.now_ms();
                self.withdraw(&platform, &row.app_id, now_ms).await?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if authorizer.authorizer_info.mini_program.is_some() {
            return Err(Vain::MiniProgram);
        }
        self.keep_look(row, owner, (&app_id, &authorizer)).await?;
        services.announce_change().await;
        Ok(())
    }

    async fn keep_look(
        &self,
        row: &AuthorisationRow,
        owner: &str,
        (app_id, authorizer): (&AppId, &Authorizer),
    ) -> Result<(), Vain> {
        let services = &self.services;
        let info = &authorizer.authorizer_info;
        let facts = serde_json::json!(info).to_string();
        let told = &authorizer.authorization_info.permission_sets;
        let sets = match told.is_empty() {
            // It is not told in every answer.
            true => row.permission_sets.clone(),
            false => serde_json::json!(told).to_string(),
        };
        let (tenant_id, like) = self.whose(row).await?;
        let now_ms = services.db.now_ms();
        let looked = Looked {
            facts: &facts,
            permission_sets: &sets,
            due_at: now_ms + millis(backoff::spread(DAILY)),
        };
        let key = (&*row.app_id, &*row.platform);
        let mut change = services.db.change().await?;
        if !authorisations::keep_facts(&mut change, key, owner, (looked, now_ms)).await? {
            return Err(Vain::Lost);
        }
        if let Some(tenant_id) = &tenant_id {
            let newcomer = Newcomer {
                app_id,
                platform: &row.platform,
                tenant_id,
                info,
                like_app_id: like.as_deref(),
            };
            let accounts = &services.accounts;
            let is_new = accounts.serve_by_platform(&mut change, newcomer).await?;
            if let Some(invitation) = &row.invitation {
                let key = (&*row.platform, &**invitation);
                let used = invitations::use_up(&mut change, key, &row.app_id, now_ms).await?;
                if !used && is_new {
                    return Err(Vain::Invitation);
                }
            }
            if is_new {
                let by = Author::host();
                by.note(
                    &mut change,
                    Action::AccountAdd,
                    Some(&row.app_id),
                    tenant_id,
                )
                .await?;
                tracing::info!(
                    account.app_id = row.app_id,
                    tenant.id = tenant_id,
                    "an account has come by a platform"
                );
            }
        }
        accounts::touch(&mut change, &row.app_id, now_ms).await?;
        change.commit().await?;
        Ok(())
    }

    /// For whom the account is, and which account's settings it gets if it is new. Where nobody has claimed
    /// it and the platform serves it already, it stays whose it is.
    async fn whose(
        &self,
        row: &AuthorisationRow,
    ) -> Result<(Option<String>, Option<String>), Vain> {
        let db = &self.services.db;
        let Some(tenant_id) = &row.tenant_id else {
            let known = accounts::find(db, &row.app_id).await?;
            let known =
                known.filter(|known| known.credentials.platform.as_deref() == Some(&row.platform));
            return Ok((known.map(|known| known.tenant_id), None));
        };
        let invited = match &row.invitation {
            None => None,
            Some(id) => invitations::find(db, &row.platform, By::Id(id)).await?,
        };
        let like = match invited.and_then(|invited| invited.like_app_id) {
            Some(like) => Some(like),
            None => tenants::find(db, tenant_id)
                .await?
                .and_then(|tenant| tenant.like_app_id),
        };
        Ok((Some(tenant_id.clone()), like))
    }
}

/// Looks at authorisations that are due, until `stop`.
pub(super) async fn look(lane: Arc<PlatformLane>, stop: CancellationToken) {
    let owner = random::unique_name();
    let db = lane.services.db.background();
    while !stop.is_cancelled() {
        let lease = Lease::begin(&db, &owner, LEASE);
        let rows = match authorisations::lease(&db, lease, AT_ONCE).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::debug!(error = %error, "authorisations can't be read");
                Vec::new()
            }
        };
        if rows.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = lane.due.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            continue;
        }
        futures::stream::iter(rows)
            .for_each_concurrent(None, async |row| lane.settle(&row, &owner).await)
            .await;
    }
}
