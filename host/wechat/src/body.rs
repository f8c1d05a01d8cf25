//! Bodies as they arrive: which of the two formats one is in, what bounds it, why it was refused.
//!
//! Whoever sends a body is hostile until its signature has been checked, and in plain mode afterwards
//! too. [`crate::xml`] and [`crate::json`] do the reading and share the limits here.

use std::fmt;

use crate::tree::Tree;
use crate::{json, xml};

/// Most bytes of a body, sealed or clear. WeChat's own are below 20 KiB.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Most levels of nesting, the root counted. WeChat's deepest event has six.
pub const MAX_DEPTH: usize = 16;
/// Most elements, or JSON values, in a body.
pub const MAX_ELEMENTS: usize = 4096;
/// Most different names inside one element: they are compared pair by pair.
pub const MAX_NAMES: usize = 256;

/// The format of a body; an account gets all its callbacks in one of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    /// Official accounts, always.
    Xml,
    /// Mini programs and some newer accounts, by their choice.
    Json,
}

impl Format {
    /// Tells the format by the first byte that is not white space.
    pub fn of(body: &[u8]) -> Self {
        let body = body
            .strip_prefix(BYTE_ORDER_MARK.as_bytes())
            .unwrap_or(body);
        match body.trim_ascii_start().first() {
            Some(b'{') => Format::Json,
            _ => Format::Xml,
        }
    }

    /// Parses a body of this format.
    ///
    /// # Errors
    ///
    /// [`BodyError`]: what is wrong with the body.
    pub fn parse(self, body: &[u8]) -> Result<Tree<'_>, BodyError> {
        match self {
            Format::Xml => xml::parse(body),
            Format::Json => json::parse(body),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Xml => "xml",
            Format::Json => "json",
        })
    }
}

/// Why a body was refused. It holds nothing of the body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// More than [`MAX_BODY_BYTES`].
    #[error("the body has {bytes} bytes, at most {MAX_BODY_BYTES} are allowed")]
    TooLarge {
        /// Bytes of the body.
        bytes: usize,
    },
    /// Not UTF-8, or with a NUL, which neither format allows and no database stores.
    #[error("the body is not {format} text in UTF-8")]
    NotText {
        /// The format that it seemed to be in.
        format: Format,
    },
    /// Not well-formed, or with text between elements.
    #[error("the body is not well-formed XML")]
    MalformedXml,
    /// A document type declaration: WeChat sends none, attackers do.
    #[error("the body has a document type declaration")]
    Doctype,
    /// A general entity other than the five that XML predefines.
    #[error("the body refers to an entity that XML does not predefine")]
    Entity,
    /// A processing instruction.
    #[error("the body has a processing instruction")]
    Instruction,
    /// Not well-formed, not an object, or with a name twice in one object.
    #[error("the body is not a well-formed JSON object without repeated names")]
    MalformedJson,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_ELEMENTS`], or more than [`MAX_NAMES`] names in one element.
    #[error("the body has more than {MAX_ELEMENTS} elements or {MAX_NAMES} names in one of them")]
    TooManyElements,
    /// Well-formed, but without a field that every callback has.
    #[error("the message has no valid {0}")]
    Field(&'static str),
}

impl BodyError {
    /// A stable code for callers, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            BodyError::TooLarge { .. } => "body-too-large",
            BodyError::NotText {
                format: Format::Xml,
            }
            | BodyError::MalformedXml => "malformed-xml",
            BodyError::NotText {
                format: Format::Json,
            }
            | BodyError::MalformedJson => "malformed-json",
            BodyError::Doctype => "doctype-refused",
            BodyError::Entity => "entity-refused",
            BodyError::Instruction => "instruction-refused",
            BodyError::TooDeep => "too-deep",
            BodyError::TooManyElements => "too-many-elements",
            BodyError::Field(_) => "malformed-message",
        }
    }
}

pub(crate) const BYTE_ORDER_MARK: &str = "\u{feff}";

/// What both formats demand of a body before it is read.
pub(crate) fn text(body: &[u8], format: Format) -> Result<&str, BodyError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge { bytes: body.len() });
    }
    let text = std::str::from_utf8(body).map_err(|_| BodyError::NotText { format })?;
    if text.contains('\0') {
        return Err(BodyError::NotText { format });
    }
    Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// What is left of [`MAX_ELEMENTS`] while a body is read.
pub(crate) struct Budget(usize);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(MAX_ELEMENTS)
    }

    /// Pays for one element at a depth, the root's being 1.
    pub(crate) fn spend(&mut self, depth: usize) -> Result<(), BodyError> {
        if depth > MAX_DEPTH {
            return Err(BodyError::TooDeep);
        }
        self.0 = self.0.checked_sub(1).ok_or(BodyError::TooManyElements)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_format_by_the_first_byte() {
        for (body, expected) in [
            ("<xml/>", Format::Xml),
            ("{}", Format::Json),
            (" \r\n\t{", Format::Json),
            ("\u{feff}{", Format::Json),
            ("\u{feff}<xml/>", Format::Xml),
            ("", Format::Xml),
            ("[]", Format::Xml),
        ] {
            assert_eq!(Format::of(body.as_bytes()), expected, "{body:?}");
        }
    }

    #[test]
    fn refuses_an_oversized_body_unread() {
        let body = vec![0xff; MAX_BODY_BYTES + 1];
        let refused = BodyError::TooLarge {
            bytes: MAX_BODY_BYTES + 1,
        };
        assert_eq!(Format::Xml.parse(&body).unwrap_err(), refused);
        assert_eq!(Format::Json.parse(&body).unwrap_err(), refused);
        assert_eq!(refused.code(), "body-too-large");
    }

    #[test]
    fn refuses_what_is_not_utf8_or_holds_nul() {
        for body in [
            &b"<xml><a>\xff</a></xml>"[..],
            b"<xml><a>\0</a></xml>",
            b"\xff\xfe<\0",
        ] {
            assert_eq!(Format::Xml.parse(body).unwrap_err().code(), "malformed-xml");
        }
        assert_eq!(
            Format::Json.parse(b"{\"a\":\"\0\"}").unwrap_err().code(),
            "malformed-json"
        );
    }
}
