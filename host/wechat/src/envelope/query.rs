//! The query of a callback's URL: the parameters that WeChat signs and those that say how.

use std::borrow::Cow;
use std::fmt;

/// Most bytes of a query. WeChat's own are below 400; a longer one is read as empty.
pub const MAX_QUERY_BYTES: usize = 4096;

/// The parameters of a callback's query, decoded. Of a repeated one the first counts.
///
/// `Debug` shows none of them: in plain mode a query is good for any body until its time is over.
#[derive(Clone, Default)]
pub struct CallbackQuery<'q> {
    /// Covers token, timestamp and nonce.
    pub signature: Option<Cow<'q, str>>,
    /// Unix seconds, as text.
    pub timestamp: Option<Cow<'q, str>>,
    /// Chosen by WeChat for this delivery.
    pub nonce: Option<Cow<'q, str>>,
    /// The user, the same as FromUserName. No signature covers it.
    pub openid: Option<Cow<'q, str>>,
    /// `aes` for a sealed body; absent or `raw` for a clear one.
    pub encrypt_type: Option<Cow<'q, str>>,
    /// Covers token, timestamp, nonce and ciphertext.
    pub msg_signature: Option<Cow<'q, str>>,
    /// What a check of the URL wants back.
    pub echostr: Option<Cow<'q, str>>,
}

impl<'q> CallbackQuery<'q> {
    /// Reads a raw query, without the question mark. Unknown parameters are skipped; one that does not
    /// decode to UTF-8 counts as absent.
    pub fn parse(raw_query: &'q str) -> Self {
        let mut query = Self::default();
        if raw_query.len() > MAX_QUERY_BYTES {
            return query;
        }
        for pair in raw_query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let parameter = match name {
                "signature" => &mut query.signature,
                "timestamp" => &mut query.timestamp,
                "nonce" => &mut query.nonce,
                "openid" => &mut query.openid,
                "encrypt_type" => &mut query.encrypt_type,
                "msg_signature" => &mut query.msg_signature,
                "echostr" => &mut query.echostr,
                _ => continue,
            };
            if parameter.is_none() {
                *parameter = decode(value);
            }
        }
        query
    }
}

impl fmt::Debug for CallbackQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackQuery(…)")
    }
}

/// Undoes form encoding: `+` is a space, `%41` a byte; a percent sign without two digits is itself.
fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', &[high, low, ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => first,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_decodes() {
        let query = CallbackQuery::parse("signature=ab&timestamp=1&nonce=n&openid=o%5f1&x=y&&=&z");
        assert_eq!(query.signature.as_deref(), Some("ab"));
        assert_eq!(query.timestamp.as_deref(), Some("1"));
        assert_eq!(query.nonce.as_deref(), Some("n"));
        assert_eq!(query.openid.as_deref(), Some("o_1"));
        assert!(query.echostr.is_none() && query.msg_signature.is_none());
        assert!(query.encrypt_type.is_none());
    }

    #[test]
    fn decodes_forms() {
        for (given, expected) in [
            ("", Some("")),
            ("a+b%20c", Some("a b c")),
            ("%E4%BD%A0", Some("你")),
            ("%2B%2f%3D", Some("+/=")),
            ("100%", Some("100%")),
            ("%4", Some("%4")),
            ("%zz%41", Some("%zzA")),
            ("%ff", None),
        ] {
            assert_eq!(decode(given).as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn first_of_a_repeated_parameter_counts() {
        let query = CallbackQuery::parse("encrypt_type=aes&encrypt_type=raw");
        assert_eq!(query.encrypt_type.as_deref(), Some("aes"));
    }

    #[test]
    fn oversized_query_is_empty() {
        let fits = format!("nonce={}", "n".repeat(MAX_QUERY_BYTES - 6));
        assert!(CallbackQuery::parse(&fits).nonce.is_some());
        assert!(CallbackQuery::parse(&format!("{fits}n")).nonce.is_none());
    }

    #[test]
    fn debug_shows_nothing() {
        let query = CallbackQuery::parse("signature=ab&openid=oUser");
        assert_eq!(format!("{query:?}"), "CallbackQuery(…)");
    }
}
