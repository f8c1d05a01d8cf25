//! Callbacks that are authentic and can't be read all the same.
//!
//! WeChat would only send the same again and tell the contact that the service is broken, so they are
//! acknowledged. The operator is told by a call record: why, and what the body looks like, without what
//! people wrote.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use wxhost_wechat::body::BodyError;
use wxhost_wechat::envelope::{Authentic, CallbackQuery};

use super::{CallbackLane, Reception, nonce_covers, nonce_kept};
use crate::accounts::Account;
use crate::db::calls::{Callee, Entry, Record};
use crate::inbox::{Answer, UsedNonce, body_hash};

/// How such a callback ends in its record, and what kind of event it is there.
const UNREADABLE: &str = "unreadable";
/// Bytes of a body that are outlined.
const MAX_OUTLINED_BYTES: usize = 2048;
/// Longest name of a field that an outline shows; a longer one is no name of WeChat's.
const MAX_NAME_BYTES: usize = 40;

/// A callback that can't be read.
#[derive(Debug)]
pub struct Unreadable<'a> {
    /// The account that it is for.
    pub account: Arc<Account>,
    /// Its query.
    pub query: &'a CallbackQuery<'a>,
    /// What was opened.
    pub opened: Authentic,
    /// Why it can't be read.
    pub reason: BodyError,
    /// Trace that the delivery belongs to.
    pub trace_id: String,
}

impl CallbackLane {
    /// Records a callback that can't be read, and acknowledges it.
    pub fn note_unreadable(&self, unreadable: Unreadable<'_>) -> Reception {
        let Unreadable {
            account,
            query,
            opened,
            reason,
            trace_id,
        } = unreadable;
        let hash = body_hash(&opened.clear);
        let used = UsedNonce {
            app_id: account.app_id.as_str(),
            timestamp: query.timestamp.as_deref().unwrap_or_default(),
            nonce: query.nonce.as_deref().unwrap_or_default(),
        };
        let kept = nonce_kept(&account);
        if nonce_covers(&opened) && !self.nonces.admit(used, hash, kept, Instant::now()) {
            return Reception::Replayed;
        }
        tracing::warn!(
            account.app_id = %account.app_id,
            trace_id,
            code = reason.code(),
            bytes = opened.clear.len(),
            "a callback can't be read; it was acknowledged, and its record shows what it looks like"
        );
        self.services.metrics.count_call(UNREADABLE);
        let event_id = format!("u:{hash:016x}");
        let entry = Entry {
            event_id: event_id.into(),
            event_kind: UNREADABLE.into(),
            outcome: UNREADABLE.into(),
            error: Some(format!("{}: {reason}", reason.code()).into()),
            log: Some(outline(&opened.clear).into()),
            duration_us: 0,
            runs: 0,
            trace_id: trace_id.into(),
            created_at: self.services.clock.now_ms(),
        };
        let deployment = account.plugin.deployment.as_ref();
        let callee = Callee {
            app_id: account.app_id.clone(),
            version: deployment.map(|d| d.version).unwrap_or_default(),
            digest: deployment.map(|deployment| deployment.digest),
        };
        self.services
            .records
            .add(Record::new(callee, UNREADABLE.into(), &entry));
        Reception::Answered(Answer::nothing())
    }
}

/// What a body looks like: markup and names as they are, letters as `x`, digits as `0`, characters
/// beyond ASCII as `字`, control characters and what is no UTF-8 by their codes.
fn outline(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_OUTLINED_BYTES)]);
    let mut out = format!("{} bytes: ", body.len());
    let mut rest = &*text;
    while let Some(character) = rest.chars().next() {
        let shown = shown_as_it_is(rest);
        if shown > 0 {
            out.push_str(&rest[..shown]);
            rest = &rest[shown..];
            continue;
        }
        match character {
            'a'..='z' | 'A'..='Z' => out.push('x'),
            '0'..='9' => out.push('0'),
            ' '..='~' => out.push(character),
            // Writing to a String can't fail.
            '\0'..='\u{9f}' | '\u{fffd}' => drop(write!(out, "\\u{{{:x}}}", u32::from(character))),
            _ => out.push('字'),
        }
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// How many bytes at the beginning are markup, or a field's name with it.
fn shown_as_it_is(text: &str) -> usize {
    const SECTION: &str = "<![CDATA[";
    if text.starts_with(SECTION) {
        return SECTION.len();
    }
    let is_name = |name: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_plain)
    };
    let length = |name: &str, before: usize, after: usize| match is_name(name) {
        true => before + name.len() + after,
        false => 0,
    };
    if let Some((name, _)) = text
        .strip_prefix("</")
        .and_then(|rest| rest.split_once('>'))
    {
        return length(name, 2, 1);
    }
    if let Some((name, _)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        return length(name, 1, 1);
    }
    // A name in JSON is followed by a colon, a value is not.
    match text
        .strip_prefix('"')
        .and_then(|rest| rest.split_once("\":"))
    {
        Some((name, _)) => length(name, 1, 2),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_shows_markup_and_names_and_nothing_that_people_wrote() {
        for (body, expected) in [
            (
                "<xml><Content><![CDATA[my pin is 1234, 你好]]></Contents>",
                "59 bytes: <xml><Content><![CDATA[xx xxx xx 0000, 字字]]></Contents>",
            ),
            (
                r#"{"Content":"secret","MsgId":12"#,
                r#"30 bytes: {"Content":"xxxxxx","MsgId":00"#,
            ),
            ("<a b='c'>\u{1}", "10 bytes: <x x='x'>\\u{1}"),
        ] {
            assert_eq!(outline(body.as_bytes()), expected);
        }
        assert_eq!(outline(b"\xff"), "1 bytes: \\u{fffd}");
        let long = outline(&[b'a'; 1 << 20]);
        assert!(long.len() < 4096, "{}", long.len());
    }
}
