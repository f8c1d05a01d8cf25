//! Fuzzes the readers of what the internet sends, for a bounded time.

use crate::checkout::Checkout;
use crate::step::Step;
use anyhow::Context;

/// The fuzz targets of `host/wechat/fuzz`; the seeds of each lie in `seeds/TARGET`.
const TARGETS: [&str; 2] = ["open_envelope", "parse_body"];

/// The toolchain that can instrument code.
const TOOLCHAIN: &str = "+nightly";

/// Runs each target for `seconds`.
pub(crate) fn run(checkout: &Checkout, seconds: u32) -> anyhow::Result<()> {
    if Step::new("cargo")
        .args(["fuzz", "--version"])
        .output()
        .is_none()
    {
        println!("Fuzzing needs cargo-fuzz; installing it.");
        Step::new("cargo")
            .args(["install", "--locked", "cargo-fuzz"])
            .run()?;
    }
    let crate_directory = checkout.root.join("host/wechat");
    for target in TARGETS {
        let corpus = crate_directory.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot make {}", corpus.display()))?;
        Step::new("cargo")
            .within(&crate_directory)
            // Set by the cargo that called us; it would override the nightly one.
            .without_env("RUSTUP_TOOLCHAIN")
            .without_env("CARGO")
            .args([TOOLCHAIN, "fuzz", "run", target])
            .args([corpus, crate_directory.join("fuzz/seeds").join(target)])
            .args([
                "--",
                &format!("-max_total_time={seconds}"),
                "-timeout=5",
                "-rss_limit_mb=1024",
            ])
            .run()
            .context("fuzzing needs a nightly Rust: rustup toolchain install nightly")?;
    }
    println!("Nothing found.");
    Ok(())
}
