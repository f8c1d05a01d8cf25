//! A plugin's own log of one call: bounded, so that a flood costs the plugin its lines and nobody else
//! anything.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bindings::wxhost::plugin::log::Level;
use crate::limits::CallLimits;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Steps, for the author.
    Debug,
    /// What happened.
    Info,
    /// Something odd that was coped with.
    Warn,
    /// Something that failed.
    Error,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

impl LogLevel {
    /// Its name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A line of a plugin's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How much it matters.
    pub level: LogLevel,
    /// What it says; one line or several.
    pub text: String,
}

/// What a plugin wrote in one call, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLog {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
}

impl PluginLog {
    /// The lines that were kept.
    pub fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// How many lines were dropped because the log was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Adds a line of the plugin, cut to its limit, or counts it as dropped.
    pub(crate) fn push(&mut self, level: LogLevel, mut text: String, limits: &CallLimits) {
        cut(&mut text, limits.log_line_bytes);
        let full = self.lines.len() >= limits.log_lines
            || self.bytes.saturating_add(text.len()) > limits.log_bytes;
        // Once full, a log stays full: a short line after a dropped one would tell a false story.
        if full || self.dropped > 0 {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.bytes += text.len();
        self.lines.push(LogLine { level, text });
    }

    /// Counts lines that were dropped elsewhere.
    pub(crate) fn drop_lines(&mut self, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
    }
}

impl fmt::Display for PluginLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}: {}", line.level.as_str(), line.text)?;
        }
        if self.dropped > 0 {
            writeln!(f, "({} more dropped: the log was full)", self.dropped)?;
        }
        Ok(())
    }
}

/// Shortens a text to `limit` bytes, at a character's border.
pub(crate) fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        // A cut line may have been as large as a host call allows.
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(lines: usize, text: &str) -> PluginLog {
        let mut log = PluginLog::default();
        for _ in 0..lines {
            log.push(LogLevel::Info, text.into(), &CallLimits::default());
        }
        log
    }

    #[test]
    fn a_flood_of_lines_is_dropped_and_counted() {
        let log = full(1_000, "x");
        assert_eq!((log.lines().len(), log.dropped()), (200, 800));
        assert!(
            log.to_string()
                .ends_with("(800 more dropped: the log was full)\n")
        );
    }

    #[test]
    fn a_flood_of_bytes_is_dropped_and_counted() {
        let log = full(20, &"x".repeat(4096));
        assert_eq!((log.lines().len(), log.dropped()), (8, 12));
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let log = full(1, &"号".repeat(4096));
        assert_eq!(log.lines()[0].text.len(), 4095);
    }
}
