//! What users let an account see of them, read by the token that they granted at a login.

use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::oauth::{Profile, UserInfo};
use wxhost_wechat::api::user::Language;
use wxhost_wechat::errcode::ApiError;
use wxhost_wechat::id::OpenId;

use super::{CALL_TIME, LoginLane};
use crate::accounts::Account;
use crate::client::CallError;
use crate::db::DbError;
use crate::db::user_grants::{self, UserGrantRow};
use crate::seal::{Place, SealError};

/// Why a profile can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// They have granted it never, too long ago, or not any more.
    #[error("the user must log in with scope=snsapi_userinfo first{}", because(.0.as_ref()))]
    LoginNeeded(Option<ApiError>),
    /// WeChat can't be asked now.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The token can't be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn because(refusal: Option<&ApiError>) -> String {
    refusal.map_or_else(String::new, |refusal| format!("; WeChat says: {refusal}"))
}

impl LoginLane {
    /// Reads a user's profile, with the user's next token where the one in hand has ended.
    ///
    /// # Errors
    /// The user must log in first; WeChat can't be asked now.
    pub async fn profile(
        &self,
        account: &Arc<Account>,
        open_id: &OpenId,
        language: Language,
    ) -> Result<Profile, ProfileError> {
        let services = &self.services;
        let app_id = account.app_id.as_str();
        let found = user_grants::find(&services.db, app_id, open_id.as_str()).await?;
        let grant = found.ok_or(ProfileError::LoginNeeded(None))?;
        let deadline = Instant::now() + CALL_TIME;
        let has_ended = grant.expires_at <= services.db.now_ms();
        let mut token = match has_ended {
            true => self.next_token(account, &grant, deadline).await?,
            false => {
                let place = Place::user_token(app_id, open_id.as_str());
                self.opened(place, &grant.access_token_sealed)?
            }
        };
        let call = UserInfo { open_id, language };
        let mut read = services
            .client
            .call_with(Some(&token), &call, deadline)
            .await;
        let is_refused = matches!(&read, Err(CallError::Refused(refusal))
            if refusal.errcode.ends_user_token());
        if is_refused && !has_ended {
            token = self.next_token(account, &grant, deadline).await?;
            read = services
                .client
                .call_with(Some(&token), &call, deadline)
                .await;
        }
        read.map_err(refused)
    }

    async fn next_token(
        &self,
        account: &Arc<Account>,
        grant: &UserGrantRow,
        deadline: Instant,
    ) -> Result<Secret, ProfileError> {
        let services = &self.services;
        let (app_id, user) = (&*grant.app_id, &*grant.open_id);
        let place = Place::user_refresh_token(app_id, user);
        let refresh_token = self.opened(place, &grant.refresh_token_sealed)?;
        let now_ms = services.db.now_ms();
        let next = services
            .client
            .refresh_grant(account, &refresh_token, deadline)
            .await
            .map_err(refused)?;
        let place = Place::user_token(app_id, user);
        let row = UserGrantRow {
            access_token_sealed: services
                .keys
                .seal(place, next.access_token.expose().as_bytes())?,
            expires_at: next.ends_at_ms(now_ms),
            ..grant.clone()
        };
        user_grants::renew(&services.db, &row).await?;
        Ok(next.access_token)
    }

    fn opened(&self, place: Place<'_>, sealed: &str) -> Result<Secret, SealError> {
        let text = self.services.keys.open_text(place, sealed)?;
        Secret::parse(text.expose_secret()).map_err(|_| SealError::Damaged)
    }
}

fn refused(error: CallError) -> ProfileError {
    match error {
        CallError::Refused(refusal) if refusal.errcode.ends_login() => {
            ProfileError::LoginNeeded(Some(refusal))
        }
        error => error.into(),
    }
}
