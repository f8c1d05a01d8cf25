//! XML as WeChat writes it, well-formed or not.
//!
//! Tags that nothing opened are passed over, an element ends with the one around it, text between
//! elements is dropped, and a `<` or `&` that begins nothing is itself. What attacks on XML need is
//! refused here as it is in [`crate::xml`].

use std::borrow::Cow;

use super::section::Sections;
use crate::body::{BodyError, Budget, Format};
use crate::tree::{Map, Node, Tree};
use crate::xml::{SPACE, is_forbidden};

/// Longest name of an entity that is looked for. Those that XML predefines have four letters.
const MAX_ENTITY_BYTES: usize = 32;

/// Parses an authentic body.
pub(super) fn parse(text: &str) -> Result<Tree<'_>, BodyError> {
    let mut reader = Reader {
        text,
        at: 0,
        sections: Sections::of(text),
        has_open_comment: false,
        budget: Budget::new(),
        open: Vec::with_capacity(4),
        root: None,
    };
    reader.declaration()?;
    while let Some(length) = text[reader.at..].find('<') {
        let tag = reader.at + length;
        reader.words(tag)?;
        reader.at = tag;
        reader.markup()?;
    }
    // What was not closed was cut off.
    reader.root.ok_or(BodyError::MalformedXml)
}

/// The reason to refuse a body for how it begins, before anything of it is searched for.
pub(super) fn refused_head(body: &[u8]) -> Option<BodyError> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let body = body.trim_ascii_start();
    let is_plain = match body {
        [b'<', b'?' | b'!', ..] => false,
        [b'<', ..] => true,
        _ => false,
    };
    // Everything else is rare: declarations, comments, attacks.
    if is_plain {
        return None;
    }
    match crate::xml::parse(body) {
        Err(error @ (BodyError::Doctype | BodyError::Instruction)) => Some(error),
        _ => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    sections: Sections<'a>,
    /// A comment had no end, so no other one has.
    has_open_comment: bool,
    budget: Budget,
    open: Vec<Element<'a>>,
    root: Option<Map<'a>>,
}

/// An element whose end has not come yet.
struct Element<'a> {
    name: &'a str,
    /// Its text so far, without white space around it.
    text: Cow<'a, str>,
    /// White space that belongs to the text if more of it follows.
    space: &'a str,
    children: Map<'a>,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The XML declaration, which can only be the first thing.
    fn declaration(&mut self) -> Result<(), BodyError> {
        let text = self.rest().trim_start_matches(SPACE);
        if !text.starts_with("<?xml") {
            return Ok(());
        }
        let end = text.find("?>").ok_or(BodyError::MalformedXml)?;
        let declaration = text[..end].to_ascii_lowercase();
        if declaration.contains("encoding") && !declaration.contains("utf-8") {
            return Err(BodyError::NotText {
                format: Format::Xml,
            });
        }
        self.at = self.text.len() - text.len() + end + "?>".len();
        Ok(())
    }

    /// Text up to `end`.
    fn words(&mut self, end: usize) -> Result<(), BodyError> {
        let mut text = &self.text[self.at..end];
        let Some(element) = self.open.last_mut() else {
            return Ok(());
        };
        if element.text.is_empty() {
            text = text.trim_start_matches(SPACE);
        }
        let (mut words, space) = text.split_at(text.trim_end_matches(SPACE).len());
        if words.is_empty() {
            element.space = space;
            return Ok(());
        }
        while let Some((before, reference)) = words.split_once('&') {
            let (length, resolved) = resolve(reference)?;
            if !before.is_empty() {
                element.append(before.into());
            }
            element.append(resolved);
            words = &reference[length..];
        }
        if !words.is_empty() {
            element.append(words.into());
        }
        element.space = space;
        Ok(())
    }

    /// What begins with `<`.
    fn markup(&mut self) -> Result<(), BodyError> {
        let rest = self.rest();
        if let Some(content) = rest.strip_prefix("<![CDATA[") {
            return self.section(content);
        }
        if let Some(comment) = rest.strip_prefix("<!--") {
            return self.comment(comment);
        }
        if let Some(name) = rest.strip_prefix("</") {
            return self.end_tag(name);
        }
        if rest.starts_with("<!") {
            return Err(BodyError::Doctype);
        }
        if rest.starts_with("<?") {
            return Err(BodyError::Instruction);
        }
        self.start_tag(&rest[1..])
    }

    fn section(&mut self, content: &'a str) -> Result<(), BodyError> {
        let from = self.text.len() - content.len();
        let Some(element) = self.open.last_mut() else {
            return Err(BodyError::MalformedXml);
        };
        let end = self.sections.end(from, element.name);
        let end = end.ok_or(BodyError::MalformedXml)?;
        element.append(self.text[from..end].into());
        self.at = end + "]]>".len();
        Ok(())
    }

    fn comment(&mut self, comment: &'a str) -> Result<(), BodyError> {
        let end = match self.has_open_comment {
            false => comment.find("-->"),
            true => None,
        };
        match end {
            Some(end) => self.at = self.text.len() - comment.len() + end + "-->".len(),
            None => {
                self.has_open_comment = true;
                self.literal("<");
            }
        }
        Ok(())
    }

    fn end_tag(&mut self, rest: &'a str) -> Result<(), BodyError> {
        let name = name_of(rest);
        let after = rest[name.len()..].trim_start_matches(SPACE);
        if name.is_empty() || !after.starts_with('>') {
            self.literal("<");
            return Ok(());
        }
        self.at = self.text.len() - after.len() + 1;
        // Elements inside that were not closed end with it; what nothing opened ends nothing.
        if let Some(depth) = self.open.iter().rposition(|open| open.name == name) {
            while self.open.len() > depth {
                self.close()?;
            }
        }
        Ok(())
    }

    fn start_tag(&mut self, rest: &'a str) -> Result<(), BodyError> {
        let name = name_of(rest);
        let attributes = &rest[name.len()..];
        let begins_tag = attributes.starts_with(SPACE) || attributes.starts_with(['>', '/']);
        // Another tag before the end of this one: it was none.
        let end = attributes.find(['>', '<']).unwrap_or(attributes.len());
        if name.is_empty() || !begins_tag || !attributes[end..].starts_with('>') {
            self.literal("<");
            return Ok(());
        }
        if self.root.is_some() {
            return Err(BodyError::MalformedXml);
        }
        self.budget.spend(self.open.len() + 1)?;
        self.at = self.text.len() - attributes.len() + end + 1;
        self.open.push(Element {
            name,
            text: Cow::Borrowed(""),
            space: "",
            children: Map::default(),
        });
        if attributes[..end].ends_with('/') {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), BodyError> {
        let Some(element) = self.open.pop() else {
            return Ok(());
        };
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(element.children);
            return Ok(());
        };
        // Text between elements has no place in a tree of fields.
        let node = if element.children.is_empty() {
            Node::Text(element.text)
        } else {
            Node::Map(element.children)
        };
        parent.children.append(element.name, node).map(drop)
    }

    /// Markup that is none.
    fn literal(&mut self, text: &'static str) {
        self.at += text.len();
        if let Some(element) = self.open.last_mut() {
            element.append(text.into());
        }
    }
}

impl<'a> Element<'a> {
    fn append(&mut self, text: Cow<'a, str>) {
        if self.text.is_empty() {
            self.text = text;
        } else if !text.is_empty() || !self.space.is_empty() {
            let own = self.text.to_mut();
            own.push_str(std::mem::take(&mut self.space));
            own.push_str(&text);
        }
    }
}

/// The name at the beginning of a text.
fn name_of(text: &str) -> &str {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80;
    let is_next = |byte: u8| is_first(byte) || byte.is_ascii_digit() || b"-.:".contains(&byte);
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(is_first) {
        return "";
    }
    let end = bytes.iter().position(|byte| !is_next(*byte));
    // Bytes of characters beyond ASCII are all taken, so this is a boundary.
    &text[..end.unwrap_or(bytes.len())]
}

/// What a reference means and how many bytes it takes behind its `&`. An ampersand that begins none is
/// itself.
fn resolve(rest: &str) -> Result<(usize, Cow<'static, str>), BodyError> {
    let near = &rest[..rest.floor_char_boundary(MAX_ENTITY_BYTES)];
    let Some((name, _)) = near.split_once(';') else {
        return Ok((0, "&".into()));
    };
    let length = name.len() + 1;
    if let Some(digits) = name.strip_prefix('#') {
        let code = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        return Ok(match code {
            Err(_) => (0, "&".into()),
            Ok(code) => match char::from_u32(code) {
                None => (length, "\u{fffd}".into()),
                Some(character) if is_forbidden(character) => (length, "".into()),
                Some(character) => (length, character.to_string().into()),
            },
        });
    }
    if name.is_empty() || name_of(name).len() != name.len() {
        return Ok((0, "&".into()));
    }
    match quick_xml::escape::resolve_predefined_entity(name) {
        Some(character) => Ok((length, character.into())),
        // It may be something else than an ampersand.
        None => Err(BodyError::Entity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let tree = parse(body).map(|tree| tree.to_json().to_string());
        let told = tree.unwrap_or_else(|error| error.code().to_owned());
        assert_eq!(told, expected, "{body}");
    }

    #[test]
    fn what_is_stray_is_passed_over() {
        check("<xml>a<b>1</b>c<d>2</d>e</xml>f", r#"{"b":"1","d":"2"}"#);
        check("x<xml><a>1</a></b></xml>", r#"{"a":"1"}"#);
        check(
            "<xml><a><b>1</a><c>2</c></xml>",
            r#"{"a":{"b":"1"},"c":"2"}"#,
        );
        check(
            "<xml><!-- c --><a x='1'>1</a><b/></xml>",
            r#"{"a":"1","b":""}"#,
        );
        check("<xml><a>1<!-- c</a></xml>", r#"{"a":"1<!-- c"}"#);
    }

    #[test]
    fn what_begins_nothing_is_itself() {
        check("<xml><a>1 < 2 & 3</a></xml>", r#"{"a":"1 < 2 & 3"}"#);
        check("<xml><a>?x=1&y=2;&z</a></xml>", r#"{"a":"?x=1&y=2;&z"}"#);
        check(
            "<xml><a>&amp;&lt;&#65;&#x4f60;</a></xml>",
            r#"{"a":"&<A你"}"#,
        );
        check(
            "<xml><a>a&#0;b&#xD83D;c&#x;</a></xml>",
            "{\"a\":\"ab\u{fffd}c&#x;\"}",
        );
        check("<xml><a>1<2</a></xml>", r#"{"a":"1<2"}"#);
        check("<xml><a>&bomb;</a></xml>", "entity-refused");
    }

    #[test]
    fn what_was_cut_off_or_has_no_root_is_not_read() {
        for body in [
            "",
            "hello",
            "<xml><a>1</a>",
            "<xml><a>1",
            "<xml/><xml/>",
            "</xml>",
        ] {
            check(body, "malformed-xml");
        }
        check("<xml><a><![CDATA[1</a></xml>", "malformed-xml");
        check("<!DOCTYPE xml><xml/>", "doctype-refused");
        check("<xml><?php ?></xml>", "instruction-refused");
        check(
            "<?xml version='1.0' encoding='UTF-7'?><xml/>",
            "malformed-xml",
        );
        check(
            "<?xml version='1.0' encoding='utf-8'?><xml><a/></xml>",
            r#"{"a":""}"#,
        );
    }
}
