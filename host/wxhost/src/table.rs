//! Answers on the terminal: a table for lists, lines for one thing, JSON where it is asked for.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use wxhost_server::printable::{in_json, in_row, in_rows};

/// Prints text; a reader that has gone away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a document as it is.
pub(crate) fn print_json(document: &Value) -> Result<()> {
    print(&in_json(&format!("{document:#}\n")))
}

/// Prints the members of a document, one on a line.
pub(crate) fn print_one(document: &Value) -> Result<()> {
    let Some(members) = document.as_object() else {
        return print_json(document);
    };
    print(&lines(members))
}

fn lines(members: &Map<String, Value>) -> String {
    let width = members.keys().map(String::len).max().unwrap_or_default();
    let lines = members
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            // The log of a call has many lines.
            let value = in_rows(&text_of(value), &format!("{:width$}  ", ""));
            format!("{name:width$}  {value}\n")
        });
    lines.collect()
}

/// Prints the documents of a list under the named columns.
pub(crate) fn print_list(list: &Value, columns: &[&str]) -> Result<()> {
    print(&table(list, columns))
}

fn table(list: &Value, columns: &[&str]) -> String {
    let header = columns
        .iter()
        .map(|column| column.to_uppercase().replace('_', " "));
    let mut rows: Vec<Vec<String>> = vec![header.collect()];
    for document in list.as_array().into_iter().flatten() {
        rows.push(
            columns
                .iter()
                .map(|column| in_row(&text_of(&document[*column])).into_owned())
                .collect(),
        );
    }
    aligned(&rows)
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, column_width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(column_width - width(cell) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Places on the terminal: Chinese characters take two.
fn width(cell: &str) -> usize {
    let wide = |character: char| matches!(character, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}');
    cell.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// A value without the quotes, as it is: not yet fit for a terminal.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_also_under_wide_characters() {
        let rows = [["ID", "NAME", "X"], ["a", "茶馆", "1"], ["abc", "-", "22"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(
            aligned(&rows),
            "ID   NAME  X\na    茶馆  1\nabc  -     22\n"
        );
    }

    #[test]
    fn what_a_plugin_wrote_cannot_command_the_terminal() {
        let list = json!([{"id": "1", "error": "a\u{1b}[2Jb\n2  forged"}]);
        assert_eq!(
            table(&list, &["id", "error"]),
            "ID  ERROR\n1   a\\u{1b}[2Jb\\n2  forged\n"
        );
        let one = json!({"log": "info  a\u{202e}\nresult  forged"});
        assert_eq!(
            lines(one.as_object().unwrap()),
            "log  info  a\\u{202e}\n     result  forged\n"
        );
        assert_eq!(text_of(&json!(["x", "y"])), "x, y");
        assert_eq!(text_of(&json!({"a": 1})), r#"{"a":1}"#);
    }
}
