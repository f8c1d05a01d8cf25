//! A trap's backtrace as text. All names in it are the plugin's own words: they are cut, and made
//! printable, and only Rust's are made readable, within the same bounds. (Wasmtime's own text demangles
//! without bound: a C++ name of a hundred letters can stand for gigabytes.)

use std::fmt::{self, Write};

use wasmtime::{FrameInfo, WasmBacktrace};

/// The longest name of a function or module, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// The longest backtrace, in bytes.
const MAX_BACKTRACE_BYTES: usize = 8 << 10;

/// The frames, innermost first, one a line; none if there are none.
pub(crate) fn frames(backtrace: &WasmBacktrace) -> Option<String> {
    if backtrace.frames().is_empty() {
        return None;
    }
    let mut text = Bounded::new(MAX_BACKTRACE_BYTES);
    for (number, frame) in backtrace.frames().iter().enumerate() {
        if write_frame(&mut text, number, frame).is_err() {
            break;
        }
    }
    Some(text.text)
}

fn write_frame(text: &mut Bounded, number: usize, frame: &FrameInfo) -> fmt::Result {
    if number > 0 {
        writeln!(text)?;
    }
    write!(text, "  {number:>3}: ")?;
    if let Some(offset) = frame.module_offset() {
        write!(text, "{offset:#8x} - ")?;
    }
    let module = frame
        .module()
        .name()
        .map_or_else(|| "<unknown>".into(), name);
    write!(text, "{module}!")?;
    match frame.func_name() {
        Some(function) => text.write_str(&name(function)),
        None => write!(text, "<wasm function {}>", frame.func_index()),
    }
}

/// A name as it may be shown.
fn name(raw: &str) -> String {
    let mut shown = Bounded::new(MAX_NAME_BYTES);
    let is_short = raw.len() <= MAX_NAME_BYTES;
    let demangled = is_short.then(|| rustc_demangle::try_demangle(raw).ok());
    // What does not fit is cut, wherever the writing stopped.
    let _ = match demangled.flatten() {
        // Without the hash.
        Some(rust) => write!(shown, "{rust:#}"),
        None => shown.write_str(raw),
    };
    if shown.is_full {
        shown.text.push('…');
    }
    shown.text.chars().map(printable).collect()
}

/// What would start a new line, turn the direction of writing or hide itself is shown as unknown.
fn printable(c: char) -> char {
    let is_hidden = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    if c.is_control() || is_hidden {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

/// A text that takes so many bytes and then fails, which ends the writing.
struct Bounded {
    text: String,
    room: usize,
    is_full: bool,
}

impl Bounded {
    fn new(room: usize) -> Self {
        Self {
            text: String::new(),
            room,
            is_full: false,
        }
    }
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if more.len() <= self.room {
            self.text.push_str(more);
            self.room -= more.len();
            return Ok(());
        }
        self.text
            .push_str(&more[..more.floor_char_boundary(self.room)]);
        self.room = 0;
        self.is_full = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rust_are_readable() {
        assert_eq!(
            name("_ZN5hello5Hello7on_text17h0123456789abcdefE"),
            "hello::Hello::on_text"
        );
        assert_eq!(name("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(name("handle"), "handle");
    }

    #[test]
    fn a_name_that_stands_for_gigabytes_stays_as_short_as_it_is() {
        // pair<pair<pair<…>, pair<…>>, …>: each substitution stands for twice what the one before does.
        let steps: String = (0..16)
            .map(|step| format!("S_IS{step:X}_S{step:X}_E"))
            .collect();
        let doubling = format!("_Z1fSt4pairIiiE{steps}");
        let shown = name(&doubling);
        assert_eq!(shown, doubling);
    }

    #[test]
    fn long_and_hidden_names_are_cut_and_shown() {
        assert_eq!(
            name(&"x".repeat(1 << 20)).len(),
            MAX_NAME_BYTES + '…'.len_utf8()
        );
        assert_eq!(
            name("a\n0: fake!frame\u{202e}"),
            "a\u{fffd}0: fake!frame\u{fffd}"
        );
        // A name that Rust's scheme would make longer.
        let legacy = format!("_ZN{}17h0123456789abcdefE", "4$LT$".repeat(40));
        assert!(name(&legacy).len() <= MAX_NAME_BYTES + '…'.len_utf8());
    }
}
