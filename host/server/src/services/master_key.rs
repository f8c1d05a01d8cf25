//! The key that everything secret is sealed under: given by the operator, or made at the first start.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::StartError;
use crate::config::Config;
use crate::seal::{MasterKey, MasterKeys};

/// Name of the key file that is made in the data directory where no master key is given.
const KEY_FILE: &str = "master.key";

/// The master key from the settings or its file; made at the first start of an embedded host.
pub(super) fn read(config: &Config) -> Result<MasterKeys, StartError> {
    let parse = |text: &SecretString| {
        MasterKey::parse(text.expose_secret().trim())
            .map_err(|error| StartError::MasterKey(error.to_string()))
    };
    let current = match &config.seal.master_key {
        Some(text) => parse(text)?,
        None => parse(&key_file(config)?)?,
    };
    let others = [
        &config.seal.previous_master_key,
        &config.seal.next_master_key,
    ];
    let others: Result<Vec<_>, _> = others.into_iter().flatten().map(parse).collect();
    Ok(MasterKeys::new(current, others?))
}

fn key_file(config: &Config) -> Result<SecretString, StartError> {
    let default = config.storage.data_dir.join(KEY_FILE);
    let path: &Path = config.seal.master_key_file.as_deref().unwrap_or(&default);
    let failed = |source| StartError::Io {
        what: format!("master key file {}", path.display()),
        source,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.into()),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && config.seal.master_key_file.is_none() =>
        {
            let text = new_key_file(path).map_err(failed)?;
            tracing::warn!(file = %path.display(), "a master key was made; keep a copy: without it every stored secret is lost");
            Ok(text)
        }
        Err(error) => Err(failed(error)),
    }
}

fn new_key_file(path: &Path) -> std::io::Result<SecretString> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut bytes = [0; 32];
    crate::random::fill(&mut bytes);
    let text = hex::encode(bytes);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(text.into())
}
