//! What template messages and subscription notices have in common: values for a template's fields, and
//! a mini program that a tap opens.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::limit::{self, InvalidCall};
use crate::id::AppId;

/// Values for the fields of a template, by the field's name without `.DATA`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Data(pub Vec<(String, String)>);

/// A mini program that a tap opens; it must be linked with the account. Wins over a web page where the
/// client can open it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct MiniProgram {
    /// Which.
    #[serde(rename = "appid")]
    pub app_id: AppId,
    /// Its page.
    #[serde(rename = "pagepath")]
    pub page_path: String,
}

impl Data {
    /// One value per field, under the field's plain name.
    pub(super) fn check(&self) -> Result<(), InvalidCall> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            limit::given("data", name)?;
            let is_plain = !name.ends_with(".DATA");
            limit::demand(
                is_plain,
                "data",
                "names a field with .DATA, which only templates do",
            )?;
            let is_new = self.0[..place].iter().all(|(before, _)| before != name);
            limit::demand(is_new, "data", "names a field twice")?;
        }
        Ok(())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &Value { value })?;
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Value<'a> {
    value: &'a str,
}

/// Fields for tests.
#[cfg(test)]
pub(super) fn data(fields: &[(&str, &str)]) -> Data {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Data(fields.iter().map(own).collect())
}
