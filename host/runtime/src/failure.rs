//! What went wrong with a call: a stable code for records and metrics, a sentence for the tenant, and
//! where in the plugin it happened.

use std::fmt;

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::backtrace::frames;
use crate::bounds::HANDLES;
use crate::limits::Stop;
use crate::log::cut;
use crate::{Fault, PluginError};

/// The longest message of a failure, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub code: FailureCode,
    /// What happened, for the tenant.
    pub message: String,
    /// The plugin's frames, innermost first, where it was interrupted.
    pub backtrace: Option<String>,
}

/// The kinds of failure. Their text is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureCode {
    /// Out of CPU time, or past the deadline.
    Timeout,
    /// More memory than allowed.
    MemoryLimit,
    /// Recursion without end.
    StackOverflow,
    /// Any other trap: a panic, an access out of bounds, an exit.
    Trap,
    /// Beyond one of the host's other limits, which is named.
    HostLimit(&'static str),
    /// The plugin did not run: too many calls at once.
    Overloaded,
    /// The plugin does not handle such events.
    NoHandler,
    /// The plugin said so itself.
    PluginError(Fault),
}

impl FailureCode {
    /// The code without what varies: `host-limit` for all of them.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::MemoryLimit => "memory-limit",
            Self::StackOverflow => "stack-overflow",
            Self::Trap => "trap",
            Self::HostLimit(_) => "host-limit",
            Self::Overloaded => "overloaded",
            Self::NoHandler => "no-handler",
            Self::PluginError(_) => "plugin-error",
        }
    }

    /// The whole code, such as `timeout` or `host-limit:kv-reads`.
    pub fn as_str(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Self::HostLimit(which) => format!("host-limit:{which}").into(),
            code => code.class().into(),
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

impl Failure {
    pub(crate) fn new(code: FailureCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        cut(&mut message, MAX_MESSAGE_BYTES);
        Self {
            code,
            message,
            backtrace: None,
        }
    }

    /// What a host limit that was found after the call comes to.
    pub(crate) fn stopped(stop: Stop) -> Self {
        let code = match stop {
            Stop::MemoryLimit { .. } => FailureCode::MemoryLimit,
            Stop::CpuSpent { .. } | Stop::DeadlinePassed => FailureCode::Timeout,
            Stop::HostLimit { which, .. } => FailureCode::HostLimit(which),
        };
        Self::new(code, stop.to_string())
    }

    /// The deadline passed while the plugin waited for the host.
    pub(crate) fn deadline() -> Self {
        Self::stopped(Stop::DeadlinePassed)
    }

    /// What the plugin itself said.
    pub(crate) fn plugin(error: PluginError) -> Self {
        Self::new(FailureCode::PluginError(error.fault), error.message)
    }

    /// What wasmtime's error means.
    pub(crate) fn of(error: &wasmtime::Error) -> Self {
        let mut failure = if let Some(stop) = error.downcast_ref::<Stop>() {
            Self::stopped(*stop)
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            Self::trap(*trap)
        } else if let Some(I32Exit(status)) = error.downcast_ref::<I32Exit>() {
            Self::new(
                FailureCode::Trap,
                format!("the plugin exited with status {status}"),
            )
        } else if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            Self::new(FailureCode::Overloaded, "no room in the host's pool")
        } else if let Some(ResourceTableError::Full) = error.downcast_ref() {
            Self::handles()
        } else {
            Self::other(error)
        };
        failure.backtrace = error.downcast_ref::<WasmBacktrace>().and_then(frames);
        failure
    }

    fn trap(trap: Trap) -> Self {
        let code = match trap {
            Trap::StackOverflow => FailureCode::StackOverflow,
            Trap::Interrupt => FailureCode::Timeout,
            _ => FailureCode::Trap,
        };
        Self::new(code, trap.to_string())
    }

    fn other(error: &wasmtime::Error) -> Self {
        let cause = error.root_cause().to_string();
        // Wasmtime has no types for these errors; tests watch the words.
        if cause.contains("fuel allocated for hostcalls") {
            Self::new(FailureCode::HostLimit("call-bytes"), cause)
        } else if cause.contains("store handle limit exceeded") {
            Self::handles()
        } else {
            Self::new(FailureCode::Trap, cause)
        }
    }

    fn handles() -> Self {
        Self::stopped(Stop::HostLimit {
            which: "handles",
            limit: HANDLES,
        })
    }
}
