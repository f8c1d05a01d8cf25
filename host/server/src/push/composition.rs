//! What each recipient of a block gets, as it is stored: what is equal stands once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::content::Ways;

/// The compositions of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compositions {
    /// The different ones.
    ways: Vec<Ways>,
    /// Which of them each recipient gets; none where the recipient gets nothing. Empty where all get the
    /// first one.
    of: Vec<Option<u32>>,
}

impl Compositions {
    /// The same for everyone.
    pub(super) fn same(ways: Ways) -> Self {
        Self {
            ways: vec![ways],
            of: Vec::new(),
        }
    }

    /// One for each recipient, in their order.
    pub(super) fn each(ways: impl IntoIterator<Item = Option<Ways>>) -> Self {
        let mut numbers: HashMap<Ways, u32> = HashMap::new();
        let of = ways.into_iter().map(|ways| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            ways.map(|ways| *numbers.entry(ways).or_insert(next))
        });
        let of = of.collect();
        let mut ways: Vec<(Ways, u32)> = numbers.into_iter().collect();
        ways.sort_unstable_by_key(|(_, number)| *number);
        Self {
            ways: ways.into_iter().map(|(ways, _)| ways).collect(),
            of,
        }
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// What the recipient at a place gets.
    pub(super) fn at(&self, place: usize) -> &Ways {
        const NOTHING: &Ways = &Ways(Vec::new());
        let number = match self.of.is_empty() {
            true => Some(0),
            false => self.of.get(place).copied().flatten(),
        };
        let ways = number.and_then(|number| self.ways.get(number as usize));
        ways.unwrap_or(NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::content::{BuiltIn, built_in};
    use super::*;

    fn text(content: &str) -> Ways {
        built_in(BuiltIn::Text, &json!({"content": content})).expect("fits")
    }

    #[test]
    fn what_is_equal_stands_once_and_everyone_gets_their_own() {
        let given = [Some("a"), None, Some("b"), Some("a")];
        let each = Compositions::each(given.map(|content| content.map(text)));
        assert_eq!(each.ways.len(), 2);
        let each: Compositions = serde_json::from_str(&each.to_json()).expect("reads");
        for (place, content) in given.into_iter().enumerate() {
            let expected = content.map_or(Ways::default(), text);
            assert_eq!(each.at(place), &expected, "{place}");
        }
        assert_eq!(each.at(4), &Ways::default());
        assert_eq!(Compositions::same(text("a")).at(7), &text("a"));
    }
}
