//! A parsed body: ordered fields that borrow from its bytes where they can.
//!
//! XML and JSON meet here. A repeated XML element and a JSON array are both a list; a JSON number,
//! `true`, `false`, `null`, `{}` and `[]` keep their text, so that no id of 64 bits is ever rounded.
//! [`crate::message`] takes typed fields out of a tree; what remains is listed as paths and values.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::mem;

use serde_json::Value;

use crate::body::{BodyError, MAX_NAMES};

/// One value of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Node<'a> {
    /// The text of an element, or a JSON string.
    Text(Cow<'a, str>),
    /// A JSON value that is no string, in its own spelling.
    Literal(&'a str),
    /// Named values.
    Map(Map<'a>),
    /// Values of the same name. Empty once its value has been taken.
    List(Vec<Node<'a>>),
}

impl Node<'_> {
    /// The text or number of a scalar, and of the first where an element was repeated.
    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            Node::Literal(literal) => is_scalar(literal).then_some(literal),
            Node::Map(_) => None,
            Node::List(nodes) => nodes.first()?.text(),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Node::Text(text) => Value::from(&**text),
            Node::Literal(literal) => {
                serde_json::from_str(literal).unwrap_or_else(|_| Value::from(*literal))
            }
            Node::Map(map) => map.to_json(),
            Node::List(nodes) => nodes.iter().map(Node::to_json).collect(),
        }
    }

    fn flatten_into(&self, path: &mut String, fields: &mut Vec<(String, String)>) {
        match self {
            Node::Text(text) => fields.push((path.clone(), text.to_string())),
            Node::Literal(literal) => fields.push((path.clone(), (*literal).to_owned())),
            Node::Map(map) => map.flatten_into(path, fields),
            Node::List(nodes) => {
                let length = path.len();
                for (index, node) in nodes.iter().enumerate() {
                    // Writing to a String can't fail.
                    let _ = write!(path, "[{index}]");
                    node.flatten_into(path, fields);
                    path.truncate(length);
                }
            }
        }
    }
}

/// Named values in the order of the body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Map<'a> {
    entries: Vec<(Cow<'a, str>, Node<'a>)>,
}

/// A whole body: the fields inside its root.
pub type Tree<'a> = Map<'a>;

impl<'a> Map<'a> {
    /// The value at a path of names such as `ScanCodeInfo.ScanType`.
    pub fn get(&self, path: &str) -> Option<&Node<'a>> {
        let mut names = path.split('.');
        let mut node = self.child(names.next()?)?;
        for name in names {
            let Node::Map(map) = node else { return None };
            node = map.child(name)?;
        }
        Some(node)
    }

    /// The text or number at a path; of the first, where an element was repeated.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.text()
    }

    /// The same, of the last where an element was repeated.
    pub fn last_text(&self, path: &str) -> Option<&str> {
        match self.get(path)? {
            Node::List(nodes) => nodes.last()?.text(),
            node => node.text(),
        }
    }

    /// Names and values in the order of the body.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.entries.iter().map(|(name, node)| (&**name, node))
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every scalar with its path, such as `PicList.item[0].PicMd5Sum`; indices stand where a name was
    /// repeated or JSON had an array.
    pub fn flatten(&self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        self.flatten_into(&mut String::new(), &mut fields);
        fields
    }

    /// The same as a JSON object; the text of XML elements becomes strings.
    pub fn to_json(&self) -> Value {
        let members = self.entries.iter();
        Value::Object(
            members
                .map(|(name, node)| (name.to_string(), node.to_json()))
                .collect(),
        )
    }

    fn child(&self, name: &str) -> Option<&Node<'a>> {
        self.entries
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, node)| node)
    }

    fn child_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        self.entries
            .iter_mut()
            .find(|(own, _)| own == name)
            .map(|(_, node)| node)
    }

    fn flatten_into(&self, path: &mut String, fields: &mut Vec<(String, String)>) {
        let length = path.len();
        for (name, node) in &self.entries {
            if length > 0 {
                path.push('.');
            }
            path.push_str(name);
            node.flatten_into(path, fields);
            path.truncate(length);
        }
    }
}

/// Building, for the two parsers.
impl<'a> Map<'a> {
    /// A map with room for an ordinary callback's fields.
    pub(crate) fn with_room() -> Self {
        Self {
            entries: Vec::with_capacity(8),
        }
    }

    /// Adds an XML element; a repeated one makes a list. Says whether it was repeated.
    pub(crate) fn append(&mut self, name: &'a str, node: Node<'a>) -> Result<bool, BodyError> {
        match self.child_mut(name) {
            None => return self.push(name.into(), node).map(|()| false),
            Some(Node::List(nodes)) => nodes.push(node),
            Some(first) => {
                let nodes = vec![first.take(), node];
                *first = Node::List(nodes);
            }
        }
        Ok(true)
    }

    /// Adds a JSON member, whose name must be new.
    pub(crate) fn insert(&mut self, name: Cow<'a, str>, node: Node<'a>) -> Result<(), BodyError> {
        match self.child(&name) {
            None => self.push(name, node),
            Some(_) => Err(BodyError::MalformedJson),
        }
    }

    fn push(&mut self, name: Cow<'a, str>, node: Node<'a>) -> Result<(), BodyError> {
        if self.entries.len() == MAX_NAMES {
            return Err(BodyError::TooManyElements);
        }
        self.entries.push((name, node));
        Ok(())
    }
}

/// Taking typed fields out. What can't be taken stays, so that what is left over and what was taken
/// are together the whole body.
impl<'a> Map<'a> {
    /// Takes a scalar. Of a repeated element the first is given, and all of them stay.
    pub(crate) fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let node = self.child_mut(name)?;
        match node {
            Node::Text(text) => {
                let text = mem::take(text);
                node.take();
                Some(text)
            }
            Node::Literal(literal) if is_scalar(literal) => {
                let literal = Cow::Borrowed(*literal);
                node.take();
                Some(literal)
            }
            Node::List(_) => node.text().map(|first| Cow::Owned(first.to_owned())),
            Node::Literal(_) | Node::Map(_) => None,
        }
    }

    /// Takes a scalar that `read` understands; another stays.
    pub(crate) fn take_as<T>(&mut self, name: &str, read: fn(&str) -> Option<T>) -> Option<T> {
        let value = read(self.text_of(name)?)?;
        self.take(name);
        Some(value)
    }

    /// The map of that name, or this one where the body does without the wrapper.
    pub(crate) fn inside(&mut self, name: &str) -> &mut Self {
        if !matches!(self.child(name), Some(Node::Map(_))) {
            return self;
        }
        match self.child_mut(name) {
            Some(Node::Map(map)) => map,
            _ => unreachable!("it was a map"),
        }
    }

    /// The maps of that name: several, one, or none.
    pub(crate) fn each_mut(&mut self, name: &str) -> impl Iterator<Item = &mut Self> {
        let nodes = match self.child_mut(name) {
            Some(Node::List(nodes)) => nodes.as_mut_slice(),
            Some(node) => std::slice::from_mut(node),
            None => &mut [],
        };
        nodes.iter_mut().filter_map(|node| match node {
            Node::Map(map) => Some(map),
            _ => None,
        })
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name)?.text()
    }
}

impl Node<'_> {
    fn take(&mut self) -> Self {
        mem::replace(self, Node::List(Vec::new()))
    }
}

/// `null`, `{}` and `[]` are no value to take.
fn is_scalar(literal: &str) -> bool {
    !literal.starts_with(['n', '{', '['])
}
