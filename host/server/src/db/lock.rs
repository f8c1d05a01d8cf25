//! The file of an SQLite database, and the lock that keeps a second host away from it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::OpenError;

/// An SQLite file that this process alone may use.
#[derive(Debug)]
pub(super) struct SqliteFile {
    path: PathBuf,
    /// Locked (flock) until it is closed, also when the process dies.
    _lock: File,
}

impl SqliteFile {
    /// Locks the file that `url` names, and makes it readable for the owner only if it is new.
    pub(super) fn lock(url: &str) -> Result<Self, OpenError> {
        let path = path_of(url).ok_or(OpenError::InMemory)?;
        let failed = |source| OpenError::File {
            file: path.display().to_string(),
            source,
        };
        if let Some(directory) = path.parent().filter(|parent| *parent != Path::new("")) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut lock = open_private(&beside(&path)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    file: path.display().to_string(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // For people who wonder who holds it; nothing reads it.
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        open_private(&path).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// The URL that opens it.
    pub(super) fn url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}

/// The path in `sqlite://path?…` or `sqlite:path`; none for a database in memory.
fn path_of(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.split('?').next().unwrap_or_default();
    (!path.is_empty() && path != ":memory:").then(|| PathBuf::from(path))
}

/// `wxhost.db` → `wxhost.db.lock`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
