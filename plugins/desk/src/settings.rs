//! The settings, as `schema.json` describes them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// All settings.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Settings {
    /// Greets who follows the account.
    pub(crate) welcome: Option<String>,
    /// Greets who comes by a QR code, by scene value.
    pub(crate) scenes: BTreeMap<String, String>,
    /// What the desk knows; the first match answers.
    pub(crate) topics: Vec<Topic>,
    /// Ask for more about the last topic.
    pub(crate) more_keywords: Words,
    /// When people take over.
    pub(crate) human: Human,
    /// Answers a text that nothing fits.
    pub(crate) fallback: Option<String>,
}

/// Something that users ask about.
#[derive(Deserialize)]
pub(crate) struct Topic {
    /// For the memory of the desk.
    pub(crate) name: String,
    /// Words in a user's text.
    #[serde(default)]
    pub(crate) keywords: Words,
    /// Keys of menu buttons.
    #[serde(default)]
    pub(crate) menu_keys: Words,
    /// The answer.
    pub(crate) reply: String,
    /// The answer to who wants to know more.
    pub(crate) more: Option<String>,
}

/// When people take over.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Human {
    /// Words in a user's text.
    pub(crate) keywords: Words,
    /// Keys of menu buttons.
    pub(crate) menu_keys: Words,
    /// One agent; without it, whoever is free.
    pub(crate) account: Option<String>,
}

/// Words to look for.
#[derive(Deserialize, Default)]
pub(crate) struct Words(Vec<String>);

impl Words {
    /// Whether a text contains one of the words; ASCII case does not matter. Chinese has no spaces
    /// between words, so where a word begins and ends is not looked at.
    pub(crate) fn match_text(&self, text: &str) -> bool {
        let text = text.as_bytes();
        self.0.iter().any(|word| {
            let word = word.as_bytes();
            !word.is_empty()
                && text
                    .windows(word.len())
                    .any(|part| part.eq_ignore_ascii_case(word))
        })
    }

    /// Whether this is one of the words.
    pub(crate) fn contain(&self, word: &str) -> bool {
        self.0.iter().any(|known| known == word)
    }
}
