//! Lets published WeChat libraries call WeChat through the host: those of the suite, and those whose
//! toolchains not every machine has.

use crate::checkout::Checkout;
use crate::setup::{self, answers};
use anyhow::ensure;

/// Every scenario of a library has this in its name.
const LIBRARIES: &str = "librar";

/// Runs the clients in Python, Node, Java and Go.
pub(crate) fn run(checkout: &Checkout) -> anyhow::Result<()> {
    for (program, question, package) in [
        ("go", "version", "golang"),
        ("mvn", "--version", "maven"),
        ("javac", "--version", "default-jdk-headless"),
    ] {
        ensure!(
            answers(program, question),
            "there is no {program}: sudo apt-get install {package}"
        );
    }
    setup::install_partners()?;
    let plugins = crate::plugins::build(checkout, None, None)?;
    checkout
        .cargo()
        .args(["build", "--workspace", "--bin", "wxhost"])
        .run()?;
    checkout
        .cargo()
        .args(["test", "--workspace", "--test", "e2e", "--", LIBRARIES])
        .env("WXHOST_INTEROP", "1")
        .env("WXHOST_BIN", checkout.host("debug"))
        .env("WXHOST_PLUGINS", plugins)
        .run()
}
