//! Checks everything, the quick things first.

use crate::checkout::Checkout;
use crate::servers::Servers;
use crate::{plugins, setup};
use std::ffi::OsString;

/// Format, lints, docs, then every test. `arguments` go to `cargo test`.
pub(crate) fn run(checkout: &Checkout, arguments: &[OsString]) -> anyhow::Result<()> {
    checkout.cargo().args(["fmt", "--all", "--check"]).run()?;
    setup::install_partners()?;
    let plugins = plugins::build(checkout, None, None)?;
    checkout
        .cargo()
        .args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])
        .run()?;
    checkout
        .cargo()
        .args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "--deny warnings")
        .run()?;
    // The end-to-end tests start servers of their own; these are for the unit tests.
    let servers = Servers::start()?;
    // This builds the program too, since it has tests of its own: one set of features for everything,
    // so that nothing large is built twice.
    checkout
        .cargo()
        .args(["test", "--workspace"])
        .args(arguments)
        .env("WXHOST_BIN", checkout.host("debug"))
        .env("WXHOST_PLUGINS", plugins)
        .env("WXHOST_TEST_POSTGRES_URL", servers.postgres_url())
        .env("WXHOST_TEST_REDIS_URL", servers.redis_url())
        .run()?;
    println!("All is well.");
    Ok(())
}
