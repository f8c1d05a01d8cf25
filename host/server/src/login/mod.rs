//! Users who log in to an account's pages (网页授权).
//!
//! A login begins at this host, which sends the user to WeChat with a state that nobody can guess; what the state
//! belongs to is kept by the user's browser, signed, so that nothing is stored for who only begins (`attempt`).
//! WeChat leads the user back with a code, which is exchanged once, however often and to whichever host a browser
//! brings it (`exchange`). The account's plugin may have a say (`handler`). Who it is becomes a session, which the browser keeps, signed, or for which the tenant's
//! back end gets a ticket (`session`). `profile` reads what users let an account see of them.

mod attempt;
mod exchange;
mod handler;
mod profile;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::attempt::{Begun, Give};
pub use self::exchange::{Entry, Led, Return};
pub use self::profile::ProfileError;
pub use self::session::{Session, SessionError};
use crate::accounts::Account;
use crate::client::CallError;
use crate::clock::millis;
use crate::db::{DbError, logins, user_grants};
use crate::run::Runner;
use crate::seal::SealError;
use crate::services::Services;

/// How long a call may take: a user waits.
const CALL_TIME: Duration = Duration::from_secs(8);
/// Codes that a host exchanges at the same time.
const MOST_EXCHANGES: usize = 256;
/// How long logins are kept, for a browser that comes twice.
const LOGINS_KEPT: Duration = Duration::from_secs(3600);
/// How long WeChat renews what a user has granted.
const GRANTS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often what is old is forgotten.
const FORGET_PERIOD: Duration = Duration::from_secs(600);

/// Users who log in, on one host.
pub struct LoginLane {
    services: Arc<Services>,
    runner: Runner,
    /// Where open.weixin.qq.com is.
    open_base: String,
    /// Codes that are exchanged at the same time: who makes some up must not have all connections.
    places: Semaphore,
}

/// Why a login goes no further.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such account here, or none to whose pages users log in.
    #[error("there is no account of this app id to whose pages users log in")]
    NotSetUp,
    /// The account does not know where WeChat leads back to.
    #[error("the account has no login.site_url")]
    NoSite,
    /// The address to be led on to is not on the account's list.
    #[error("return_to is not on the account's list of addresses (login.return_urls)")]
    ReturnAddress,
    /// This browser has not begun it, or too long ago.
    #[error("this browser has not begun the login, or more than ten minutes ago")]
    NotBegun,
    /// The state came before, with another code.
    #[error("the state was used before, with another code")]
    StateUsed,
    /// WeChat does not take the code.
    #[error("wechat does not take the code: {0}")]
    CodeRefused(String),
    /// Another request is at it, for longer than this one waits.
    #[error("the code is being exchanged by another request")]
    UnderWay,
    /// The account's plugin, which has a say, failed by this word.
    #[error("the plugin that decides on logins failed: {0}")]
    Plugin(String),
    /// The host could not call the plugin.
    #[error("the host could not call the plugin that decides on logins")]
    HeldUp,
    /// The host exchanges as many codes as it does at once.
    #[error("the host exchanges {MOST_EXCHANGES} codes now, which is the most")]
    Overloaded,
    /// WeChat can't be asked now.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// What came of it can't be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl LoginError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSetUp => "login-not-set-up",
            Self::NoSite => "login-without-site",
            Self::ReturnAddress => "return-address-refused",
            Self::NotBegun => "login-not-begun",
            Self::StateUsed => "login-state-used",
            Self::CodeRefused(_) => "login-code-refused",
            Self::UnderWay => "login-under-way",
            Self::Plugin(_) => "login-handler-failed",
            Self::Overloaded | Self::HeldUp => "overloaded",
            Self::Call(error) => error.code(),
            Self::Database(_) => "database-unavailable",
            Self::Seal(_) => "internal-error",
        }
    }
}

impl std::fmt::Debug for LoginLane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginLane").finish_non_exhaustive()
    }
}

impl LoginLane {
    /// A lane that sends users to this address of WeChat's, and whose calls of plugins take `call_deadline` at
    /// most.
    pub fn new(services: Arc<Services>, open_base: &str, call_deadline: Duration) -> Self {
        Self {
            runner: Runner::new(Arc::clone(&services), call_deadline),
            services,
            open_base: open_base.trim_end_matches('/').to_owned(),
            places: Semaphore::new(MOST_EXCHANGES),
        }
    }

    /// What it shares with the other lanes.
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Spawns what forgets old logins.
    pub fn spawn(self: &Arc<Self>, loops: &TaskTracker, stop: &CancellationToken) {
        let (lane, stop) = (Arc::clone(self), stop.clone());
        loops.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(FORGET_PERIOD) => {}
                }
                if let Err(error) = lane.forget_old().await {
                    tracing::debug!(error = %error, "old logins can't be forgotten now");
                }
            }
        });
    }

    async fn forget_old(&self) -> Result<(), DbError> {
        let db = self.services.db.background();
        let now_ms = db.now_ms();
        logins::forget(&db, now_ms - millis(LOGINS_KEPT)).await?;
        user_grants::forget(&db, now_ms - millis(GRANTS_KEPT)).await
    }

    /// The account to whose pages users log in.
    fn account(&self, app_id: &str) -> Result<Arc<Account>, LoginError> {
        let account = self.services.accounts.get(app_id);
        account
            .filter(|account| account.is_active() && account.login.is_some())
            .ok_or(LoginError::NotSetUp)
    }
}

/// Where an account's logins lead back to this host, without a slash at the end.
fn site_of(account: &Account) -> Result<&str, LoginError> {
    account.login_site().ok_or(LoginError::NoSite)
}
