//! One official account as the API side knows it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use wxhost_wechat::id::AppId;

use crate::api::arrival::Arrival;
use crate::api::articles::Articles;
use crate::api::code_calls::Codes;
use crate::api::desk::Desk;
use crate::api::followers::Followers;
use crate::api::login::Logins;
use crate::api::mass_calls::MassMessages;
use crate::api::media::MediaStore;
use crate::api::menu_calls::Menus;
use crate::api::quota::Quota;
use crate::api::refusal::Refusal;
use crate::api::shown::ShownMessages;
use crate::api::tag_calls::Tags;
use crate::api::templates::Templates;
use crate::api::tickets::Tickets;
use crate::api::tokens::TokenBook;

/// Shortest and longest life of a token, in seconds.
const LIFETIME_SECONDS: std::ops::RangeInclusive<u64> = 1..=7200;

/// What an account is allowed to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppKind {
    /// 服务号, verified.
    #[default]
    Service,
    /// 订阅号, verified: no template messages, one mass message a day.
    Subscription,
}

/// An account as its owner has set it up, and what the simulation adds.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// AppID.
    pub app_id: AppId,
    /// AppSecret. To change it is to reset it: tokens that were issued before end at once.
    pub secret: String,
    /// 服务号 or 订阅号.
    #[serde(default)]
    pub kind: AppKind,
    /// How long tokens live: 1 to 7200 s.
    #[serde(default = "usual_lifetime")]
    pub token_lifetime_seconds: u64,
    /// How long tickets live: 1 to 7200 s; as long as tokens where it is absent.
    #[serde(default)]
    pub ticket_lifetime_seconds: Option<u64>,
    /// The IP list (IP白名单) that token calls are held against; no list allows every address.
    #[serde(default)]
    pub allowed_ips: Option<Vec<String>>,
    /// The address that this account's calls seem to come from, unless the header
    /// `X-Sim-Client-Ip` says otherwise; the connection's where it is absent.
    #[serde(default)]
    pub client_ip: Option<String>,
    /// Whether the AppSecret is frozen.
    #[serde(default)]
    pub frozen: bool,
    /// Daily limits by path, instead of WeChat's.
    #[serde(default)]
    pub quotas: BTreeMap<String, u64>,
    /// Limits per minute by path, instead of WeChat's.
    #[serde(default)]
    pub minute_quotas: BTreeMap<String, u64>,
    /// Customer-service messages that a user's message allows.
    #[serde(default = "usual_allowance")]
    pub messages_per_interaction: u32,
    /// AppIDs of the mini programs that are linked with the account.
    #[serde(default)]
    pub mini_programs: Vec<String>,
    /// Ids of the account's cards.
    #[serde(default)]
    pub cards: Vec<String>,
    /// The web domain (网页授权域名); users are led back nowhere where it is absent. WeChat takes a host only; here
    /// it may have a port, for hosts that run on this machine.
    #[serde(default)]
    pub oauth_domain: Option<String>,
}

fn usual_lifetime() -> u64 {
    7200
}

fn usual_allowance() -> u32 {
    5
}

impl AppSettings {
    /// A verified service account with WeChat's own limits.
    pub fn new(app_id: AppId, secret: impl Into<String>) -> Self {
        Self {
            app_id,
            secret: secret.into(),
            kind: AppKind::default(),
            token_lifetime_seconds: usual_lifetime(),
            ticket_lifetime_seconds: None,
            allowed_ips: None,
            client_ip: None,
            frozen: false,
            quotas: BTreeMap::new(),
            minute_quotas: BTreeMap::new(),
            messages_per_interaction: usual_allowance(),
            mini_programs: Vec::new(),
            cards: Vec::new(),
            oauth_domain: None,
        }
    }

    /// What is wrong with the settings, where something is.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let ticket_lifetime = self
            .ticket_lifetime_seconds
            .unwrap_or(self.token_lifetime_seconds);
        if self.secret.is_empty() {
            Some("secret is empty")
        } else if !LIFETIME_SECONDS.contains(&self.token_lifetime_seconds) {
            Some("token_lifetime_seconds is not 1 to 7200")
        } else if !LIFETIME_SECONDS.contains(&ticket_lifetime) {
            Some("ticket_lifetime_seconds is not 1 to 7200")
        } else {
            None
        }
    }

    pub(crate) fn token_lifetime_ms(&self) -> u64 {
        self.token_lifetime_seconds * 1000
    }

    pub(crate) fn ticket_lifetime_ms(&self) -> u64 {
        let seconds = self.ticket_lifetime_seconds;
        seconds.unwrap_or(self.token_lifetime_seconds) * 1000
    }

    /// The address that a call seems to come from.
    pub(crate) fn client_ip(&self, arrival: &Arrival) -> String {
        let named = arrival.claimed_ip.clone().or(self.client_ip.clone());
        named.unwrap_or_else(|| arrival.peer.to_string())
    }

    /// Whether token calls may come from there.
    pub(crate) fn allows(&self, ip: &str) -> bool {
        let listed = |allowed: &Vec<String>| allowed.iter().any(|given| given == ip);
        self.allowed_ips.as_ref().is_none_or(listed)
    }
}

/// Without the secret.
impl fmt::Debug for AppSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("app_id", &self.app_id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// An account and all that happened to it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: AppSettings,
    pub(crate) tokens: TokenBook,
    pub(crate) tickets: Tickets,
    pub(crate) quota: Quota,
    pub(crate) followers: Followers,
    pub(crate) tags: Tags,
    pub(crate) shown: ShownMessages,
    pub(crate) templates: Templates,
    /// The month in which the industries were set, and both of them.
    pub(crate) industry: Option<(u64, [String; 2])>,
    pub(crate) media: MediaStore,
    pub(crate) articles: Articles,
    pub(crate) menus: Menus,
    pub(crate) codes: Codes,
    pub(crate) mass: MassMessages,
    pub(crate) desk: Desk,
    pub(crate) logins: Logins,
    /// The Open Platform account that it belongs to.
    pub(crate) open_account: Option<String>,
}

impl App {
    pub(crate) fn new(settings: AppSettings) -> Self {
        Self {
            settings,
            tokens: TokenBook::default(),
            tickets: Tickets::default(),
            quota: Quota::default(),
            followers: Followers::default(),
            tags: Tags::default(),
            shown: ShownMessages::default(),
            templates: Templates::default(),
            industry: None,
            media: MediaStore::default(),
            articles: Articles::default(),
            menus: Menus::default(),
            codes: Codes::default(),
            mass: MassMessages::default(),
            desk: Desk::default(),
            logins: Logins::default(),
            open_account: None,
        }
    }

    /// Whether a call bears the right secret, from where it may: 41004, 40001, 40125, 40243, 40164.
    pub(crate) fn expect_secret(
        &self,
        secret: Option<&str>,
        arrival: &Arrival,
    ) -> Result<(), Refusal> {
        let secret = secret.filter(|secret| !secret.is_empty());
        let secret = secret.ok_or_else(|| Refusal::of(41004))?;
        if secret != self.settings.secret {
            let well_formed = secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit());
            return Err(Refusal::of(if well_formed { 40001 } else { 40125 }));
        }
        if self.settings.frozen {
            return Err(Refusal::of(40243));
        }
        let client_ip = self.settings.client_ip(arrival);
        if !self.settings.allows(&client_ip) {
            let text = format!("invalid ip {client_ip} ipv6 ::ffff:{client_ip}, not in whitelist");
            return Err(Refusal::because(40164, text));
        }
        Ok(())
    }

    /// Shows what the platform's review has let through since.
    pub(crate) fn end_reviews(&mut self, now_ms: u64) {
        for message in self.templates.end_reviews(now_ms) {
            self.shown.keep(message);
        }
    }

    /// Changes the settings; all that happened stays. A new AppSecret ends the tokens.
    pub(crate) fn change(&mut self, settings: AppSettings, now_ms: u64) {
        if settings.secret != self.settings.secret {
            self.tokens.end_all(now_ms);
        }
        self.settings = settings;
    }
}
