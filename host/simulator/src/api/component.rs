//! Third-party platforms as WeChat knows them: their tickets and codes, and what accounts have granted them.
//!
//! Rules: 第三方平台 (component.md), stricter where the documents are silent: a refresh token that was
//! replaced is refused at once, and a code is good once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wxhost_wechat::id::AppId;

use crate::Environment;
use crate::api::refusal::Refusal;
use crate::api::tokens::TokenBook;

/// Tickets that are remembered; WeChat takes the last two.
const MAX_TICKETS: usize = 64;
/// How long a pre_auth_code is good for.
pub(crate) const PRE_AUTH_MS: u64 = 1_800_000;
/// How long an authorisation code is good for.
pub(crate) const AUTH_CODE_MS: u64 = 600_000;
/// Pushes that are shown.
const MAX_PUSHES: usize = 10_000;

/// A platform as its operator has set it up, and what the simulation adds.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentSettings {
    /// The component appid.
    pub app_id: AppId,
    /// AppSecret.
    pub secret: String,
    /// 消息校验Token.
    pub token: String,
    /// 消息加解密Key.
    pub aes_key: String,
    /// 授权事件接收URL.
    pub event_url: String,
    /// 消息与事件接收URL; holds `$APPID$`.
    pub message_url: String,
    /// What accounts grant where they do not say otherwise.
    #[serde(default = "usual_sets")]
    pub permission_sets: Vec<u32>,
    /// The IP list (白名单IP), which every call is held against; no list allows every address.
    #[serde(default)]
    pub allowed_ips: Option<Vec<String>>,
    /// Whether each new token of an account brings another refresh token.
    #[serde(default = "yes")]
    pub rotate_refresh_tokens: bool,
    /// How long a ticket is good for.
    #[serde(default = "half_a_day")]
    pub ticket_valid_seconds: u64,
    /// How long tokens live, the platform's and its accounts'.
    #[serde(default = "two_hours")]
    pub token_lifetime_seconds: u64,
    /// The domain from which it may have users authorised on its accounts' behalf (公众号开发域名); may hold
    /// `$APPID$`, and here a port.
    #[serde(default)]
    pub oauth_domain: Option<String>,
    /// Whether the event of an authorisation comes before the redirect of the same.
    #[serde(default)]
    pub event_first: bool,
}

fn usual_sets() -> Vec<u32> {
    vec![1, 2, 3, 4, 6, 7, 11, 15, 24, 89]
}

fn yes() -> bool {
    true
}

fn half_a_day() -> u64 {
    43_200
}

fn two_hours() -> u64 {
    7_200
}

/// Without the secrets.
impl fmt::Debug for ComponentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentSettings")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

/// A ticket that was pushed.
#[derive(Debug)]
struct Ticket {
    value: String,
    made_at_ms: u64,
}

/// A code that begins or ends an authorisation.
#[derive(Debug)]
struct Code {
    app_id: Option<AppId>,
    made_at_ms: u64,
    is_used: bool,
}

/// What an account is, as its owner and WeChat describe it.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Description {
    pub(crate) original_id: String,
    pub(crate) nick_name: String,
    pub(crate) principal_name: String,
    /// 2 a service account, 0 a subscription account.
    pub(crate) service_type: u64,
    pub(crate) verify_type: i64,
    pub(crate) mini_program: bool,
}

/// An account that has let a platform serve it.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(crate) description: Description,
    pub(crate) sets: Vec<u32>,
    pub(crate) is_standing: bool,
    pub(crate) refresh_token: Option<String>,
    pub(crate) auth_time: u64,
    pub(crate) options: HashMap<String, String>,
    /// Codes that were exchanged.
    pub(crate) exchanges: u64,
    /// Tokens that were given out for a refresh token.
    pub(crate) renewals: u64,
    /// Refresh tokens that were refused.
    pub(crate) refused_renewals: u64,
}

/// A platform, and all that happened to it.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) settings: ComponentSettings,
    pub(crate) tokens: TokenBook,
    pub(crate) is_pushing: bool,
    pub(crate) authorizers: BTreeMap<AppId, Authorizer>,
    pub(crate) clears: u64,
    tickets: VecDeque<Ticket>,
    pre_auth_codes: HashMap<String, Code>,
    codes: HashMap<String, Code>,
    /// Every refresh token there was.
    refresh_tokens: HashSet<String>,
    pushes: VecDeque<Value>,
}

impl Component {
    pub(crate) fn new(settings: ComponentSettings) -> Self {
        Self {
            settings,
            tokens: TokenBook::default(),
            is_pushing: true,
            authorizers: BTreeMap::new(),
            clears: 0,
            tickets: VecDeque::new(),
            pre_auth_codes: HashMap::new(),
            codes: HashMap::new(),
            refresh_tokens: HashSet::new(),
            pushes: VecDeque::new(),
        }
    }

    pub(crate) fn lifetime_ms(&self) -> u64 {
        self.settings.token_lifetime_seconds * 1000
    }

    /// A new ticket; the one before it goes on being good.
    pub(crate) fn make_ticket(&mut self, now_ms: u64, chance: &dyn Environment) -> String {
        let value = format!("ticket@@@{}", chance.letters(80));
        self.tickets.push_front(Ticket {
            value: value.clone(),
            made_at_ms: now_ms,
        });
        self.tickets.truncate(MAX_TICKETS);
        value
    }

    /// 61005 for one that has ended or was replaced twice, 61006 for none of WeChat's.
    pub(crate) fn check_ticket(&self, value: &str, now_ms: u64) -> Result<(), Refusal> {
        let known = self.tickets.iter().position(|ticket| ticket.value == value);
        let place = known.ok_or_else(|| Refusal::of(61006))?;
        let age_ms = now_ms - self.tickets[place].made_at_ms;
        if place > 1 || age_ms > self.settings.ticket_valid_seconds * 1000 {
            return Err(Refusal::of(61005));
        }
        Ok(())
    }

    pub(crate) fn make_pre_auth_code(&mut self, now_ms: u64, chance: &dyn Environment) -> String {
        let value = format!("preauthcode@@@{}", chance.letters(64));
        let code = Code {
            app_id: None,
            made_at_ms: now_ms,
            is_used: false,
        };
        self.pre_auth_codes.insert(value.clone(), code);
        value
    }

    /// Whether an authorisation may begin with this code.
    pub(crate) fn may_begin(&self, pre_auth_code: &str, now_ms: u64) -> bool {
        let code = self.pre_auth_codes.get(pre_auth_code);
        code.is_some_and(|code| !code.is_used && now_ms - code.made_at_ms <= PRE_AUTH_MS)
    }

    /// An account's administrator agrees. The code to be exchanged, and whether the account had agreed before
    /// to something else; None where nothing has changed.
    pub(crate) fn authorize(
        &mut self,
        (app_id, description): (&AppId, Description),
        (pre_auth_code, sets): (Option<&str>, Vec<u32>),
        now_ms: u64,
        chance: &dyn Environment,
    ) -> Option<(String, bool)> {
        if let Some(code) = pre_auth_code.and_then(|code| self.pre_auth_codes.get_mut(code)) {
            code.is_used = true;
        }
        let before = self.authorizers.get_mut(app_id);
        let (is_update, is_same) = before.as_ref().map_or((false, false), |before| {
            (
                before.is_standing,
                before.is_standing && before.sets == sets,
            )
        });
        match before {
            Some(before) => {
                before.description = description;
                before.sets = sets;
                if !is_same {
                    // What was given out for the former grant opens nothing any more.
                    before.refresh_token = None;
                    before.auth_time = now_ms / 1000;
                }
                before.is_standing = true;
            }
            None => {
                let authorizer = Authorizer {
                    description,
                    sets,
                    is_standing: true,
                    refresh_token: None,
                    auth_time: now_ms / 1000,
                    options: HashMap::new(),
                    exchanges: 0,
                    renewals: 0,
                    refused_renewals: 0,
                };
                self.authorizers.insert(app_id.clone(), authorizer);
            }
        }
        if is_same {
            return None;
        }
        let value = format!("queryauthcode@@@{}", chance.letters(64));
        let code = Code {
            app_id: Some(app_id.clone()),
            made_at_ms: now_ms,
            is_used: false,
        };
        self.codes.insert(value.clone(), code);
        Some((value, is_update))
    }

    /// Uses a code up: whose it is. 61009, 61010.
    pub(crate) fn use_code(&mut self, value: &str, now_ms: u64) -> Result<AppId, Refusal> {
        let code = self.codes.get_mut(value).filter(|code| !code.is_used);
        let code = code.ok_or_else(|| Refusal::of(61009))?;
        if now_ms - code.made_at_ms > AUTH_CODE_MS {
            return Err(Refusal::of(61010));
        }
        code.is_used = true;
        code.app_id.clone().ok_or_else(|| Refusal::of(61009))
    }

    /// A new refresh token for an account; the one before is refused from now on.
    pub(crate) fn make_refresh_token(
        &mut self,
        app_id: &AppId,
        chance: &dyn Environment,
    ) -> String {
        let value = format!("refreshtoken@@@{}", chance.letters(64));
        self.refresh_tokens.insert(value.clone());
        if let Some(authorizer) = self.authorizers.get_mut(app_id) {
            authorizer.refresh_token = Some(value.clone());
        }
        value
    }

    /// An account that lets the platform serve it: 61003.
    pub(crate) fn standing(&mut self, app_id: &str) -> Result<(AppId, &mut Authorizer), Refusal> {
        let found = self
            .authorizers
            .iter_mut()
            .find(|(id, _)| id.as_str() == app_id);
        let found = found.filter(|(_, authorizer)| authorizer.is_standing);
        let (id, authorizer) = found.ok_or_else(|| Refusal::of(61003))?;
        Ok((id.clone(), authorizer))
    }

    /// Keeps what came of a push.
    pub(crate) fn keep_push(&mut self, push: Value) {
        self.pushes.push_back(push);
        if self.pushes.len() > MAX_PUSHES {
            self.pushes.pop_front();
        }
    }

    /// Every secret there was.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let settings = &self.settings;
        let own = [&settings.secret, &settings.token, &settings.aes_key];
        let tickets = self.tickets.iter().map(|ticket| &ticket.value);
        let codes = self.pre_auth_codes.keys().chain(self.codes.keys());
        let all = own.into_iter().chain(tickets).chain(codes);
        let all = all.chain(&self.refresh_tokens).map(String::as_str);
        all.chain(self.tokens.values())
    }

    /// What the control surface shows.
    pub(crate) fn shown(&self) -> Value {
        let authorizers = self.authorizers.iter().map(|(app_id, authorizer)| {
            let shown = json!({
                "is_standing": authorizer.is_standing,
                "permission_sets": authorizer.sets,
                "has_refresh_token": authorizer.refresh_token.is_some(),
                "exchanges": authorizer.exchanges,
                "renewals": authorizer.renewals,
                "refused_renewals": authorizer.refused_renewals,
            });
            (app_id.to_string(), shown)
        });
        json!({
            "app_id": self.settings.app_id,
            "tickets": self.tickets.len(),
            "component_tokens": self.tokens.counts()["classic_fetches"],
            "clears": self.clears,
            "authorizers": authorizers.collect::<serde_json::Map<_, _>>(),
            "pushes": self.pushes,
        })
    }
}
