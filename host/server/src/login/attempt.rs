//! A login that has begun: what its state belongs to, kept by the browser.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use wxhost_wechat::oauth::{Authorize, Scope};

use super::{LoginError, LoginLane, site_of};
use crate::accounts::{Account, LoginSettings};
use crate::random;

/// What attempts are signed for.
const PURPOSE: &str = "login attempt";
/// How long one may take, in milliseconds: a code is good for five minutes.
const GOOD_FOR_MS: i64 = 600_000;

/// How the tenant's pages learn who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Give {
    /// By a cookie of the site.
    Cookie,
    /// By the cookie, and by a ticket in the address, which their back end shows once.
    Ticket,
}

/// A login that has begun.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) app_id: String,
    pub(super) state: String,
    pub(super) return_to: String,
    pub(super) give: Give,
    pub(super) begun_at_ms: i64,
}

/// Where a user goes, and what their browser keeps until they come back.
#[derive(Debug)]
pub struct Begun {
    /// WeChat's page.
    pub url: String,
    /// What names the attempt.
    pub state: String,
    /// What the browser keeps.
    pub attempt: String,
    /// Where this host's pages of the login lie.
    pub site: String,
}

/// Where a user is led on to, as browsers understand it: a page on the account's list, or the host's own page of
/// one of its orders. It is asked twice, for the list may have changed while the user was away.
pub(super) fn way_on(
    account: &Account,
    login: &LoginSettings,
    return_to: &str,
) -> Result<Url, LoginError> {
    let own = || own_page(site_of(account).ok()?, account.app_id.as_str(), return_to);
    login
        .allowed(return_to)
        .or_else(own)
        .ok_or(LoginError::ReturnAddress)
}

/// The host's own page of an order of the account's, to which everybody may be led on.
fn own_page(site: &str, app_id: &str, return_to: &str) -> Option<Url> {
    let number = return_to.strip_prefix(&format!("{site}/pay/{app_id}/"))?;
    // In one segment, in which nothing is escaped.
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'|' | b'*');
    let is_number = !number.is_empty() && number.bytes().all(is_plain);
    is_number.then(|| Url::parse(return_to).ok()).flatten()
}

impl LoginLane {
    /// Begins a login. Where it is not said how the tenant's pages learn who it is, it is by a ticket if they
    /// lie on another site than the login.
    ///
    /// # Errors
    /// Nobody logs in to the account's pages; the address is not on its list.
    pub fn begin(
        &self,
        app_id: &str,
        (return_to, scope): (&str, Scope),
        give: Option<Give>,
    ) -> Result<Begun, LoginError> {
        let account = self.account(app_id)?;
        let login = account.login.as_ref().ok_or(LoginError::NotSetUp)?;
        let site = site_of(&account)?;
        let return_to = way_on(&account, login, return_to)?;
        let is_elsewhere =
            Url::parse(site).map_or(true, |site| site.origin() != return_to.origin());
        let state = hex::encode(random::sixteen());
        let redirect_uri = format!("{site}/oauth/{app_id}/back");
        let authorize = Authorize {
            app_id: &account.app_id,
            redirect_uri: &redirect_uri,
            scope,
            state: &state,
            component_app_id: account.authorisation.as_ref().map(|by| &by.platform.app_id),
        };
        let url = authorize.address(&self.open_base);
        let attempt = Attempt {
            app_id: app_id.to_owned(),
            state: state.clone(),
            return_to: return_to.into(),
            give: give.unwrap_or(match is_elsewhere {
                true => Give::Ticket,
                false => Give::Cookie,
            }),
            begun_at_ms: self.services.db.now_ms(),
        };
        Ok(Begun {
            url,
            state,
            attempt: self.kept(&attempt),
            site: site.to_owned(),
        })
    }

    /// What a browser keeps of an attempt.
    pub(super) fn kept(&self, attempt: &Attempt) -> String {
        // A struct of texts and numbers always is JSON.
        let clear = serde_json::to_vec(attempt).unwrap_or_default();
        self.services.keys.sign(PURPOSE, &clear)
    }

    /// The attempt that a browser has kept, if it is one of this account and state.
    pub(super) fn attempt(&self, kept: &str, app_id: &str, state: &str) -> Option<Attempt> {
        let clear = self.services.keys.verified(PURPOSE, kept)?;
        let attempt: Attempt = serde_json::from_slice(&clear).ok()?;
        let age_ms = self.services.db.now_ms() - attempt.begun_at_ms;
        let is_it = attempt.app_id == app_id && attempt.state == state;
        (is_it && age_ms <= GOOD_FOR_MS).then_some(attempt)
    }
}
