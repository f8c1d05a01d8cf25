//! Packages of Debian and its children.

use crate::step::Step;
use anyhow::{Context, bail};
use std::path::Path;

/// Those of `packages` that are not installed.
pub(crate) fn missing<'p>(packages: &[&'p str]) -> Vec<&'p str> {
    let installed = |package: &str| {
        Step::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .output()
            .is_some_and(|status| status == "installed")
    };
    packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect()
}

/// Installs those of `packages` that are missing, and says so. `purpose` tells what they are for.
pub(crate) fn install(packages: &[&str], purpose: &str) -> anyhow::Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install {}", missing.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "{purpose} needs {}, and this machine has no apt-get",
            missing.join(", ")
        );
    }
    println!(
        "{purpose} needs {}; installing with apt-get.",
        missing.join(", ")
    );
    let fetched = apt_get(&["update"]).run();
    fetched
        .and_then(|()| {
            apt_get(&["install", "--yes", "--no-install-recommends"])
                .args(missing)
                .run()
        })
        .with_context(|| format!("{purpose}: run `{by_hand}` yourself, then try again"))
}

/// apt-get as root: directly if we are, else through sudo if that asks for nothing.
fn apt_get(arguments: &[&str]) -> Step {
    let root = Step::new("id")
        .args(["-u"])
        .output()
        .is_some_and(|id| id == "0");
    let step = if root {
        Step::new("apt-get")
    } else {
        Step::new("sudo").args([
            "--non-interactive",
            "--preserve-env=DEBIAN_FRONTEND",
            "apt-get",
        ])
    };
    step.args(["--quiet"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
}
