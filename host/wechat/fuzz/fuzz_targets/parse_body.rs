//! Any bytes as a body: reading must not panic, and what was read must hold together.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wxhost_wechat::body::{Format, MAX_ELEMENTS};
use wxhost_wechat::message::Message;
use wxhost_wechat::xml;

fuzz_target!(|body: &[u8]| {
    // As an authentic body, which is read leniently.
    if let Ok(message) = Message::read(body) {
        let id = message.event_id();
        assert!(id.len() <= 200 && id.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(message.extra.len() <= MAX_ELEMENTS);
    }
    for format in [Format::Xml, Format::Json] {
        let Ok(tree) = format.parse(body) else {
            continue;
        };
        let fields = tree.flatten();
        assert!(fields.len() <= MAX_ELEMENTS);
        let _ = tree.to_json();

        // Whatever arrived can be written so that it reads back, less what XML can't hold.
        for (_, value) in fields.iter().take(16) {
            let mut written = "<xml><a>".to_owned();
            xml::cdata(&mut written, value);
            written.push_str("</a></xml>");
            let read = xml::parse(written.as_bytes()).expect("our own XML is well-formed");
            let allowed: String = value.chars().filter(|&own| is_allowed(own)).collect();
            assert_eq!(read.text("a"), Some(&*allowed));
        }

        let Ok(message) = Message::from_tree(tree) else {
            continue;
        };
        let id = message.event_id();
        assert!(id.len() <= 200 && id.bytes().all(|byte| byte.is_ascii_graphic()));
        // What is left over is part of what was there, in the same order.
        let mut fields = fields.iter();
        assert!(
            message
                .extra
                .iter()
                .all(|left| fields.any(|field| field == left))
        );
    }
});

/// XML 1.0's `Char`.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}
