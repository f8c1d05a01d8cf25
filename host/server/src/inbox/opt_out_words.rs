//! The words by which contacts stop and resume an account's messages (退订). The host answers them itself,
//! before the plugin, so that they work whatever the plugin does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::settings::MAX_FALLBACK_BYTES;

/// Words of each kind.
const MAX_WORDS: usize = 20;
/// Bytes of a word.
const MAX_WORD_BYTES: usize = 64;

/// Words that stop and resume messages, and what is answered to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OptOutWords {
    /// Whoever writes one of these gets no more messages. 1 to 20.
    #[schema(example = json!(["0", "TD", "退订"]))]
    pub stop: Vec<String>,
    /// Whoever writes one of these gets them again. 20 at most.
    #[schema(example = json!(["1"]))]
    pub resume: Vec<String>,
    /// What is answered to who stops.
    #[schema(example = "已取消接收信息，回复1重新接收。")]
    pub stopped: String,
    /// What is answered to who resumes.
    #[schema(example = "已恢复接收信息，回复0取消接收。")]
    pub resumed: String,
}

/// What a contact asks for by such a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// No more messages.
    Stop,
    /// Messages again.
    Resume,
}

impl OptOutWords {
    /// What a text asks for, if it is one of the words: whole, letters alike in both cases and widths.
    pub fn asked(&self, text: &str) -> Option<Asked> {
        let text = plain(text);
        let is_among = |words: &[String]| words.iter().any(|word| plain(word) == text);
        match () {
            () if is_among(&self.stop) => Some(Asked::Stop),
            () if is_among(&self.resume) => Some(Asked::Resume),
            () => None,
        }
    }

    /// What is answered.
    pub fn answer(&self, asked: Asked) -> &str {
        match asked {
            Asked::Stop => &self.stopped,
            Asked::Resume => &self.resumed,
        }
    }

    /// Refuses what nobody could mean.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.stop.is_empty() {
            return Err("stop needs a word at least".to_owned());
        }
        for (name, words) in [("stop", &self.stop), ("resume", &self.resume)] {
            if words.len() > MAX_WORDS {
                return Err(format!(
                    "{name} has {} words; {MAX_WORDS} at most",
                    words.len()
                ));
            }
            let is_word = |word: &String| (1..=MAX_WORD_BYTES).contains(&plain(word).len());
            if !words.iter().all(is_word) {
                return Err(format!(
                    "words of {name} must have 1 to {MAX_WORD_BYTES} bytes"
                ));
            }
        }
        if let Some(word) = self
            .resume
            .iter()
            .find(|word| self.asked(word) == Some(Asked::Stop))
        {
            return Err(format!("{word:?} both stops and resumes"));
        }
        for (name, text) in [("stopped", &self.stopped), ("resumed", &self.resumed)] {
            if !(1..=MAX_FALLBACK_BYTES).contains(&text.len()) {
                return Err(format!("{name} must have 1 to {MAX_FALLBACK_BYTES} bytes"));
            }
        }
        Ok(())
    }
}

/// A text as it is compared: without space around it, in lower case, letters and digits of full width as
/// those of half.
fn plain(text: &str) -> String {
    const WIDER: u32 = 0xfee0;
    let narrow = |letter: char| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - WIDER).unwrap_or(letter),
        letter => letter,
    };
    let text: String = text.trim().chars().map(narrow).collect();
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> OptOutWords {
        OptOutWords {
            stop: vec!["0".into(), "TD".into(), "退订".into()],
            resume: vec!["1".into()],
            stopped: "stopped".into(),
            resumed: "resumed".into(),
        }
    }

    #[test]
    fn a_word_is_known_however_it_is_typed_and_nothing_else_is() {
        let words = words();
        for text in ["0", " 0\n", "０", "td", "ＴＤ", "退订"] {
            assert_eq!(words.asked(text), Some(Asked::Stop), "{text:?}");
        }
        assert_eq!(words.asked("１"), Some(Asked::Resume));
        for text in ["00", "0.", "退订吗", "", "10"] {
            assert_eq!(words.asked(text), None, "{text:?}");
        }
        assert_eq!(words.answer(Asked::Resume), "resumed");
    }

    #[test]
    fn words_that_nobody_could_mean_are_refused() {
        assert_eq!(words().check(), Ok(()));
        let wrong = |change: fn(&mut OptOutWords), part: &str| {
            let mut words = words();
            change(&mut words);
            let error = words.check().expect_err(part);
            assert!(error.contains(part), "{error}");
        };
        wrong(|words| words.stop.clear(), "stop needs a word");
        wrong(
            |words| words.resume.push("td".into()),
            "both stops and resumes",
        );
        wrong(|words| words.stop.push("  ".into()), "words of stop");
        wrong(|words| words.stopped.clear(), "stopped must have");
        wrong(
            |words| words.resume = vec!["a".into(); 21],
            "resume has 21 words",
        );
    }
}
