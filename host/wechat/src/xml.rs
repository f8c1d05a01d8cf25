//! XML bodies: a reader that knows only what WeChat writes, and a writer that can't be broken out of.
//!
//! No document type, no processing instruction, no entity but the five that XML predefines and
//! character references: the classic attacks on XML need one of them. Attributes and comments are
//! skipped (WeChat has neither); text is trimmed outside CDATA and untouched inside.
//!
//! What WeChat writes is not always what XML allows; where it is not, and where a CDATA section may have
//! been closed by whoever wrote what is inside, `lenient` reads the body.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesDecl, BytesRef, Event};

use crate::body::{self, Budget, Format};
pub use crate::body::{BodyError, MAX_BODY_BYTES, MAX_DEPTH, MAX_ELEMENTS};
use crate::lenient;
use crate::tree::{Map, Node, Tree};

/// What XML counts as white space; Unicode has more, and users type it.
pub(crate) const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Parses a body; the root element's name does not matter.
///
/// # Errors
///
/// [`BodyError`]: too large, not UTF-8, not well-formed, beyond a limit, or with a construct that is
/// refused.
pub fn parse(body: &[u8]) -> Result<Tree<'_>, BodyError> {
    parse_noting(body).map(|(tree, _)| tree)
}

/// The same, and whether its shape leaves room for doubt: a CDATA section with something beside it, or
/// an element twice that WeChat writes once. A user who types `]]>` makes such a body.
pub(crate) fn parse_noting(body: &[u8]) -> Result<(Tree<'_>, bool), BodyError> {
    let text = body::text(body, Format::Xml)?;
    let mut reader = Reader::from_str(text);
    let mut document = Document::new();
    loop {
        let event = reader.read_event().map_err(|_| BodyError::MalformedXml)?;
        let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        // The event's own text lives as long as the event; the same text in the body lives longer.
        let borrow = |closing: usize| {
            let end = end.checked_sub(closing)?;
            text.get(end.checked_sub(event.len())?..end)
        };
        match &event {
            Event::Start(tag) => document.open(borrow(">".len()), tag.name().0.len())?,
            Event::Empty(tag) => {
                document.open(borrow("/>".len()), tag.name().0.len())?;
                document.close()?;
            }
            Event::End(_) => document.close()?,
            Event::Text(_) => document.text(borrow(0))?,
            Event::CData(_) => document.section(borrow("]]>".len()))?,
            Event::GeneralRef(reference) => document.verbatim(Some(resolve(reference)?))?,
            Event::Comment(_) => {}
            Event::Decl(declaration) => document.declaration(declaration)?,
            Event::PI(_) => return Err(BodyError::Instruction),
            Event::DocType(_) => return Err(BodyError::Doctype),
            Event::Eof => return document.finish(),
        }
    }
}

/// Appends `value` as CDATA: what it holds can't end the section, and characters that XML 1.0 forbids
/// are left out.
pub fn cdata(out: &mut String, value: &str) {
    out.reserve(value.len() + "<![CDATA[]]>".len());
    out.push_str("<![CDATA[");
    let bytes = value.as_bytes();
    let mut written = 0;
    for (position, &byte) in bytes.iter().enumerate() {
        let left_out = match byte {
            b'>' => 0,
            b'\t' | b'\n' | b'\r' => continue,
            ..b' ' => 1,
            // U+FFFE and U+FFFF.
            0xef if matches!(bytes[position..], [_, 0xbf, 0xbe | 0xbf, ..]) => 3,
            _ => continue,
        };
        out.push_str(&value[written..position]);
        // Asked of the output: a character that was left out may have parted the brackets.
        if byte == b'>' && out.ends_with("]]") {
            out.push_str("]]><![CDATA[");
        }
        written = position + left_out;
    }
    out.push_str(&value[written..]);
    out.push_str("]]>");
}

/// Whether XML 1.0 has no way to write this character.
pub(crate) fn is_forbidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}'
    )
}

fn resolve(reference: &BytesRef<'_>) -> Result<Cow<'static, str>, BodyError> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) if is_forbidden(character) => Err(BodyError::MalformedXml),
        Ok(Some(character)) => Ok(character.to_string().into()),
        Ok(None) => resolve_predefined_entity(reference)
            .map(Cow::Borrowed)
            .ok_or(BodyError::Entity),
        Err(_) => Err(BodyError::MalformedXml),
    }
}

/// A document while it is read. It keeps its own stack, so that depth costs no stack of ours.
struct Document<'a> {
    budget: Budget,
    open: Vec<Element<'a>>,
    root: Option<Map<'a>>,
    is_doubtful: bool,
}

/// An element whose end tag has not come yet.
struct Element<'a> {
    name: &'a str,
    /// Its text so far, without white space around it.
    text: Cow<'a, str>,
    /// White space that belongs to the text if more of it follows.
    space: &'a str,
    /// Whether a CDATA section was in it.
    has_section: bool,
    children: Map<'a>,
}

impl<'a> Document<'a> {
    fn new() -> Self {
        Self {
            budget: Budget::new(),
            open: Vec::with_capacity(4),
            root: None,
            is_doubtful: false,
        }
    }

    fn declaration(&self, declaration: &BytesDecl<'_>) -> Result<(), BodyError> {
        if !self.open.is_empty() || self.root.is_some() {
            return Err(BodyError::Instruction);
        }
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") => Ok(()),
            Some(_) => Err(BodyError::NotText {
                format: Format::Xml,
            }),
        }
    }

    fn open(&mut self, tag: Option<&'a str>, name_length: usize) -> Result<(), BodyError> {
        let name = tag
            .and_then(|tag| tag.get(..name_length))
            .ok_or(BodyError::MalformedXml)?;
        self.budget.spend(self.open.len() + 1)?;
        let children = match self.open.last() {
            // Text between elements has no place in a tree of fields.
            Some(parent) if !parent.text.is_empty() => return Err(BodyError::MalformedXml),
            None if self.root.is_some() => return Err(BodyError::MalformedXml),
            Some(parent) => {
                self.is_doubtful |= parent.has_section;
                Map::default()
            }
            None => Map::with_room(),
        };
        self.open.push(Element {
            name,
            text: Cow::Borrowed(""),
            space: "",
            has_section: false,
            children,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), BodyError> {
        let element = self.open.pop().ok_or(BodyError::MalformedXml)?;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(element.children);
            return if element.text.is_empty() {
                Ok(())
            } else {
                Err(BodyError::MalformedXml)
            };
        };
        let node = if element.children.is_empty() {
            Node::Text(element.text)
        } else {
            Node::Map(element.children)
        };
        let is_repeated = parent.children.append(element.name, node)?;
        if is_repeated {
            self.is_doubtful |= self.open.len() == 1 || lenient::is_written_by_users(element.name);
        }
        Ok(())
    }

    fn text(&mut self, text: Option<&'a str>) -> Result<(), BodyError> {
        let mut text = text.ok_or(BodyError::MalformedXml)?;
        let Some(element) = self.open.last_mut() else {
            let blank = text.trim_matches(SPACE).is_empty();
            return if blank {
                Ok(())
            } else {
                Err(BodyError::MalformedXml)
            };
        };
        if element.text.is_empty() {
            text = text.trim_start_matches(SPACE);
        }
        let (words, space) = text.split_at(text.trim_end_matches(SPACE).len());
        if !words.is_empty() {
            self.is_doubtful |= element.has_section;
            element.append(words.into())?;
        }
        element.space = space;
        Ok(())
    }

    fn section(&mut self, text: Option<&'a str>) -> Result<(), BodyError> {
        let text = text.ok_or(BodyError::MalformedXml)?;
        let element = self.open.last_mut().ok_or(BodyError::MalformedXml)?;
        let stands_alone = element.text.is_empty() && element.children.is_empty();
        self.is_doubtful |= element.has_section || !stands_alone;
        element.has_section = true;
        element.append(text.into())
    }

    fn verbatim(&mut self, text: Option<Cow<'a, str>>) -> Result<(), BodyError> {
        let text = text.ok_or(BodyError::MalformedXml)?;
        let element = self.open.last_mut().ok_or(BodyError::MalformedXml)?;
        self.is_doubtful |= element.has_section;
        element.append(text)
    }

    fn finish(self) -> Result<(Tree<'a>, bool), BodyError> {
        match self.root {
            Some(root) if self.open.is_empty() => Ok((root, self.is_doubtful)),
            _ => Err(BodyError::MalformedXml),
        }
    }
}

impl<'a> Element<'a> {
    fn append(&mut self, text: Cow<'a, str>) -> Result<(), BodyError> {
        if !self.children.is_empty() && !text.is_empty() {
            return Err(BodyError::MalformedXml);
        }
        if self.text.is_empty() {
            self.text = text;
        } else {
            let own = self.text.to_mut();
            own.push_str(std::mem::take(&mut self.space));
            own.push_str(&text);
        }
        Ok(())
    }
}
