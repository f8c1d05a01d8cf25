//! What a store holds for one call.

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::Capabilities;
use crate::cpu::CpuMeter;
use crate::limits::{CallLimits, MemoryMeter, ReadMeter, SleepMeter};
use crate::log::{LogLevel, PluginLog};
use crate::wasi::{Draw, Guest, Polling, Wasi};

/// The data of a store: the capabilities of one call, its meters and its log.
pub(crate) struct CallState {
    pub(crate) capabilities: Arc<dyn Capabilities>,
    pub(crate) limits: CallLimits,
    pub(crate) memory: MemoryMeter,
    /// Shared with whoever polls the call.
    pub(crate) cpu: Arc<CpuMeter>,
    pub(crate) sleep: SleepMeter,
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
            cpu: Arc::new(CpuMeter::new(limits.cpu_ms, deadline)),
            sleep: SleepMeter::default(),
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

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let capabilities = &self.capabilities;
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi::new(capabilities)));
        wasi.view()
    }
}

impl Guest for CallState {
    fn draw(&mut self) -> Draw<'_> {
        Draw(&*self.capabilities)
    }

    fn polling(&mut self) -> Polling<'_> {
        let capabilities = &self.capabilities;
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi::new(capabilities)));
        Polling {
            table: wasi.table(),
            sleep: &mut self.sleep,
        }
    }
}
