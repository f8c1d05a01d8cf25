//! The smallest plugin: it answers what a user writes.

use wxhost_sdk::prelude::*;

/// Answers texts, and leaves everything else unanswered.
pub struct Hello;

impl CallbackHandler for Hello {
    fn on_text(_: &Event, text: &Text) -> Result {
        Reply::text(format!("You wrote: {}", text.content)).into()
    }
}

wxhost_sdk::register!(Hello, manifest = include_str!("../plugin.toml"));

#[cfg(test)]
mod tests {
    use super::Hello;
    use wxhost_sdk::testing::{self, TestHost};

    #[test]
    fn a_text_is_answered_and_nothing_else() {
        let mut host = TestHost::new();
        let answer = host.deliver::<Hello>(&testing::text("hi"));
        assert_eq!(answer.reply_text(), Some("You wrote: hi"));
        assert_eq!(host.deliver::<Hello>(&testing::click("KEY")).reply(), None);
    }
}
