//! Measures; tests/benches/README.md tells how to read what comes out.

use crate::checkout::Checkout;
use crate::{plugins, setup};
use std::ffi::OsString;

/// Builds everything with optimisations and runs the benchmarks. `arguments` go to them.
pub(crate) fn run(checkout: &Checkout, arguments: &[OsString]) -> anyhow::Result<()> {
    setup::install_partners()?;
    let plugins = plugins::build(checkout, None, None)?;
    // Program and benchmark in one command: one set of features, so that nothing large is built twice.
    checkout
        .cargo()
        .args(["build", "--release", "--workspace"])
        .args(["--bin", "wxhost", "--bench", "lanes"])
        .run()?;
    checkout
        .cargo()
        .args(["bench", "--workspace", "--bench", "lanes", "--"])
        .args(arguments)
        .env("WXHOST_BIN", checkout.host("release"))
        .env("WXHOST_PLUGINS", plugins)
        .run()
}
