//! What a guest prints, by lines, until its log takes it over.

use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, sink};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::limits::CallLimits;
use crate::log::{LogLevel, PluginLog};

/// What a guest may print before its log takes it over.
const OUTPUT_BYTES: usize = 64 << 10;

/// What a guest printed.
#[derive(Default)]
pub(super) struct Output {
    lines: Vec<(LogLevel, String)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    bytes: usize,
    dropped: u64,
}

impl Output {
    /// Ends the lines that have no end.
    pub(super) fn finish(&mut self) {
        self.end_line(LogLevel::Info);
        self.end_line(LogLevel::Warn);
    }

    /// Moves whole lines into the plugin's log.
    pub(super) fn move_to(&mut self, log: &mut PluginLog, limits: &CallLimits) {
        for (level, line) in self.lines.drain(..) {
            log.push(level, line, limits);
        }
        self.bytes = self.stdout.len() + self.stderr.len();
        log.drop_lines(mem::take(&mut self.dropped));
    }

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
pub(super) struct PrintStream {
    pub(super) level: LogLevel,
    pub(super) output: Arc<Mutex<Output>>,
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
