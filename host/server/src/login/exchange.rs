//! A user who comes back from WeChat. The code that they bring is exchanged once, on whichever host; whoever
//! comes with it later gets what the first one got.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::oauth::{Profile, UserGrant, UserInfo};
use wxhost_wechat::id::OpenId;
use wxhost_wechat::oauth::Scope;

use super::attempt::{Attempt, Give};
use super::session::Outcome;
use super::{CALL_TIME, LoginError, LoginLane, Session, site_of};
use crate::accounts::Account;
use crate::client::CallError;
use crate::db::Lease;
use crate::db::logins::{self, Login, LoginKey};
use crate::db::user_grants::{self, UserGrantRow};
use crate::digest::sha256_hex;
use crate::random;
use crate::seal::Place;

/// How long a host has the turn: longer than its calls may take.
const LEASE: Duration = Duration::from_secs(10);
/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long somebody waits.
const PATIENCE: Duration = Duration::from_secs(12);

/// What a browser comes back with.
#[derive(Clone, Copy, Debug)]
pub struct Return<'a> {
    /// The account, by the address.
    pub app_id: &'a str,
    /// As WeChat was given it.
    pub state: &'a str,
    /// The code; absent where the user has refused.
    pub code: Option<&'a Secret>,
    /// What the browser has kept since it began.
    pub attempt: &'a str,
}

/// Where a user is led on to.
#[derive(Debug)]
pub enum Led {
    /// They are known now.
    In(Entry),
    /// They have refused: back to the page, which is told.
    Out(Url),
}

/// A user who has logged in.
#[derive(Debug)]
pub struct Entry {
    /// The page, with a ticket if its back end wants one.
    pub return_to: Url,
    /// What the browser keeps: the session, signed.
    pub cookie: String,
    /// For so many seconds.
    pub cookie_seconds: u32,
    /// Where this host's pages of the login lie.
    pub site: String,
}

impl LoginLane {
    /// Ends a login. The same browser may come again with the same, and is led to the same.
    ///
    /// # Errors
    /// This browser has not begun it; WeChat does not take the code, or can't be asked now.
    pub async fn end(&self, back: Return<'_>) -> Result<Led, LoginError> {
        let ended = self.lead(back).await;
        let outcome = match &ended {
            Ok(Led::In(_)) => "ok",
            Ok(Led::Out(_)) => "declined",
            Err(error) => error.code(),
        };
        self.services.metrics.count_login(outcome);
        ended
    }

    async fn lead(&self, back: Return<'_>) -> Result<Led, LoginError> {
        let account = self.account(back.app_id)?;
        let login = account.login.as_ref().ok_or(LoginError::NotSetUp)?;
        let attempt = self
            .attempt(back.attempt, back.app_id, back.state)
            .ok_or(LoginError::NotBegun)?;
        // It may have been taken off the list meanwhile.
        let mut return_to = login
            .allowed(&attempt.return_to)
            .ok_or(LoginError::ReturnAddress)?;
        let Some(code) = back.code else {
            return_to
                .query_pairs_mut()
                .append_pair("login_error", "refused");
            return Ok(Led::Out(return_to));
        };
        let outcome = self.outcome_of(&account, &attempt, code).await?;
        if let Some(ticket) = &outcome.ticket {
            return_to
                .query_pairs_mut()
                .append_pair("login_ticket", ticket);
        }
        Ok(Led::In(Entry {
            return_to,
            cookie: self.signed(&outcome.session),
            cookie_seconds: login.session_seconds,
            site: site_of(&account)?.to_owned(),
        }))
    }

    async fn outcome_of(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        code: &Secret,
    ) -> Result<Outcome, LoginError> {
        let db = &self.services.db;
        let (state_hash, code_hash) = (sha256_hex(&attempt.state), sha256_hex(code.expose()));
        let key = LoginKey {
            app_id: account.app_id.as_str(),
            state_hash: &state_hash,
        };
        let owner = random::unique_name();
        let patience = Instant::now() + PATIENCE;
        loop {
            let lease = Lease::begin(db, &owner, LEASE);
            match logins::take(db, key, &code_hash, lease).await? {
                Login::Taken => return self.take_turn(account, attempt, code, (key, &owner)).await,
                Login::Done(sealed) => {
                    return Ok(self.outcome(key.app_id, key.state_hash, &sealed)?);
                }
                Login::Failed(reason) => return Err(LoginError::CodeRefused(reason)),
                Login::Used => return Err(LoginError::StateUsed),
                Login::UnderWay if Instant::now() >= patience => return Err(LoginError::UnderWay),
                Login::UnderWay => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Exchanges a code whose turn this is.
    async fn take_turn(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        code: &Secret,
        (key, owner): (LoginKey<'_>, &str),
    ) -> Result<Outcome, LoginError> {
        let db = &self.services.db;
        let exchanged = match self.exchange(account, attempt, code).await {
            Ok(outcome) => self.keep(&outcome, (key, owner)).await.map(|()| outcome),
            Err(error) => Err(error),
        };
        if let Err(error) = &exchanged {
            let refused = match error {
                LoginError::CodeRefused(reason) => Some(&**reason),
                _ => None,
            };
            logins::fail(db, key, owner, refused).await?;
        }
        exchanged
    }

    async fn keep(
        &self,
        outcome: &Outcome,
        (key, owner): (LoginKey<'_>, &str),
    ) -> Result<(), LoginError> {
        // A struct of texts and numbers always is JSON.
        let clear = serde_json::to_vec(outcome).unwrap_or_default();
        let place = Place::login(key.app_id, key.state_hash);
        let sealed = self.services.keys.seal(place, &clear)?;
        let ticket_hash = outcome.ticket.as_ref().map(sha256_hex);
        let result = (&*sealed, ticket_hash.as_deref());
        Ok(logins::end(&self.services.db, key, owner, result).await?)
    }

    async fn exchange(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        code: &Secret,
    ) -> Result<Outcome, LoginError> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(LoginError::Overloaded);
        };
        let services = &self.services;
        let now_ms = services.db.now_ms();
        let deadline = Instant::now() + CALL_TIME;
        let granted = services.client.exchange_code(account, code, deadline).await;
        let granted = granted.map_err(|error| match error {
            CallError::Refused(refusal) if refusal.errcode.refuses_login_code() => {
                LoginError::CodeRefused(refusal.to_string())
            }
            error => error.into(),
        })?;
        let open_id = OpenId::parse(&granted.open_id);
        let open_id = open_id.map_err(|error| CallError::Answer(format!("openid: {error}")))?;
        let is_snapshot_user = granted.is_snapshot_user();
        let grants_profile = granted
            .scope
            .split(',')
            .any(|scope| scope == Scope::UserInfo.as_str());
        let profile = match grants_profile && !is_snapshot_user {
            false => None,
            true => {
                self.keep_grant(account, &open_id, &granted, now_ms).await?;
                self.first_profile(&open_id, &granted, deadline).await
            }
        };
        let profile = profile.unwrap_or_default();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let login = account.login.as_ref().ok_or(LoginError::NotSetUp)?;
        let session = Session {
            app_id: account.app_id.as_str().to_owned(),
            open_id: open_id.as_str().to_owned(),
            union_id: granted.union_id.or(profile.union_id),
            scope: granted.scope,
            is_snapshot_user,
            nickname: given(profile.nickname),
            picture_url: given(profile.headimgurl),
            logged_in_at: now_ms,
            expires_at: now_ms + i64::from(login.session_seconds) * 1000,
        };
        let ticket = (attempt.give == Give::Ticket).then(|| hex::encode(random::sixteen()));
        Ok(Outcome { session, ticket })
    }

    async fn keep_grant(
        &self,
        account: &Account,
        open_id: &OpenId,
        granted: &UserGrant,
        now_ms: i64,
    ) -> Result<(), LoginError> {
        let Some(refresh_token) = &granted.refresh_token else {
            return Ok(());
        };
        let (app_id, user) = (account.app_id.as_str(), open_id.as_str());
        let seal = |place, secret: &Secret| {
            let clear = secret.expose().as_bytes();
            self.services.keys.seal(place, clear)
        };
        let row = UserGrantRow {
            app_id: app_id.to_owned(),
            open_id: user.to_owned(),
            access_token_sealed: seal(Place::user_token(app_id, user), &granted.access_token)?,
            expires_at: granted.ends_at_ms(now_ms),
            refresh_token_sealed: seal(Place::user_refresh_token(app_id, user), refresh_token)?,
            granted_at: now_ms,
        };
        Ok(user_grants::keep(&self.services.db, &row).await?)
    }

    /// Who it is without a profile is known too.
    async fn first_profile(
        &self,
        open_id: &OpenId,
        granted: &UserGrant,
        deadline: Instant,
    ) -> Option<Profile> {
        let call = UserInfo {
            open_id,
            language: Default::default(),
        };
        let token = Some(&granted.access_token);
        let read = self.services.client.call_with(token, &call, deadline).await;
        read.inspect_err(
            |error| tracing::warn!(error = %error, "the profile of a user who logs in can't be read now"),
        )
        .ok()
    }
}
