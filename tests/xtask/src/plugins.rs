//! Builds the sample plugins: Rust → core modules → components.

use crate::checkout::Checkout;
use crate::toolchain::{Source, TARGET};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use wit_component::ComponentEncoder;

/// The plugins, each the crate `wxhost-plugin-NAME`.
pub(crate) const NAMES: [&str; 6] = ["hello", "desk", "orders", "members", "rogue", "shop"];

/// The profile in the workspace's manifest that they are built with.
const PROFILE: &str = "plugin";

/// Builds all plugins into `out`; the directory where they are.
pub(crate) fn build(
    checkout: &Checkout,
    out: Option<PathBuf>,
    toolchain: Option<Source>,
) -> anyhow::Result<PathBuf> {
    let out = out.unwrap_or_else(|| checkout.target.join("plugins"));
    let toolchain = Source::prepare(toolchain)?;
    let built = checkout
        .target
        .join("plugins-build")
        .join(toolchain.directory());

    let mut cargo = toolchain
        .cargo(checkout)
        .args([
            "build",
            "--quiet",
            "--lib",
            "--profile",
            PROFILE,
            "--target",
            TARGET,
        ])
        // Flags for the host are not meant for the guest, and would hide those in `.cargo/config.toml`.
        .without_env("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &built);
    for name in NAMES {
        cargo = cargo.args(["--package", &format!("wxhost-plugin-{name}")]);
    }
    cargo.run()?;

    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for name in NAMES {
        let module = built
            .join(TARGET)
            .join(PROFILE)
            .join(format!("wxhost_plugin_{name}.wasm"));
        let component = out.join(format!("{name}.wasm"));
        let size = write_component(&module, &component)
            .with_context(|| format!("cannot make a component of {}", module.display()))?;
        println!("{} ({size} bytes)", component.display());
    }
    Ok(out)
}

/// Turns a core module that carries its component type into a component; its size in bytes. The file is
/// touched only if it changes: what watches it is not woken for nothing.
fn write_component(module: &Path, component: &Path) -> anyhow::Result<usize> {
    let module = fs::read(module)?;
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .encode()?;
    if fs::read(component).ok().as_ref() != Some(&encoded) {
        let partial = component.with_extension("wasm.partial");
        fs::write(&partial, &encoded)?;
        fs::rename(&partial, component)?;
    }
    Ok(encoded.len())
}
