//! Where the sources lie and where what is built goes.

use crate::step::Step;
use anyhow::Context;
use std::env;
use std::path::{self, Path, PathBuf};

/// A checkout of the repository with its target directory.
pub(crate) struct Checkout {
    /// The directory of the workspace.
    pub(crate) root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the root.
    pub(crate) target: PathBuf,
}

impl Checkout {
    /// The checkout that this crate belongs to.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .ancestors()
            .nth(2)
            .context("this crate lies two directories below the root")?
            .to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => path::absolute(target).context("CARGO_TARGET_DIR is no path")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A step that runs the cargo that called us, in the root.
    pub(crate) fn cargo(&self) -> Step {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Step::new(cargo)
            .named("cargo")
            .within(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
    }

    /// The host's binary, once it is built with the profile whose directory is named.
    pub(crate) fn host(&self, profile: impl AsRef<Path>) -> PathBuf {
        self.target
            .join(profile)
            .join(format!("wxhost{}", env::consts::EXE_SUFFIX))
    }
}
