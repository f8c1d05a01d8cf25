//! Why there is no token.

use wxhost_wechat::errcode::ApiError;

use super::{AddressRefusal, Attention};

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// The account has no AppSecret.
    #[error("the account has no AppSecret: set one")]
    NoSecret,
    /// WeChat has pushed no ticket to the third-party platform yet.
    #[error("wechat has pushed no ticket to the platform yet; it does so every ten minutes")]
    NoTicket,
    /// WeChat gives it none before its owner has acted.
    #[error("the account waits for its owner: {}", attention.message)]
    AccountBlocked {
        /// What is to be mended.
        attention: Attention,
    },
    /// WeChat gives this host none; another host's address may do.
    #[error("wechat refuses this host's address: {}", refusal.message)]
    AddressRefused {
        /// What it says.
        refusal: AddressRefusal,
    },
    /// WeChat refuses one now.
    #[error(transparent)]
    Refused(ApiError),
    /// WeChat does not answer, or has been asked too often.
    #[error("wechat gives no token now")]
    Unreachable,
    /// There was none in time.
    #[error("there was no token in time")]
    Deadline,
    /// A token was forced too lately, or too often today.
    #[error("a token was forced lately: wait {wait_seconds} seconds")]
    ForcedLately {
        /// Until it may be forced again.
        wait_seconds: u64,
    },
}

impl TokenError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSecret => "no-secret",
            Self::NoTicket => "no-ticket",
            Self::AccountBlocked { .. } => "account-blocked",
            Self::AddressRefused { .. } => "address-refused",
            Self::Refused(_) => "wechat-refused",
            Self::Unreachable => "wechat-unreachable",
            Self::Deadline => "timeout",
            Self::ForcedLately { .. } => "forced-lately",
        }
    }
}
