//! What an API key may do.

use std::{fmt, str::FromStr};

use crate::grants::{ApiPath, PathError};

/// Characters of a word that is no grant, in the error that says so.
const SHOWN: usize = 128;

/// Grants of one key.
const MAX_GRANTS: usize = 64;

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not one of the words.
    #[error(
        "`{0}` is no grant: there are access-token, jsapi-ticket, jssdk-signature, login, pay, refund, \
         push, forward, and forward:<path prefix>"
    )]
    Unknown(String),
    /// A prefix that is no path.
    #[error("`{word}`: {source}")]
    Path {
        /// The grant.
        word: String,
        /// What is wrong with its path.
        source: PathError,
    },
    /// Too many.
    #[error("at most {MAX_GRANTS} grants")]
    TooMany,
}

/// Something that a key may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `access-token`: be given the access token itself.
    AccessToken,
    /// `jsapi-ticket`: be given the JS-SDK and card tickets themselves.
    JsapiTicket,
    /// `jssdk-signature`: have addresses of pages signed.
    JssdkSignature,
    /// `login`: learn who has logged in to the account's pages, and read the profiles of who lets it.
    Login,
    /// `pay`: have people pay, and see what they paid.
    Pay,
    /// `refund`: give money back.
    Refund,
    /// `push`: have something sent to people, and see what became of it.
    Push,
    /// `forward`: have requests passed on to WeChat, whatever their path.
    ForwardAll,
    /// `forward:<prefix>`: have requests passed on whose path is this or lies below it.
    Forward(ApiPath),
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(word: &str) -> Result<Self, GrantError> {
        match word {
            "access-token" => Ok(Self::AccessToken),
            "jsapi-ticket" => Ok(Self::JsapiTicket),
            "jssdk-signature" => Ok(Self::JssdkSignature),
            "login" => Ok(Self::Login),
            "pay" => Ok(Self::Pay),
            "refund" => Ok(Self::Refund),
            "push" => Ok(Self::Push),
            "forward" | "forward:/" => Ok(Self::ForwardAll),
            _ => {
                let prefix = word
                    .strip_prefix("forward:")
                    .ok_or_else(|| GrantError::Unknown(word.chars().take(64).collect()))?;
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                ApiPath::parse(prefix)
                    .map(Self::Forward)
                    .map_err(|source| GrantError::Path {
                        word: word.chars().take(SHOWN).collect(),
                        source,
                    })
            }
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessToken => f.write_str("access-token"),
            Self::JsapiTicket => f.write_str("jsapi-ticket"),
            Self::JssdkSignature => f.write_str("jssdk-signature"),
            Self::Login => f.write_str("login"),
            Self::Pay => f.write_str("pay"),
            Self::Refund => f.write_str("refund"),
            Self::Push => f.write_str("push"),
            Self::ForwardAll => f.write_str("forward"),
            Self::Forward(prefix) => write!(f, "forward:{prefix}"),
        }
    }
}

/// All that a key may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyGrants(Vec<Grant>);

impl KeyGrants {
    /// Reads the words of grants.
    ///
    /// # Errors
    /// A word that is no grant, or too many of them.
    pub fn parse(words: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, GrantError> {
        let mut grants = Vec::new();
        for word in words {
            let grant: Grant = word.as_ref().parse()?;
            if grants.len() == MAX_GRANTS {
                return Err(GrantError::TooMany);
            }
            if !grants.contains(&grant) {
                grants.push(grant);
            }
        }
        Ok(Self(grants))
    }

    /// The words, as they are stored and shown.
    pub fn words(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly this is granted.
    pub fn allows(&self, grant: &Grant) -> bool {
        self.0.contains(grant)
    }

    /// Whether only this is granted.
    pub fn is_only(&self, grant: &Grant) -> bool {
        matches!(self.0.as_slice(), [only] if only == grant)
    }

    /// Whether any request may be passed on.
    pub fn forwards(&self) -> bool {
        let forwards = |grant: &Grant| matches!(grant, Grant::ForwardAll | Grant::Forward(_));
        self.0.iter().any(forwards)
    }

    /// Whether requests of this path may be passed on.
    pub fn allows_forward(&self, path: &ApiPath) -> bool {
        self.0.iter().any(|grant| match grant {
            Grant::ForwardAll => true,
            Grant::Forward(prefix) => path.lies_under(prefix),
            Grant::AccessToken
            | Grant::JsapiTicket
            | Grant::JssdkSignature
            | Grant::Login
            | Grant::Pay
            | Grant::Refund
            | Grant::Push => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_and_shown_alike() {
        let words = [
            "access-token",
            "jsapi-ticket",
            "jssdk-signature",
            "push",
            "forward",
            "forward:/cgi-bin/user",
        ];
        assert_eq!(KeyGrants::parse(words).unwrap().words(), words);
        let twice = KeyGrants::parse(["forward:/a/", "forward:/a"]).unwrap();
        assert_eq!(twice.words(), ["forward:/a"]);
        for word in [
            "",
            "Access-Token",
            "forward:",
            "forward:x",
            "forward:/a/../b",
            "*",
        ] {
            assert!(KeyGrants::parse([word]).is_err(), "{word}");
        }
        let many = (0..=MAX_GRANTS).map(|n| format!("forward:/{n}"));
        assert_eq!(KeyGrants::parse(many), Err(GrantError::TooMany));
    }

    #[test]
    fn a_prefix_grants_whole_segments() {
        let grants = KeyGrants::parse(["access-token", "forward:/cgi-bin/user"]).unwrap();
        for (path, allowed) in [
            ("/cgi-bin/user", true),
            ("/cgi-bin/user/info/batchget", true),
            ("/cgi-bin/users", false),
            ("/cgi-bin/user-x", false),
            ("/cgi-bin/USER/info", false),
            ("/cgi-bin", false),
            ("/x/cgi-bin/user", false),
        ] {
            let path = ApiPath::parse(path).unwrap();
            assert_eq!(grants.allows_forward(&path), allowed, "{path}");
        }
        let path = ApiPath::parse("/cgi-bin/user").unwrap();
        assert!(KeyGrants::parse(["forward"]).unwrap().allows_forward(&path));
        assert!(!KeyGrants::parse(["access-token"]).unwrap().forwards());
    }
}
