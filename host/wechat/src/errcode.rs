//! WeChat's return codes (全局返回码): what a code means, what may be done about it, and how an answer
//! is searched for one.
//!
//! A code that WeChat invents tomorrow is a value like any other: it has no meaning here, and the
//! advice to do nothing. An error is told by its code alone; the text beside it changes from one API
//! to the next and often ends with a request id.

use std::fmt;

use serde::{Deserialize, Serialize};

mod reading;
mod remedy;
mod table;

pub use reading::{ApiError, MAX_ERRMSG_BYTES, read};

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
}

/// What a code is about, as far as callers treat codes alike.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// No error.
    Success,
    /// The credential has ended or never was: [`Errcode::names_bad_token`].
    Token,
    /// WeChat is busy, or is called too fast.
    Busy,
    /// A day's or a month's quota is used up.
    Exhausted,
    /// This user can't be reached in this way, by no fault of the message.
    Unreachable,
    /// The message or its template is at fault.
    Content,
    /// The account lacks the right to this API.
    Rights,
    /// The account is closed to every call until its owner acts: [`Errcode::needs_owner`].
    Owner,
    /// Everything else; most of it is a mistake in the call.
    Other,
}

impl Errcode {
    /// Success.
    pub const OK: Self = Self(0);

    /// What the code means; None for one that is not in WeChat's table.
    pub fn meaning(self) -> Option<&'static str> {
        self.row().map(|(_, meaning, _)| *meaning)
    }

    /// What may be done about it. What is unknown is never repeated.
    pub fn advice(self) -> Advice {
        let own = self.row().map_or(Advice::Never, |(_, _, advice)| *advice);
        match (self.class(), own) {
            (Class::Owner, _) | (Class::Rights, Advice::Never) => Advice::Alert,
            (Class::Unreachable, Advice::Never) => Advice::Fallback,
            (_, own) => own,
        }
    }

    /// What the code is about.
    pub fn class(self) -> Class {
        match self.0 {
            0 => Class::Success,
            40001 | 40014 | 42001 | 42004 => Class::Token,
            -1 | 42010 | 43100 | 43108 | 45011 | 45066 | 53501 | 61450 | 9001002 => Class::Busy,
            45009 | 45028 => Class::Exhausted,
            43004 | 43019 | 43101 | 45015 | 45047 | 48002 | 50002 | 50005 => Class::Unreachable,
            40007 | 40037 | 45002 | 45008 | 45168 | 47001 | 47003 => Class::Content,
            43104 | 43107 | 48001 | 48004 | 48008 | 61003 | 61007 => Class::Rights,
            _ if self.needs_owner() => Class::Owner,
            _ => Class::Other,
        }
    }

    /// Whether the access token or ticket of the failed call is at fault, so that a fresh one would
    /// do. An answer to a token call itself is read by [`crate::api::token::needs_owner`]: there 40001
    /// means that the AppSecret is wrong.
    pub fn names_bad_token(self) -> bool {
        self.class() == Class::Token
    }

    /// Whether no call of this account can succeed before its owner acts: a wrong AppId or AppSecret,
    /// an address that is not on the IP allow-list, a frozen account.
    pub fn needs_owner(self) -> bool {
        matches!(
            self.0,
            40013
                | 40125
                | 40164
                | 40243
                | 50004
                | 50007
                | 61024
                | 89501
                | 89503
                | 89505
                | 89506
                | 89507
        )
    }

    /// Whether the code says that the same thing was done before (45065: a mass message of this
    /// `clientmsgid` is on its way), so that a repeated call has succeeded.
    pub fn is_repeat(self) -> bool {
        self.0 == 45065
    }

    /// How long to wait before the first repetition where the advice is [`Advice::Backoff`].
    pub fn first_wait_seconds(self) -> u64 {
        match self.0 {
            // Counted by the minute.
            45011 | 45066 => 60,
            _ => 1,
        }
    }

    /// What to do, in one sentence for an operator.
    pub fn remedy(self) -> &'static str {
        remedy::of(self)
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
        assert_eq!(table::TABLE.len(), 253);
        assert!(table::TABLE.is_sorted_by(|(one, ..), (next, ..)| one < next));
        for (code, meaning, _) in table::TABLE {
            assert_eq!(Errcode(*code).meaning(), Some(*meaning));
            assert!(Errcode(*code).remedy().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn advice_is_the_documents_by_class() {
        use Advice::{Alert, Backoff, Fallback, Never, NextDay, RefreshToken};
        let check = |class: Class, advice: Advice, codes: &[i64]| {
            for code in codes.iter().copied().map(Errcode) {
                assert_eq!((code.class(), code.advice()), (class, advice), "{code}");
            }
        };
        check(Class::Success, Never, &[0]);
        check(Class::Token, RefreshToken, &[40001, 40014, 42001]);
        check(Class::Busy, Backoff, &[-1, 45011, 43108, 45066]);
        check(Class::Exhausted, NextDay, &[45009, 45028]);
        check(Class::Unreachable, Fallback, &[43004, 45015, 45047, 43101]);
        check(Class::Unreachable, Fallback, &[43019, 48002, 50002, 50005]);
        check(Class::Content, Never, &[40037, 47001, 47003, 45002, 45008]);
        check(Class::Content, Never, &[45168]);
        // Another media id would do.
        check(Class::Content, Fallback, &[40007]);
        check(Class::Rights, Alert, &[48001, 48004, 61003, 61007]);
        check(Class::Owner, Alert, &[40013, 40125, 40164, 40243, 50004]);
        check(Class::Owner, Alert, &[50007, 61024, 89501, 89503, 89506]);
        check(Class::Other, Never, &[40003, 41001, 44002, 45065]);
    }

    #[test]
    fn unknown_code_is_a_value_without_meaning() {
        for code in [i64::MIN, 1, 99_999, i64::MAX].map(Errcode) {
            assert_eq!(code.meaning(), None);
            assert_eq!((code.class(), code.advice()), (Class::Other, Advice::Never));
            assert!(!code.remedy().is_empty());
        }
        assert_eq!(serde_json::to_string(&Errcode(-1)).unwrap(), "-1");
    }

    #[test]
    fn bad_token_and_owner_exclude_each_other() {
        for code in table::TABLE.iter().map(|(code, ..)| Errcode(*code)) {
            assert!(!(code.names_bad_token() && code.needs_owner()), "{code}");
            let advice = code.advice();
            assert_eq!(
                code.names_bad_token(),
                advice == Advice::RefreshToken,
                "{code}"
            );
        }
        assert!(Errcode(45065).is_repeat());
        assert_eq!(Errcode(45011).first_wait_seconds(), 60);
        assert_eq!(Errcode(-1).first_wait_seconds(), 1);
    }
}
