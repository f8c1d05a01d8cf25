//! What an attacker, or a broken copy of WeChat, sends. A host that runs a plugin for one of these is
//! broken.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::Mode;

use crate::{Callback, Envelope, Environment, SimulatedAccount, Stamp};

/// How far a stale or early timestamp is off, in seconds: far outside the usual window of 300.
const OFF_SECONDS: u64 = 3600;

/// Bytes of the text that makes a body too large: 2 MiB, twice what a host needs to take.
const LARGE_BYTES: usize = 2 << 20;

/// Bytes of an AES block.
const CIPHER_BLOCK_BYTES: usize = 16;

/// A way to make a callback wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// The last digit of each signature is another one.
    BadSignature,
    /// No signature at all.
    NoSignature,
    /// Rightly signed, an hour ago.
    StaleTimestamp,
    /// Rightly signed, an hour ahead.
    EarlyTimestamp,
    /// In clear with a right plain signature, whatever the account's mode is.
    Plaintext,
    /// Encrypted with the right key for another AppId.
    ForeignAppId,
    /// Rightly signed, for another account's original id.
    ForeignReceiver,
    /// A ciphertext with its last block damaged, signed with the right token.
    BadPadding,
    /// A ciphertext that is no Base64, signed with the right token.
    BadBase64,
    /// A body with a DOCTYPE that declares an entity, rightly signed.
    Doctype,
    /// A body of 2 MiB, rightly signed.
    TooLarge,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BadSignature,
        Self::NoSignature,
        Self::StaleTimestamp,
        Self::EarlyTimestamp,
        Self::Plaintext,
        Self::ForeignAppId,
        Self::ForeignReceiver,
        Self::BadPadding,
        Self::BadBase64,
        Self::Doctype,
        Self::TooLarge,
    ];

    /// Its name for people and command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadSignature => "bad-signature",
            Self::NoSignature => "no-signature",
            Self::StaleTimestamp => "stale-timestamp",
            Self::EarlyTimestamp => "early-timestamp",
            Self::Plaintext => "plaintext",
            Self::ForeignAppId => "foreign-app-id",
            Self::ForeignReceiver => "foreign-receiver",
            Self::BadPadding => "bad-padding",
            Self::BadBase64 => "bad-base64",
            Self::Doctype => "doctype",
            Self::TooLarge => "too-large",
        }
    }

    /// The HTTP status that the host owes it.
    pub fn deserved_status(self) -> u16 {
        match self {
            Self::BadSignature
            | Self::NoSignature
            | Self::StaleTimestamp
            | Self::EarlyTimestamp
            | Self::Plaintext => 403,
            Self::ForeignAppId
            | Self::ForeignReceiver
            | Self::BadPadding
            | Self::BadBase64
            | Self::Doctype => 400,
            Self::TooLarge => 413,
        }
    }

    /// Whether a host must refuse it from an account in this mode.
    pub fn applies_to(self, mode: Mode) -> bool {
        match self {
            Self::Plaintext => mode == Mode::Safe,
            Self::ForeignAppId | Self::BadPadding | Self::BadBase64 => mode != Mode::Plain,
            _ => true,
        }
    }

    /// The forged request.
    pub fn craft(
        self,
        account: &SimulatedAccount,
        callback: &Callback,
        environment: &dyn Environment,
    ) -> Envelope {
        let stamp = self.stamp(environment);
        let seal = |account: &SimulatedAccount, callback: &Callback| {
            Envelope::seal(account, callback, &stamp, environment)
        };
        let stranger = || SimulatedAccount::register("", account.mode, environment);
        match self {
            Self::StaleTimestamp | Self::EarlyTimestamp => seal(account, callback),
            Self::BadSignature => with_bad_signatures(seal(account, callback)),
            Self::NoSignature => without_signatures(seal(account, callback)),
            Self::Plaintext => Envelope::signed(account, callback, &stamp),
            Self::ForeignAppId => {
                let mut account = account.clone();
                account.app_id = stranger().app_id;
                seal(&account, callback)
            }
            Self::ForeignReceiver => seal(
                account,
                &callback.clone().addressed_to(stranger().original_id),
            ),
            Self::BadPadding => with_ciphertext(account, callback, &stamp, environment, damaged),
            Self::BadBase64 => with_ciphertext(account, callback, &stamp, environment, |encrypt| {
                format!("*{}", &encrypt[1..])
            }),
            Self::Doctype => {
                let bomb = "<!DOCTYPE xml [<!ENTITY a \"aaaaaaaaaa\">]><xml>";
                with_head(seal(account, callback), bomb)
            }
            Self::TooLarge => {
                let filler = format!("<xml><Filler>{}</Filler>", "x".repeat(LARGE_BYTES));
                with_head(seal(account, callback), &filler)
            }
        }
    }

    fn stamp(self, environment: &dyn Environment) -> Stamp {
        let now = environment.unix_seconds();
        let timestamp = match self {
            Self::StaleTimestamp => now.saturating_sub(OFF_SECONDS),
            Self::EarlyTimestamp => now + OFF_SECONDS,
            _ => now,
        };
        Stamp {
            timestamp: timestamp.to_string(),
            ..Stamp::fresh(environment)
        }
    }
}

impl Envelope {
    /// Another callback under the timestamp and nonce of this one, with right signatures. In clear it is
    /// a replay with another body, owed a 403. Sealed, the signature covers the body, and only WeChat can
    /// have made it: so may be a re-send, sealed anew.
    #[must_use]
    pub fn replayed_with(
        &self,
        account: &SimulatedAccount,
        other: &Callback,
        environment: &dyn Environment,
    ) -> Self {
        Self::seal(account, other, &self.stamp(), environment)
    }
}

fn with_bad_signatures(mut envelope: Envelope) -> Envelope {
    for name in ["signature", "msg_signature"] {
        if let Some(signature) = envelope.parameter_mut(name) {
            let other = if signature.ends_with('0') { '1' } else { '0' };
            signature.pop();
            signature.push(other);
        }
    }
    envelope
}

fn without_signatures(mut envelope: Envelope) -> Envelope {
    envelope
        .query
        .retain(|(name, _)| !matches!(*name, "signature" | "msg_signature"));
    envelope
}

/// Encrypts, spoils the ciphertext and signs what came of it.
fn with_ciphertext(
    account: &SimulatedAccount,
    callback: &Callback,
    stamp: &Stamp,
    environment: &dyn Environment,
    spoil: impl FnOnce(&str) -> String,
) -> Envelope {
    let encrypt = MessageCipher::new(&account.aes_key).encrypt(
        environment.envelope_head(),
        &callback.to_clear(),
        account.app_id.as_str(),
    );
    let mut envelope = Envelope::signed(account, callback, stamp);
    envelope.enclose(account, callback, stamp, &spoil(&encrypt));
    envelope
}

/// Puts something else where the XML begins.
fn with_head(mut envelope: Envelope, head: &str) -> Envelope {
    let rest = envelope.body.strip_prefix(b"<xml>");
    envelope.body = [head.as_bytes(), rest.unwrap_or(&envelope.body)].concat();
    envelope
}

/// Flips the top bit of the last byte before the last cipher block. In CBC the same bit of the last
/// byte of all flips with it, and that byte is the padding's length: now above 128.
fn damaged(encrypt: &str) -> String {
    let mut bytes = BASE64.decode(encrypt).expect("own Base64 decodes");
    let place = bytes.len() - CIPHER_BLOCK_BYTES - 1;
    bytes[place] ^= 0x80;
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wxhost_wechat::envelope::{self, CallbackKeys, CallbackQuery, Receiver, ReceiverSettings};
    use wxhost_wechat::id::OpenId;

    use super::*;
    use crate::{SeededEnvironment, UserAction};

    const NOW: u64 = 1_700_000_000;

    fn receiver(account: &SimulatedAccount) -> Receiver {
        Receiver::new(ReceiverSettings {
            app_id: account.app_id.clone(),
            original_id: Some(account.original_id.clone()),
            mode: account.mode,
            keys: CallbackKeys {
                token: account.token.clone(),
                current: Some(account.aes_key.clone()),
                previous: None,
            },
            window_seconds: 300,
        })
        .unwrap()
    }

    /// The status that a careful host answers with.
    fn status(account: &SimulatedAccount, envelope: &Envelope) -> u16 {
        let query: Vec<String> = envelope
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let query = query.join("&");
        let query = CallbackQuery::parse(&query);
        let body = envelope.body.as_slice();
        let now = i64::try_from(NOW).unwrap();
        match envelope::open(&receiver(account), &query, body, now) {
            Ok(_) => 200,
            Err(error) => error.class().status(),
        }
    }

    #[test]
    fn what_is_genuine_opens_and_each_forgery_gets_what_it_deserves() {
        let stage = SeededEnvironment::new(Duration::from_secs(NOW), 1);
        let user = OpenId::parse("oUser").unwrap();
        for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
            let account = SimulatedAccount::register("", mode, &stage);
            let callback = Callback::compose(&account, &user, &UserAction::text("a"), &stage);
            let genuine = Envelope::seal(&account, &callback, &Stamp::fresh(&stage), &stage);
            assert_eq!(status(&account, &genuine), 200, "{mode:?}");
            for forgery in Forgery::ALL {
                if !forgery.applies_to(mode) {
                    continue;
                }
                let envelope = forgery.craft(&account, &callback, &stage);
                let deserved = forgery.deserved_status();
                assert_eq!(
                    status(&account, &envelope),
                    deserved,
                    "{mode:?} {forgery:?}"
                );
            }
        }
    }

    #[test]
    fn a_replay_keeps_the_stamp_and_has_another_body() {
        let stage = SeededEnvironment::new(Duration::from_secs(NOW), 1);
        let user = OpenId::parse("oUser").unwrap();
        let account = SimulatedAccount::register("", Mode::Safe, &stage);
        let compose = |text| Callback::compose(&account, &user, &UserAction::text(text), &stage);
        let first = Envelope::seal(&account, &compose("a"), &Stamp::fresh(&stage), &stage);
        let replay = first.replayed_with(&account, &compose("b"), &stage);
        assert_eq!(first.stamp(), replay.stamp());
        assert_eq!(first.parameter("signature"), replay.parameter("signature"));
        assert_ne!(first.body, replay.body);
    }
}
