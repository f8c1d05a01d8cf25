//! WeChat's return codes (全局返回码): what a code means on the call that answered it, what may be done
//! about it, and how an answer is searched for one.
//!
//! The same number says different things on different calls: 40001 is a bad token, but a wrong AppSecret
//! where the token itself is asked for; 40013 is the account's AppId there, and a mini program's in a
//! message. So a code is asked through [`Errcode::on`], which takes the call's path.
//!
//! A code that WeChat invents tomorrow is a value like any other: it has no meaning here, and the
//! advice to do nothing. An error is told by its code alone; the text beside it changes from one API
//! to the next and often ends with a request id.

use std::fmt;

use serde::{Deserialize, Serialize};

mod on_call;
mod reading;
mod remedy;
mod table;

pub use on_call::{Class, Concern, OnCall};
pub use reading::{ApiError, MAX_ERRMSG_BYTES, NotSent, read, sent};

/// A return code (`errcode`). 0 is success.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Errcode(pub i64);

/// What a caller may do about a code.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Advice {
    /// The same call will fail again: give it up and keep the error text.
    Never,
    /// Repeat later, each time after a longer wait; begin with [`Errcode::first_wait_seconds`]. A call
    /// that sent something may have been carried out nevertheless.
    Backoff,
    /// Renew the credential and repeat once.
    RefreshToken,
    /// Give this way up and take another, such as a notice instead of a customer-service message.
    Fallback,
    /// Repeat after 00:00 in Beijing (UTC+8).
    NextDay,
    /// Stop calling and tell a human.
    Alert,
    /// WeChat decides later by itself: neither repeat nor fall back, and wait for its verdict.
    Await,
}

impl Errcode {
    /// Success.
    pub const OK: Self = Self(0);

    /// The account's owner has not granted the platform this API.
    pub const NOT_GRANTED: Self = Self(61007);

    /// The code as the answer of a call, by the call's path such as `/cgi-bin/user/get`.
    pub fn on(self, path: &str) -> OnCall {
        OnCall::new(self, path)
    }

    /// What the code means; None for one that is not in WeChat's table.
    pub fn meaning(self) -> Option<&'static str> {
        self.row().map(|(_, meaning, _)| *meaning)
    }

    /// Whether WeChat itself is busy (-1), so that a question may be put again at once.
    pub fn is_busy(self) -> bool {
        self.0 == -1
    }

    /// Whether calls of this minute are used up (45011).
    pub fn is_minute_limit(self) -> bool {
        self.0 == 45011
    }

    /// Whether calls of this day are used up (45009).
    pub fn is_daily_limit(self) -> bool {
        self.0 == 45009
    }

    /// Whether the user takes no customer-service message before doing something again: the time
    /// after the last act is over (45015), or the messages that it allows are used up (45047).
    pub fn exhausts_user(self) -> bool {
        matches!(self.0, 45015 | 45047)
    }

    /// Whether the user does not follow the account.
    pub fn is_not_following(self) -> bool {
        matches!(self.0, 43004 | 50005)
    }

    /// Whether the open id is nobody's, or another account's.
    pub fn names_unknown_open_id(self) -> bool {
        self.0 == 40003
    }

    /// Whether a platform's ticket is not taken, so that another one may do (61005, 61006).
    pub fn refuses_ticket(self) -> bool {
        matches!(self.0, 40091 | 61005 | 61006)
    }

    /// Whether a user's login code was used before (40163), came too late (42003), or never was one (40029).
    pub fn refuses_login_code(self) -> bool {
        matches!(self.0, 40029 | 40163 | 42003)
    }

    /// Whether a user's own token has ended or never was (40001, 40014, 42001), so that the next one would do.
    pub fn ends_user_token(self) -> bool {
        matches!(self.0, 40001 | 40014 | 42001)
    }

    /// Whether a user must log in again before an account may see their profile: the refresh token has ended
    /// (42002, 40030), the password was changed (42007), or the profile was not granted (48001, 50001).
    pub fn ends_login(self) -> bool {
        matches!(self.0, 40030 | 42002 | 42007 | 48001 | 50001)
    }

    /// Whether an authorisation code was exchanged before, or never was one (61009).
    pub fn refuses_code(self) -> bool {
        self.0 == 61009
    }

    /// Whether an authorisation code came too late (61010).
    pub fn ended_code(self) -> bool {
        self.0 == 61010
    }

    /// Whether an account's refresh token is not the one that WeChat expects (61023).
    pub fn refuses_refresh_token(self) -> bool {
        self.0 == 61023
    }

    /// Whether the account lets the platform serve it no more (61003).
    pub fn is_not_authorised(self) -> bool {
        self.0 == 61003
    }

    /// How long an address that was refused ([`OnCall::is_for_address`]) is refused for certain.
    pub fn address_block_seconds(self) -> u64 {
        match self.0 {
            // The administrator has said no: for an hour; the second time for a day.
            89507 => 3600,
            89506 => 24 * 3600,
            // The administrator is asked to confirm it.
            89501 | 89503..=89505 => 600,
            _ => 0,
        }
    }

    /// How long to wait before the first repetition where the advice is [`Advice::Backoff`].
    pub fn first_wait_seconds(self) -> u64 {
        match self.0 {
            // Counted by the minute.
            45011 | 45066 => 60,
            _ => 1,
        }
    }

    fn row(self) -> Option<&'static (i64, &'static str, Advice)> {
        let place = table::TABLE.binary_search_by_key(&self.0, |(code, _, _)| *code);
        table::TABLE.get(place.ok()?)
    }
}

impl fmt::Display for Errcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_whole_and_without_repetition() {
        assert_eq!(table::TABLE.len(), 372);
        assert!(table::TABLE.is_sorted_by(|(one, ..), (next, ..)| one < next));
        for (code, meaning, _) in table::TABLE {
            assert_eq!(Errcode(*code).meaning(), Some(*meaning));
        }
    }

    #[test]
    fn unknown_code_is_a_value_without_meaning() {
        for code in [i64::MIN, 1, 99_999, i64::MAX].map(Errcode) {
            assert_eq!(code.meaning(), None);
            let told = code.on("/cgi-bin/user/get");
            assert_eq!((told.class(), told.advice()), (Class::Other, Advice::Never));
            assert!(!told.remedy().is_empty());
        }
        assert_eq!(serde_json::to_string(&Errcode(-1)).unwrap(), "-1");
    }

    #[test]
    fn named_codes_are_what_they_are_named() {
        assert_eq!(Errcode(45011).first_wait_seconds(), 60);
        assert_eq!(Errcode(-1).first_wait_seconds(), 1);
        assert!(Errcode(-1).is_busy() && !Errcode(1).is_busy());
        assert!(Errcode(45015).exhausts_user() && Errcode(45047).exhausts_user());
        assert!(Errcode(43004).is_not_following() && Errcode(50005).is_not_following());
        assert!(Errcode(45011).is_minute_limit() && Errcode(45009).is_daily_limit());
        assert!(Errcode(40003).names_unknown_open_id());
    }
}
