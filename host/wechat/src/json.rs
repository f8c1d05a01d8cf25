//! JSON bodies, for the accounts that chose that format: the same tree under the same limits.
//!
//! `serde_json` does the scanning; values are visited as raw text, one level at a time, because its
//! own numbers would round ids of 64 bits and its own maps would drop a repeated name.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

pub use crate::body::BodyError;
use crate::body::{self, Budget, Format};
use crate::tree::{Map, Node, Tree};

/// Parses a body, whose root must be an object.
///
/// # Errors
///
/// [`BodyError`]: too large, not UTF-8, not well-formed, with a repeated name, or beyond a limit.
pub fn parse(body: &[u8]) -> Result<Tree<'_>, BodyError> {
    parse_text(body::text(body, Format::Json)?)
}

/// The same, of text that was checked before.
pub(crate) fn parse_text(text: &str) -> Result<Tree<'_>, BodyError> {
    let mut budget = Budget::new();
    budget.spend(1)?;
    object(text, 1, &mut budget)
}

/// A string that borrows from the body unless it holds escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Text<'a> {
    fn checked(self) -> Result<Cow<'a, str>, BodyError> {
        // As an escape it passes the check of the raw text.
        if self.0.contains('\0') {
            return Err(BodyError::NotText {
                format: Format::Json,
            });
        }
        Ok(self.0)
    }
}

fn node<'a>(raw: &'a RawValue, depth: usize, budget: &mut Budget) -> Result<Node<'a>, BodyError> {
    budget.spend(depth)?;
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => {
            let text: Text = serde_json::from_str(text).map_err(|_| BodyError::MalformedJson)?;
            text.checked().map(Node::Text)
        }
        Some(b'{') => match object(text, depth, budget)? {
            map if map.is_empty() => Ok(Node::Literal("{}")),
            map => Ok(Node::Map(map)),
        },
        Some(b'[') => match array(text, depth, budget)? {
            nodes if nodes.is_empty() => Ok(Node::Literal("[]")),
            nodes => Ok(Node::List(nodes)),
        },
        _ => Ok(Node::Literal(text)),
    }
}

fn object<'a>(text: &'a str, depth: usize, budget: &mut Budget) -> Result<Map<'a>, BodyError> {
    let mut level = Level {
        depth: depth + 1,
        budget,
        refused: None,
    };
    let mut reader = Deserializer::from_str(text);
    let read = reader
        .deserialize_map(Object(&mut level))
        .and_then(|map| reader.end().map(|()| map));
    read.map_err(|_| level.refused.unwrap_or(BodyError::MalformedJson))
}

fn array<'a>(text: &'a str, depth: usize, budget: &mut Budget) -> Result<Vec<Node<'a>>, BodyError> {
    let mut level = Level {
        depth: depth + 1,
        budget,
        refused: None,
    };
    let read = Deserializer::from_str(text).deserialize_seq(Array(&mut level));
    read.map_err(|_| level.refused.unwrap_or(BodyError::MalformedJson))
}

/// What visiting one object or array needs, and why it stopped.
struct Level<'b> {
    depth: usize,
    budget: &'b mut Budget,
    refused: Option<BodyError>,
}

impl Level<'_> {
    /// Remembers our reason; serde's errors can't carry it.
    fn check<T, E: de::Error>(&mut self, result: Result<T, BodyError>) -> Result<T, E> {
        result.map_err(|error| {
            self.refused = Some(error);
            E::custom("refused")
        })
    }
}

struct Object<'l, 'b>(&'l mut Level<'b>);

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = Map<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map<'de>, A::Error> {
        let Object(level) = self;
        let mut map = Map::with_room();
        while let Some((name, raw)) = access.next_entry::<Text<'de>, &RawValue>()? {
            let name = level.check(name.checked())?;
            let node = node(raw, level.depth, level.budget);
            let inserted = node.and_then(|node| map.insert(name, node));
            level.check(inserted)?;
        }
        Ok(map)
    }
}

struct Array<'l, 'b>(&'l mut Level<'b>);

impl<'de> Visitor<'de> for Array<'_, '_> {
    type Value = Vec<Node<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<Node<'de>>, A::Error> {
        let Array(level) = self;
        let mut nodes = Vec::new();
        while let Some(raw) = access.next_element::<&RawValue>()? {
            let node = node(raw, level.depth, level.budget);
            nodes.push(level.check(node)?);
        }
        Ok(nodes)
    }
}
