//! What the operator lets an account's plugin reach: paths of WeChat's API, and hosts of the tenant's
//! own systems.

use serde::{Deserialize, Serialize};

/// Entries of a list of grants.
const MAX_ENTRIES: usize = 64;

/// Bytes of an entry.
const MAX_ENTRY_BYTES: usize = 256;

/// What an operator grants. Nothing, unless said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorGrants {
    /// Prefixes of paths of WeChat's API, such as `/cgi-bin/menu/`.
    #[schema(example = json!(["/cgi-bin/menu/"]))]
    pub api: Vec<String>,
    /// Hosts of the tenant's own systems, such as `shop.example`.
    #[schema(example = json!(["shop.example"]))]
    pub egress: Vec<String>,
}

impl OperatorGrants {
    /// Refuses lists that are too long and entries that cannot be meant: the reason, for the operator.
    pub fn check(&self) -> Result<(), String> {
        for (what, entries) in [("api", &self.api), ("egress", &self.egress)] {
            if entries.len() > MAX_ENTRIES {
                return Err(format!("{what} has more than {MAX_ENTRIES} entries"));
            }
            let fits = |entry: &String| {
                (1..=MAX_ENTRY_BYTES).contains(&entry.len())
                    && !entry.contains(|c: char| c.is_whitespace() || c.is_control())
            };
            if let Some(entry) = entries.iter().find(|entry| !fits(entry)) {
                return Err(format!(
                    "{what}: {entry:?} is not 1 to {MAX_ENTRY_BYTES} bytes without spaces"
                ));
            }
        }
        match self.api.iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(format!("api: {path:?} does not begin with /")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_cannot_be_meant_are_refused() {
        let grants = |api: &[&str], egress: &[&str]| OperatorGrants {
            api: api.iter().map(|&text| text.into()).collect(),
            egress: egress.iter().map(|&text| text.into()).collect(),
        };
        for (grants, expected) in [
            (grants(&[], &[]), ""),
            (grants(&["/cgi-bin/menu/"], &["shop.example"]), ""),
            (grants(&["cgi-bin"], &[]), "does not begin with /"),
            (grants(&[""], &[]), "api: \"\" is not 1 to 256"),
            (grants(&[], &["a b"]), "egress: \"a b\" is not"),
            (grants(&["/a"; MAX_ENTRIES + 1], &[]), "more than 64"),
        ] {
            let refusal = grants.check().err().unwrap_or_default();
            assert!(refusal.contains(expected), "{refusal}");
            assert_eq!(refusal.is_empty(), expected.is_empty(), "{refusal}");
        }
    }
}
