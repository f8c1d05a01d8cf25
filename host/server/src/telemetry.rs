//! What an operator sees from outside: log lines and metrics.
//!
//! Lines are a sentence and dotted fields, the same names everywhere: `account.app_id`, `event.id`,
//! `plugin.digest`, `trace_id`, `duration_ms`, `error`. No secrets, bodies or open ids. Metrics carry
//! no account label: ten thousand accounts would make them useless; call records answer for one.

use std::io::IsTerminal;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Begins to log to standard error, as the settings ask. Later calls change nothing.
pub fn log_to_stderr(config: &Config) {
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second host in one process (tests, the demo) logs where the first one does.
    let _ = match config.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// A short, stable word as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word(pub std::borrow::Cow<'static, str>);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.0.as_ref(), encoder)
    }
}

/// Labels of [`Metrics::callbacks`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallbackLabels {
    /// HTTP status.
    pub status: u16,
    /// Why it was refused, or `ok`.
    pub code: Word,
}

/// Labels of [`Metrics::calls`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The outcome's word.
    pub outcome: Word,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Callbacks answered, by status and code.
    pub callbacks: Family<CallbackLabels, Counter>,
    /// Calls of plugins, by outcome.
    pub calls: Family<CallLabels, Counter>,
    /// From a callback's arrival to its answer.
    pub callback_seconds: Histogram,
    /// Deliveries that joined a run or got the answer of one.
    pub joined: Counter,
    /// Runs repeated because what they had read was changed.
    pub reruns: Counter,
    /// Callbacks under way.
    pub under_way: Gauge,
    /// Records that found no room or no database.
    pub records_dropped: Counter<u64, AtomicU64>,
    /// Observations of contacts that found no room or no database.
    pub sightings_dropped: Counter<u64, AtomicU64>,
    /// Plugins loaded.
    pub loaded_plugins: Gauge,
    /// Accounts known.
    pub accounts: Gauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("wxhost");
        // 0.25 ms to 8 s, doubling: WeChat's 5 s lies in the last but one.
        let seconds = (0..16).map(|power| 0.000_25 * f64::from(1 << power));
        let metrics = Self {
            registry: Registry::default(),
            callbacks: Family::default(),
            calls: Family::default(),
            callback_seconds: Histogram::new(seconds),
            joined: Counter::default(),
            reruns: Counter::default(),
            under_way: Gauge::default(),
            records_dropped: Counter::default(),
            sightings_dropped: Counter::default(),
            loaded_plugins: Gauge::default(),
            accounts: Gauge::default(),
        };
        let m = &metrics;
        registry.register("callbacks", "Callbacks answered", m.callbacks.clone());
        registry.register("calls", "Calls of plugins", m.calls.clone());
        registry.register(
            "callback_duration_seconds",
            "From a callback's arrival to its answer",
            m.callback_seconds.clone(),
        );
        registry.register("joined", "Deliveries that joined a run", m.joined.clone());
        registry.register("reruns", "Runs repeated after a conflict", m.reruns.clone());
        registry.register("under_way", "Callbacks under way", m.under_way.clone());
        registry.register(
            "call_records_dropped",
            "Call records that were not written",
            m.records_dropped.clone(),
        );
        registry.register(
            "contact_sightings_dropped",
            "Observations of contacts that were not written",
            m.sightings_dropped.clone(),
        );
        registry.register("loaded_plugins", "Plugins loaded", m.loaded_plugins.clone());
        registry.register("accounts", "Accounts known", m.accounts.clone());
        Self {
            registry,
            ..metrics
        }
    }

    /// The metrics in Prometheus' text format.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_text_for_prometheus() {
        let metrics = Metrics::new();
        let outcome = Word("replied".into());
        metrics.calls.get_or_create(&CallLabels { outcome }).inc();
        metrics.callback_seconds.observe(0.01);
        let text = metrics.to_text();
        assert!(
            text.contains("wxhost_calls_total{outcome=\"replied\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("wxhost_callback_duration_seconds_count 1"),
            "{text}"
        );
    }
}
