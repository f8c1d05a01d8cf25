//! How an account gets its tokens, and what its owner must mend before it gets any.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wxhost_wechat::api::token;
use wxhost_wechat::errcode::Errcode;

use crate::settings::ChangeError;

/// Which of WeChat's token calls a token comes from. An account by its own secret uses one of the first two,
/// whose tokens live side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLine {
    /// `cgi-bin/stable_token`: whoever asks gets the same token. The default.
    Stable,
    /// `cgi-bin/token`: each call makes a new token and ends the one before.
    Classic,
    /// `component/api_authorizer_token`: of an account that a third-party platform serves, by its refresh
    /// token. Not to be chosen: the account's authorisation decides.
    Authorizer,
    /// `component/api_component_token`: a platform's own, by the ticket that WeChat pushes.
    Component,
}

impl TokenLine {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Classic => "classic",
            Self::Authorizer => "authorizer",
            Self::Component => "component",
        }
    }

    /// Whether each call makes a new token, and may end the one before.
    pub(crate) fn renews_each_time(self) -> bool {
        self != Self::Stable
    }
}

impl FromStr for TokenLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stable" => Ok(Self::Stable),
            "classic" => Ok(Self::Classic),
            _ => Err(String::from("a token line is stable or classic")),
        }
    }
}

/// What an account's owner must mend before WeChat gives it tokens again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// WeChat's code.
    pub errcode: i64,
    /// WeChat's words, and what to do.
    pub message: String,
    /// Unix milliseconds.
    pub since_ms: i64,
}

impl Attention {
    /// As it is stored.
    pub(crate) fn to_json(&self) -> Result<String, ChangeError> {
        serde_json::to_string(self).map_err(|error| ChangeError::invalid("attention", error))
    }

    /// What is stored, unless it is a refusal for a host's address: the version before noted those here, and
    /// runs beside this one during an update.
    pub(crate) fn read(stored: &str) -> Result<Option<Self>, serde_json::Error> {
        let attention: Self = serde_json::from_str(stored)?;
        let told = Errcode(attention.errcode).on(token::STABLE_PATH);
        let is_a_hosts = told.is_for_address();
        Ok((!is_a_hosts).then_some(attention))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_version_before_noted_of_an_address_blocks_no_account() {
        for (errcode, expected) in [
            (40125, true),
            (40164, false),
            (61004, false),
            (89503, false),
        ] {
            let stored = format!(r#"{{"errcode":{errcode},"message":"no","since_ms":1}}"#);
            assert_eq!(
                Attention::read(&stored).unwrap().is_some(),
                expected,
                "{errcode}"
            );
        }
        assert!(Attention::read("{}").is_err());
    }
}
