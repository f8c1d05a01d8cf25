//! Text that others wrote (plugins, WeChat, the internet), made fit to stand in rows: tables, logs,
//! records, the audit.
//!
//! What could end a row, command a terminal, turn the direction of reading or not be seen at all is
//! written as an escape, so that nobody forges a row or makes one look like another.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does something else than to stand there and be seen.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator, Hangul fillers.
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
            // Zero width, joiners, direction marks; line and paragraph separators, embeddings and
            // overrides; invisible operators and isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, annotations, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// For one row: hidden characters as Rust writes them, such as `\n` and `\u{202e}`.
pub fn in_row(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// For a text of several rows, each after the first behind `indent`: so a row of its own it never is.
pub fn in_rows(text: &str, indent: &str) -> String {
    let rows = text.trim_end_matches('\n').split('\n');
    let rows: Vec<_> = rows
        .map(|row| in_row(row.strip_suffix('\r').unwrap_or(row)))
        .collect();
    rows.join(&format!("\n{indent}"))
}

/// The same with some hidden characters left as they are.
pub(crate) fn escaped(text: &str, kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let shown = |character| !is_hidden(character) || kept(character);
    if text.chars().all(shown) {
        return Cow::Borrowed(text);
    }
    let mut row = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if shown(character) {
            row.push(character);
        } else {
            row.extend(character.escape_default());
        }
    }
    Cow::Owned(row)
}

/// For JSON that is there already: hidden characters as JSON escapes them. JSON's own line feeds stay.
pub fn in_json(json: &str) -> Cow<'_, str> {
    let shown = |character| character == '\n' || !is_hidden(character);
    if json.chars().all(shown) {
        return Cow::Borrowed(json);
    }
    let mut row = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if shown(character) {
            row.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // A text takes all that is written to it.
            let _ = write!(row, "\\u{unit:04x}");
        }
    }
    Cow::Owned(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_what_is_not_is_escaped() {
        for (text, expected) in [
            ("", ""),
            ("plain 茶馆 é 😀 \"\\", "plain 茶馆 é 😀 \"\\"),
            ("a\nerror forged", "a\\nerror forged"),
            ("a\r\tb", "a\\r\\tb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("ad\u{200b}min", "ad\\u{200b}min"),
            ("\u{feff}x\u{2028}y", "\\u{feff}x\\u{2028}y"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(in_row(text), expected);
        }
    }

    #[test]
    fn rows_after_the_first_stand_behind_their_indent() {
        let text = "one\r\ninfo  forged\n\u{1b}[1mtwo\n\n";
        let rows = "one\n    info  forged\n    \\u{1b}[1mtwo";
        assert_eq!(in_rows(text, "    "), rows);
    }

    #[test]
    fn json_stays_what_it_says() {
        let text = "a\u{202e}\u{9b}\u{e0041}茶";
        let json = format!("{:#}\n", serde_json::json!({ "a": text }));
        let shown = in_json(&json);
        assert!(!shown.chars().any(|c| c != '\n' && is_hidden(c)), "{shown}");
        let back: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(back["a"], text);
    }
}
