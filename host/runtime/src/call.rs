//! One call: a permit, a fresh store and instance, a deadline, a verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::Capabilities;
use crate::bounds::HANDLES;
use crate::failure::{Failure, FailureCode};
use crate::limits::CallLimits;
use crate::log::PluginLog;
use crate::permits::TenantPermits;
use crate::places::{Overloaded, Places};
use crate::plugin::{Export, HandlerFunction};
use crate::state::CallState;

/// What a call is made with, beside plugin and event.
pub struct Call {
    /// The tenant's share of the host.
    pub tenant: Arc<TenantPermits>,
    /// What the plugin may see.
    pub capabilities: Arc<dyn Capabilities>,
    /// What it may use. Clamped to what the host can bear.
    pub limits: CallLimits,
    /// When an answer is of no use any more.
    pub deadline: Instant,
}

/// What came of a call; `T` is what the handler gives back.
#[derive(Debug)]
pub struct CallReport<T> {
    /// The plugin's outcome, or why there is none.
    pub result: Result<T, Failure>,
    /// What the plugin wrote.
    pub log: PluginLog,
    /// How long the call waited for its turn.
    pub queued: Duration,
    /// How long it ran, waiting for reads included.
    pub ran: Duration,
    /// The most memory that the plugin held, in bytes.
    pub memory_peak: usize,
}

impl<T> CallReport<T> {
    fn not_run(failure: Failure, queued: Duration) -> Self {
        Self {
            result: Err(failure),
            log: PluginLog::default(),
            queued,
            ran: Duration::ZERO,
            memory_peak: 0,
        }
    }
}

/// Lets a plugin handle something when it is this call's turn. `judge` measures what it gave back.
pub(crate) async fn call<F: HandlerFunction, T>(
    (host, queue_wait): (&Places, Duration),
    export: Option<&Export<F>>,
    (call, params): (Call, F::Params<'_>),
    judge: impl FnOnce(F::Return, &CallLimits) -> Result<T, Failure>,
) -> CallReport<T> {
    let Some(export) = export else {
        let message = format!("the plugin exports no {}", F::HANDLER.interface());
        let failure = Failure::new(FailureCode::NoHandler, &message);
        return CallReport::not_run(failure, Duration::ZERO);
    };
    let arrived = Instant::now();
    let until = call.deadline.min(arrived + queue_wait);
    let tenant = Arc::clone(&call.tenant);
    let _tenant = match tenant.gate().enter(until).await {
        Ok(permit) => permit,
        Err(Overloaded) => return overloaded("the tenant runs as many calls as it may", arrived),
    };
    let _host = match host.enter(tenant.share(), until).await {
        Ok(permit) => permit,
        Err(Overloaded) => return overloaded("the host runs as many calls as it can", arrived),
    };
    let started = Instant::now();
    let run = run(export, call, params).await;
    CallReport {
        result: run.result.and_then(|given| judge(given, &run.limits)),
        log: run.log,
        queued: started - arrived,
        ran: started.elapsed(),
        memory_peak: run.memory_peak,
    }
}

fn overloaded<T>(message: &str, arrived: Instant) -> CallReport<T> {
    let failure = Failure::new(FailureCode::Overloaded, message);
    CallReport::not_run(failure, arrived.elapsed())
}

/// What a handler gave back, not yet judged.
struct Run<R> {
    result: Result<R, Failure>,
    limits: CallLimits,
    log: PluginLog,
    memory_peak: usize,
}

/// Runs a handler in a store of its own.
async fn run<F: HandlerFunction>(
    export: &Export<F>,
    call: Call,
    params: F::Params<'_>,
) -> Run<F::Return> {
    let limits = call.limits.within(&CallLimits::MOST);
    let mut state = CallState::new(call.capabilities, limits, call.deadline);
    let began = state.memory.start(export.instance_bytes());
    let cpu = Arc::clone(&state.cpu);
    let mut store = Store::new(export.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(on_tick);
    store.set_hostcall_fuel(limits.hostcall_fuel());
    store.set_max_component_handles(HANDLES);

    // The ticks stop a guest that computes, the timeout one that waits for the host.
    let running = async {
        began?;
        cpu.charge(export.call(&mut store, params)).await
    };
    let result = match timeout_at(call.deadline, running).await {
        // What was made and read without a tick counts too.
        Ok(Ok(value)) => cpu.check().map(|()| value).map_err(Failure::stopped),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_elapsed) => Err(Failure::deadline()),
    };
    let state = store.data_mut();
    Run {
        result,
        limits,
        log: state.take_log(),
        memory_peak: state.memory.peak(),
    }
}

/// A tick passed while the guest was running: stop it, or let others have a turn, and as many more as it
/// has run over. A copy within a memory, or the making of an instance, is not interrupted, however long it
/// takes (see [`MAX_MEMORY_BYTES`](crate::bounds::MAX_MEMORY_BYTES)).
fn on_tick(mut store: StoreContextMut<'_, CallState>) -> wasmtime::Result<UpdateDeadline> {
    let ticks = store.data_mut().cpu.tick()?;
    let turns = Box::pin(async move {
        for _ in 0..ticks {
            // Tokio's own yield goes to the back of the queue; wasmtime's would be polled again at once.
            tokio::task::yield_now().await;
        }
    });
    Ok(UpdateDeadline::YieldCustom(1, turns))
}

#[cfg(test)]
mod tests;
