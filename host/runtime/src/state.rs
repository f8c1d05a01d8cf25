//! What a store holds for one call.

use std::sync::Arc;

use tokio::time::Instant;

use crate::Capabilities;
use crate::limits::{CallLimits, CpuMeter, MemoryMeter, ReadMeter};
use crate::log::{LogLevel, PluginLog};
use crate::wasi::Wasi;

/// The data of a store: the capabilities of one call, its meters and its log.
pub(crate) struct CallState {
    pub(crate) capabilities: Arc<dyn Capabilities>,
    pub(crate) limits: CallLimits,
    pub(crate) memory: MemoryMeter,
    pub(crate) cpu: CpuMeter,
    pub(crate) reads: ReadMeter,
    pub(crate) log: PluginLog,
    /// Made when a guest first uses WASI; a lean guest never pays for it.
    pub(crate) wasi: Option<Box<Wasi>>,
}

impl CallState {
    pub(crate) fn new(
        capabilities: Arc<dyn Capabilities>,
        limits: CallLimits,
        deadline: Instant,
    ) -> Self {
        Self {
            capabilities,
            limits,
            memory: MemoryMeter::new(limits.memory_bytes),
            cpu: CpuMeter::new(limits.cpu_ms, deadline),
            reads: ReadMeter::default(),
            log: PluginLog::default(),
            wasi: None,
        }
    }

    /// Adds a line to the plugin's log, after what it printed before.
    pub(crate) fn write_log(&mut self, level: LogLevel, text: String) {
        self.settle_output();
        self.log.push(level, text, &self.limits);
    }

    /// Takes the log, with all that was printed.
    pub(crate) fn take_log(&mut self) -> PluginLog {
        if let Some(wasi) = &self.wasi {
            wasi.finish_output();
        }
        self.settle_output();
        std::mem::take(&mut self.log)
    }

    fn settle_output(&mut self) {
        if let Some(wasi) = &self.wasi {
            wasi.move_output(&mut self.log, &self.limits);
        }
    }
}
