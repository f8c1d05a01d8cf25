//! Native code on disk, so that a restart or an eviction costs microseconds and not a compilation.
//!
//! Native code is trusted as the host itself is, so each file carries an HMAC over digest, compatibility
//! and content, and is authenticated before a byte of it is believed. It is read into memory once, and
//! what was authenticated is what is loaded: a file that changes afterwards changes nothing.

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::Digest;

/// Separates this use of the key from all others.
const DOMAIN: &[u8] = b"wxhost native code 2\0";
/// The length of an HMAC-SHA256.
const TAG_BYTES: usize = 32;
/// The suffix of the files.
const SUFFIX: &str = "native";

/// The prefix of files that are being written.
const UNFINISHED: &str = ".new-";

/// A directory of native code for one engine on one kind of CPU.
pub(crate) struct NativeStore {
    directory: PathBuf,
    /// What the directory may hold.
    budget_bytes: u64,
    mac: Hmac<Sha256>,
    /// Engine, its settings and the CPU's features: native code of another one is of no use.
    compatibility: [u8; 32],
}

/// Why a file was not used. None of these is fatal: the component is compiled again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NativeError {
    #[error("there is no native code")]
    Absent,
    #[error("the file is not authentic")]
    Forged,
    #[error(transparent)]
    Io(io::Error),
}

impl NativeStore {
    /// Opens the directory; makes it, for this user only, if there is none, and clears away what a crash
    /// left half written.
    pub(crate) fn open(
        directory: &Path,
        budget_bytes: u64,
        key: &[u8; 32],
        engine: &Engine,
    ) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        for file in fs::read_dir(directory)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(file.path())?;
            }
        }
        // HMAC fills a short key up with zeros to SHA-256's block.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        Ok(Self {
            directory: directory.to_owned(),
            budget_bytes,
            mac: Hmac::new(&block.into()),
            compatibility: compatibility(engine),
        })
    }

    /// Authentic native code of a component. Blocks on the disk.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Vec<u8>, NativeError> {
        let mut bytes = fs::read(self.path(digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NativeError::Absent,
            _ => NativeError::Io(error),
        })?;
        let Some(content) = bytes.len().checked_sub(TAG_BYTES) else {
            return Err(NativeError::Forged);
        };
        // The tag comes last, so that taking it off leaves the content where it is.
        let (native, tag) = bytes.split_at(content);
        self.mac_of(digest, native)
            .verify_slice(tag)
            .map_err(|_| NativeError::Forged)?;
        bytes.truncate(content);
        Ok(bytes)
    }

    /// Keeps native code: written aside, synced, then renamed, so that a crash leaves all or nothing.
    /// Blocks on the disk.
    pub(crate) fn write(&self, digest: &Digest, native: &[u8]) -> io::Result<()> {
        // Only this user may read it: that is how `tempfile` makes files.
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempfile_in(&self.directory)?;
        let tag = self.mac_of(digest, native).finalize().into_bytes();
        file.write_all(native)?;
        file.write_all(&tag)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest))
            .map_err(|error| error.error)?;
        File::open(&self.directory)?.sync_all()?;
        self.shrink(digest)
    }

    /// Removes what was written longest ago, of other engines too, until the rest fits into the budget.
    fn shrink(&self, newest: &Digest) -> io::Result<()> {
        let keep = self.path(newest);
        let mut files = self.files()?;
        let mut bytes = files
            .iter()
            .fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        files.sort_unstable_by_key(|file| file.written);
        for file in files {
            if bytes <= self.budget_bytes {
                break;
            }
            if file.path != keep {
                fs::remove_file(file.path)?;
                bytes = bytes.saturating_sub(file.bytes);
            }
        }
        Ok(())
    }

    /// Removes what was written before that time, of other engines too, but for these components. Tells
    /// how many files it removed. Blocks on the disk.
    pub(crate) fn forget(
        &self,
        written_before: SystemTime,
        kept: &HashSet<Digest>,
    ) -> io::Result<u64> {
        let mut removed = 0;
        for file in self.files()? {
            let is_kept = file.digest().is_some_and(|digest| kept.contains(&digest));
            if file.written < written_before && !is_kept {
                fs::remove_file(file.path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// All native code, of other engines too.
    fn files(&self) -> io::Result<Vec<NativeFile>> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let path = file?.path();
            // Another thread may have removed it meanwhile.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                files.push(NativeFile {
                    written: metadata.modified()?,
                    bytes: metadata.len(),
                    path,
                });
            }
        }
        Ok(files)
    }

    /// Removes native code that turned out to be of no use.
    pub(crate) fn remove(&self, digest: &Digest) {
        // If it cannot be removed, it is refused again the next time.
        let _ = fs::remove_file(self.path(digest));
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let engine = hex::encode(&self.compatibility[..8]);
        self.directory.join(format!("{digest}.{engine}.{SUFFIX}"))
    }

    fn mac_of(&self, digest: &Digest, native: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(DOMAIN);
        mac.update(digest.as_bytes());
        mac.update(&self.compatibility);
        mac.update(native);
        mac
    }
}

/// Native code on disk, as the directory tells.
struct NativeFile {
    written: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl NativeFile {
    /// The component, if the file is named for one.
    fn digest(&self) -> Option<Digest> {
        let name = self.path.file_name()?.to_str()?;
        name.split('.').next()?.parse().ok()
    }
}

/// What native code depends on, beside the component.
fn compatibility(engine: &Engine) -> [u8; 32] {
    let mut hasher = StableHasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.update(std::env::consts::ARCH);
    hasher.0.finalize().into()
}

/// The same on every start, which std's hashers do not promise.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash: [u8; 32] = self.0.clone().finalize().into();
        hash.iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::code_config;

    fn store(directory: &Path, key: u8) -> NativeStore {
        let engine = Engine::new(&code_config()).unwrap();
        NativeStore::open(directory, 1_000, &[key; 32], &engine).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_only_by_us() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let digest = Digest::of(b"component");
        assert!(matches!(store.read(&digest), Err(NativeError::Absent)));
        store.write(&digest, b"native").unwrap();
        assert_eq!(store.read(&digest).unwrap(), b"native");
        let mode = fs::metadata(store.path(&digest))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        store.remove(&digest);
        assert!(matches!(store.read(&digest), Err(NativeError::Absent)));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let digest = Digest::of(b"component");
        store.write(&digest, b"native").unwrap();
        let good = fs::read(store.path(&digest)).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(store.path(&digest), bad).unwrap();
            assert!(matches!(store.read(&digest), Err(NativeError::Forged)));
        }
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let digest = Digest::of(b"component");
        store.write(&digest, b"native").unwrap();
        let good = fs::read(store.path(&digest)).unwrap();
        for length in 0..good.len() {
            fs::write(store.path(&digest), &good[..length]).unwrap();
            assert!(matches!(store.read(&digest), Err(NativeError::Forged)));
        }
    }

    #[test]
    fn a_file_of_another_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"component");
        store(directory.path(), 1)
            .write(&digest, b"native")
            .unwrap();
        let other = store(directory.path(), 2);
        assert!(matches!(other.read(&digest), Err(NativeError::Forged)));
    }

    #[test]
    fn native_code_moved_to_another_plugins_name_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let (mine, theirs) = (Digest::of(b"mine"), Digest::of(b"theirs"));
        store.write(&mine, b"native").unwrap();
        fs::rename(store.path(&mine), store.path(&theirs)).unwrap();
        assert!(matches!(store.read(&theirs), Err(NativeError::Forged)));
    }

    #[test]
    fn a_full_directory_gives_up_what_is_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let digests = [b"a", b"b", b"c"].map(|name| Digest::of(name));
        for (age, digest) in digests.iter().enumerate() {
            store.write(digest, &[0; 400]).unwrap();
            let file = File::options().write(true).open(store.path(digest));
            let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            file.unwrap().set_modified(written).unwrap();
        }
        let kept = digests.map(|digest| store.read(&digest).is_ok());
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn old_code_of_forgotten_components_is_removed_whatever_the_engine() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1);
        let day = std::time::Duration::from_secs(24 * 3600);
        let [kept, fresh, old] = [b"k", b"f", b"o"].map(|name| Digest::of(name));
        let other_engine = directory.path().join(format!("{old}.0123.{SUFFIX}"));
        let not_ours = directory.path().join("README");
        for path in [
            &store.path(&kept),
            &store.path(&old),
            &other_engine,
            &not_ours,
        ] {
            fs::write(path, b"native").unwrap();
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        fs::write(store.path(&fresh), b"native").unwrap();
        let removed = store.forget(std::time::UNIX_EPOCH + day, &HashSet::from([kept]));
        assert_eq!(removed.unwrap(), 2);
        let left = [
            (store.path(&kept), true),
            (store.path(&fresh), true),
            (not_ours, true),
            (store.path(&old), false),
            (other_engine, false),
        ];
        for (path, expected) in left {
            assert_eq!(path.exists(), expected, "{}", path.display());
        }
    }

    #[test]
    fn what_a_crash_left_half_written_is_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = directory.path().join(".new-x");
        fs::write(&unfinished, b"half").unwrap();
        store(directory.path(), 1);
        assert!(!unfinished.exists());
    }

    #[test]
    fn compatibility_is_the_same_on_every_start() {
        let engine = || Engine::new(&code_config()).unwrap();
        assert_eq!(compatibility(&engine()), compatibility(&engine()));
        let other = Engine::new(code_config().epoch_interruption(false)).unwrap();
        assert_ne!(compatibility(&engine()), compatibility(&other));
    }
}
