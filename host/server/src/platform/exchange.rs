//! The exchange of an authorisation code, once, whoever brings it: the `authorized` event or the redirect,
//! on this host or another. Whoever comes second waits for what the first one gets.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use wxhost_wechat::api::component::{GetAuthorizerInfo, Granted, QueryAuth, Secret};
use wxhost_wechat::errcode::ApiError;
use wxhost_wechat::id::AppId;

use std::sync::Arc;

use super::{CALL_TIME, LEASE, PlatformLane, while_leased};
use crate::accounts::Platform;
use crate::audit::{Action, Author};
use crate::client::CallError;
use crate::db::authorisation_codes::{self, Code};
use crate::db::authorisations::{self, Claim, Grant};
use crate::db::invitations::{self, By};
use crate::db::{DbError, Lease, accounts, platform_events};
use crate::digest::sha256_hex;
use crate::random;
use crate::seal::{Place, SealError};

/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long somebody waits.
const PATIENCE: Duration = Duration::from_secs(12);

/// A code that is to be exchanged.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) code: &'a Secret,
    /// Whose it is, where that is known.
    pub(super) app_id: Option<&'a AppId>,
    /// WeChat's time of the authorisation, Unix milliseconds.
    pub(super) told_at_ms: i64,
    /// What leads to the invitation: the pre_auth_code, or the redirect's state.
    pub(super) pre_auth_code: Option<&'a Secret>,
    pub(super) state_digest: Option<&'a str>,
}

/// Why a code was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// WeChat takes it no more, and nobody has exchanged it here.
    #[error("wechat does not take the authorisation code: {0}")]
    Refused(String),
    /// Another one is at it, for longer than this one waits.
    #[error("the code is being exchanged elsewhere")]
    UnderWay,
    /// WeChat can't be asked now.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A secret can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl PlatformLane {
    /// Exchanges a code, and has the account ready as soon as it can be. Whose it is.
    pub(super) async fn exchange(
        &self,
        platform: &Arc<Platform>,
        wanted: Wanted<'_>,
    ) -> Result<AppId, ExchangeError> {
        let db = &self.services.db;
        let (id, hash) = (platform.app_id.as_str(), sha256_hex(wanted.code.expose()));
        let owner = random::unique_name();
        let knows_account = wanted.app_id.is_some();
        let patience = Instant::now() + PATIENCE;
        loop {
            let lease = Lease::begin(db, &owner, LEASE);
            match authorisation_codes::take(db, (id, &hash), lease, knows_account).await? {
                Code::Taken => match self.take_turn(platform, wanted, (&hash, &owner)).await {
                    Err(ExchangeError::Refused(_)) if !knows_account => {}
                    end => return end,
                },
                Code::Done(app_id) => {
                    let parsed = AppId::parse(&app_id);
                    return parsed.map_err(|error| ExchangeError::Refused(error.to_string()));
                }
                Code::Failed(error) => {
                    // The event tells whose the code is, and WeChat then what it has brought.
                    let may_come = Instant::now() < patience
                        && platform_events::is_authorisation_due(db, id).await?;
                    if !may_come {
                        return Err(ExchangeError::Refused(error));
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Code::UnderWay if Instant::now() >= patience => {
                    return Err(ExchangeError::UnderWay);
                }
                Code::UnderWay => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Exchanges a code whose turn this is.
    async fn take_turn(
        &self,
        platform: &Arc<Platform>,
        wanted: Wanted<'_>,
        (hash, owner): (&str, &str),
    ) -> Result<AppId, ExchangeError> {
        let db = &self.services.db;
        let key = (platform.app_id.as_str(), hash);
        let renew = || {
            async move {
                let lease = Lease::begin(db, owner, LEASE);
                // Another one may be at it where this fails, and finds the code used.
                let _ = authorisation_codes::renew(db, key, lease).await;
            }
            .boxed()
        };
        let exchanging = self.exchange_now(platform, wanted, hash);
        let exchanged = while_leased(exchanging, renew).await;
        if let Err(error) = &exchanged {
            let failed = match error {
                ExchangeError::Refused(reason) => Some(&**reason),
                _ => None,
            };
            authorisation_codes::fail(db, key, owner, failed).await?;
        }
        exchanged
    }

    async fn exchange_now(
        &self,
        platform: &Arc<Platform>,
        wanted: Wanted<'_>,
        hash: &str,
    ) -> Result<AppId, ExchangeError> {
        let services = &self.services;
        let asked_at_ms = services.db.now_ms();
        let deadline = Instant::now() + CALL_TIME;
        let call = QueryAuth {
            component_app_id: &platform.app_id,
            code: wanted.code,
        };
        let answer = services
            .client
            .call_for_platform(platform, &call, deadline)
            .await;
        let granted = match (answer, wanted.app_id) {
            (Ok(answer), _) => answer.authorization_info,
            // Somebody has exchanged it, and what came of it is lost: WeChat tells what it brought.
            (Err(CallError::Refused(refusal)), Some(app_id)) if refusal.errcode.refuses_code() => {
                self.present_grant(platform, app_id, &refusal).await?
            }
            (Err(CallError::Refused(refusal)), _)
                if refusal.errcode.refuses_code() || refusal.errcode.ended_code() =>
            {
                return Err(ExchangeError::Refused(refusal.to_string()));
            }
            (Err(error), _) => return Err(error.into()),
        };
        let told = granted.app_id.as_ref().or(wanted.app_id);
        let app_id = told.ok_or_else(|| {
            ExchangeError::Refused("wechat does not say whose the code is".to_owned())
        })?;
        let app_id = app_id.clone();
        self.keep_grant(platform, wanted, (&app_id, &granted, hash))
            .await?;
        let token = granted.token.map(|token| (token, asked_at_ms));
        self.settle_now(platform, &app_id, token).await;
        Ok(app_id)
    }

    async fn present_grant(
        &self,
        platform: &Arc<Platform>,
        app_id: &AppId,
        refusal: &ApiError,
    ) -> Result<Granted, ExchangeError> {
        let call = GetAuthorizerInfo {
            component_app_id: &platform.app_id,
            app_id,
        };
        let deadline = Instant::now() + CALL_TIME;
        let answer = self
            .services
            .client
            .call_for_platform(platform, &call, deadline)
            .await;
        match answer {
            Ok(answer) => Ok(answer.authorization_info),
            Err(CallError::Refused(_)) => Err(ExchangeError::Refused(refusal.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    async fn keep_grant(
        &self,
        platform: &Platform,
        wanted: Wanted<'_>,
        (app_id, granted, hash): (&AppId, &Granted, &str),
    ) -> Result<(), ExchangeError> {
        let services = &self.services;
        let id = platform.app_id.as_str();
        let by = match (wanted.state_digest, wanted.pre_auth_code) {
            (Some(digest), _) => Some((true, digest.to_owned())),
            (None, Some(code)) => Some((false, sha256_hex(code.expose()))),
            (None, None) => None,
        };
        let invitation = match &by {
            None => None,
            Some((true, digest)) => invitations::find(&services.db, id, By::State(digest)).await?,
            Some((false, digest)) => {
                invitations::find(&services.db, id, By::PreAuthCode(digest)).await?
            }
        };
        let open = invitation
            .as_ref()
            .filter(|invitation| invitation.is_good_for(app_id.as_str()));
        let place = Place::refresh_token(app_id.as_str(), id);
        let sealed = granted.refresh_token.as_ref();
        let sealed = sealed
            .map(|token| services.keys.seal(place, token.expose().as_bytes()))
            .transpose()?;
        let permission_sets = serde_json::json!(granted.permission_sets).to_string();
        let now_ms = services.db.now_ms();
        let grant = Grant {
            app_id: app_id.as_str(),
            platform: id,
            refresh_token_sealed: sealed.as_deref(),
            permission_sets: &permission_sets,
            told_at: wanted.told_at_ms,
            claim: open.map(|invitation| Claim {
                tenant_id: &invitation.tenant_id,
                invitation: Some(&invitation.id),
            }),
        };
        let mut change = services.db.change().await?;
        authorisations::grant(&mut change, &grant, now_ms).await?;
        authorisation_codes::end(&mut change, id, hash, app_id.as_str()).await?;
        accounts::touch(&mut change, app_id.as_str(), now_ms).await?;
        let object = format!("granted {permission_sets}");
        Author::host()
            .note(
                &mut change,
                Action::AuthorisationTurn,
                Some(app_id.as_str()),
                &object,
            )
            .await?;
        change.commit().await?;
        Ok(())
    }
}
