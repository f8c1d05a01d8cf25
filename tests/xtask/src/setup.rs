//! Installs what the tests and the demo need.

use crate::debian;
use crate::toolchain::Source;

/// Servers that the end-to-end tests start on free ports. Debian's packages start their own too; those
/// are not used.
const SERVERS: [&str; 2] = ["redis-server", "postgresql"];

/// Installs what is missing and says what it does.
pub(crate) fn run() -> anyhow::Result<()> {
    install_servers()?;
    Source::prepare(None)?;
    println!("Everything is there. Next: cargo xtask demo, cargo xtask test.");
    Ok(())
}

/// Installs the servers that the end-to-end tests start.
pub(crate) fn install_servers() -> anyhow::Result<()> {
    debian::install(&SERVERS, "testing with PostgreSQL and Redis")
}
