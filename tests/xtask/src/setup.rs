//! Installs what the tests and the demo need.

use crate::debian;
use crate::step::Step;
use crate::toolchain::Source;

/// Servers that the end-to-end tests start on free ports. Debian's packages start their own too; those
/// are not used.
const SERVERS: [&str; 2] = ["redis-server", "postgresql"];

/// A Python that can make itself a place for the client library that talks with the host.
const PYTHON: &str = "python3-venv";

/// A Node and what installs its libraries.
const NODE: [&str; 2] = ["nodejs", "npm"];

/// Installs what is missing and says what it does.
pub(crate) fn run() -> anyhow::Result<()> {
    install_partners()?;
    Source::prepare(None)?;
    println!("Everything is there. Next: cargo xtask demo, cargo xtask test.");
    Ok(())
}

/// Installs what the end-to-end tests start: servers, a Python, and a Node.
pub(crate) fn install_partners() -> anyhow::Result<()> {
    debian::install(&SERVERS, "testing with PostgreSQL and Redis")?;
    if !answers("openssl", "version") {
        debian::install(&["openssl"], "testing with Redis over TLS")?;
    }
    if !has_venv() {
        debian::install(&[PYTHON], "testing with a client library in Python")?;
    }
    if !(answers("node", "--version") && answers("npm", "--version")) {
        debian::install(&NODE, "testing with client libraries for Node")?;
    }
    Ok(())
}

/// Whether a program is there and runs.
pub(crate) fn answers(program: &str, question: &str) -> bool {
    Step::new(program).args([question]).output().is_some()
}

/// Whether there is a Python, wherever it comes from, that makes virtual environments with pip.
fn has_venv() -> bool {
    Step::new("python3")
        .args(["-c", "import ensurepip, venv; print('yes')"])
        .output()
        .is_some_and(|said| said == "yes")
}
