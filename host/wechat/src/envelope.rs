//! The exchange with WeChat's servers: a callback is opened, its reply sealed.
//!
//! [`open`] goes from the cheap to the dear and from the outside in: size, parameters, signature, time,
//! decryption, receiver, fields. Nothing of a plain body is read before its signature is right; of a
//! sealed one only its ciphertext is looked for. What is authentic is read leniently, and where it can't
//! be read all the same it is [`OpenError::Unreadable`]: WeChat gets `success` for it, since it would
//! send the same again.
//!
//! ```
//! use wxhost_wechat::envelope::{self, CallbackKeys, CallbackQuery, Mode, Receiver, ReceiverSettings};
//! use wxhost_wechat::{id::AppId, secret::CallbackToken};
//!
//! let receiver = Receiver::new(ReceiverSettings {
//!     app_id: AppId::parse("wx0123456789abcdef")?,
//!     original_id: None,
//!     mode: Mode::Plain,
//!     keys: CallbackKeys { token: CallbackToken::parse("test")?, current: None, previous: None },
//!     window_seconds: 300,
//! })?;
//! let query = CallbackQuery::parse(
//!     "signature=f21891de399b4e33a1a93c9a7b8a8fffb5a443ff&timestamp=1410685589&nonce=test&echostr=42",
//! );
//! assert_eq!(envelope::verify_url(&receiver, &query, 1_410_685_590)?, "42");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod query;
mod receiver;
mod refusal;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub use crate::body::Format;
use crate::body::{BodyError, MAX_BODY_BYTES};
use crate::cipher::MessageCipher;
use crate::lenient::SealedBody;
use crate::message::Message;
use crate::{reply, signature, xml};

pub use query::{CallbackQuery, MAX_QUERY_BYTES};
pub use receiver::{CallbackKeys, KeySlot, Mode, Receiver, ReceiverError, ReceiverSettings};
pub use refusal::{OpenError, Refusal};

/// A callback that is what it claims to be.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The message or event.
    pub message: Message,
    /// The format of the body, which the reply has to have too.
    pub format: Format,
    /// The key that opened it and has to seal the reply; none for a callback in clear.
    pub sealing: Option<KeySlot>,
    /// The body in clear.
    pub clear: Vec<u8>,
}

/// A callback whose signature is right, not read yet.
#[derive(Clone, Debug)]
pub struct Authentic {
    /// The format of the body, which the reply has to have too.
    pub format: Format,
    /// The key that opened it and has to seal the reply; none for a callback in clear.
    pub sealing: Option<KeySlot>,
    /// The body in clear.
    pub clear: Vec<u8>,
}

/// Answers WeChat's check of the URL (GET): what to send back, exactly.
///
/// # Errors
///
/// [`OpenError`]: a parameter is missing, the signature is wrong, or the time is outside the window.
pub fn verify_url<'q>(
    receiver: &Receiver,
    query: &'q CallbackQuery<'_>,
    now_unix: i64,
) -> Result<&'q str, OpenError> {
    let stamp = Stamp::of(query, OpenError::MissingParameter)?;
    let given = query
        .signature
        .as_deref()
        .ok_or(OpenError::MissingParameter("signature"))?;
    let echostr = query
        .echostr
        .as_deref()
        .ok_or(OpenError::MissingParameter("echostr"))?;
    stamp.verify_plain(receiver, given)?;
    stamp.verify_time(receiver, now_unix)?;
    Ok(echostr)
}

/// Opens a callback (POST).
///
/// # Errors
///
/// [`OpenError`]: the first reason to refuse it.
pub fn open(
    receiver: &Receiver,
    query: &CallbackQuery<'_>,
    body: &[u8],
    now_unix: i64,
) -> Result<Opened, OpenError> {
    let authentic = authenticate(receiver, query, body, now_unix)?;
    let message = authentic.read(receiver)?;
    Ok(Opened {
        message,
        format: authentic.format,
        sealing: authentic.sealing,
        clear: authentic.clear,
    })
}

/// Opens a callback (POST) without reading what is inside.
///
/// # Errors
///
/// [`OpenError`]: the first reason to refuse it.
pub fn authenticate(
    receiver: &Receiver,
    query: &CallbackQuery<'_>,
    body: &[u8],
    now_unix: i64,
) -> Result<Authentic, OpenError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge { bytes: body.len() }.into());
    }
    let sealed = receiver.expects_sealed(query.encrypt_type.as_deref())?;
    let stamp = Stamp::of(query, OpenError::Unsigned)?;
    let (clear, sealing) = if sealed {
        let given = query
            .msg_signature
            .as_deref()
            .ok_or(OpenError::Unsigned("msg_signature"))?;
        let body = SealedBody::of(body)?;
        let encrypt = stamp.signed_part(receiver, given, &body)?;
        stamp.verify_time(receiver, now_unix)?;
        let (clear, slot) = decrypt(receiver, encrypt)?;
        (clear, Some(slot))
    } else {
        let given = query
            .signature
            .as_deref()
            .ok_or(OpenError::Unsigned("signature"))?;
        stamp.verify_plain(receiver, given)?;
        stamp.verify_time(receiver, now_unix)?;
        (body.to_vec(), None)
    };
    Ok(Authentic {
        format: Format::of(body),
        sealing,
        clear,
    })
}

impl Authentic {
    /// Reads what is inside.
    ///
    /// # Errors
    ///
    /// [`OpenError::Unreadable`]; or in clear, where no signature covers the body, an attack on XML; or
    /// it is addressed to another account.
    pub fn read(&self, receiver: &Receiver) -> Result<Message, OpenError> {
        let message = Message::read(&self.clear).map_err(|error| match error {
            BodyError::Doctype | BodyError::Instruction if self.sealing.is_none() => {
                OpenError::Body(error)
            }
            _ => OpenError::Unreadable(error),
        })?;
        match receiver.original_id() {
            Some(original_id) if *original_id != message.to_user => Err(OpenError::WrongReceiver),
            _ => Ok(message),
        }
    }
}

/// Refuses a callback for its query alone, so that the body of one that is forged need not be read: what
/// the signatures want is there, the time is right, and so is `signature`, which WeChat sends in every mode
/// and which covers no body. What passes is still to be opened.
///
/// # Errors
///
/// [`OpenError`]: the first reason to refuse it.
pub fn check_query(
    receiver: &Receiver,
    query: &CallbackQuery<'_>,
    now_unix: i64,
) -> Result<(), OpenError> {
    let sealed = receiver.expects_sealed(query.encrypt_type.as_deref())?;
    let stamp = Stamp::of(query, OpenError::Unsigned)?;
    if sealed && query.msg_signature.is_none() {
        return Err(OpenError::Unsigned("msg_signature"));
    }
    match query.signature.as_deref() {
        Some(given) => stamp.verify_plain(receiver, given)?,
        None if sealed => {}
        None => return Err(OpenError::Unsigned("signature")),
    }
    stamp.verify_time(receiver, now_unix)
}

/// Seals a reply with the key that opened the callback. `timestamp` and `nonce` are the replier's
/// choice (the query's will do), the random bytes must be new for every call.
///
/// [`crate::reply::NO_REPLY`] and an empty body are sent in clear, never sealed.
pub fn seal(
    receiver: &Receiver,
    slot: KeySlot,
    format: Format,
    reply: &str,
    timestamp: &str,
    nonce: &str,
    random: [u8; 16],
) -> String {
    let Some(cipher) = receiver.cipher(slot) else {
        // A callback that no key opened has no reply to seal, and nothing leaves in clear instead.
        return reply::NO_REPLY.to_owned();
    };
    let encrypt = cipher.encrypt(random, reply.as_bytes(), receiver.app_id().as_str());
    let signature = signature::message_signature(receiver.token(), timestamp, nonce, &encrypt);
    match format {
        Format::Xml => sealed_xml(&encrypt, &signature, timestamp, nonce),
        Format::Json => sealed_json(&encrypt, &signature, timestamp, nonce),
    }
}

/// The two values of a query that every signature covers.
struct Stamp<'q> {
    timestamp: &'q str,
    nonce: &'q str,
}

impl<'q> Stamp<'q> {
    fn of(
        query: &'q CallbackQuery<'_>,
        missing: fn(&'static str) -> OpenError,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            timestamp: query.timestamp.as_deref().ok_or(missing("timestamp"))?,
            nonce: query.nonce.as_deref().ok_or(missing("nonce"))?,
        })
    }

    fn verify_plain(&self, receiver: &Receiver, given: &str) -> Result<(), OpenError> {
        verify(
            &signature::callback_signature(receiver.token(), self.timestamp, self.nonce),
            given,
        )
    }

    /// The ciphertext that the signature covers.
    fn signed_part<'b>(
        &self,
        receiver: &Receiver,
        given: &str,
        body: &'b SealedBody<'_>,
    ) -> Result<&'b str, OpenError> {
        let token = receiver.token();
        let mut refused = OpenError::PlaintextRefused;
        for encrypt in body.candidates() {
            let expected = signature::message_signature(token, self.timestamp, self.nonce, encrypt);
            match verify(&expected, given) {
                Ok(()) => return Ok(encrypt),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn verify_time(&self, receiver: &Receiver, now_unix: i64) -> Result<(), OpenError> {
        let sent: i64 = self
            .timestamp
            .parse()
            .map_err(|_| OpenError::StaleTimestamp)?;
        if now_unix.abs_diff(sent) > receiver.window_seconds() {
            return Err(OpenError::StaleTimestamp);
        }
        Ok(())
    }
}

fn verify(expected: &str, given: &str) -> Result<(), OpenError> {
    if signature::matches(expected, given) {
        Ok(())
    } else {
        Err(OpenError::BadSignature)
    }
}

/// Tries the current key, then the previous one: after a key change WeChat goes on with the old one
/// for a while.
fn decrypt(receiver: &Receiver, encrypt: &str) -> Result<(Vec<u8>, KeySlot), OpenError> {
    let ciphertext = STANDARD.decode(encrypt).map_err(|_| OpenError::BadBase64)?;
    let mut refused = OpenError::BadEnvelope;
    for (slot, cipher) in receiver.ciphers() {
        match unseal(receiver, cipher, ciphertext.clone()) {
            Ok(clear) => return Ok((clear, slot)),
            // For the log: the key is right and the app id is not.
            Err(OpenError::ForeignAppId) => refused = OpenError::ForeignAppId,
            Err(_) => {}
        }
    }
    Err(refused)
}

fn unseal(
    receiver: &Receiver,
    cipher: &MessageCipher,
    ciphertext: Vec<u8>,
) -> Result<Vec<u8>, OpenError> {
    let plain = cipher.open(ciphertext).ok_or(OpenError::BadEnvelope)?;
    if !plain.is_for(receiver.app_id().as_str()) {
        return Err(OpenError::ForeignAppId);
    }
    Ok(plain.into_message())
}

fn sealed_xml(encrypt: &str, signature: &str, timestamp: &str, nonce: &str) -> String {
    let mut out = String::with_capacity(encrypt.len() + 256);
    // Base64 and hex need no escaping; timestamp and nonce may be the query's.
    out.push_str("<xml>\n<Encrypt><![CDATA[");
    out.push_str(encrypt);
    out.push_str("]]></Encrypt>\n<MsgSignature><![CDATA[");
    out.push_str(signature);
    out.push_str("]]></MsgSignature>\n<TimeStamp>");
    if timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        out.push_str(timestamp);
    } else {
        xml::cdata(&mut out, timestamp);
    }
    out.push_str("</TimeStamp>\n<Nonce>");
    xml::cdata(&mut out, nonce);
    out.push_str("</Nonce>\n</xml>");
    out
}

fn sealed_json(encrypt: &str, signature: &str, timestamp: &str, nonce: &str) -> String {
    let timestamp = timestamp
        .parse::<u64>()
        .map_or_else(|_| timestamp.into(), Value::from);
    json!({
        "Encrypt": encrypt,
        "MsgSignature": signature,
        "TimeStamp": timestamp,
        "Nonce": nonce,
    })
    .to_string()
}
