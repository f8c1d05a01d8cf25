//! Markdown tables, and the few statistics that stand in them.

use std::fmt::Display;
use std::time::Duration;

/// A table under way.
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// A table with these columns; the first is text, the others are numbers.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut text = format!("| {} |\n|---|", columns.join(" | "));
        text.push_str(&"---:|".repeat(columns.len() - 1));
        text.push('\n');
        Self {
            columns: columns.len(),
            text,
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[&dyn Display]) {
        assert_eq!(cells.len(), self.columns, "a cell for each column");
        let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
        self.text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    /// Prints it.
    pub(crate) fn print(self) {
        println!("{}", self.text);
    }
}

/// The middle one. There must be one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that `share` (0 to 1) of the sorted values are below.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len() - 1;
    sorted[((last as f64) * share).round() as usize]
}

/// Microseconds, for a cell.
pub(crate) fn micros(duration: Duration) -> String {
    format!("{:.0}", duration.as_secs_f64() * 1e6)
}
