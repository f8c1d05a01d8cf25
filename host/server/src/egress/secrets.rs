//! Secrets are filled in here, at the host's edge, and taken out again where an answer echoes them.
//!
//! A plugin names a secret by a part of its own ([`Part::Secret`]); texts and bytes are never searched
//! for names, so nothing that a person writes can become a secret. Only what goes out has the secret
//! itself, and only to where the deployment lets it go.

use memchr::memmem;

use super::{EgressError, Part, Target};
use crate::secrets::{Secret, Secrets};

/// Shorter secrets are not looked for in answers: text would match them by accident.
const MIN_ECHO_BYTES: usize = 8;

/// The secrets of a deployment as one request may use them, and which of them it has used.
pub(super) struct SecretFiller<'a> {
    secrets: &'a Secrets,
    target: Target<'a>,
    used: Vec<(&'a str, &'a Secret)>,
}

/// Bytes as they go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) bytes: Vec<u8>,
    /// Whether a secret is among them.
    pub(super) secret: bool,
}

impl<'a> SecretFiller<'a> {
    /// For a request to `target`.
    pub(super) fn new(secrets: &'a Secrets, target: Target<'a>) -> Self {
        Self {
            secrets,
            target,
            used: Vec::new(),
        }
    }

    /// Puts parts together, with secrets where they are named. `what` names the part of the request, for
    /// errors; the whole may have `most` bytes.
    pub(super) fn fill(
        &mut self,
        what: &str,
        parts: Vec<Part>,
        most: usize,
    ) -> Result<Filled, EgressError> {
        // Nearly all have one part, which need not be copied.
        let mut bytes = Vec::new();
        let mut secret = false;
        for part in parts {
            match part {
                Part::Bytes(given) if bytes.is_empty() => bytes = given,
                Part::Bytes(given) => bytes.extend_from_slice(&given),
                Part::Secret(name) => {
                    bytes.extend_from_slice(self.value(&name)?.as_bytes());
                    secret = true;
                }
            }
            // Each time, not in the end: a few parts can name a large secret very often.
            if bytes.len() > most {
                let reason = format!("{what}: more than {most} bytes, secrets included");
                return Err(EgressError::InvalidArgument(reason));
            }
        }
        Ok(Filled { bytes, secret })
    }

    fn value(&mut self, name: &str) -> Result<&'a str, EgressError> {
        let shown = || name.chars().take(64).collect();
        let found = self.secrets.get(name);
        let (name, secret) = found.ok_or_else(|| EgressError::UnknownSecret(shown()))?;
        let Target { tls, host, port } = self.target;
        if !secret.may_go_to(tls, host, port) {
            return Err(EgressError::SecretNotForHost(shown()));
        }
        if self.used.iter().all(|(used, _)| *used != name) {
            self.used.push((name, secret));
            // One secret may be part of another: the longer one is looked for first.
            self.used
                .sort_by_key(|(_, secret)| std::cmp::Reverse(secret.expose().len()));
        }
        Ok(secret.expose())
    }

    /// Whether the request holds a secret.
    pub(super) fn has_filled(&self) -> bool {
        !self.used.is_empty()
    }

    /// Puts a name where an answer repeats a secret that was sent, as it is or as JSON writes it, so that
    /// an echo does not carry it into the plugin.
    pub(super) fn mask(&self, mut text: Vec<u8>) -> Vec<u8> {
        for (name, secret) in &self.used {
            let secret = secret.expose();
            if secret.len() < MIN_ECHO_BYTES {
                continue;
            }
            let name = format!("[secret:{name}]");
            text = replaced(text, secret.as_bytes(), name.as_bytes());
            let json = serde_json::to_string(secret).unwrap_or_default();
            let json = json
                .strip_prefix('"')
                .and_then(|json| json.strip_suffix('"'));
            let json = json.unwrap_or_default();
            for form in [json.to_owned(), json.replace('/', "\\/")] {
                if form != secret {
                    text = replaced(text, form.as_bytes(), name.as_bytes());
                }
            }
        }
        text
    }
}

fn replaced(text: Vec<u8>, what: &[u8], by: &[u8]) -> Vec<u8> {
    if what.is_empty() || memmem::find(&text, what).is_none() {
        return text;
    }
    let mut new = Vec::with_capacity(text.len());
    let mut copied = 0;
    for at in memmem::find_iter(&text, what) {
        new.extend_from_slice(&text[copied..at]);
        new.extend_from_slice(by);
        copied = at + what.len();
    }
    new.extend_from_slice(&text[copied..]);
    new
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::secrets::GivenSecret;

    const ERP: Target<'static> = Target {
        tls: true,
        host: "erp.example",
        port: 443,
    };

    fn secrets() -> Secrets {
        let given = [
            ("erp.key", "s3cr3t-of-the-erp"),
            ("longer", "s3cr3t-of-the-erp-and-more"),
            ("short", "abc"),
            ("odd", "a\"b/c\\d-and-more"),
            ("large", &"x".repeat(4096)),
        ];
        let given = given.map(|(name, value)| {
            let origins = Some(vec!["https://erp.example".to_owned()]);
            let value = value.into();
            (name.to_owned(), GivenSecret { value, origins })
        });
        let given = BTreeMap::from(given);
        Secrets::of(given, &wxhost_runtime::Wanted::default()).expect("secrets")
    }

    fn text(text: &str) -> Part {
        Part::Bytes(text.into())
    }

    fn secret(name: &str) -> Part {
        Part::Secret(name.to_owned())
    }

    #[track_caller]
    fn filled(parts: &[Part], expected: &str, secret: bool) {
        let secrets = secrets();
        let filled = SecretFiller::new(&secrets, ERP).fill("body", parts.to_vec(), 1024);
        let bytes = expected.as_bytes().to_vec();
        assert_eq!(filled, Ok(Filled { bytes, secret }));
    }

    #[test]
    fn secrets_stand_where_parts_name_them() {
        filled(&[], "", false);
        filled(&[text("nothing")], "nothing", false);
        filled(&[secret("short")], "abc", true);
        filled(
            &[text("a "), secret("short"), secret("erp.key"), text("c")],
            "a abcs3cr3t-of-the-erpc",
            true,
        );
        filled(&[secret("short"), text(""), text("d")], "abcd", true);
    }

    #[test]
    fn what_a_person_writes_is_never_taken_for_a_secret() {
        for written in [
            "{{secret:erp.key}}",
            "[secret:erp.key]",
            "erp.key",
            "${erp.key}",
        ] {
            filled(&[text(written)], written, false);
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let secrets = secrets();
        let refused = SecretFiller::new(&secrets, ERP).fill("body", vec![secret("other")], 1024);
        assert_eq!(refused, Err(EgressError::UnknownSecret("other".to_owned())));
    }

    #[test]
    fn a_secret_does_not_go_to_another_host_scheme_or_port() {
        let secrets = secrets();
        for target in [
            Target {
                host: "evil.example",
                ..ERP
            },
            Target { tls: false, ..ERP },
            Target { port: 8443, ..ERP },
        ] {
            let mut filler = SecretFiller::new(&secrets, target);
            let refused = filler.fill("body", vec![secret("short")], 1024);
            let name = "short".to_owned();
            assert_eq!(refused, Err(EgressError::SecretNotForHost(name)));
            assert!(!filler.has_filled());
        }
    }

    #[test]
    fn many_names_of_a_large_secret_cannot_fill_the_memory() {
        let secrets = secrets();
        let bomb = vec![secret("large"); 10_000];
        let refused = SecretFiller::new(&secrets, ERP).fill("body", bomb, 256 * 1024);
        assert!(
            matches!(refused, Err(EgressError::InvalidArgument(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn echoes_of_what_was_sent_become_names() {
        let secrets = secrets();
        let mut filler = SecretFiller::new(&secrets, ERP);
        let echo = b"key=s3cr3t-of-the-erp, again s3cr3t-of-the-erp-and-more; abc".to_vec();
        assert_eq!(filler.mask(echo.clone()), echo, "nothing was sent yet");
        let sent = ["erp.key", "short", "longer", "odd"].map(secret).to_vec();
        filler.fill("body", sent, 1024).expect("filled");
        let masked = String::from_utf8(filler.mask(echo)).expect("text");
        assert_eq!(masked, "key=[secret:erp.key], again [secret:longer]; abc");
        for echo in [
            r#"a"b/c\d-and-more"#,
            r#"a\"b/c\\d-and-more"#,
            r#"a\"b\/c\\d-and-more"#,
        ] {
            assert_eq!(filler.mask(echo.into()), b"[secret:odd]", "{echo}");
        }
    }
}
