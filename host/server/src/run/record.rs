//! The record of a run, for the tenant to look up.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use wxhost_runtime::PluginLog;

use super::{EventContext, HeldUp, Runner};
use crate::db::calls::{Callee, Entry, Record};
use crate::printable::in_rows;

/// What is known of a run so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) outcome: Cow<'static, str>,
    pub(super) error: Option<String>,
    pub(super) log: Option<String>,
    /// Runs of the handler: more than one after conflicts, and where the host was held up.
    pub(super) runs: u32,
    /// How long it has waited for its turns to run again.
    pub(super) waited: Duration,
    /// Whether the commit has written what the event tells of its sender.
    pub(super) is_sighted: bool,
}

impl Tally {
    pub(super) fn held_up(&mut self, code: &'static str, detail: impl Into<String>) -> HeldUp {
        let detail = detail.into();
        self.outcome = code.into();
        self.error = Some(detail.clone());
        HeldUp { code, detail }
    }
}

impl Runner {
    /// Hands a run's record in.
    pub(super) fn record(&self, context: &EventContext, tally: Tally) {
        self.services.metrics.count_call(&tally.outcome);
        let log = tally.log.map(|log| self.kept_log(context, log));
        let deployment = context.account.plugin.deployment.as_ref();
        let callee = Callee {
            app_id: context.account.app_id.clone(),
            version: deployment.map(|d| d.version).unwrap_or_default(),
            digest: deployment.map(|deployment| deployment.digest),
        };
        let entry = Entry {
            event_id: context.event_id.as_str().into(),
            event_kind: context.kind.into(),
            outcome: tally.outcome.as_ref().into(),
            error: tally.error.map(Into::into),
            log: log.map(Into::into),
            duration_us: micros(context.started.elapsed()),
            runs: i64::from(tally.runs),
            trace_id: context.trace_id.as_str().into(),
            created_at: context.created_at,
        };
        let record = Record::new(callee, tally.outcome.clone(), &entry);
        self.services.records.add(record);
    }

    /// The log, or why it is not kept.
    fn kept_log(&self, context: &EventContext, log: String) -> String {
        let holders = context.account.holders();
        match self.services.quotas.add_log(holders, log.len()) {
            Ok(()) => log,
            Err(over) => format!("WARN  this log is not kept: {over}\n"),
        }
    }
}

/// What stands before a row of the log that begins none: the width of a level and a space.
const LOG_INDENT: &str = "      ";

/// The plugin's log as the record keeps it: a line each, the backtrace of a trap last.
pub(super) fn log_text(log: &PluginLog, backtrace: Option<&str>) -> Option<String> {
    let mut text = String::new();
    for line in log.lines() {
        let shown = in_rows(&line.text, LOG_INDENT);
        let _ = writeln!(text, "{:5} {shown}", line.level.as_str());
    }
    if log.dropped() > 0 {
        let _ = writeln!(text, "({} more lines were dropped)", log.dropped());
    }
    if let Some(backtrace) = backtrace {
        // Its names are the plugin's, too.
        let _ = write!(text, "{LOG_INDENT}{}", in_rows(backtrace, LOG_INDENT));
    }
    (!text.is_empty()).then_some(text)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
