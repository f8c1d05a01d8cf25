//! Secrets for tests, made fresh, and the proof that the host never shows one.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use parking_lot::Mutex;

/// All that was ever given out: nothing that the host prints or answers may hold one of them.
static GIVEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Text of letters and digits that nobody has seen before.
pub fn fresh(length: usize) -> Result<String> {
    let secret = letters(length)?;
    remember(&secret);
    Ok(secret)
}

/// 32 fresh bytes in hex.
pub fn fresh_master_key() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    let key = hex::encode(bytes);
    remember(&key);
    Ok(key)
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
    let mut shown = String::new();
    for secret in GIVEN.lock().iter() {
        if let Some(at) = text.find(secret.as_str()) {
            let line = text[..at].lines().count().max(1);
            let (start, end) = (secret.get(..3).unwrap_or_default(), secret.len());
            write!(
                shown,
                "\n  line {line}: a secret of {end} characters that begins with {start}"
            )?;
        }
    }
    if shown.is_empty() {
        return Ok(());
    }
    bail!("{place} shows secrets:{shown}")
}
