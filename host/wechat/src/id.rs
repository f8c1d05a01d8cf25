//! Identifiers as types: what has been parsed is well formed, and one kind can't pass for another.
//!
//! The sets of characters are what WeChat is known to send, so that an identifier is safe to show in a
//! path, a log line or a key. Which account or user it belongs to is for others to find out.

/// Why a text is not an identifier.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// Too short or too long.
    #[error("{kind} has {length} bytes, {min} to {max} are allowed")]
    Length {
        /// What was parsed, such as "app id".
        kind: &'static str,
        /// Bytes given.
        length: usize,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// A character that this kind of identifier can't hold.
    #[error("{kind} has a forbidden character at byte {position}")]
    Character {
        /// What was parsed, such as "app id".
        kind: &'static str,
        /// Where it stands, in bytes from 0.
        position: usize,
    },
}

/// The rule that one kind of identifier follows.
pub(crate) struct Rule {
    pub(crate) kind: &'static str,
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) allows: fn(u8) -> bool,
}

impl Rule {
    pub(crate) fn check(&self, text: &str) -> Result<(), IdError> {
        let Rule {
            kind,
            min,
            max,
            allows,
        } = *self;
        let length = text.len();
        if !(min..=max).contains(&length) {
            return Err(IdError::Length {
                kind,
                length,
                min,
                max,
            });
        }
        match text.bytes().position(|byte| !allows(byte)) {
            Some(position) => Err(IdError::Character { kind, position }),
            None => Ok(()),
        }
    }
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            const RULE: Rule = $rule;

            /// Checks the length and every character.
            ///
            /// # Errors
            ///
            /// What is wrong with `text`, without repeating it.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Self::RULE.check(text)?;
                Ok(Self(text.into()))
            }

            /// The identifier as WeChat writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        // Equal as a string, so a map keyed by it can be asked with a string from a path.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use identifier;

identifier!(
    /// An account's AppId, such as `wx0123456789abcdef`: 4 to 64 of `[A-Za-z0-9_-]`.
    AppId,
    Rule { kind: "app id", min: 4, max: 64, allows: is_word }
);

identifier!(
    /// An account's original id (原始ID), such as `gh_0a1b2c3d4e5f`: 1 to 64 of `[A-Za-z0-9_-]`.
    OriginalId,
    Rule { kind: "original id", min: 1, max: 64, allows: is_word }
);

identifier!(
    /// A user's id within one account: 1 to 128 printable ASCII characters without a space.
    OpenId,
    Rule { kind: "open id", min: 1, max: 128, allows: |byte| byte.is_ascii_graphic() }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_wechat_sends() {
        for id in ["wx0123456789abcdef", "wxd678efh567hg6787", "some_appid"] {
            assert_eq!(AppId::parse(id).unwrap().as_str(), id);
        }
        assert_eq!(
            OriginalId::parse("gh_0a1b2c3d4e5f").unwrap().to_string(),
            "gh_0a1b2c3d4e5f"
        );
        assert_eq!(
            OpenId::parse("otFpruAK8D-E6EfStSYonYSBZ8_4")
                .unwrap()
                .as_str()
                .len(),
            28
        );
    }

    #[test]
    fn refuses_lengths_and_characters() {
        let check = |text: &str, expected: &str| {
            assert_eq!(AppId::parse(text).unwrap_err().to_string(), expected);
        };
        check("abc", "app id has 3 bytes, 4 to 64 are allowed");
        check(&"a".repeat(65), "app id has 65 bytes, 4 to 64 are allowed");
        check("../../etc", "app id has a forbidden character at byte 0");
        check("wx12\n", "app id has a forbidden character at byte 4");
        assert!(OriginalId::parse("").is_err());
        assert!(OpenId::parse("a b").is_err());
        assert!(OpenId::parse("用户").is_err());
        assert!(OpenId::parse(&"o".repeat(129)).is_err());
    }

    #[test]
    fn is_a_string_in_json_and_a_string_key_in_maps() {
        let id: AppId = serde_json::from_str(r#""wx0123""#).unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""wx0123""#);
        assert!(serde_json::from_str::<AppId>(r#""wx 123""#).is_err());
        let map = std::collections::HashMap::from([(id, 1)]);
        assert_eq!(map.get("wx0123"), Some(&1));
    }
}
