//! What a plugin says of itself: `plugin.toml`, carried in the component as a custom section.
//!
//! It asks for grants, it never gives any: what a call may reach is what the manifest asks for *and* the
//! operator grants.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Handler, MoneyRight};

/// The largest manifest, in bytes.
const MAX_MANIFEST_BYTES: usize = 64 << 10;
/// The longest name, version or file name, in bytes.
const MAX_LABEL_BYTES: usize = 128;
/// The most kinds of pushes.
const MAX_PUSH_KINDS: usize = 32;
/// Kinds of pushes that hosts compose themselves, also for accounts without a plugin.
pub const BUILT_IN_PUSH_KINDS: [&str; 3] = ["text", "template", "text-or-template"];
/// The most entries of a list of grants.
const MAX_GRANTS: usize = 64;
/// The longest path prefix or origin, in bytes.
const MAX_GRANT_BYTES: usize = 256;

/// A plugin's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the plugin calls itself. Shown, never relied on.
    pub name: String,
    /// Its author's version.
    pub version: String,
    /// What it handles. If given, it must be what the component exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handlers: Option<Vec<Handler>>,
    /// The file of its settings' JSON Schema. If given, the component must carry a schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<String>,
    /// The kinds of pushes that it composes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub push: Vec<PushKind>,
    /// What it asks for.
    #[serde(default)]
    pub grants: Wanted,
}

/// A kind of pushes that a plugin composes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushKind {
    /// How a tenant's system names it, in the path of its request.
    pub kind: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The JSON Schema of its data. If absent, anything fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// What a plugin asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Prefixes of paths of WeChat's API.
    pub api: Vec<PathPrefix>,
    /// Origins of the tenant's own systems.
    pub egress: Vec<Origin>,
    /// What it does with money.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pay: Vec<MoneyRight>,
}

impl Manifest {
    /// Reads `plugin.toml`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(format!("it has more than {MAX_MANIFEST_BYTES} bytes"));
        }
        let manifest: Self =
            toml::from_str(text).map_err(|error| error.message().trim().to_owned())?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        let labels = [
            ("name", Some(&self.name)),
            ("version", Some(&self.version)),
            ("config_schema", self.config_schema.as_ref()),
        ];
        for (key, label) in labels {
            if label.is_some_and(|label| !is_label(label)) {
                return Err(format!(
                    "{key} must be 1 to {MAX_LABEL_BYTES} bytes without control characters"
                ));
            }
        }
        self.check_push_kinds()?;
        let Wanted { api, egress, pay } = &self.grants;
        let counts = [
            ("api", api.len()),
            ("egress", egress.len()),
            ("pay", pay.len()),
        ];
        let over = counts.into_iter().find(|(_, count)| *count > MAX_GRANTS);
        over.map_or(Ok(()), |(key, count)| {
            let said = format!("grants.{key} has {count} entries; {MAX_GRANTS} are allowed");
            Err(said)
        })
    }
}

impl Manifest {
    fn check_push_kinds(&self) -> Result<(), String> {
        let count = self.push.len();
        if count > MAX_PUSH_KINDS {
            return Err(format!(
                "push has {count} kinds; {MAX_PUSH_KINDS} are allowed"
            ));
        }
        let mut known = BTreeSet::new();
        for PushKind { kind, title, .. } in &self.push {
            if !is_word(kind) {
                return Err(format!(
                    "push.kind must be 1 to {MAX_LABEL_BYTES} lower-case letters, digits and -"
                ));
            }
            if BUILT_IN_PUSH_KINDS.contains(&&**kind) {
                return Err(format!(
                    "push.kind {kind:?} is the host's own; take another"
                ));
            }
            if !known.insert(kind) {
                return Err(format!("push.kind {kind:?} comes twice"));
            }
            if title.as_ref().is_some_and(|title| !is_label(title)) {
                return Err(format!(
                    "push.title must be 1 to {MAX_LABEL_BYTES} bytes without control characters"
                ));
            }
        }
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    is_label(text) && text.bytes().all(is_plain)
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A text that is no path prefix or no origin. Names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct InvalidGrant {
    text: String,
    wanted: &'static str,
}

/// The beginning of paths of WeChat's API, such as `/cgi-bin/tags/`: whole segments of letters, digits,
/// `-` and `_`. A slash at the end makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Whether a path is this one, or one below it. Only paths in plain form are: nothing is decoded,
    /// resolved or folded, so nothing can mean one thing here and another at WeChat's.
    pub fn covers(&self, path: &str) -> bool {
        is_plain_path(path) && self.covers_plain(path)
    }

    /// Whether all that `other` covers is covered.
    pub fn covers_prefix(&self, other: &Self) -> bool {
        self.covers_plain(other.as_path())
    }

    fn covers_plain(&self, path: &str) -> bool {
        let below = path.strip_prefix(self.as_path());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Without the slash at the end.
    pub fn as_path(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }
}

/// Whether a path is one of whole segments of letters, digits, `-` and `_`, with no slash at the end.
pub fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(is_plain);
    path.strip_prefix('/')
        .is_some_and(|path| path.split('/').all(is_segment))
}

impl FromStr for PathPrefix {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if is_plain_path(path) && text.len() <= MAX_GRANT_BYTES {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidGrant {
            text: text.chars().take(MAX_GRANT_BYTES).collect(),
            wanted: "a path prefix such as /cgi-bin/tags/, of letters, digits, - and _",
        })
    }
}

/// A scheme, a host and a port: `https://erp.example.com`, `http://10.1.2.3:8080`,
/// `https://[2001:db8::1]`. Without a scheme it is `https`, without a port the scheme's own. The host `*` is any host, and the port
/// `*` any port; a host `*` without a port is any host on any port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    text: String,
    tls: bool,
    host: Option<String>,
    port: Option<u16>,
}

impl Origin {
    /// Whether it is this scheme, host and port. The host in its connected form: lower case, IPv6 in
    /// brackets.
    pub fn covers(&self, tls: bool, host: &str, port: u16) -> bool {
        self.tls == tls
            && self.host.as_deref().is_none_or(|given| given == host)
            && self.port.is_none_or(|given| given == port)
    }

    /// Whether all that `other` covers is covered.
    pub fn covers_origin(&self, other: &Self) -> bool {
        self.tls == other.tls
            && (self.host.is_none() || self.host == other.host)
            && (self.port.is_none() || self.port == other.port)
    }

    /// Whether it names one host: `*` does not.
    pub fn names_a_host(&self) -> bool {
        self.host.is_some()
    }

    fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://") {
            None => (true, text),
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return None,
        };
        // The colons of an IPv6 address are inside its brackets.
        let after_host = rest.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match rest.get(after_host..)?.find(':') {
            Some(colon) => {
                let (host, port) = rest.split_at(after_host + colon);
                (host, Some(&port[1..]))
            }
            None => (rest, None),
        };
        let own = if tls { 443 } else { 80 };
        let port = match port {
            Some("*") => None,
            Some(digits) => Some(number(digits)?),
            None if host == "*" => None,
            None => Some(own),
        };
        if host != "*" && !is_host(host) {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            tls,
            host: (host != "*").then(|| host.to_owned()),
            port,
        })
    }
}

/// A port as it is usually written: no sign, no zero before it, not 0.
fn number(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

/// Whether a text is a host in the form in which it is connected to.
fn is_host(text: &str) -> bool {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Some(bare) = bare {
        // In the one shortest form, as connections show it.
        return bare
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_string() == bare);
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let mut labels = text.split('.');
    labels.all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_plain))
}

impl FromStr for Origin {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let origin = Self::parse(text).filter(|_| text.len() <= MAX_GRANT_BYTES);
        origin.ok_or_else(|| InvalidGrant {
            text: text.chars().take(MAX_GRANT_BYTES).collect(),
            wanted: "an origin such as https://erp.example.com or http://erp.example.com:8080, in lower \
                     case, without a path",
        })
    }
}

macro_rules! as_text {
    ($type:ty, $field:tt) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidGrant;

            fn try_from(text: String) -> Result<Self, InvalidGrant> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(grant: $type) -> Self {
                grant.$field
            }
        }
    };
}

as_text!(PathPrefix, 0);
as_text!(Origin, text);

#[cfg(test)]
mod tests;
