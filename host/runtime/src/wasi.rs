//! The part of WASI 0.2 that a plugin may use: clocks, random bytes, an empty environment, and what it
//! prints, which goes into its log.
//!
//! A file system is offered that holds no file and no directory: the C library of every WASI guest imports
//! it, used or not, and with nothing opened there is nothing to open. Sockets are offered in the same way,
//! for Python's interpreter: none can be made and no name is found. HTTP is not offered.

mod output;
mod polling;
mod sources;

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) use self::polling::Polling;
pub(crate) use self::sources::Draw;

use self::output::{Output, PrintStream};
use self::sources::{MAX_RANDOM_BYTES, Randomness, WallClock};
use crate::Capabilities;
use crate::bounds::HANDLES;
use crate::limits::CallLimits;
use crate::log::{LogLevel, PluginLog};

/// The interfaces that are offered, all of them of WASI 0.2.
pub(crate) const OFFERED: [&str; 27] = [
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/wall-clock",
    "clocks/monotonic-clock",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "filesystem/preopens",
    "filesystem/types",
    "sockets/network",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// The WASI state of one call.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    output: Arc<Mutex<Output>>,
}

impl Wasi {
    pub(crate) fn new(capabilities: &Arc<dyn Capabilities>) -> Self {
        let output = Arc::new(Mutex::new(Output::default()));
        let stream = |level| PrintStream {
            level,
            output: Arc::clone(&output),
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let mut seed = [0; 16];
        capabilities.random(&mut seed);
        let context = WasiCtx::builder()
            .stdout(stream(LogLevel::Info))
            .stderr(stream(LogLevel::Warn))
            .wall_clock(WallClock(Arc::clone(capabilities)))
            .secure_random(Randomness(Arc::clone(capabilities)))
            .insecure_random(Randomness(Arc::clone(capabilities)))
            .insecure_random_seed(u128::from_le_bytes(seed))
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        Self {
            context,
            table,
            output,
        }
    }

    /// Ends the lines that have no end.
    pub(crate) fn finish_output(&self) {
        self.output.lock().finish();
    }

    /// Moves whole lines into the plugin's log.
    pub(crate) fn move_output(&self, log: &mut PluginLog, limits: &CallLimits) {
        self.output.lock().move_to(log, limits);
    }

    /// What WASI's functions work on.
    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.context,
            table: &mut self.table,
        }
    }

    /// Where resources are kept.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

/// A store's data, as far as WASI needs it beyond its own.
pub(crate) trait Guest: WasiView + 'static {
    /// Where random bytes come from.
    fn draw(&mut self) -> Draw<'_>;
    /// What it may sleep on, and how long.
    fn polling(&mut self) -> Polling<'_>;
}

/// Where `wasi:io` keeps its resources.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// The same for what waits.
struct HasPolling;

impl HasData for HasPolling {
    type Data<'a> = Polling<'a>;
}

/// The same for random bytes.
struct HasDraw;

impl HasData for HasDraw {
    type Data<'a> = Draw<'a>;
}

/// Offers WASI, interface by interface.
pub(crate) fn add_to_linker<S: Guest>(l: &mut Linker<S>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<S, HasTable>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<S, HasPolling>(l, S::polling)?;
    io::streams::add_to_linker::<S, HasTable>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<S, WasiClocks>(l, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(l, S::clocks)?;
    random::random::add_to_linker::<S, HasDraw>(l, S::draw)?;
    random::insecure::add_to_linker::<S, HasDraw>(l, S::draw)?;
    random::insecure_seed::add_to_linker::<S, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::environment::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::exit::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::stdin::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::stdout::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::stderr::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::terminal_input::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::terminal_output::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::terminal_stdin::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::terminal_stdout::add_to_linker::<S, WasiCli>(l, S::cli)?;
    cli::terminal_stderr::add_to_linker::<S, WasiCli>(l, S::cli)?;
    filesystem::preopens::add_to_linker::<S, WasiFilesystem>(l, S::filesystem)?;
    filesystem::types::add_to_linker::<S, WasiFilesystem>(l, S::filesystem)?;
    add_sockets(l)
}

/// Offers sockets, of which none can be made (see [`Wasi::new`]).
fn add_sockets<S: Guest>(l: &mut Linker<S>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<S, WasiSockets>(l, &options, S::sockets)?;
    sockets::instance_network::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    sockets::tcp::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    sockets::udp::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    sockets::udp_create_socket::add_to_linker::<S, WasiSockets>(l, S::sockets)?;
    Ok(())
}
