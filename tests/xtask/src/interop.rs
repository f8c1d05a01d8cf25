//! What needs toolchains that not every machine has: published WeChat libraries of four languages that
//! call WeChat through the host, a browser, and plugins of other languages as their own tools build them.

use crate::checkout::Checkout;
use crate::setup::{self, answers};
use crate::step::Step;
use anyhow::ensure;

/// Every scenario of a library has this in its name.
const LIBRARIES: &str = "librar";

/// Every scenario of a browser has this in its name.
const BROWSER: &str = "a_browser";

/// The scenario of the plugins.
const LANGUAGES: &str = "other_languages";

/// Runs the clients in Python, Node, Java and Go, walks through pages in a browser, and deploys plugins in Go,
/// JavaScript and Python.
pub(crate) fn run(checkout: &Checkout) -> anyhow::Result<()> {
    for (program, question, package) in [
        ("go", "version", "golang"),
        ("mvn", "--version", "maven"),
        ("javac", "--version", "default-jdk-headless"),
        ("chromium", "--version", "chromium"),
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
    let languages = checkout.target.join("languages");
    Step::new("sh")
        .args(["tests/languages/build.sh".as_ref(), languages.as_os_str()])
        .within(&checkout.root)
        .run()?;
    for scenarios in [LIBRARIES, BROWSER, LANGUAGES] {
        checkout
            .cargo()
            .args(["test", "--workspace", "--test", "e2e", "--", scenarios])
            .env("WXHOST_INTEROP", "1")
            .env("WXHOST_BIN", checkout.host("debug"))
            .env("WXHOST_PLUGINS", &plugins)
            .env("WXHOST_LANGUAGES", &languages)
            .run()?;
    }
    Ok(())
}
