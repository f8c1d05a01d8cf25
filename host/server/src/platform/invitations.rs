//! Invitations: a link by which a tenant's customer lets a platform serve one account. What stands in the
//! link is known to nobody else: only its digest is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wxhost_wechat::api::component::{CreatePreAuthCode, Secret};
use wxhost_wechat::component::link::{Form, Link};
use wxhost_wechat::id::AppId;

use super::exchange::{ExchangeError, Wanted};
use super::{CALL_TIME, PlatformLane};
use crate::accounts::Platform;
use crate::audit::{Action, Author};
use crate::client::CallError;
use crate::clock::millis;
use crate::db::invitations::{self, By, InvitationRow};
use crate::db::{Database, DbError, tenants};
use crate::digest::sha256_hex;
use crate::random;
use crate::services::Services;
use crate::settings::{ChangeError, check_name};

/// How long an invitation may be good for.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// An invitation to be made.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// Whose the account becomes.
    pub tenant_id: String,
    /// For people.
    pub name: String,
    /// The one account that is meant; any if absent.
    pub biz_app_id: Option<AppId>,
    /// The account whose settings, plugin and quotas the new one gets; the tenant's default if absent.
    pub like_app_id: Option<String>,
    /// How long it is good for.
    pub good_for: Duration,
}

/// An invitation that was made, with the link that nobody sees again.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What is kept of it.
    pub row: InvitationRow,
    /// The address that the customer opens.
    pub url: String,
}

/// Why an invitation leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// There is none behind this link.
    #[error("there is no such invitation")]
    Unknown,
    /// It was used for another account, or by another visit.
    #[error("the invitation was used before")]
    Used,
    /// It was taken back.
    #[error("the invitation was taken back")]
    Revoked,
    /// Its time is over.
    #[error("the invitation has ended")]
    Expired,
    /// WeChat can't be asked now.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The code that the visitor came back with was not exchanged.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl InvitationError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "no-invitation",
            Self::Used => "invitation-used",
            Self::Revoked => "invitation-revoked",
            Self::Expired => "invitation-expired",
            Self::Call(error) => error.code(),
            Self::Exchange(ExchangeError::Refused(_)) => "code-refused",
            Self::Exchange(_) | Self::Database(_) => "unavailable",
        }
    }
}

impl InvitationRow {
    /// Whether an account may come by it. That its time has ended meanwhile is no reason: who began in time
    /// may end.
    pub(super) fn is_good_for(&self, app_id: &str) -> bool {
        let is_meant = self
            .biz_app_id
            .as_deref()
            .is_none_or(|meant| meant == app_id);
        let is_left = match &*self.state {
            "open" => true,
            "used" => self.app_id.as_deref() == Some(app_id),
            _ => false,
        };
        is_meant && is_left
    }
}

/// A visit that may begin.
#[derive(Clone, Debug)]
pub struct Visit {
    /// What it is of.
    pub invitation: InvitationRow,
    /// Who invites, for people.
    pub host: String,
}

/// Where a visit goes on, and what its end is told by.
#[derive(Clone, Debug)]
pub struct Begun {
    /// WeChat's page.
    pub url: String,
    /// Kept by the visitor's browser.
    pub state: String,
}

/// How a visit has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The account that was let to the platform.
    pub app_id: AppId,
    /// Its name, where it is known by now.
    pub name: String,
    /// Whether it is served already.
    pub is_served: bool,
}

/// Makes an invitation.
///
/// # Errors
/// A value is not acceptable; there is no such tenant; the database failed.
pub async fn invite(
    services: &Services,
    platform: &Platform,
    wanted: NewInvitation,
    by: &Author,
) -> Result<Invitation, ChangeError> {
    check_name(&wanted.name)?;
    if wanted.good_for.is_zero() || wanted.good_for > LONGEST {
        return Err(ChangeError::invalid(
            "expires_in_seconds",
            format_args!("must be 1 to {}", LONGEST.as_secs()),
        ));
    }
    let db = &services.db;
    if tenants::find(db, &wanted.tenant_id).await?.is_none() {
        return Err(ChangeError::NotFound {
            what: "tenant",
            id: wanted.tenant_id,
        });
    }
    if let Some(like) = &wanted.like_app_id
        && services.accounts.get(like).is_none()
    {
        return Err(ChangeError::invalid(
            "like",
            format_args!("there is no account {like}"),
        ));
    }
    let secret = hex::encode(random::sixteen());
    let now_ms = db.now_ms();
    let row = InvitationRow {
        platform: platform.app_id.to_string(),
        id: random::unique_name(),
        tenant_id: wanted.tenant_id,
        digest: sha256_hex(&secret),
        name: wanted.name,
        biz_app_id: wanted.biz_app_id.map(|id| id.to_string()),
        like_app_id: wanted.like_app_id,
        state: "open".to_owned(),
        app_id: None,
        expires_at: now_ms + millis(wanted.good_for),
        created_at: now_ms,
        used_at: None,
    };
    let mut change = db.change().await?;
    invitations::insert(&mut change, &row).await?;
    let object = format!("made {} for {}", row.id, row.tenant_id);
    by.note(
        &mut change,
        Action::InvitationTurn,
        row.biz_app_id.as_deref(),
        &object,
    )
    .await?;
    change.commit().await?;
    let url = format!(
        "{}/component/{}/invitations/{secret}",
        platform.public_url, row.platform
    );
    Ok(Invitation { row, url })
}

/// Takes an invitation back. One that was used stays so.
///
/// # Errors
/// There is none of that id; the database failed.
pub async fn revoke(
    db: &Database,
    platform: &str,
    id: &str,
    by: &Author,
) -> Result<InvitationRow, ChangeError> {
    let mut change = db.change().await?;
    let row = invitations::revoke(&mut change, platform, id).await?;
    let row = row.ok_or_else(|| ChangeError::NotFound {
        what: "invitation",
        id: id.to_owned(),
    })?;
    let object = format!("revoked {id}");
    by.note(&mut change, Action::InvitationTurn, None, &object)
        .await?;
    change.commit().await?;
    Ok(row)
}

impl PlatformLane {
    /// The invitation behind a link.
    ///
    /// # Errors
    /// It leads nowhere.
    pub async fn visit(&self, platform: &Platform, secret: &str) -> Result<Visit, InvitationError> {
        let db = &self.services.db;
        let digest = sha256_hex(secret);
        let found = invitations::find(db, platform.app_id.as_str(), By::Digest(&digest)).await?;
        let invitation = found.ok_or(InvitationError::Unknown)?;
        match &*invitation.state {
            "used" => Err(InvitationError::Used),
            "revoked" => Err(InvitationError::Revoked),
            _ if invitation.expires_at <= db.now_ms() => Err(InvitationError::Expired),
            _ => {
                let tenant = tenants::find(db, &invitation.tenant_id).await?;
                let tenant = tenant.map(|tenant| tenant.name).unwrap_or_default();
                let names = [&*invitation.name, &*tenant, platform.shown_name()];
                let host = names.into_iter().find(|name| !name.is_empty());
                Ok(Visit {
                    host: host.unwrap_or_default().to_owned(),
                    invitation,
                })
            }
        }
    }

    /// Begins an authorisation: with a code of its own for each visitor, made when they go on.
    ///
    /// # Errors
    /// WeChat gives no code now.
    pub async fn begin(
        &self,
        platform: &Arc<Platform>,
        visit: &Visit,
        form: Form,
    ) -> Result<Begun, InvitationError> {
        let services = &self.services;
        let call = CreatePreAuthCode {
            component_app_id: &platform.app_id,
        };
        let deadline = Instant::now() + CALL_TIME;
        let code = services
            .client
            .call_for_platform(platform, &call, deadline)
            .await?;
        let state = hex::encode(random::sixteen());
        let id = platform.app_id.as_str();
        let pre_auth_digest = sha256_hex(code.pre_auth_code.expose());
        let key = (id, &*visit.invitation.id);
        invitations::note_visit(&services.db, key, &sha256_hex(&state), &pre_auth_digest).await?;
        let redirect_uri = format!("{}/component/{id}/back/{state}", platform.public_url);
        let biz_appid = visit.invitation.biz_app_id.as_deref();
        let biz_appid = biz_appid.and_then(|id| AppId::parse(id).ok());
        let link = Link {
            component_app_id: &platform.app_id,
            pre_auth_code: &code.pre_auth_code,
            redirect_uri: &redirect_uri,
            biz_appid: biz_appid.as_ref(),
        };
        Ok(Begun {
            url: link.address(form, &self.mp_base, &self.open_base),
            state,
        })
    }

    /// A visitor comes back from WeChat. They may come twice: the second time they are told the same.
    ///
    /// # Errors
    /// The state or the code leads nowhere.
    pub async fn end(
        &self,
        platform: &Arc<Platform>,
        state: &str,
        code: &Secret,
    ) -> Result<Ended, InvitationError> {
        let services = &self.services;
        let state_digest = sha256_hex(state);
        let id = platform.app_id.as_str();
        let invitation = invitations::find(&services.db, id, By::State(&state_digest)).await?;
        let invitation = invitation.ok_or(InvitationError::Unknown)?;
        if invitation.state == "revoked" {
            return Err(InvitationError::Revoked);
        }
        let wanted = Wanted {
            code,
            app_id: None,
            told_at_ms: services.db.now_ms(),
            pre_auth_code: None,
            state_digest: Some(&state_digest),
        };
        let app_id = self.exchange(platform, wanted).await?;
        if !invitation.is_good_for(app_id.as_str()) {
            return Err(InvitationError::Used);
        }
        let account = services.accounts.get(app_id.as_str());
        let is_served = account.as_ref().is_some_and(|account| account.is_active());
        Ok(Ended {
            name: account.map_or_else(String::new, |account| account.info.name.clone()),
            is_served,
            app_id,
        })
    }
}
