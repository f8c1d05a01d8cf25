//! A callback ready to be posted: the signed query and the body, encrypted where the mode asks for it.

use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::signature;

use crate::{Callback, Environment, SimulatedAccount};

/// What a signature covers besides the token: when, and a number used once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Unix seconds, in digits.
    pub timestamp: String,
    /// 9 or 10 digits.
    pub nonce: String,
}

impl Stamp {
    /// Now, and a new nonce.
    pub fn fresh(environment: &dyn Environment) -> Self {
        Self {
            timestamp: environment.unix_seconds().to_string(),
            nonce: environment.nonce(),
        }
    }
}

/// A request as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Query parameters in WeChat's order, not yet percent-encoded.
    pub query: Vec<(&'static str, String)>,
    /// The body of the POST.
    pub body: Vec<u8>,
}

impl Envelope {
    /// Signs a callback with the account's token, and encrypts it unless the mode is plain.
    pub fn seal(
        account: &SimulatedAccount,
        callback: &Callback,
        stamp: &Stamp,
        environment: &dyn Environment,
    ) -> Self {
        let mut envelope = Self::signed(account, callback, stamp);
        if account.mode != Mode::Plain {
            let encrypt = MessageCipher::new(&account.aes_key).encrypt(
                environment.envelope_head(),
                &callback.to_clear(),
                account.receive_id().as_str(),
            );
            envelope.enclose(account, callback, stamp, &encrypt);
        }
        envelope
    }

    /// The callback in clear, signed over token, timestamp and nonce: what plain mode sends.
    pub(crate) fn signed(account: &SimulatedAccount, callback: &Callback, stamp: &Stamp) -> Self {
        let signature =
            signature::callback_signature(&account.token, &stamp.timestamp, &stamp.nonce);
        Self {
            query: vec![
                ("signature", signature),
                ("timestamp", stamp.timestamp.clone()),
                ("nonce", stamp.nonce.clone()),
                ("openid", callback.from().to_string()),
            ],
            body: callback.to_clear(),
        }
    }

    /// Puts the ciphertext into the body and its signature into the query.
    pub(crate) fn enclose(
        &mut self,
        account: &SimulatedAccount,
        callback: &Callback,
        stamp: &Stamp,
        encrypt: &str,
    ) {
        let signature =
            signature::message_signature(&account.token, &stamp.timestamp, &stamp.nonce, encrypt);
        self.query.push(("encrypt_type", "aes".to_owned()));
        self.query.push(("msg_signature", signature));
        self.body = callback.to_sealed(encrypt, account.mode == Mode::Compatible);
    }

    /// The stamp it was signed with.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            timestamp: self.parameter("timestamp").unwrap_or_default().to_owned(),
            nonce: self.parameter("nonce").unwrap_or_default().to_owned(),
        }
    }

    /// A query parameter by its name.
    pub fn parameter(&self, wanted: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn parameter_mut(&mut self, wanted: &str) -> Option<&mut String> {
        self.query
            .iter_mut()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wxhost_wechat::id::OpenId;

    use super::*;
    use crate::{SeededEnvironment, UserAction};

    fn names(mode: Mode) -> Vec<&'static str> {
        let stage = SeededEnvironment::new(Duration::from_secs(1_700_000_000), 1);
        let account = SimulatedAccount::register("http://host", mode, &stage);
        let user = OpenId::parse("oUser").unwrap();
        let callback = Callback::compose(&account, &user, &UserAction::text("a"), &stage);
        let envelope = Envelope::seal(&account, &callback, &Stamp::fresh(&stage), &stage);
        let body = String::from_utf8(envelope.body).unwrap();
        let parameters = envelope.query.iter().map(|(name, _)| *name);
        let elements = ["Content", "FromUserName", "ToUserName", "Encrypt"]
            .into_iter()
            .filter(|element| body.contains(&format!("<{element}>")));
        parameters.chain(elements).collect()
    }

    #[test]
    fn each_mode_has_the_parameters_and_elements_of_the_documentation() {
        let signed = ["signature", "timestamp", "nonce", "openid"];
        let sealed = ["encrypt_type", "msg_signature"];
        let clear = ["Content", "FromUserName", "ToUserName"];
        assert_eq!(names(Mode::Plain), [&signed[..], &clear].concat());
        assert_eq!(
            names(Mode::Compatible),
            [&signed[..], &sealed, &clear, &["Encrypt"]].concat()
        );
        assert_eq!(
            names(Mode::Safe),
            [&signed[..], &sealed, &["ToUserName", "Encrypt"]].concat()
        );
    }
}
