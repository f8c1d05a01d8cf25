//! Who may log in to a shop's pages in WeChat, and what they are there: a back end that gets a session finds
//! the level and the card of a member in its claims, without a database of its own.
//!
//! Who looks at a snapshot of a page (快照页) is nobody, and not let in. All else is settings: `schema.json`
//! says what they look like, `example.json` is a set to start from.

use serde::Deserialize;
use std::collections::BTreeMap;
use wxhost_sdk::contacts::Contact;
use wxhost_sdk::login::{Login, LoginHandler, Verdict};
use wxhost_sdk::prelude::*;

/// Bytes of a claim's value; longer ones are left out.
const MAX_VALUE_BYTES: usize = 256;

/// The door.
pub struct Members;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    attributes: Vec<String>,
    blocked_tags: Vec<u32>,
    followers_only: bool,
}

/// An attribute of a contact.
#[derive(Deserialize)]
#[serde(untagged)]
enum Attribute {
    Text(String),
    Number(i64),
    Flag(bool),
    Other(serde::de::IgnoredAny),
}

impl LoginHandler for Members {
    fn decide(login: &Login) -> Result<Verdict> {
        if login.snapshot_user {
            return Ok(Verdict::refuse("snapshot"));
        }
        let settings: Settings = config::parse()?;
        if settings.followers_only && !login.follows() {
            return Ok(Verdict::refuse("followers-only"));
        }
        let mut verdict = Verdict::admit();
        let Some(contact) = &login.contact else {
            return Ok(verdict);
        };
        let is_blocked = |tag: &u32| settings.blocked_tags.contains(tag);
        if contact.tags.iter().any(is_blocked) {
            return Ok(Verdict::refuse("blocked"));
        }
        for (name, value) in claims(contact, &settings.attributes)? {
            verdict = verdict.claim(name, value);
        }
        Ok(verdict)
    }
}

wxhost_sdk::register!(
    Members,
    handlers = [login],
    manifest = include_str!("../plugin.toml"),
    config_schema = include_str!("../schema.json"),
);

fn claims<'a>(contact: &Contact, names: &'a [String]) -> Result<Vec<(&'a str, String)>> {
    let attributes: BTreeMap<String, Attribute> = contact.attributes()?;
    let claims = names.iter().filter_map(|name| {
        let value = match attributes.get(name)? {
            Attribute::Text(text) => text.clone(),
            Attribute::Number(number) => number.to_string(),
            Attribute::Flag(flag) => flag.to_string(),
            Attribute::Other(_) => return None,
        };
        (value.len() <= MAX_VALUE_BYTES).then_some((&**name, value))
    });
    Ok(claims.collect())
}

#[cfg(test)]
mod tests;
