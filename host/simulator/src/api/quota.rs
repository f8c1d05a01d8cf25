//! How often an app may call what: per day, which turns over at 00:00 in Beijing, and per minute.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::api::app::AppSettings;
use crate::api::refusal::Refusal;

const DAY_MS: u64 = 24 * 3600 * 1000;
const MINUTE_MS: u64 = 60_000;
/// Beijing is 8 hours ahead of UTC and has no summer time.
const BEIJING_MS: u64 = 8 * 3600 * 1000;
/// Resets of the counts a month, those by the console included.
const CLEARS_PER_MONTH: u32 = 10;

/// Daily limits of a new account (接口调用频次限制说明). A path that is not here has none.
const DAILY: &[(&str, u64)] = &[
    ("/cgi-bin/token", 2_000),
    ("/cgi-bin/stable_token", 500_000),
    ("/cgi-bin/menu/create", 1_000),
    ("/cgi-bin/menu/addconditional", 2_000),
    ("/cgi-bin/menu/get", 10_000),
    ("/cgi-bin/menu/delete", 1_000),
    ("/cgi-bin/tags/members/batchtagging", 100_000),
    ("/cgi-bin/tags/members/batchuntagging", 100_000),
    ("/cgi-bin/media/upload", 100_000),
    ("/cgi-bin/media/get", 200_000),
    ("/cgi-bin/message/custom/send", 500_000),
    ("/cgi-bin/message/mass/sendall", 100),
    ("/cgi-bin/message/mass/send", 100),
    ("/cgi-bin/message/mass/preview", 100),
    ("/cgi-bin/message/mass/delete", 10),
    ("/cgi-bin/user/get", 500),
    ("/cgi-bin/user/info", 5_000_000),
    ("/cgi-bin/user/info/batchget", 5_000_000),
    ("/cgi-bin/message/template/send", 100_000),
    ("/cgi-bin/qrcode/create", 100_000),
    ("/cgi-bin/ticket/getticket", 1_000_000),
];

/// Limits per minute. A path that is not here has none.
const PER_MINUTE: &[(&str, u64)] = &[
    ("/cgi-bin/stable_token", 10_000),
    ("/cgi-bin/message/mass/sendall", 60),
    ("/cgi-bin/message/mass/send", 60),
];

/// WeChat's day, as days since 1970 in Beijing.
pub(crate) fn day(now_ms: u64) -> u64 {
    (now_ms + BEIJING_MS) / DAY_MS
}

/// WeChat's month, as months since 1970 in Beijing.
pub(crate) fn month(now_ms: u64) -> u64 {
    let mut days = day(now_ms);
    let mut month = 0;
    loop {
        let year = 1970 + month / 12;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month % 12 {
            1 if leap => 29,
            1 => 28,
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if days < length {
            return month;
        }
        days -= length;
        month += 1;
    }
}

fn limit(own: &BTreeMap<String, u64>, usual: &[(&str, u64)], path: &str) -> Option<u64> {
    let usual = || usual.iter().find(|(given, _)| *given == path);
    own.get(path)
        .copied()
        .or_else(|| usual().map(|(_, limit)| *limit))
}

/// What one app has used.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    day: u64,
    used_today: HashMap<&'static str, u64>,
    minute: u64,
    used_this_minute: HashMap<&'static str, u64>,
    clears: (u64, u32),
}

impl Quota {
    /// Counts a call, or refuses it: 45009 for today, 45011 for this minute.
    pub(crate) fn spend(
        &mut self,
        path: &'static str,
        settings: &AppSettings,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.turn_over(now_ms);
        let minute = limit(&settings.minute_quotas, PER_MINUTE, path);
        let this_minute = self.used_this_minute.entry(path).or_default();
        if minute.is_some_and(|limit| *this_minute >= limit) {
            return Err(Refusal::of(45011));
        }
        let daily = limit(&settings.quotas, DAILY, path);
        let today = self.used_today.entry(path).or_default();
        if daily.is_some_and(|limit| *today >= limit) {
            return Err(Refusal::of(45009));
        }
        *this_minute += 1;
        *today += 1;
        Ok(())
    }

    fn turn_over(&mut self, now_ms: u64) {
        if self.day != day(now_ms) {
            self.day = day(now_ms);
            self.used_today.clear();
        }
        if self.minute != now_ms / MINUTE_MS {
            self.minute = now_ms / MINUTE_MS;
            self.used_this_minute.clear();
        }
    }

    /// Forgets today's counts, of one path or of all: 48006 when this month's resets are used up.
    pub(crate) fn clear(&mut self, path: Option<&str>, now_ms: u64) -> Result<(), Refusal> {
        let (cleared_in, times) = self.clears;
        let this_month = month(now_ms);
        let times = if cleared_in == this_month { times } else { 0 };
        if times >= CLEARS_PER_MONTH {
            return Err(Refusal::of(48006));
        }
        self.clears = (this_month, times + 1);
        match path {
            Some(path) => {
                self.used_today.remove(path);
            }
            None => self.used_today.clear(),
        }
        Ok(())
    }

    /// What `openapi/quota/get` says of a path.
    pub(crate) fn shown(&mut self, path: &str, settings: &AppSettings, now_ms: u64) -> Value {
        self.turn_over(now_ms);
        let used = self.used_today.get(path).copied().unwrap_or(0);
        let daily = limit(&settings.quotas, DAILY, path).unwrap_or(0);
        let per_minute = limit(&settings.minute_quotas, PER_MINUTE, path).unwrap_or(0);
        json!({
            "quota": { "daily_limit": daily, "used": used, "remain": daily.saturating_sub(used) },
            "rate_limit": { "call_count": per_minute, "refresh_second": 60 },
            "component_rate_limit": { "call_count": 0, "refresh_second": 0 },
        })
    }

    /// Today's counts, for the control surface.
    pub(crate) fn used_today(&self) -> Value {
        json!(self.used_today)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_turn_over_in_beijing() {
        // 2024-02-29T16:00:00Z is 2024-03-01T00:00:00+08:00.
        let turn = 1_709_222_400_000;
        assert_eq!(day(turn), day(turn - 1) + 1);
        assert_eq!(month(turn), month(turn - 1) + 1);
        assert_eq!(month(turn), (2024 - 1970) * 12 + 2);
        assert_eq!(month(0), 0);
    }
}
