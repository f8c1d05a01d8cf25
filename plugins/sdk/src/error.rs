//! What a handler returns when it fails.

use crate::bindings::wxhost::plugin::failure::PluginError;
use crate::outcome::Outcome;
use crate::{cache, contacts, egress, kv, orders, pay, wechat_api};
use std::any::Any;
use std::fmt;

pub use crate::bindings::wxhost::plugin::failure::Fault;

/// The result of a handler; with a type of its own, of any function that may fail.
pub type Result<T = Outcome, E = Error> = std::result::Result<T, E>;

/// A failure: whose fault it is, and a sentence for the tenant.
///
/// Every error of the standard kind becomes one by `?`. It counts as a bug of the plugin then, except
/// where the host, WeChat or another system could not be reached or refused ([`Fault::Dependency`]), or
/// where a secret or a grant is missing or the account needs its owner ([`Fault::Config`]). For the same reason as `anyhow::Error`, this type is itself not a
/// `std::error::Error`.
#[derive(Clone, PartialEq)]
pub struct Error {
    fault: Fault,
    message: String,
}

impl Error {
    /// The settings are wrong: the tenant can mend it.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Fault::Config, message)
    }

    /// Something that the plugin needs did not answer: it may work later.
    pub fn dependency(message: impl Into<String>) -> Self {
        Self::new(Fault::Dependency, message)
    }

    /// The plugin met a case that it does not know.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Fault::Bug, message)
    }

    /// A failure of the given fault.
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
        }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What the tenant reads.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            fault: fault_of(&error),
            message: message_of(&error),
        }
    }
}

impl From<Error> for PluginError {
    fn from(error: Error) -> Self {
        Self {
            fault: error.fault,
            message: error.message,
        }
    }
}

/// Whose fault an error is that came by `?`.
fn fault_of<E: Any>(error: &E) -> Fault {
    let error: &dyn Any = error;
    if let Some(error) = error.downcast_ref() {
        return fault_of_api(error);
    }
    if let Some(error) = error.downcast_ref() {
        return fault_of_fetch(error);
    }
    if let Some(error) = error.downcast_ref() {
        return fault_of_pay(error);
    }
    if matches!(error.downcast_ref(), Some(orders::Error::NotGranted(_))) {
        return Fault::Config;
    }
    let away = matches!(error.downcast_ref(), Some(kv::Error::Unavailable))
        || matches!(error.downcast_ref(), Some(cache::Error::Unavailable))
        || matches!(error.downcast_ref(), Some(contacts::Error::Unavailable))
        || matches!(error.downcast_ref(), Some(orders::Error::Unavailable));
    if away { Fault::Dependency } else { Fault::Bug }
}

fn fault_of_api(error: &wechat_api::Error) -> Fault {
    match error {
        wechat_api::Error::NotGranted(_) | wechat_api::Error::AccountBlocked(_) => Fault::Config,
        wechat_api::Error::Refused(_)
        | wechat_api::Error::TooLarge
        | wechat_api::Error::Unavailable => Fault::Dependency,
        wechat_api::Error::InvalidArgument(_) => Fault::Bug,
    }
}

fn fault_of_fetch(error: &egress::Error) -> Fault {
    match error {
        egress::Error::NotGranted(_)
        | egress::Error::AddressRefused
        | egress::Error::UnknownSecret(_)
        | egress::Error::SecretNotForHost(_)
        | egress::Error::RedirectRefused => Fault::Config,
        egress::Error::Unreachable
        | egress::Error::Timeout
        | egress::Error::TooLarge
        | egress::Error::AnswerRefused => Fault::Dependency,
        egress::Error::InvalidArgument(_) => Fault::Bug,
    }
}

fn fault_of_pay(error: &pay::Error) -> Fault {
    match error {
        pay::Error::NotGranted(_) | pay::Error::OverLimit(_) => Fault::Config,
        pay::Error::Refused(_) | pay::Error::Unavailable => Fault::Dependency,
        pay::Error::InvalidArgument(_)
        | pay::Error::OrderDiffers(_)
        | pay::Error::AlreadyPaid
        | pay::Error::Closed
        | pay::Error::UnknownOrder => Fault::Bug,
    }
}

/// The error and what caused it, in one line.
fn message_of(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::{Error, Fault};
    use crate::{cache, contacts, egress, kv, orders, pay, wechat_api};

    fn check(error: impl Into<Error>, fault: Fault, message: &str) {
        let error = error.into();
        assert_eq!((error.fault(), error.message()), (fault, message));
    }

    #[test]
    fn errors_that_come_by_question_mark_know_whose_fault_they_are() {
        check(
            kv::Error::Unavailable,
            Fault::Dependency,
            "Error::Unavailable",
        );
        check(kv::Error::InvalidKey, Fault::Bug, "Error::InvalidKey");
        check(
            cache::Error::Unavailable,
            Fault::Dependency,
            "Error::Unavailable",
        );
        check(
            egress::Error::UnknownSecret("erp".into()),
            Fault::Config,
            "Error::UnknownSecret(\"erp\")",
        );
        check(
            contacts::Error::Unavailable,
            Fault::Dependency,
            "Error::Unavailable",
        );
        check(
            wechat_api::Error::NotGranted("/a".into()),
            Fault::Config,
            "Error::NotGranted(\"/a\")",
        );
        check(
            wechat_api::Error::Unavailable,
            Fault::Dependency,
            "Error::Unavailable",
        );
        check(
            pay::Error::OverLimit("day_fen".into()),
            Fault::Config,
            "Error::OverLimit(\"day_fen\")",
        );
        check(
            orders::Error::Unavailable,
            Fault::Dependency,
            "Error::Unavailable",
        );
        check(egress::Error::Timeout, Fault::Dependency, "Error::Timeout");
        check(
            egress::Error::AddressRefused,
            Fault::Config,
            "Error::AddressRefused",
        );
        let number = "x".parse::<u8>().expect_err("not a number");
        check(number, Fault::Bug, "invalid digit found in string");
    }
}
