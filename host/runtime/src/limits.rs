//! How much a call may use, and the meters that say no.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use wasmtime::ResourceLimiter;

use crate::bounds::{MAX_MEMORY_BYTES, TABLES_PER_COMPONENT, TICK};

/// One page, the least that a memory can be.
const MIN_MEMORY_BYTES: usize = 64 << 10;
/// The most CPU time: WeChat's three tries take 14 seconds, no answer is awaited longer.
const MAX_CPU: Duration = Duration::from_secs(15);
/// The most reads of each kind.
const MAX_READS: u32 = 4096;
/// The most calls of WeChat's API, and requests to other systems.
const MAX_OUTWARD: u32 = 64;
/// The most bytes that reads may bring.
const MAX_HOST_BYTES: usize = 64 << 20;
/// The most lines of log.
const MAX_LOG_LINES: usize = 2000;
/// The most bytes of log.
const MAX_LOG_BYTES: usize = 256 << 10;
/// The most effects of an outcome.
const MAX_EFFECTS: usize = 1024;
/// The most bytes of an outcome's effects.
const MAX_EFFECT_BYTES: usize = 4 << 20;

/// What a plugin may hand over in one host call beside effects: a cache value, a line of log, a reply, a
/// request with its body.
const HOST_CALL_BYTES: usize = 512 << 10;
/// How many values all listings of a call may bring. What a call read is looked up again before its
/// effects are committed, on SQLite while nobody else can write, so the look must stay cheap.
const LISTED_VALUES: usize = 2_000;
/// How long a call may sleep in all. Whoever sleeps keeps a place that others wait for.
pub(crate) const MAX_SLEEP: Duration = Duration::from_secs(5);

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 256;
/// The longest open id, in bytes.
const MAX_OPEN_ID_BYTES: usize = 128;
/// The largest value of KV and cache, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 64 << 10;

/// What one call of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallLimits {
    /// Memories and tables together, in bytes.
    pub memory_bytes: usize,
    /// CPU time in milliseconds: the guest's, and the host's on its behalf.
    pub cpu_ms: u32,
    /// Reads of KV and contacts; and, counted apart, uses of the cache.
    pub reads: u32,
    /// Calls of WeChat's API.
    pub api_calls: u32,
    /// Requests to the tenant's own systems.
    pub fetches: u32,
    /// What all reads may bring, in bytes.
    pub host_bytes: usize,
    /// Lines of log.
    pub log_lines: usize,
    /// The log, in bytes.
    pub log_bytes: usize,
    /// One line, in bytes.
    pub log_line_bytes: usize,
    /// Effects of an outcome.
    pub effects: usize,
    /// All texts and values of an outcome's effects, in bytes.
    pub effect_bytes: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            cpu_ms: 2_000,
            reads: 256,
            api_calls: 16,
            fetches: 16,
            host_bytes: 4 << 20,
            log_lines: 200,
            log_bytes: 32 << 10,
            log_line_bytes: 4 << 10,
            effects: 64,
            effect_bytes: 256 << 10,
        }
    }
}

impl CallLimits {
    /// What a plugin may hand over in one host call or return, in wasmtime's measure: bytes, and the
    /// host's structures that hold them.
    pub(crate) fn hostcall_fuel(&self) -> usize {
        HOST_CALL_BYTES.saturating_add(self.effect_bytes.saturating_mul(2))
    }

    /// What the host can bear at most.
    pub const MOST: Self = Self {
        memory_bytes: MAX_MEMORY_BYTES,
        cpu_ms: MAX_CPU.as_millis() as u32,
        reads: MAX_READS,
        api_calls: MAX_OUTWARD,
        fetches: MAX_OUTWARD,
        host_bytes: MAX_HOST_BYTES,
        log_lines: MAX_LOG_LINES,
        log_bytes: MAX_LOG_BYTES,
        log_line_bytes: MAX_LOG_BYTES,
        effects: MAX_EFFECTS,
        effect_bytes: MAX_EFFECT_BYTES,
    };

    /// The same limits, none beyond these ceilings or what the host can bear.
    #[must_use]
    pub fn within(self, ceilings: &Self) -> Self {
        let (most, tick_ms) = (Self::MOST, TICK.as_millis() as u32);
        let memory_bytes = self.memory_bytes.min(ceilings.memory_bytes);
        let cpu_ms = self.cpu_ms.min(ceilings.cpu_ms);
        Self {
            memory_bytes: memory_bytes.clamp(MIN_MEMORY_BYTES, most.memory_bytes),
            cpu_ms: cpu_ms.clamp(tick_ms, most.cpu_ms),
            reads: self.reads.min(ceilings.reads).min(most.reads),
            api_calls: self.api_calls.min(ceilings.api_calls).min(most.api_calls),
            fetches: self.fetches.min(ceilings.fetches).min(most.fetches),
            host_bytes: self
                .host_bytes
                .min(ceilings.host_bytes)
                .min(most.host_bytes),
            log_lines: self.log_lines.min(ceilings.log_lines).min(most.log_lines),
            log_bytes: self.log_bytes.min(ceilings.log_bytes).min(most.log_bytes),
            log_line_bytes: self
                .log_line_bytes
                .min(ceilings.log_line_bytes)
                .min(most.log_line_bytes),
            effects: self.effects.min(ceilings.effects).min(most.effects),
            effect_bytes: self
                .effect_bytes
                .min(ceilings.effect_bytes)
                .min(most.effect_bytes),
        }
    }

    /// The first limit that is beyond its ceiling: its name, what it is, and the ceiling.
    pub fn beyond(&self, ceilings: &Self) -> Option<(&'static str, u64, u64)> {
        let limits = self.by_name().into_iter().zip(ceilings.by_name());
        let mut limits = limits.map(|((name, asked), (_, ceiling))| (name, asked, ceiling));
        limits.find(|(_, asked, ceiling)| asked > ceiling)
    }

    fn by_name(&self) -> [(&'static str, u64); 11] {
        [
            ("memory_bytes", self.memory_bytes as u64),
            ("cpu_ms", self.cpu_ms.into()),
            ("reads", self.reads.into()),
            ("api_calls", self.api_calls.into()),
            ("fetches", self.fetches.into()),
            ("host_bytes", self.host_bytes as u64),
            ("log_lines", self.log_lines as u64),
            ("log_bytes", self.log_bytes as u64),
            ("log_line_bytes", self.log_line_bytes as u64),
            ("effects", self.effects as u64),
            ("effect_bytes", self.effect_bytes as u64),
        ]
    }
}

/// Why the host stopped a guest. Travels inside wasmtime's error; `failure` turns it into a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the plugin asked for more than its {limit_bytes} bytes of memory")]
    MemoryLimit { limit_bytes: usize },
    #[error("the plugin used up its {limit_ms} ms of CPU time")]
    CpuSpent { limit_ms: u32 },
    #[error("the plugin was still running at the deadline")]
    DeadlinePassed,
    #[error("the plugin went beyond a limit of the host: {which}, {limit} at most")]
    HostLimit { which: &'static str, limit: usize },
}

/// Sums what all memories and tables of a store hold. (Wasmtime's own limits are per memory.)
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    used: usize,
    /// What the growth under way would add, to be taken back if it fails.
    pending: usize,
    limit: usize,
}

impl MemoryMeter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: 0,
            pending: 0,
            limit,
        }
    }

    /// The most that was held: memories and tables never shrink.
    pub(crate) fn peak(&self) -> usize {
        self.used
    }

    /// Counts what an instance takes of the host's memory without asking.
    pub(crate) fn start(&mut self, bytes: usize) -> Result<(), Stop> {
        self.used = match self.used.checked_add(bytes) {
            Some(sum) if sum <= self.limit => sum,
            _ => {
                return Err(Stop::MemoryLimit {
                    limit_bytes: self.limit,
                });
            }
        };
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        self.start(bytes)?;
        self.pending = bytes;
        Ok(true)
    }

    fn shrink(&mut self) {
        self.used -= std::mem::take(&mut self.pending);
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.shrink();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let added = desired.saturating_sub(current);
        self.grow(added.saturating_mul(size_of::<usize>()))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.shrink();
        Ok(())
    }

    fn tables(&self) -> usize {
        TABLES_PER_COMPONENT as usize
    }
}

/// Counts how long a call sleeps.
#[derive(Debug)]
pub(crate) struct SleepMeter {
    left: Duration,
}

impl Default for SleepMeter {
    fn default() -> Self {
        Self { left: MAX_SLEEP }
    }
}

impl SleepMeter {
    /// Waits for what a guest sleeps on, while it may.
    pub(crate) async fn during<T>(
        &mut self,
        sleep: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let begun = Instant::now();
        let Ok(woken) = timeout(self.left, sleep).await else {
            return Err(Stop::HostLimit {
                which: "sleep-ms",
                limit: MAX_SLEEP.as_millis() as usize,
            }
            .into());
        };
        self.left = self.left.saturating_sub(begun.elapsed());
        woken
    }
}

/// Counts what a call reads.
#[derive(Debug, Default)]
pub(crate) struct ReadMeter {
    kv_reads: u32,
    listed_values: usize,
    cache_calls: u32,
    api_calls: u32,
    fetches: u32,
    host_bytes: usize,
}

impl ReadMeter {
    /// A read of KV or of a contact is about to happen.
    pub(crate) fn kv_read(&mut self, limits: &CallLimits) -> Result<(), Stop> {
        count(&mut self.kv_reads, limits.reads, "kv-reads")
    }

    /// A listing brought so many values.
    pub(crate) fn listed(&mut self, values: usize) -> Result<(), Stop> {
        self.listed_values = self.listed_values.saturating_add(values);
        if self.listed_values > LISTED_VALUES {
            return Err(Stop::HostLimit {
                which: "listed-values",
                limit: LISTED_VALUES,
            });
        }
        Ok(())
    }

    /// A use of the cache is about to happen.
    pub(crate) fn cache_call(&mut self, limits: &CallLimits) -> Result<(), Stop> {
        count(&mut self.cache_calls, limits.reads, "cache-calls")
    }

    /// A call of WeChat's API is about to happen.
    pub(crate) fn api_call(&mut self, limits: &CallLimits) -> Result<(), Stop> {
        count(&mut self.api_calls, limits.api_calls, "api-calls")
    }

    /// A request to another system is about to happen.
    pub(crate) fn fetch(&mut self, limits: &CallLimits) -> Result<(), Stop> {
        count(&mut self.fetches, limits.fetches, "fetches")
    }

    /// A read brought something.
    pub(crate) fn bytes(&mut self, bytes: usize, limits: &CallLimits) -> Result<(), Stop> {
        self.host_bytes = self.host_bytes.saturating_add(bytes);
        if self.host_bytes > limits.host_bytes {
            return Err(Stop::HostLimit {
                which: "host-bytes",
                limit: limits.host_bytes,
            });
        }
        Ok(())
    }
}

fn count(counter: &mut u32, limit: u32, which: &'static str) -> Result<(), Stop> {
    if *counter >= limit {
        return Err(Stop::HostLimit {
            which,
            limit: limit as usize,
        });
    }
    *counter += 1;
    Ok(())
}

/// Whether a text may be a key: 1 to 256 bytes, no control characters.
pub(crate) fn is_key(text: &str) -> bool {
    !text.is_empty() && is_prefix(text)
}

/// Whether a text may be an open id: 1 to 128 printable ASCII characters without spaces.
pub(crate) fn is_open_id(text: &str) -> bool {
    (1..=MAX_OPEN_ID_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a text may be the beginning of a key.
pub(crate) fn is_prefix(text: &str) -> bool {
    text.len() <= MAX_KEY_BYTES && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_beyond_the_hosts_are_clamped() {
        let greedy = CallLimits {
            memory_bytes: usize::MAX,
            cpu_ms: u32::MAX,
            reads: u32::MAX,
            api_calls: u32::MAX,
            fetches: u32::MAX,
            host_bytes: usize::MAX,
            log_lines: usize::MAX,
            log_bytes: usize::MAX,
            log_line_bytes: usize::MAX,
            effects: usize::MAX,
            effect_bytes: usize::MAX,
        };
        let clamped = greedy.within(&greedy);
        assert_eq!(clamped, CallLimits::MOST);
        assert_eq!(clamped.memory_bytes, 256 << 20);
        assert_eq!(clamped.cpu_ms, 15_000);
        assert_eq!(clamped.within(&CallLimits::MOST), clamped);
        let usual = CallLimits::default();
        assert_eq!(usual.within(&CallLimits::MOST), usual);
    }

    #[test]
    fn what_is_beyond_a_ceiling_is_named_and_cut() {
        let ceilings = CallLimits {
            cpu_ms: 500,
            effects: 10,
            ..CallLimits::MOST
        };
        let usual = CallLimits::default();
        assert_eq!(usual.beyond(&ceilings), Some(("cpu_ms", 2_000, 500)));
        let within = usual.within(&ceilings);
        assert_eq!((within.cpu_ms, within.effects), (500, 10));
        assert_eq!(within.beyond(&ceilings), None);
        assert_eq!(within.memory_bytes, usual.memory_bytes);
    }

    #[test]
    fn limits_of_zero_still_let_a_plugin_be_instantiated() {
        let none = CallLimits {
            memory_bytes: 0,
            cpu_ms: 0,
            ..CallLimits::default()
        };
        let none = none.within(&CallLimits::MOST);
        assert_eq!((none.memory_bytes, none.cpu_ms), (65536, 10));
    }

    #[tokio::test]
    async fn sleeping_is_counted_and_ends() {
        let left = Duration::from_millis(50);
        let mut meter = SleepMeter { left };
        let nap = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        };
        assert!(meter.during(nap).await.is_ok());
        assert!(meter.left <= Duration::from_millis(30));
        let error = meter
            .during(std::future::pending::<wasmtime::Result<()>>())
            .await
            .unwrap_err();
        let stop = error.downcast_ref::<Stop>();
        assert!(matches!(
            stop,
            Some(Stop::HostLimit {
                which: "sleep-ms",
                ..
            })
        ));
    }

    #[test]
    fn memory_is_summed_over_memories_and_tables() {
        let mut meter = MemoryMeter::new(200_000);
        assert!(meter.memory_growing(0, 131_072, None).is_ok());
        assert!(meter.table_growing(0, 1_000, None).is_ok());
        assert_eq!(meter.peak(), 139_072);
        let error = meter.memory_growing(0, 65_536, None).unwrap_err();
        assert_eq!(
            error.downcast_ref::<Stop>(),
            Some(&Stop::MemoryLimit {
                limit_bytes: 200_000
            })
        );
    }

    #[test]
    fn a_growth_that_failed_is_not_counted() {
        let mut meter = MemoryMeter::new(200_000);
        assert!(meter.memory_growing(0, 131_072, None).is_ok());
        let failed = wasmtime::Error::msg("the memory's own maximum");
        assert!(meter.memory_grow_failed(failed).is_ok());
        assert_eq!(meter.peak(), 0);
    }

    #[test]
    fn open_ids_are_short_and_plain() {
        assert!(is_open_id("o6_bmjrPTlm6_2sgVt7hMZOPfL2M"));
        for bad in ["", "o 1", "o\n1", "号", &"o".repeat(129)] {
            assert!(!is_open_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_short_and_printable() {
        assert!(is_key("topic/号"));
        assert!(!is_key(""));
        assert!(is_prefix(""));
        assert!(!is_key("a\nb"));
        assert!(!is_key(&"k".repeat(257)));
    }
}
