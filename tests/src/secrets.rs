//! Secrets for tests, made fresh, and the proof that the host never shows one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use anyhow::{Result, bail};
use parking_lot::Mutex;

/// All that was ever given out: nothing that the host prints or answers may hold one of them.
static GIVEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From this length on, looking for all secrets at once is faster than for one after the other.
const LONG_TEXT_BYTES: usize = 256 * 1024;

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Text of letters and digits that nobody has seen before.
pub fn fresh(length: usize) -> Result<String> {
    let secret = letters(length)?;
    remember(&secret);
    Ok(secret)
}

/// 32 fresh bytes in hex.
pub fn fresh_master_key() -> Result<String> {
    fresh_hex(32)
}

/// So many fresh bytes in hex.
pub fn fresh_hex(bytes: usize) -> Result<String> {
    let mut fresh = vec![0; bytes];
    getrandom::fill(&mut fresh)?;
    let secret = hex::encode(fresh);
    remember(&secret);
    Ok(secret)
}

/// Puts a secret that was made elsewhere on the list.
pub fn remember(secret: &str) {
    GIVEN.lock().push(secret.to_owned());
}

/// Text of letters and digits that may be seen: for names and nonces.
pub fn letters(length: usize) -> Result<String> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect())
}

/// Fails if `text` shows a secret, and names the place, not the secret.
pub fn expect_none(place: &str, text: &str) -> Result<()> {
    let given = GIVEN.lock();
    let mut shown = String::new();
    for (secret, at) in found(&given, text)? {
        let line = text[..at].lines().count().max(1);
        let (start, end) = (secret.get(..3).unwrap_or_default(), secret.len());
        write!(
            shown,
            "\n  line {line}: a secret of {end} characters that begins with {start}"
        )?;
    }
    if shown.is_empty() {
        return Ok(());
    }
    bail!("{place} shows secrets:{shown}")
}

/// Each secret that a text shows, and where it does first.
fn found<'a>(secrets: &'a [String], text: &str) -> Result<BTreeMap<&'a str, usize>> {
    let mut found = BTreeMap::new();
    if text.len() < LONG_TEXT_BYTES {
        let places = secrets.iter();
        found.extend(places.filter_map(|secret| Some((&**secret, text.find(&**secret)?))));
    } else {
        for shown in AhoCorasick::new(secrets)?.find_iter(text) {
            let secret = &*secrets[shown.pattern().as_usize()];
            found.entry(secret).or_insert(shown.start());
        }
    }
    Ok(found)
}
