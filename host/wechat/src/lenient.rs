//! What WeChat really sends: authentic bodies that no format allows.
//!
//! WeChat does not escape `]]>` that a user types, cuts texts inside a character, lets NUL and other
//! control characters through, leaves half a pair of surrogates behind, and old clients wrote text
//! between elements. None of it is a reason to tell a user that the service is broken. So a body whose
//! signature is right is read strictly first, which costs nothing more, and leniently where that fails
//! or leaves room for doubt.
//!
//! **Where a CDATA section ends.** In a field that a user writes (`is_written_by_users`) and that
//! WeChat writes once, at the last `]]></Name>`: whatever the user typed is inside, so it can neither
//! end the field nor add another. In any other field, at the first `]]></Name>`.
//!
//! Everything here takes time in proportion to the body, whatever is in it, and keeps the limits of
//! [`crate::body`].

mod json;
mod section;
mod xml;

use std::borrow::Cow;
use std::iter;

use crate::body::{BYTE_ORDER_MARK, BodyError, Format, MAX_BODY_BYTES};
use crate::message::Message;

pub(crate) use json::mended as mended_json;
pub(crate) use section::is_written_by_users;

/// Reads a callback's body, in whichever format it is.
pub(crate) fn message(body: &[u8]) -> Result<Message, BodyError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge { bytes: body.len() });
    }
    match Format::of(body) {
        Format::Xml => match crate::xml::parse_noting(body) {
            Ok((tree, false)) => Message::from_tree(tree),
            Ok((_, true)) | Err(_) => Message::from_tree(xml::parse(&text(body))?),
        },
        Format::Json => match crate::json::parse(body) {
            Ok(tree) => Message::from_tree(tree),
            Err(_) => {
                let mended = json::mended(body);
                Message::from_tree(crate::json::parse_text(&mended)?)
            }
        },
    }
}

/// A sealed body, of which nothing but the ciphertext is looked at.
///
/// Beside it, compatible mode has the fields in clear, where a user may have written an `Encrypt` of
/// their own. WeChat's comes last; the signature tells which one is meant.
pub(crate) enum SealedBody<'a> {
    /// In XML.
    Xml(Cow<'a, str>),
    /// The ciphertext of one in JSON, whose strings nobody gets out of.
    Json(Option<String>),
}

impl<'a> SealedBody<'a> {
    /// Looks at a body that is not known to be authentic.
    pub(crate) fn of(body: &'a [u8]) -> Result<Self, BodyError> {
        match Format::of(body) {
            Format::Xml => {
                if let Some(error) = xml::refused_head(body) {
                    return Err(error);
                }
                // A ciphertext is ASCII: where the clear part is not UTF-8, it is found all the same.
                let text = std::str::from_utf8(body).map_or_else(|_| text(body), Cow::Borrowed);
                if section::last_encrypt(&text).is_none() {
                    // What is no envelope is refused for what it is.
                    crate::xml::parse(body)?;
                }
                Ok(Self::Xml(text))
            }
            Format::Json => {
                let encrypt = match crate::json::parse(body) {
                    Ok(tree) => tree.text("Encrypt").map(str::to_owned),
                    Err(_) => {
                        let mended = json::mended(body);
                        let tree = crate::json::parse_text(&mended)?;
                        tree.text("Encrypt").map(str::to_owned)
                    }
                };
                Ok(Self::Json(encrypt))
            }
        }
    }

    /// The ciphertexts that it may mean, the likeliest first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &str> {
        let (last, text) = match self {
            Self::Xml(text) => (section::last_encrypt(text), Some(text)),
            Self::Json(encrypt) => (encrypt.as_deref(), None),
        };
        let first = move || {
            let first = section::first_encrypt(text?)?;
            last.is_none_or(|last| last.as_ptr() != first.as_ptr())
                .then_some(first)
        };
        last.into_iter().chain(iter::once_with(first).flatten())
    }
}

/// The body as text: what is not UTF-8 becomes U+FFFD, NUL is dropped.
fn text(body: &[u8]) -> Cow<'_, str> {
    let mut text = String::from_utf8_lossy(body);
    if text.contains('\0') {
        text = Cow::Owned(text.replace('\0', ""));
    }
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)),
        Cow::Owned(text) => Cow::Owned(match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
    }
}
