//! Secrets are filled in here, at the host's edge, and taken out again where an answer echoes them.
//!
//! A plugin holds references (`{{secret:NAME}}`, see `config.secret` in the contract). Only what goes
//! out has the secret itself.

use std::collections::{BTreeSet, HashMap};

use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};

use super::EgressError;

/// How a reference begins and ends.
const OPENING: &[u8] = b"{{secret:";
const CLOSING: &[u8] = b"}}";

/// Longest name of a secret, in bytes; deployments refuse longer ones.
const MAX_NAME_BYTES: usize = 64;

/// Shorter secrets are not looked for in answers: text would match them by accident.
const MIN_ECHO_BYTES: usize = 8;

/// The secrets of a deployment, and which of them a request has used.
pub(super) struct SecretFiller<'a> {
    secrets: &'a HashMap<String, SecretString>,
    used: BTreeSet<&'a str>,
}

/// Bytes as they go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) bytes: Vec<u8>,
    /// Whether a secret is among them.
    pub(super) secret: bool,
}

impl<'a> SecretFiller<'a> {
    pub(super) fn new(secrets: &'a HashMap<String, SecretString>) -> Self {
        Self {
            secrets,
            used: BTreeSet::new(),
        }
    }

    /// Replaces every reference in `text`. `part` names the part of the request, for errors; the whole
    /// may have `most` bytes. What only looks like a reference stays as it is.
    pub(super) fn fill(
        &mut self,
        part: &str,
        text: Vec<u8>,
        most: usize,
    ) -> Result<Filled, EgressError> {
        if memmem::find(&text, OPENING).is_none() {
            return bounded(part, text, most).map(|bytes| Filled {
                bytes,
                secret: false,
            });
        }
        let mut bytes = Vec::with_capacity(text.len());
        let mut secret = false;
        let mut rest = text.as_slice();
        while let Some(at) = memmem::find(rest, OPENING) {
            let (before, reference) = rest.split_at(at);
            bytes.extend_from_slice(before);
            if let Some(name) = name_of(reference) {
                bytes.extend_from_slice(self.value(name)?.expose_secret().as_bytes());
                rest = &reference[OPENING.len() + name.len() + CLOSING.len()..];
                secret = true;
            } else {
                bytes.extend_from_slice(OPENING);
                rest = &reference[OPENING.len()..];
            }
            // Each time, not in the end: a small body can name a large secret a thousand times.
            bytes = bounded(part, bytes, most)?;
        }
        bytes.extend_from_slice(rest);
        let bytes = bounded(part, bytes, most)?;
        Ok(Filled { bytes, secret })
    }

    fn value(&mut self, name: &str) -> Result<&'a SecretString, EgressError> {
        let unknown = || EgressError::UnknownSecret(name.to_owned());
        let (name, value) = self.secrets.get_key_value(name).ok_or_else(unknown)?;
        self.used.insert(name);
        Ok(value)
    }

    /// Puts references back where an answer repeats a secret that was sent, so that an echo does not
    /// carry it into the plugin.
    pub(super) fn mask(&self, mut text: Vec<u8>) -> Vec<u8> {
        for name in &self.used {
            let Some(secret) = self.secrets.get(*name) else {
                continue;
            };
            let secret = secret.expose_secret().as_bytes();
            if secret.len() < MIN_ECHO_BYTES || memmem::find(&text, secret).is_none() {
                continue;
            }
            let mut masked = Vec::with_capacity(text.len());
            let mut copied = 0;
            for at in memmem::find_iter(&text, secret) {
                masked.extend_from_slice(&text[copied..at]);
                masked.extend_from_slice(OPENING);
                masked.extend_from_slice(name.as_bytes());
                masked.extend_from_slice(CLOSING);
                copied = at + secret.len();
            }
            masked.extend_from_slice(&text[copied..]);
            text = masked;
        }
        text
    }
}

/// The name in a reference that begins where `text` does.
fn name_of(text: &[u8]) -> Option<&str> {
    let rest = text.strip_prefix(OPENING)?;
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES + CLOSING.len())];
    let name = &rest[..memmem::find(rest, CLOSING)?];
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || !name.iter().all(allowed) {
        return None;
    }
    std::str::from_utf8(name).ok()
}

fn bounded(part: &str, bytes: Vec<u8>, most: usize) -> Result<Vec<u8>, EgressError> {
    if bytes.len() > most {
        let reason = format!("{part}: more than {most} bytes, secrets included");
        return Err(EgressError::InvalidArgument(reason));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> HashMap<String, SecretString> {
        [
            ("erp.key", "s3cr3t-of-the-erp"),
            ("short", "abc"),
            ("nested", "{{secret:erp.key}}"),
            ("large", &"x".repeat(4096)),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into()
    }

    #[track_caller]
    fn filled(text: &str, expected: &str, secret: bool) {
        let secrets = secrets();
        let filled = SecretFiller::new(&secrets).fill("body", text.into(), 1024);
        let bytes = expected.as_bytes().to_vec();
        assert_eq!(filled, Ok(Filled { bytes, secret }), "{text}");
    }

    #[test]
    fn references_are_replaced() {
        filled("", "", false);
        filled("nothing", "nothing", false);
        filled("{{secret:short}}", "abc", true);
        filled(
            "a {{secret:short}} b {{secret:short}}{{secret:erp.key}}c",
            "a abc b abcs3cr3t-of-the-erpc",
            true,
        );
        filled("{{{secret:short}}}", "{abc}", true);
    }

    #[test]
    fn what_only_looks_like_a_reference_stays() {
        for text in [
            "{{secret:",
            "{{secret:}}",
            "{{secret:a b}}",
            "{{secret:short}",
            "{{ secret:short}}",
        ] {
            filled(text, text, false);
        }
        filled("{{secret:{{secret:short}}", "{{secret:abc", true);
        let long = format!("{{{{secret:{}}}}}", "n".repeat(65));
        filled(&long, &long, false);
    }

    #[test]
    fn secrets_are_not_filled_in_within_secrets() {
        filled("{{secret:nested}}", "{{secret:erp.key}}", true);
    }

    #[test]
    fn unknown_names_are_refused() {
        let secrets = secrets();
        let refused = SecretFiller::new(&secrets).fill("body", b"{{secret:other}}".to_vec(), 1024);
        assert_eq!(refused, Err(EgressError::UnknownSecret("other".to_owned())));
    }

    #[test]
    fn many_references_to_a_large_secret_cannot_fill_the_memory() {
        let secrets = secrets();
        let bomb = "{{secret:large}}".repeat(10_000).into_bytes();
        let refused = SecretFiller::new(&secrets).fill("body", bomb, 256 * 1024);
        assert!(
            matches!(refused, Err(EgressError::InvalidArgument(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn echoes_of_what_was_sent_become_references() {
        let secrets = secrets();
        let mut filler = SecretFiller::new(&secrets);
        let echo = b"key=s3cr3t-of-the-erp, again s3cr3t-of-the-erp; abc".to_vec();
        assert_eq!(filler.mask(echo.clone()), echo, "nothing was sent yet");
        let sent = b"{{secret:erp.key}} {{secret:short}}".to_vec();
        filler.fill("body", sent, 1024).expect("filled");
        let masked = String::from_utf8(filler.mask(echo)).expect("text");
        assert_eq!(
            masked,
            "key={{secret:erp.key}}, again {{secret:erp.key}}; abc"
        );
    }
}
