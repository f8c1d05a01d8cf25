//! A token or ticket as a host holds it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// What WeChat gives out for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// Opens the API.
    AccessToken,
    /// Signs pages (JS-SDK).
    JsapiTicket,
    /// Signs cards.
    CardTicket,
    /// Opens a third-party platform's own calls.
    ComponentToken,
}

impl Credential {
    /// Those of an account.
    pub const OF_ACCOUNTS: [Self; 3] = [Self::AccessToken, Self::JsapiTicket, Self::CardTicket];

    /// Those of an account and of a platform.
    pub const ALL: [Self; 4] = [
        Self::AccessToken,
        Self::JsapiTicket,
        Self::CardTicket,
        Self::ComponentToken,
    ];

    /// As it stands in keys, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access-token",
            Self::JsapiTicket => "jsapi-ticket",
            Self::CardTicket => "card-ticket",
            Self::ComponentToken => "component-token",
        }
    }

    /// Whether it opens calls by itself; tickets are fetched with one that does.
    pub(crate) fn is_token(self) -> bool {
        matches!(self, Self::AccessToken | Self::ComponentToken)
    }

    /// The one of that word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|this| this.as_str() == word)
    }
}

/// How long before its end a token counts as ended, so that a call under way does not outlive it.
const SLACK_MS: i64 = 10_000;

/// When a token is renewed, before its end. WeChat gives out a new one, beside the old one, in the last
/// five minutes only: asked earlier, `stable_token` answers the same.
const AHEAD_MS: std::ops::RangeInclusive<i64> = 180_000..=290_000;

/// The same for short lives, as parts of them: 1/15 slack, renewed between 1/8 and 1/5.
const SHORT_LIFE: (i64, i64, i64) = (15, 8, 5);

/// A token or ticket, held by this host.
pub struct Token {
    value: SecretString,
    /// Tells one value from another without showing it.
    pub(crate) hash: String,
    /// Until when it is used, Unix milliseconds: a little before WeChat ends it.
    pub expires_at_ms: i64,
    /// When it was fetched, Unix milliseconds of the host that did.
    pub fetched_at_ms: i64,
    /// Larger than that of every token before it, on all hosts.
    pub fence: u64,
    /// From then on a newer one is fetched.
    pub(crate) renew_at_ms: i64,
    /// How long it was to live when it was fetched.
    pub(crate) lifetime_ms: i64,
    /// WeChat has refused it.
    failed: AtomicBool,
}

/// What a token is made from.
pub(crate) struct Facts {
    pub(crate) value: SecretString,
    pub(crate) fence: u64,
    pub(crate) fetched_at_ms: i64,
    /// What WeChat said, from when it was asked.
    pub(crate) lifetime_ms: i64,
    /// How long it may still be used.
    pub(crate) left_ms: i64,
    pub(crate) now_ms: i64,
    /// 0 to 999, the same for an account on every host: spreads the renewals.
    pub(crate) spread: i64,
}

impl Token {
    pub(crate) fn new(facts: Facts) -> Self {
        let expires_at_ms = facts.now_ms + facts.left_ms;
        let ends_at_ms = expires_at_ms + slack(facts.lifetime_ms);
        let (_, early, late) = SHORT_LIFE;
        let earliest = (*AHEAD_MS.end()).min(facts.lifetime_ms / late);
        let latest = (*AHEAD_MS.start()).min(facts.lifetime_ms / early);
        let ahead = latest + (earliest - latest) * facts.spread.clamp(0, 999) / 1000;
        Self {
            hash: hash(&facts.value),
            value: facts.value,
            expires_at_ms,
            fetched_at_ms: facts.fetched_at_ms,
            fence: facts.fence,
            renew_at_ms: ends_at_ms - ahead,
            lifetime_ms: facts.lifetime_ms,
            failed: AtomicBool::new(false),
        }
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    pub(crate) fn is_usable(&self, now_ms: i64) -> bool {
        now_ms < self.expires_at_ms && !self.has_failed()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn mark_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether WeChat gave out the same text, whenever it was fetched.
    pub(crate) fn has_same_value(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// Whether this is its hash: its SHA-256 in lower-case hex, or the beginning of it.
    pub(crate) fn has_hash(&self, hash: &str) -> bool {
        hash.len() >= self.hash.len() && hash.starts_with(&self.hash)
    }

    /// Whether it is the same token, fetched at the same time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.fence == other.fence && self.hash == other.hash
    }
}

/// How long a token of this life counts as ended before its end.
pub(crate) fn slack(lifetime_ms: i64) -> i64 {
    SLACK_MS.min(lifetime_ms / SHORT_LIFE.0)
}

/// Sixteen hex digits: the beginning of its SHA-256. A token has far more entropy than could be guessed
/// from them.
pub(crate) fn hash(value: &SecretString) -> String {
    hex::encode(&Sha256::digest(value.expose_secret())[..8])
}

/// 0 to 999, from an account's id.
pub(crate) fn spread(app_id: &str) -> i64 {
    let digest = Sha256::digest(app_id);
    i64::from(u16::from_be_bytes([digest[0], digest[1]])) * 1000 / 65_536
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("fence", &self.fence)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("failed", &self.has_failed())
            .finish_non_exhaustive()
    }
}

/// What may be shown of a token.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenState {
    /// Until when it is used, Unix milliseconds: a little before WeChat ends it.
    pub expires_at: i64,
    /// When it was fetched, Unix milliseconds.
    pub fetched_at: i64,
    /// Its number: larger than that of every token before it.
    pub fence: u64,
    /// Whether WeChat has refused it, so that it is not used any more.
    pub failed: bool,
}

impl From<&Token> for TokenState {
    fn from(token: &Token) -> Self {
        Self {
            expires_at: token.expires_at_ms,
            fetched_at: token.fetched_at_ms,
            fence: token.fence,
            failed: token.has_failed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lifetime_seconds: i64, spread: i64) -> Token {
        let lifetime_ms = lifetime_seconds * 1000;
        Token::new(Facts {
            value: "topsecret".into(),
            fence: 1,
            fetched_at_ms: 0,
            lifetime_ms,
            left_ms: lifetime_ms - slack(lifetime_ms),
            now_ms: 0,
            spread,
        })
    }

    #[test]
    fn tokens_are_renewed_while_wechat_gives_out_two() {
        for lifetime_seconds in [7200, 3600, 1500, 300, 60, 30, 10, 1] {
            let overlap_ms = 300_000.min(lifetime_seconds * 1000 / 4);
            for spread in [0, 500, 999] {
                let token = token(lifetime_seconds, spread);
                let ends = lifetime_seconds * 1000;
                let shown = format!("{lifetime_seconds} s, {spread}: {}", token.renew_at_ms);
                assert!(token.renew_at_ms >= ends - overlap_ms, "{shown}");
                assert!(token.renew_at_ms < token.expires_at_ms, "{shown}");
                assert!(token.expires_at_ms < ends, "{shown}");
            }
        }
    }

    #[test]
    fn accounts_are_spread() {
        let spreads: std::collections::BTreeSet<_> = (0..100)
            .map(|n| spread(&format!("wx{n:016x}")) / 100)
            .collect();
        assert_eq!(spreads, (0..10).collect());
    }

    #[test]
    fn a_token_does_not_show() {
        let token = token(7200, 0);
        token.mark_failed();
        assert!(!token.is_usable(0));
        let shown = format!("{token:?}");
        assert!(
            !shown.contains("topsecret") && !shown.contains(&token.hash),
            "{shown}"
        );
    }
}
