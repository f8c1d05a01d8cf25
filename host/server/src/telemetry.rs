//! What an operator sees from outside: log lines and metrics.
//!
//! Lines are a sentence and dotted fields, the same names everywhere: `account.app_id`, `event.id`,
//! `plugin.digest`, `trace_id`, `duration_ms`, `error`. No secrets, bodies or open ids. Metrics carry
//! no account label: ten thousand accounts would make them useless; call records answer for one.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};
use crate::printable;
use crate::write_behind::Losses;

/// Begins to log to standard error, as the settings ask. Later calls change nothing.
pub fn log_to_stderr(config: &Config) {
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && config.log.format == LogFormat::Text;
    let format = config.log.format;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(move || LineWriter {
            out: std::io::stderr(),
            format,
            colours,
        });
    // A second host in one process (tests, the demo) logs where the first one does.
    let _ = match config.log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Writes log lines, each with one write: whatever texts stand in it, it stays one line, and what it says
/// can be seen.
struct LineWriter<W> {
    out: W,
    format: LogFormat,
    /// The lines hold escapes for colours. In what others wrote they are escaped already.
    colours: bool,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (&*text, ""),
        };
        let text = match self.format {
            LogFormat::Text => printable::escaped(text, |c| self.colours && c == '\u{1b}'),
            LogFormat::Json => printable::in_json(text),
        };
        self.out.write_all(format!("{text}{end}").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A short, stable word as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word(pub Cow<'static, str>);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.0.as_ref(), encoder)
    }
}

/// Labels of the count of callbacks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallbackLabels {
    /// HTTP status.
    pub status: u16,
    /// Why it was refused, or `ok`.
    pub code: Word,
}

/// Labels of the counts of calls and of logins.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The outcome's word.
    pub outcome: Word,
}

/// Labels of [`Metrics::api_calls`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ApiCallLabels {
    /// `ok`, or why there was nothing.
    pub class: Word,
}

/// Labels of [`Metrics::token_fetches`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FetchLabels {
    /// Which token or ticket.
    pub credential: Word,
    /// `fetched`, or why there was nothing.
    pub outcome: Word,
}

/// Code of a callback that was answered.
const OK: &str = "ok";
/// Outcome of a call that gave a reply.
const REPLIED: &str = "replied";

fn callback_labels(status: u16, code: &'static str) -> CallbackLabels {
    CallbackLabels {
        status,
        code: Word(code.into()),
    }
}

fn call_labels(outcome: Cow<'static, str>) -> CallLabels {
    CallLabels {
        outcome: Word(outcome),
    }
}

/// Labels of [`Metrics::outbox`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutboxLabels {
    /// What kind of thing is sent.
    pub kind: Word,
    /// `sent`, `failed`, `dead`, `skipped`, `unknown`, `held`, or `again` for a try that is repeated.
    pub outcome: Word,
}

/// Labels of what is held and bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HeldLabels {
    /// The limit's name.
    what: Word,
}

/// Labels of what is told of a third-party platform; an operator has few.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlatformLabels {
    /// Its component appid.
    platform: Word,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    callbacks: Family<CallbackLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    /// The counters of the common case, which need not be looked up by their labels.
    callbacks_ok: Counter,
    calls_replied: Counter,
    /// From a callback's arrival to its answer.
    pub callback_seconds: Histogram,
    /// Deliveries that joined a run or got the answer of one.
    pub joined: Counter,
    /// Runs repeated because what they had read was changed.
    pub reruns: Counter,
    /// Acknowledged events that became dead letters.
    pub dead_events: Counter,
    /// Deliveries whose event found no room to run in.
    pub without_room: Counter,
    ticket_ages: Family<PlatformLabels, Gauge>,
    held: Family<HeldLabels, Gauge>,
    held_limits: Family<HeldLabels, Gauge>,
    /// Callbacks under way.
    pub under_way: Gauge,
    /// Records that found no room or no database, and those that lost their log for it.
    pub records: Losses,
    /// User actions that found no room or no database.
    pub contact_updates: Losses,
    /// Audit entries that found no room or no database.
    pub audit: Losses,
    /// Receipts of messages that found no room or no database.
    pub receipts: Losses,
    /// Tries of the outbox, by kind and outcome.
    pub outbox: Family<OutboxLabels, Counter>,
    /// Plugins loaded.
    pub loaded_plugins: Gauge,
    /// Accounts known.
    pub accounts: Gauge,
    /// Users who came back from WeChat to log in, by outcome.
    logins: Family<CallLabels, Counter>,
    /// Calls of WeChat's API, by class.
    pub api_calls: Family<ApiCallLabels, Counter>,
    /// Questions to WeChat for a token or ticket, by outcome.
    pub token_fetches: Family<FetchLabels, Counter>,
    /// Accounts for which WeChat refuses this host's address.
    pub addresses_refused: Gauge,
    /// Accounts whose calls rest because WeChat leaves them without an answer: how often it began.
    pub breakers_opened: Counter,
    /// Notices of WeChat Pay that contradict the ledger.
    pub pay_flagged: Counter,
    /// Merchants whose API certificate ends soon.
    pub merchant_certificates_ending: Gauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("wxhost");
        // 0.25 ms to 8 s, doubling: WeChat's 5 s lies in the last but one.
        let seconds = (0..16).map(|power| 0.000_25 * f64::from(1 << power));
        let callbacks = Family::<CallbackLabels, Counter>::default();
        let calls = Family::<CallLabels, Counter>::default();
        let metrics = Self {
            registry: Registry::default(),
            callbacks_ok: callbacks.get_or_create_owned(&callback_labels(200, OK)),
            calls_replied: calls.get_or_create_owned(&call_labels(REPLIED.into())),
            callbacks,
            calls,
            callback_seconds: Histogram::new(seconds),
            joined: Counter::default(),
            reruns: Counter::default(),
            dead_events: Counter::default(),
            without_room: Counter::default(),
            ticket_ages: Family::default(),
            held: Family::default(),
            held_limits: Family::default(),
            under_way: Gauge::default(),
            records: Losses::default(),
            contact_updates: Losses::default(),
            audit: Losses::default(),
            receipts: Losses::default(),
            outbox: Family::default(),
            loaded_plugins: Gauge::default(),
            accounts: Gauge::default(),
            logins: Family::default(),
            api_calls: Family::default(),
            token_fetches: Family::default(),
            addresses_refused: Gauge::default(),
            breakers_opened: Counter::default(),
            pay_flagged: Counter::default(),
            merchant_certificates_ending: Gauge::default(),
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
        registry.register(
            "dead_events",
            "Acknowledged events that became dead letters",
            m.dead_events.clone(),
        );
        registry.register(
            "callbacks_without_room",
            "Deliveries whose event found no room to run in",
            m.without_room.clone(),
        );
        registry.register("held_bytes", "Memory that is held", m.held.clone());
        registry.register(
            "held_bytes_limit",
            "How much may be held",
            m.held_limits.clone(),
        );
        registry.register("under_way", "Callbacks under way", m.under_way.clone());
        registry.register(
            "call_records_dropped",
            "Call records that were not written",
            m.records.dropped.clone(),
        );
        registry.register(
            "call_logs_dropped",
            "Call records that were written without their log",
            m.records.lightened.clone(),
        );
        registry.register(
            "contact_updates_dropped",
            "User actions that were not written",
            m.contact_updates.dropped.clone(),
        );
        registry.register(
            "audit_entries_dropped",
            "Audit entries that were not written",
            m.audit.dropped.clone(),
        );
        registry.register(
            "receipts_dropped",
            "Receipts of messages that were not written",
            m.receipts.dropped.clone(),
        );
        registry.register("outbox", "Tries of the outbox", m.outbox.clone());
        registry.register("loaded_plugins", "Plugins loaded", m.loaded_plugins.clone());
        registry.register("accounts", "Accounts known", m.accounts.clone());
        let logins = m.logins.clone();
        registry.register(
            "logins",
            "Users who came back from WeChat to log in",
            logins,
        );
        let calls = m.api_calls.clone();
        registry.register("api_calls", "Calls of WeChat's API", calls);
        registry.register(
            "token_fetches",
            "Questions to WeChat for a token or ticket",
            m.token_fetches.clone(),
        );
        registry.register(
            "addresses_refused",
            "Accounts for which WeChat refuses this host's address",
            m.addresses_refused.clone(),
        );
        registry.register(
            "platform_ticket_age_seconds",
            "How long ago WeChat pushed a platform its newest ticket; one comes every ten minutes, and is \
             good for twelve hours",
            m.ticket_ages.clone(),
        );
        registry.register(
            "pay_flagged",
            "Notices of WeChat Pay that contradict the ledger: kept, and for people to look at",
            m.pay_flagged.clone(),
        );
        registry.register(
            "merchant_certificates_ending",
            "Merchants in use whose last API certificate ends within 30 days",
            m.merchant_certificates_ending.clone(),
        );
        registry.register(
            "breakers_opened",
            "Accounts whose calls began to rest because WeChat left them without an answer",
            m.breakers_opened.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }

    /// Counts a callback that was answered with `status`; `code` says why it was refused, or `ok`.
    pub fn count_callback(&self, status: u16, code: &'static str) {
        if status == 200 && code == OK {
            self.callbacks_ok.inc();
        } else {
            let labels = callback_labels(status, code);
            self.callbacks.get_or_create(&labels).inc();
        }
    }

    /// Counts a call of a plugin by its outcome's word.
    pub fn count_call(&self, outcome: &str) {
        if outcome == REPLIED {
            self.calls_replied.inc();
        } else {
            let labels = call_labels(outcome.to_owned().into());
            self.calls.get_or_create(&labels).inc();
        }
    }

    /// Counts a user who came back from WeChat to log in, by what came of it.
    pub fn count_login(&self, outcome: &'static str) {
        let labels = call_labels(outcome.into());
        self.logins.get_or_create(&labels).inc();
    }

    /// Notes how old a platform's newest ticket is.
    pub fn note_ticket_age(&self, platform: &str, seconds: i64) {
        let labels = PlatformLabels {
            platform: Word(platform.to_owned().into()),
        };
        self.ticket_ages.get_or_create(&labels).set(seconds);
    }

    /// The gauge of bytes that are held under a limit of this name and size.
    pub fn held_bytes(&self, what: &'static str, limit: usize) -> Gauge {
        let labels = HeldLabels {
            what: Word(what.into()),
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.held_limits.get_or_create(&labels).set(limit);
        self.held.get_or_create_owned(&labels)
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

    fn written(line: &str, format: LogFormat, colours: bool) -> String {
        let mut out = Vec::new();
        let mut writer = LineWriter {
            out: &mut out,
            format,
            colours,
        };
        writer.write_all(line.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stranger_forges_no_line_of_the_log() {
        let forged = "refused: x\nERROR the host is on fire \u{1b}[2J\u{202e}\n";
        assert_eq!(
            written(forged, LogFormat::Text, false),
            "refused: x\\nERROR the host is on fire \\u{1b}[2J\\u{202e}\n"
        );
        let coloured = "\u{1b}[2mWARN\u{1b}[0m x\ny\n";
        let shown = "\u{1b}[2mWARN\u{1b}[0m x\\ny\n";
        assert_eq!(written(coloured, LogFormat::Text, true), shown);
        let json = "{\"message\":\"a\u{202e}\"}\n";
        let shown = "{\"message\":\"a\\u202e\"}\n";
        assert_eq!(written(json, LogFormat::Json, false), shown);
    }

    #[test]
    fn metrics_are_text_for_prometheus() {
        let metrics = Metrics::new();
        metrics.count_call("replied");
        metrics.count_call("trap");
        metrics.count_callback(200, "ok");
        metrics.count_callback(403, "bad-signature");
        metrics.callback_seconds.observe(0.01);
        let text = metrics.to_text();
        for line in [
            "wxhost_calls_total{outcome=\"replied\"} 1",
            "wxhost_calls_total{outcome=\"trap\"} 1",
            "wxhost_callbacks_total{status=\"200\",code=\"ok\"} 1",
            "wxhost_callbacks_total{status=\"403\",code=\"bad-signature\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(
            text.contains("wxhost_callback_duration_seconds_count 1"),
            "{text}"
        );
    }
}
