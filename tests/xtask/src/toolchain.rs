//! What builds plugins: a Rust that can make WebAssembly.

use crate::checkout::Checkout;
use crate::debian;
use crate::step::Step;
use anyhow::bail;
use clap::ValueEnum;
use std::env;
use std::path::Path;
use std::time::Duration;

/// What plugins are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take to fetch the target: a minute is ample for 20 MB, and without a network
/// there is another way.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

/// Debian's Rust with the sources of the standard library, and a linker for WebAssembly.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "cargo-web", "lld"];

/// Where a toolchain comes from, in the order in which they are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Source {
    /// The Rust that called us, if it has the target.
    Installed,
    /// The same after `rustup target add`.
    Rustup,
    /// Debian's packages, which build the standard library from source.
    Debian,
}

impl Source {
    /// Makes a toolchain ready and says which; with `wanted`, that one or none.
    pub(crate) fn prepare(wanted: Option<Self>) -> anyhow::Result<Self> {
        let sources = wanted.map_or(vec![Self::Installed, Self::Rustup, Self::Debian], |one| {
            vec![one]
        });
        let mut obstacles = Vec::new();
        for source in sources {
            match source.make_ready() {
                Ok(()) => {
                    println!("Plugins are built with {}.", source.describe());
                    return Ok(source);
                }
                Err(obstacle) => obstacles.push(format!("- {obstacle:#}")),
            }
        }
        bail!(
            "no Rust for {TARGET}:\n{}\nRun `rustup target add {TARGET}`, or on Debian `sudo apt-get \
             install {}`.",
            obstacles.join("\n"),
            DEBIAN_PACKAGES.join(" ")
        )
    }

    /// The cargo of this toolchain with what it needs to be told; the verb comes next.
    pub(crate) fn cargo(self, checkout: &Checkout) -> Step {
        match self {
            Self::Installed | Self::Rustup => checkout.cargo(),
            Self::Debian => Step::new("/usr/bin/cargo")
                .within(&checkout.root)
                // The libraries of the toolchain that called us are of another version.
                .without_env("LD_LIBRARY_PATH")
                .env("RUSTC", "/usr/bin/rustc")
                // `-Z build-std` is not stable.
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["--config", &format!("target.{TARGET}.linker='wasm-ld'")])
                .args([
                    "--config",
                    &format!("target.{TARGET}.rustflags=['-Clinker-flavor=wasm-ld']"),
                ])
                .args(["-Z", "build-std=std,panic_abort"]),
        }
    }

    /// A name for the directory of what it builds, so that two toolchains don't undo each other's work.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Installed | Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Installed => "the Rust at hand",
            Self::Rustup => "the Rust at hand, after `rustup target add`",
            Self::Debian => "Debian's Rust, its standard library from source",
        }
    }

    fn make_ready(self) -> anyhow::Result<()> {
        match self {
            Self::Installed if has_target() => Ok(()),
            Self::Installed => bail!("the Rust at hand lacks the target"),
            Self::Rustup => {
                let added = Step::new("rustup")
                    .args(["target", "add", TARGET])
                    .run_for(RUSTUP_LIMIT)?;
                if added && has_target() {
                    Ok(())
                } else {
                    bail!("rustup could not add it");
                }
            }
            Self::Debian => debian::install(&DEBIAN_PACKAGES, "building plugins"),
        }
    }
}

/// Whether the Rust that called us can build for the target.
fn has_target() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = Step::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    library.is_some_and(|library| Path::new(&library).is_dir())
}
