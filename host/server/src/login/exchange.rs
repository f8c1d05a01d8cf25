//! A user who comes back from WeChat. The code that they bring is exchanged once, on whichever host; whoever
//! comes with it later gets what the first one got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::oauth::{Profile, UserGrant, UserInfo};
use wxhost_wechat::id::OpenId;
use wxhost_wechat::oauth::Scope;

use super::attempt::way_on;
use super::attempt::{Attempt, Give};
use super::handler::Verdict;
use super::session::Outcome;
use super::{CALL_TIME, LoginError, LoginLane, Session, site_of};
use crate::accounts::Account;
use crate::client::CallError;
use crate::db::Lease;
use crate::db::logins::{self, Login, LoginKey};
use crate::db::user_grants::{self, UserGrantRow};
use crate::digest::sha256_hex;
use crate::random;
use crate::seal::{Place, SealError};

/// How long a host has the turn to ask WeChat, and then to ask the plugin.
const LEASE: Duration = Duration::from_secs(10);
/// Bytes of a nickname and of a picture's address; longer ones are left out.
const MAX_TEXT_BYTES: usize = 512;
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
    /// They have refused, or the account's plugin has: back to the page, which is told.
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
        let mut return_to = way_on(&account, login, &attempt.return_to)?;
        let Some(code) = back.code else {
            return_to
                .query_pairs_mut()
                .append_pair("login_error", "refused");
            return Ok(Led::Out(return_to));
        };
        let outcome = self.outcome_of(&account, &attempt, code).await?;
        if let Some(reason) = &outcome.refused {
            return_to
                .query_pairs_mut()
                .append_pair("login_error", reason);
            return Ok(Led::Out(return_to));
        }
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
                Login::Taken(exchanged) => {
                    let exchanged = exchanged.as_deref();
                    let turn = (key, &*owner, exchanged);
                    let decided = self.take_turn(account, attempt, code, turn).await?;
                    // Where the turn was lost, what the other one decides counts.
                    if let Some(outcome) = decided {
                        return Ok(outcome);
                    }
                }
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

    /// Goes on with a login whose turn this is, from where it is. None where the turn was lost meanwhile.
    async fn take_turn(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        code: &Secret,
        (key, owner, exchanged): (LoginKey<'_>, &str, Option<&str>),
    ) -> Result<Option<Outcome>, LoginError> {
        let db = &self.services.db;
        let lease = || Lease::begin(db, owner, LEASE);
        let decided = async {
            let who = match exchanged {
                Some(sealed) => self.outcome(key.app_id, key.state_hash, sealed)?,
                None => {
                    let who = self.exchange(account, code).await?;
                    // The code is used up: whatever fails from here on, who it is is known.
                    let sealed = self.sealed(&who, key)?;
                    logins::note(db, key, lease(), &sealed).await?;
                    who
                }
            };
            let outcome = self.judged(account, attempt, who).await?;
            let ticket_hash = outcome.ticket.as_ref().map(sha256_hex);
            let sealed = self.sealed(&outcome, key)?;
            let result = (&*sealed, ticket_hash.as_deref());
            let is_kept = logins::end(db, key, lease(), result).await?;
            Ok(is_kept.then_some(outcome))
        };
        let decided = decided.await;
        if let Err(error) = &decided {
            let refused = match error {
                LoginError::CodeRefused(reason) => Some(&**reason),
                _ => None,
            };
            logins::fail(db, key, owner, refused).await?;
        }
        decided
    }

    fn sealed(&self, outcome: &Outcome, key: LoginKey<'_>) -> Result<String, SealError> {
        // A struct of texts and numbers always is JSON.
        let clear = serde_json::to_vec(outcome).unwrap_or_default();
        let place = Place::login(key.app_id, key.state_hash);
        self.services.keys.seal(place, &clear)
    }

    /// Who it is, with what the account's plugin says.
    async fn judged(
        &self,
        account: &Arc<Account>,
        attempt: &Attempt,
        mut outcome: Outcome,
    ) -> Result<Outcome, LoginError> {
        match self.decide(account, attempt, &outcome.session).await? {
            Verdict::Refused(reason) => outcome.refused = Some(reason),
            Verdict::Admitted(claims) => {
                outcome.session.claims = claims;
                let wants_ticket = attempt.give == Give::Ticket;
                outcome.ticket = wants_ticket.then(|| hex::encode(random::sixteen()));
            }
        }
        Ok(outcome)
    }

    async fn exchange(&self, account: &Arc<Account>, code: &Secret) -> Result<Outcome, LoginError> {
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
        // A browser keeps no session that is too long.
        let given = |text: String| (1..=MAX_TEXT_BYTES).contains(&text.len()).then_some(text);
        let login = account.login.as_ref().ok_or(LoginError::NotSetUp)?;
        let session = Session {
            app_id: account.app_id.as_str().to_owned(),
            open_id: open_id.as_str().to_owned(),
            union_id: granted.union_id.or(profile.union_id),
            scope: granted.scope,
            is_snapshot_user,
            claims: BTreeMap::new(),
            nickname: given(profile.nickname),
            picture_url: given(profile.headimgurl),
            logged_in_at: now_ms,
            expires_at: now_ms + i64::from(login.session_seconds) * 1000,
        };
        Ok(Outcome {
            session,
            ticket: None,
            refused: None,
        })
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
