//! The project's chores, as `cargo xtask VERB`: one place that knows in which order things are built.

#![expect(clippy::print_stdout, reason = "it talks to the person who called it")]

mod bench;
mod checkout;
mod debian;
mod demo;
mod fuzz;
mod interop;
mod plugins;
mod servers;
mod setup;
mod step;
mod suite;
mod toolchain;

use checkout::Checkout;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use toolchain::Source;

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show wxhost at work: builds it, starts it with a pretend WeChat, and prints each exchange.
    Demo {
        /// Stop after the exchanges; succeed only if every one came out right.
        #[arg(long)]
        once: bool,
    },
    /// Check everything: format, lints, docs, and all tests against servers that they start themselves.
    Test {
        /// Passed on to the tests: a name to look for, or `-- --nocapture`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build the sample plugins as WebAssembly components.
    Plugins {
        /// Where they go; `plugins` in the target directory by default.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// What to build them with; by default the first that this machine has or can get.
        #[arg(long, value_enum)]
        toolchain: Option<Source>,
    },
    /// Measure.
    Bench {
        /// Passed on to the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Fuzz the readers of what the internet sends.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u32,
    },
    /// Let published client libraries (Python, Node, Java, Go) call WeChat through the host, and deploy plugins
    /// in Go, JavaScript and Python.
    Interop,
    /// Install what tests and demo need and this machine lacks.
    Setup,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let checkout = Checkout::find()?;
    match verb {
        Verb::Demo { once } => demo::run(&checkout, once),
        Verb::Test { arguments } => suite::run(&checkout, &arguments),
        Verb::Plugins { out, toolchain } => plugins::build(&checkout, out, toolchain).map(drop),
        Verb::Bench { arguments } => bench::run(&checkout, &arguments),
        Verb::Fuzz { seconds } => fuzz::run(&checkout, seconds),
        Verb::Interop => interop::run(&checkout),
        Verb::Setup => setup::run(),
    }
}
