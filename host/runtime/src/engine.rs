//! The one engine: every setting of the sandbox with its reason, and the clock that interrupts guests.

use std::num::NonZeroUsize;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::bounds::{
    CORE_INSTANCES_PER_COMPONENT, MAX_MEMORY_BYTES, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS,
    TABLES_PER_COMPONENT, TICK,
};

/// What a component's instance may take beside memories and tables.
const INSTANCE_BYTES: usize = 4 << 20;

/// What stays mapped of a memory after a call and is zeroed by hand: cheaper than to give it back and
/// fault it in again. The SDK's allocator stays within this for an ordinary event.
const MEMORY_KEEP_RESIDENT: usize = 256 << 10;
/// The same for a table.
const TABLE_KEEP_RESIDENT: usize = 64 << 10;
/// The same for a stack.
const STACK_KEEP_RESIDENT: usize = 32 << 10;

/// What a guest's own frames may take.
const WASM_STACK_BYTES: usize = 512 << 10;
/// A whole stack: what the guest leaves of it is for host functions.
const STACK_BYTES: usize = 2 << 20;

/// Frames in a backtrace.
const BACKTRACE_FRAMES: usize = 20;

/// The engine's settings: what code is made of, and a pool as large as the calls that may run at once.
/// Public so that a benchmark can measure the floor: the same engine without anything of ours.
pub fn engine_config(max_concurrent_calls: u32) -> Config {
    let mut config = code_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
        max_concurrent_calls,
    )));
    config
}

/// The settings that decide what native code is. Two engines that agree on these can exchange it; the
/// compiler's child process uses them without a pool, which would not fit into its memory limit.
pub(crate) fn code_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // No guest of ours needs these, and each is more to attack.
        .wasm_memory64(false)
        // A composed component's parts have a memory each, and the adapters between them see both.
        .wasm_multi_memory(true)
        // Without async functions in the contract this is only cost: 0.3 against 0.8 µs a call.
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        // The same event gives the same answer on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(STACK_BYTES)
        // A small guest's data is copied, not mapped. For one plugin there is no difference that could be
        // measured; with many in one pool a slot that changes hands needs no `mmap` and no TLB flush.
        .memory_init_cow(false)
        // Backtraces go by frame pointers; registering thousands of modules would take quadratic time.
        .native_unwind_info(false)
        // By name and offset: to parse a hostile plugin's DWARF would be more to attack.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES))
        .generate_address_map(true);
    config
}

/// Room for `calls` at once, for any component that `check` lets in: a call that holds its permit never
/// finds the pool empty.
fn pool(calls: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_stacks(calls)
        .total_memories(calls.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(calls.saturating_mul(TABLES_PER_COMPONENT))
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .max_memory_size(MAX_MEMORY_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(calls)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT);
    pool
}

/// Advances the engine's epoch from a thread of its own: a task could be starved by the very guest that
/// it is to interrupt. Stops when dropped.
pub(crate) struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts to tick.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let engine = engine.weak();
        let thread = thread::Builder::new()
            .name("wxhost-epoch".into())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // The thread holds nothing; if it panicked there is nothing to be done about it here.
            let _ = thread.join();
        }
    }
}
