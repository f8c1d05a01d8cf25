//! What a benchmark makes of the machine: a directory, sizes, rounds, and accounts.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use wxhost_simulator::SimulatedAccount;
use wxhost_wechat::envelope::{CallbackKeys, Mode, Receiver, ReceiverSettings};
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{CallbackToken, EncodingAesKey};

/// A directory that PostgreSQL, which runs as another user, may enter, too.
pub(crate) fn directory_for_all() -> Result<TempDir> {
    Ok(tempfile::Builder::new()
        .prefix("wxhost-bench-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()?)
}

/// A size that the environment may change, to try things out.
pub(crate) fn size(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// What an account's text is answered with, with and without a sandbox.
pub(crate) fn answer(text: &str) -> String {
    format!("You wrote: {text}")
}

/// Writes down accounts for the native handler.
pub(crate) fn write_accounts(file: &Path, accounts: &[SimulatedAccount]) -> Result<()> {
    let accounts: Vec<Value> = accounts
        .iter()
        .map(|account| {
            json!({
                "app_id": account.app_id.as_str(),
                "original_id": account.original_id.as_str(),
                "mode": mode_word(account.mode),
                "token": account.token.expose(),
                "aes_key": account.aes_key.expose(),
            })
        })
        .collect();
    Ok(std::fs::write(file, serde_json::to_vec(&accounts)?)?)
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => "plain",
        Mode::Compatible => "compatible",
        Mode::Safe => "safe",
    }
}

/// Reads them back.
pub(crate) fn read_receivers(file: &Path) -> Result<Vec<Receiver>> {
    let accounts: Vec<Value> = serde_json::from_slice(&std::fs::read(file)?)?;
    accounts.iter().map(receiver).collect()
}

fn receiver(account: &Value) -> Result<Receiver> {
    let text = |name: &str| account[name].as_str().with_context(|| format!("no {name}"));
    let mode = match text("mode")? {
        "plain" => Mode::Plain,
        "compatible" => Mode::Compatible,
        _ => Mode::Safe,
    };
    let key = EncodingAesKey::parse(text("aes_key")?)?;
    Ok(Receiver::new(ReceiverSettings {
        app_id: AppId::parse(text("app_id")?)?,
        original_id: Some(OriginalId::parse(text("original_id")?)?),
        mode,
        keys: CallbackKeys {
            token: CallbackToken::parse(text("token")?)?,
            current: (mode != Mode::Plain).then_some(key),
            previous: None,
        },
        window_seconds: 300,
    })?)
}
