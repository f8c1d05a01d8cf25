//! Who has logged in: what their browser keeps, and what a tenant's back end learns of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LoginLane;
use crate::clock::millis;
use crate::db::{DbError, logins};
use crate::digest::sha256_hex;
use crate::seal::{Place, SealError};

/// What sessions are signed for.
const PURPOSE: &str = "login session";
/// How long a ticket is good for.
const TICKET_GOOD_FOR: Duration = Duration::from_secs(300);

/// Somebody who has logged in to an account's pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The account.
    pub app_id: String,
    /// Who, for this account.
    pub open_id: String,
    /// Who, for all accounts of an Open Platform account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub union_id: Option<String>,
    /// What the user has granted: `snsapi_base` or `snsapi_userinfo`.
    #[schema(example = "snsapi_base")]
    pub scope: String,
    /// A virtual user, of somebody who looks at a snapshot of the page (快照页) without opening it. Bind nothing to
    /// its open id.
    pub is_snapshot_user: bool,
    /// As the user calls themselves; with `snsapi_userinfo` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
    /// Address of the user's picture; with `snsapi_userinfo` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_url: Option<String>,
    /// What the account's plugin says of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Unix milliseconds.
    pub logged_in_at: i64,
    /// Unix milliseconds.
    pub expires_at: i64,
}

/// Why nobody is known by a cookie or a ticket.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The cookie was not signed by a host, or for another account.
    #[error("the cookie is no session of this account; let the user log in")]
    Unknown,
    /// It has ended.
    #[error("the session has ended; let the user log in again")]
    Ended,
    /// The ticket is nobody's, was shown before, or is older than five minutes.
    #[error("the ticket is none, was used before, or came more than five minutes ago")]
    Ticket,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// What came of the login can't be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// What came of a login.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) session: Session,
    /// For the tenant's back end.
    pub(super) ticket: Option<String>,
    /// Why the account's plugin has not let them in, if it has not.
    pub(super) refused: Option<String>,
}

impl LoginLane {
    /// What a browser keeps of a session.
    pub(super) fn signed(&self, session: &Session) -> String {
        let clear = serde_json::to_vec(session).unwrap_or_default();
        self.services.keys.sign(PURPOSE, &clear)
    }

    /// Who a browser's cookie says.
    ///
    /// # Errors
    /// Nobody, or nobody any more.
    pub fn session(&self, app_id: &str, cookie: &str) -> Result<Session, SessionError> {
        let clear = self.services.keys.verified(PURPOSE, cookie);
        let session = clear.and_then(|clear| serde_json::from_slice::<Session>(&clear).ok());
        let session = session.filter(|session| session.app_id == app_id);
        let session = session.ok_or(SessionError::Unknown)?;
        if session.expires_at <= self.services.db.now_ms() {
            return Err(SessionError::Ended);
        }
        Ok(session)
    }

    /// Who a ticket says, the first time that it is shown.
    ///
    /// # Errors
    /// Nobody; the database failed.
    pub async fn redeem(&self, app_id: &str, ticket: &str) -> Result<Session, SessionError> {
        let services = &self.services;
        let now_ms = services.db.now_ms();
        let times = (now_ms - millis(TICKET_GOOD_FOR), now_ms);
        let hash = sha256_hex(ticket);
        let found = logins::redeem(&services.db, app_id, &hash, times).await?;
        let (state_hash, sealed) = found.ok_or(SessionError::Ticket)?;
        self.outcome(app_id, &state_hash, &sealed)
            .map(|outcome| outcome.session)
            .map_err(SessionError::Seal)
    }

    pub(super) fn outcome(
        &self,
        app_id: &str,
        state_hash: &str,
        sealed: &str,
    ) -> Result<Outcome, SealError> {
        let clear = self
            .services
            .keys
            .open(Place::login(app_id, state_hash), sealed)?;
        serde_json::from_slice(&clear).map_err(|_| SealError::Damaged)
    }
}
