//! Web authorisation (网页授权) of one app: the codes with which users come back to its pages, and what they have
//! granted it.
//!
//! Rules: 网页授权 (oauth.md), stricter where the document is silent: a code that was asked for by a third-party
//! platform is exchanged by that platform only, and one that was not by the app's secret only.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use wxhost_wechat::id::AppId;
use wxhost_wechat::oauth::Scope;

use crate::Environment;
use crate::api::refusal::Refusal;
use crate::api::tokens::fresh_value;

/// How long a code is good for.
const CODE_MS: u64 = 300_000;
/// How long a user's token lives.
const TOKEN_MS: u64 = 7_200_000;
/// How long it may be renewed.
const REFRESH_MS: u64 = 30 * 24 * 3_600_000;
/// Codes that are remembered.
const MAX_CODES: usize = 10_000;

/// What a user has agreed to.
#[derive(Debug, Clone)]
pub(crate) struct Consent {
    pub(crate) open_id: String,
    pub(crate) scope: Scope,
    /// The platform that asked on the app's behalf.
    pub(crate) component: Option<AppId>,
    /// Nobody: a page was looked at without being opened (快照页).
    pub(crate) is_snapshot: bool,
}

#[derive(Debug)]
struct Code {
    consent: Consent,
    made_at_ms: u64,
    is_used: bool,
}

/// What a user has granted.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) consent: Consent,
    access_token: String,
    ends_at_ms: u64,
    refresh_token: String,
    granted_at_ms: u64,
}

/// The codes and grants of one app.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    codes: HashMap<String, Code>,
    grants: BTreeMap<String, Grant>,
    /// Tokens that there were.
    former: Vec<String>,
    exchanges: u64,
    renewals: u64,
}

impl Logins {
    /// A code for a user who has agreed.
    pub(crate) fn make_code(
        &mut self,
        consent: Consent,
        now_ms: u64,
        chance: &dyn Environment,
    ) -> String {
        if self.codes.len() >= MAX_CODES {
            self.codes
                .retain(|_, code| now_ms - code.made_at_ms <= CODE_MS);
        }
        let value = chance.letters(32);
        let code = Code {
            consent,
            made_at_ms: now_ms,
            is_used: false,
        };
        self.codes.insert(value.clone(), code);
        value
    }

    /// Exchanges a code: 40029, 40163, 42003.
    pub(crate) fn exchange(
        &mut self,
        code: &str,
        component: Option<&AppId>,
        (now_ms, chance): (u64, &dyn Environment),
    ) -> Result<&Grant, Refusal> {
        let found = self.codes.get_mut(code);
        let found = found.filter(|code| code.consent.component.as_ref() == component);
        let found = found.ok_or_else(|| Refusal::of(40029))?;
        if found.is_used {
            return Err(Refusal::of(40163));
        }
        if now_ms - found.made_at_ms > CODE_MS {
            return Err(Refusal::of(42003));
        }
        found.is_used = true;
        self.exchanges += 1;
        let consent = found.consent.clone();
        let grant = Grant {
            access_token: fresh_value(chance),
            ends_at_ms: now_ms + TOKEN_MS,
            refresh_token: fresh_value(chance),
            granted_at_ms: now_ms,
            consent,
        };
        let open_id = grant.consent.open_id.clone();
        if let Some(before) = self.grants.remove(&open_id) {
            self.former
                .extend([before.access_token, before.refresh_token]);
        }
        Ok(self.grants.entry(open_id).or_insert(grant))
    }

    /// A user's token for two hours more: 40030, 42002. One that lives is extended, one that has ended replaced.
    pub(crate) fn renew(
        &mut self,
        refresh_token: &str,
        component: Option<&AppId>,
        (now_ms, chance): (u64, &dyn Environment),
    ) -> Result<&Grant, Refusal> {
        let mut grants = self.grants.values_mut();
        let grant = grants.find(|grant| grant.refresh_token == refresh_token);
        let grant = grant.filter(|grant| grant.consent.component.as_ref() == component);
        let grant = grant.ok_or_else(|| Refusal::of(40030))?;
        if now_ms - grant.granted_at_ms > REFRESH_MS {
            return Err(Refusal::of(42002));
        }
        self.renewals += 1;
        if now_ms >= grant.ends_at_ms {
            let next = fresh_value(chance);
            self.former
                .push(std::mem::replace(&mut grant.access_token, next));
        }
        grant.ends_at_ms = now_ms + TOKEN_MS;
        Ok(grant)
    }

    /// What a user's token was granted for, where it is one of this app's.
    pub(crate) fn find(&self, access_token: &str) -> Option<&Grant> {
        let mut grants = self.grants.values();
        grants.find(|grant| grant.access_token == access_token)
    }

    /// Everything secret that there was.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let live = self
            .grants
            .values()
            .flat_map(|grant| [&*grant.access_token, &*grant.refresh_token]);
        live.chain(self.former.iter().map(String::as_str))
    }

    /// What is counted.
    pub(crate) fn shown(&self) -> Value {
        json!({ "exchanges": self.exchanges, "renewals": self.renewals })
    }
}

impl Grant {
    /// Opens a call about this user: 42001, 40003.
    pub(crate) fn expect(&self, open_id: &str, now_ms: u64) -> Result<(), Refusal> {
        if now_ms >= self.ends_at_ms {
            return Err(Refusal::of(42001));
        }
        match open_id == self.consent.open_id {
            true => Ok(()),
            false => Err(Refusal::of(40003)),
        }
    }

    /// As the exchange and the renewal answer it.
    pub(crate) fn told(&self, union_id: Option<&str>) -> Value {
        let mut told = json!({
            "access_token": self.access_token,
            "expires_in": TOKEN_MS / 1000,
            "refresh_token": self.refresh_token,
            "openid": self.consent.open_id,
            "scope": self.consent.scope.as_str(),
        });
        if self.consent.is_snapshot {
            told["is_snapshotuser"] = 1.into();
        }
        if let Some(union_id) = union_id {
            told["unionid"] = union_id.into();
        }
        told
    }
}
