//! The part of WASI 0.2 that a plugin may use: clocks, random bytes, an empty environment, and what it
//! prints, which goes into its log.
//!
//! A file system is offered that holds no file and no directory: the C library of every WASI guest imports
//! it, used or not, and with nothing opened there is nothing to open. Sockets and HTTP are not offered.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand_core::TryRng;
use tokio::io::{AsyncWrite, sink};
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxView, WasiView};

use crate::Capabilities;
use crate::limits::{CallLimits, HANDLES};
use crate::log::{LogLevel, PluginLog};
use crate::state::CallState;

/// The interfaces that are offered, all of them of WASI 0.2.
pub(crate) const OFFERED: [&str; 20] = [
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
];

/// The most random bytes of one call.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// What a guest may print before its log takes it over.
const OUTPUT_BYTES: usize = 64 << 10;

/// The WASI state of one call.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    output: Arc<Mutex<Output>>,
}

impl Wasi {
    fn new(capabilities: &Arc<dyn Capabilities>) -> Self {
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
        let mut output = self.output.lock();
        output.end_line(LogLevel::Info);
        output.end_line(LogLevel::Warn);
    }

    /// Moves whole lines into the plugin's log.
    pub(crate) fn move_output(&self, log: &mut PluginLog, limits: &CallLimits) {
        let mut output = self.output.lock();
        for (level, line) in output.lines.drain(..) {
            log.push(level, line, limits);
        }
        output.bytes = output.stdout.len() + output.stderr.len();
        log.drop_lines(mem::take(&mut output.dropped));
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let capabilities = &self.capabilities;
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi::new(capabilities)));
        WasiCtxView {
            ctx: &mut wasi.context,
            table: &mut wasi.table,
        }
    }
}

/// Where `wasi:io` keeps its resources.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Offers WASI, interface by interface.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    type S = CallState;
    let l = linker;
    io::error::add_to_linker::<S, HasTable>(l, |state| state.ctx().table)?;
    io::poll::add_to_linker::<S, HasTable>(l, |state| state.ctx().table)?;
    io::streams::add_to_linker::<S, HasTable>(l, |state| state.ctx().table)?;
    clocks::wall_clock::add_to_linker::<S, WasiClocks>(l, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(l, S::clocks)?;
    random::random::add_to_linker::<S, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure::add_to_linker::<S, WasiRandom>(l, |state| state.ctx().ctx.random())?;
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
    Ok(())
}

/// What a guest printed, by lines, until its log takes it over.
#[derive(Default)]
struct Output {
    lines: Vec<(LogLevel, String)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    bytes: usize,
    dropped: u64,
}

impl Output {
    fn partial(&mut self, level: LogLevel) -> &mut Vec<u8> {
        match level {
            LogLevel::Warn => &mut self.stderr,
            _ => &mut self.stdout,
        }
    }

    fn print(&mut self, level: LogLevel, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            // An empty line costs memory too.
            let cost = text.len() + usize::from(ends);
            if self.bytes + cost > OUTPUT_BYTES {
                self.dropped = self.dropped.saturating_add(u64::from(ends));
                continue;
            }
            self.bytes += cost;
            self.partial(level).extend_from_slice(text);
            if ends {
                let line = mem::take(self.partial(level));
                self.lines
                    .push((level, String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    fn end_line(&mut self, level: LogLevel) {
        if !self.partial(level).is_empty() {
            let line = mem::take(self.partial(level));
            self.lines
                .push((level, String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

/// Standard output or standard error.
struct PrintStream {
    level: LogLevel,
    output: Arc<Mutex<Output>>,
}

impl IsTerminal for PrintStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PrintStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // WASI 0.3 would ask for this; it is not offered.
        Box::new(sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(PrintStream {
            level: self.level,
            output: Arc::clone(&self.output),
        })
    }
}

#[async_trait]
impl Pollable for PrintStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for PrintStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.lock().print(self.level, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // Always the same: a guest that printed too much loses the rest, not its life.
        Ok(OUTPUT_BYTES)
    }
}

/// WASI's clock is the host's.
struct WallClock(Arc<dyn Capabilities>);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now_ms())
    }
}

/// WASI's random bytes are the host's.
struct Randomness(Arc<dyn Capabilities>);

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.random(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.random(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.random(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_becomes_lines_in_order() {
        let mut output = Output::default();
        output.print(LogLevel::Info, b"one\ntw");
        output.print(LogLevel::Warn, b"oops\n");
        output.print(LogLevel::Info, b"o\n\nrest");
        output.end_line(LogLevel::Info);
        let lines: Vec<_> = output.lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines, ["one", "oops", "two", "", "rest"]);
    }

    #[test]
    fn a_flood_of_empty_lines_is_bounded() {
        let mut output = Output::default();
        for _ in 0..10 {
            output.print(LogLevel::Info, &vec![b'\n'; 64 << 10]);
        }
        assert_eq!(output.lines.len(), OUTPUT_BYTES);
        assert_eq!(output.dropped, 9 * (64 << 10));
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut output = Output::default();
        for _ in 0..10 {
            output.print(LogLevel::Info, &vec![b'x'; 60 << 10]);
        }
        assert_eq!(output.stdout.len(), 60 << 10);
    }
}
