//! One app's access tokens: a classic and a stable line that know nothing of each other.
//!
//! Rules: 获取 Access token and 获取稳定版接口调用凭据. Where an app's tokens live shorter than two hours,
//! the five minutes of grace and of rollover shrink to a quarter of the lifetime at most.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::Environment;

/// How long a superseded token of the classic line stays usable, and how long before its end a
/// stable token has a successor.
const OVERLAP_MS: u64 = 300_000;
/// Least time between two forced refreshes.
const FORCE_GAP_MS: u64 = 30_000;
/// Forced refreshes a day.
const FORCES_PER_DAY: u32 = 20;
/// Tokens that are remembered per line. WeChat gives out 2000 a day at most on the classic line.
const MAX_REMEMBERED: usize = 1024;
/// Paths by which uses of invalid tokens are told apart.
const MAX_PATHS: usize = 256;
/// What tokens consist of, beside letters and digits.
const TOKEN_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Which of the two lines a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    /// `/cgi-bin/token`
    Classic,
    /// `/cgi-bin/stable_token`
    Stable,
    /// Given out to a third-party platform that the account has authorised.
    Component,
}

impl Line {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Stable => "stable",
            Self::Component => "component",
        }
    }
}

/// A token that was issued.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) line: Line,
    /// From 1, per line.
    pub(crate) serial: u64,
    pub(crate) value: String,
    pub(crate) issued_at_ms: u64,
    pub(crate) expires_at_ms: u64,
    /// From when a newer one has made it unusable, before its time.
    pub(crate) invalid_since_ms: Option<u64>,
    pub(crate) forced: bool,
}

/// Whether a token opens a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    /// 42001
    Expired,
    /// 40001
    Superseded,
}

impl Token {
    pub(crate) fn validity(&self, now_ms: u64) -> Validity {
        if now_ms >= self.expires_at_ms {
            Validity::Expired
        } else if self.invalid_since_ms.is_some_and(|since| now_ms >= since) {
            Validity::Superseded
        } else {
            Validity::Valid
        }
    }

    /// Whole seconds that it still lives.
    pub(crate) fn expires_in(&self, now_ms: u64) -> u64 {
        self.expires_at_ms.saturating_sub(now_ms) / 1000
    }

    fn end_by(&mut self, at_ms: u64) {
        let end = self
            .invalid_since_ms
            .map_or(at_ms, |since| since.min(at_ms));
        self.invalid_since_ms = Some(end);
    }

    fn shown(&self) -> Value {
        json!({
            "line": self.line.name(),
            "serial": self.serial,
            "issued_at_ms": self.issued_at_ms,
            "expires_at_ms": self.expires_at_ms,
            "invalid_since_ms": self.invalid_since_ms,
            "forced": self.forced,
        })
    }
}

/// Forced refreshes are used up for today.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ForcesUsedUp;

/// A moment, with what it takes to issue a token then.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now_ms: u64,
    /// WeChat's day.
    pub(crate) day: u64,
    pub(crate) lifetime_ms: u64,
    pub(crate) chance: &'a dyn Environment,
}

impl Moment<'_> {
    fn overlap_ms(&self) -> u64 {
        OVERLAP_MS.min(self.lifetime_ms / 4)
    }
}

/// Both lines of one app, and what is counted about them.
#[derive(Debug, Default)]
pub(crate) struct TokenBook {
    classic: VecDeque<Token>,
    stable: VecDeque<Token>,
    component: VecDeque<Token>,
    issued: [u64; 3],
    forced_today: (u64, u32),
    last_forced_ms: Option<u64>,
    classic_fetches: u64,
    stable_fetches: u64,
    refused_fetches: u64,
    forced: u64,
    invalid_uses: BTreeMap<String, u64>,
    /// Values that are no longer remembered, for whoever keeps an index of them.
    forgotten: Vec<String>,
}

impl TokenBook {
    /// `/cgi-bin/token`: always a new token. The one before it lives on for the time of grace, any
    /// older one ends now.
    pub(crate) fn fetch_classic(&mut self, moment: Moment<'_>) -> &Token {
        self.classic_fetches += 1;
        let grace_ends = moment.now_ms + moment.overlap_ms();
        let newest = self.classic.len().saturating_sub(1);
        for (place, token) in self.classic.iter_mut().enumerate() {
            token.end_by(if place == newest {
                grace_ends
            } else {
                moment.now_ms
            });
        }
        self.issue(Line::Classic, moment, false)
    }

    /// `/cgi-bin/stable_token` in normal mode: the present token until shortly before its end, then
    /// a new one beside it.
    pub(crate) fn fetch_stable(&mut self, moment: Moment<'_>) -> &Token {
        self.stable_fetches += 1;
        match self.present_stable(moment) {
            Some(present) => &self.stable[present],
            None => self.issue(Line::Stable, moment, false),
        }
    }

    /// `/cgi-bin/stable_token` with force_refresh. Every such call counts towards the day's 20; within
    /// 30 s of the last one that refreshed, it does what normal mode does.
    pub(crate) fn force_stable(&mut self, moment: Moment<'_>) -> Result<&Token, ForcesUsedUp> {
        let (day, used) = self.forced_today;
        let used = if day == moment.day { used } else { 0 };
        if used >= FORCES_PER_DAY {
            return Err(ForcesUsedUp);
        }
        self.forced_today = (moment.day, used + 1);
        let too_soon = self
            .last_forced_ms
            .is_some_and(|last| moment.now_ms < last + FORCE_GAP_MS);
        if too_soon {
            return Ok(self.fetch_stable(moment));
        }
        self.stable_fetches += 1;
        self.forced += 1;
        self.last_forced_ms = Some(moment.now_ms);
        for token in &mut self.stable {
            token.end_by(moment.now_ms);
        }
        Ok(self.issue(Line::Stable, moment, true))
    }

    /// To a third-party platform: always a new token, and the one before it lives on for the time of grace.
    pub(crate) fn fetch_authorizer(&mut self, moment: Moment<'_>) -> &Token {
        let grace_ends = moment.now_ms + moment.overlap_ms();
        for token in &mut self.component {
            token.end_by(grace_ends);
        }
        self.issue(Line::Component, moment, false)
    }

    /// Ends what third-party platforms hold.
    pub(crate) fn end_authorizers(&mut self, now_ms: u64) {
        for token in &mut self.component {
            token.end_by(now_ms);
        }
    }

    fn present_stable(&self, moment: Moment<'_>) -> Option<usize> {
        let newest = self.stable.len().checked_sub(1)?;
        let token = &self.stable[newest];
        let lives_on = token.expires_at_ms > moment.now_ms + moment.overlap_ms();
        (token.validity(moment.now_ms) == Validity::Valid && lives_on).then_some(newest)
    }

    fn issue(&mut self, line: Line, moment: Moment<'_>, forced: bool) -> &Token {
        self.issued[line as usize] += 1;
        let token = Token {
            line,
            serial: self.issued[line as usize],
            value: fresh_value(moment.chance),
            issued_at_ms: moment.now_ms,
            expires_at_ms: moment.now_ms + moment.lifetime_ms,
            invalid_since_ms: None,
            forced,
        };
        let tokens = match line {
            Line::Classic => &mut self.classic,
            Line::Stable => &mut self.stable,
            Line::Component => &mut self.component,
        };
        if tokens.len() == MAX_REMEMBERED
            && let Some(oldest) = tokens.pop_front()
        {
            self.forgotten.push(oldest.value);
        }
        tokens.push_back(token);
        &tokens[tokens.len() - 1]
    }

    /// A token that is remembered.
    pub(crate) fn find(&self, line: Line, serial: u64) -> Option<&Token> {
        let tokens = match line {
            Line::Classic => &self.classic,
            Line::Stable => &self.stable,
            Line::Component => &self.component,
        };
        tokens.iter().rev().find(|token| token.serial == serial)
    }

    /// Whether a token of the classic line opens a call, by its value.
    pub(crate) fn validity_of(&self, value: &str, now_ms: u64) -> Validity {
        let found = self.classic.iter().find(|token| token.value == value);
        found.map_or(Validity::Superseded, |token| token.validity(now_ms))
    }

    /// The token that a line issued last.
    pub(crate) fn newest(&self, line: Line) -> Option<&Token> {
        match line {
            Line::Classic => self.classic.back(),
            Line::Stable => self.stable.back(),
            Line::Component => self.component.back(),
        }
    }

    /// Ends every token now: the AppSecret was reset.
    pub(crate) fn end_all(&mut self, now_ms: u64) {
        for token in self.classic.iter_mut().chain(&mut self.stable) {
            token.end_by(now_ms);
        }
    }

    /// Counts a call with a token that was not valid.
    pub(crate) fn count_invalid_use(&mut self, path: &str) {
        if let Some(count) = self.invalid_uses.get_mut(path) {
            *count += 1;
        } else if self.invalid_uses.len() < MAX_PATHS {
            self.invalid_uses.insert(path.to_owned(), 1);
        }
    }

    /// Counts a token call that was refused.
    pub(crate) fn count_refused_fetch(&mut self) {
        self.refused_fetches += 1;
    }

    /// Takes the values that were forgotten since the last time.
    pub(crate) fn take_forgotten(&mut self) -> Vec<String> {
        std::mem::take(&mut self.forgotten)
    }

    /// Every value that is remembered.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        let tokens = self
            .classic
            .iter()
            .chain(&self.stable)
            .chain(&self.component);
        tokens.map(|token| token.value.as_str())
    }

    /// The counts, for the control surface.
    pub(crate) fn counts(&self) -> Value {
        json!({
            "stable_fetches": self.stable_fetches,
            "classic_fetches": self.classic_fetches,
            "refused_fetches": self.refused_fetches,
            "forced": self.forced,
            "stable_issued": self.issued[Line::Stable as usize],
            "classic_issued": self.issued[Line::Classic as usize],
            "component_issued": self.issued[Line::Component as usize],
            "invalid_token_uses": self.invalid_uses.values().sum::<u64>(),
            "invalid_token_uses_by_path": self.invalid_uses,
        })
    }

    /// The tokens without their values, in the order of their issue.
    pub(crate) fn shown(&self) -> Vec<Value> {
        let tokens = self
            .classic
            .iter()
            .chain(&self.stable)
            .chain(&self.component);
        let mut tokens: Vec<&Token> = tokens.collect();
        tokens.sort_by_key(|token| token.issued_at_ms);
        tokens.into_iter().map(Token::shown).collect()
    }
}

/// What a token looks like: two digits, `_`, and 133 to 190 letters, digits, `-` and `_`.
pub(crate) fn fresh_value(chance: &dyn Environment) -> String {
    let length = usize::try_from(chance.number(133, 190)).unwrap_or(133);
    let mut bytes = vec![0; length];
    chance.fill(&mut bytes);
    let letters = bytes
        .into_iter()
        .map(|byte| char::from(TOKEN_LETTERS[usize::from(byte) % TOKEN_LETTERS.len()]));
    let mut value = format!("{}_", chance.number(10, 99));
    value.extend(letters);
    value
}

/// Whether a text could be a token at all; otherwise it is answered with 40014.
pub(crate) fn is_well_formed(value: &str) -> bool {
    let Some((head, tail)) = value.split_once('_') else {
        return false;
    };
    head.len() == 2
        && head.bytes().all(|byte| byte.is_ascii_digit())
        && (100..=509).contains(&tail.len())
        && tail.bytes().all(|byte| TOKEN_LETTERS.contains(&byte))
}
