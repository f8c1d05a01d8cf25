//! What an event costs: one call, the whole lane, effects that last, pushes, a call of WeChat's API, a cold
//! start, accounts that come by a scan, and the memory of many plugins.
//!
//! `cargo bench -p wxhost-tests --bench lanes -- [call] [lane] [effects] [pushes] [tokens] [cold] [scan] [memory]`; all without a name.
//! Prints Markdown tables; README.md beside this file has the last ones and says what they mean.
#![expect(clippy::print_stdout, reason = "tables are what this program is for")]

mod call;
mod cold;
mod effects;
mod floor;
mod lane;
mod load;
mod memory;
mod native;
mod pushes;
mod scan;
mod settings;
mod table;
mod tokens;

use anyhow::{Result, bail};

/// The host's own allocator, so that the native handler has no other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What there is to measure, in this order.
const ALL: [&str; 8] = [
    "call", "lane", "effects", "pushes", "tokens", "cold", "scan", "memory",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds `--bench`.
    let wanted: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "--bench")
        .collect();
    match wanted.as_slice() {
        ["native-handler", port, accounts] => native::serve(port.parse()?, accounts.as_ref()),
        [] => ALL.into_iter().try_for_each(measure),
        wanted => wanted.iter().copied().try_for_each(measure),
    }
}

fn measure(what: &str) -> Result<()> {
    println!("## {what}\n");
    match what {
        "call" => call::measure(),
        "lane" => lane::measure(),
        "effects" => effects::measure(),
        "pushes" => pushes::measure(),
        "tokens" => tokens::measure(),
        "cold" => cold::measure(),
        "scan" => scan::measure(),
        "memory" => memory::measure(),
        _ => bail!(
            "there is no benchmark {what:?}: there are {}",
            ALL.join(", ")
        ),
    }
}
