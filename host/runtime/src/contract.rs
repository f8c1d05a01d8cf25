//! The contract that this host offers: its package and its one version, and the handlers in it.

use serde::{Deserialize, Serialize};

/// The package.
pub(crate) const PACKAGE: &str = "wxhost:plugin";
/// The version. Whoever needs it, a name or a line of versions, asks here; that `wit/` says the same, a
/// test sees to.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// The custom section that carries a plugin's configuration schema.
pub(crate) const SCHEMA_SECTION: &str = "wxhost:config-schema";
/// The custom section that carries a plugin's manifest.
pub(crate) const MANIFEST_SECTION: &str = "wxhost:plugin";

/// A kind of event that a plugin can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Handler {
    /// Messages of users and events of WeChat.
    Callback,
    /// What a tenant's system has sent to many.
    Push,
    /// Users who log in to an account's pages.
    Login,
    /// Money that has moved.
    Payment,
}

/// What a plugin may ask to do with money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoneyRight {
    /// Make orders, and see the account's.
    Orders,
    /// Give money back.
    Refunds,
}

impl Handler {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Callback, Self::Push, Self::Login, Self::Payment];

    /// The interface that a plugin exports to handle it, without package and version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Callback => "callback-handler",
            Self::Push => "push-handler",
            Self::Login => "login-handler",
            Self::Payment => "payment-handler",
        }
    }

    /// The name of the export, such as `wxhost:plugin/callback-handler@0.1.0`.
    pub fn export_name(self) -> String {
        format!("{PACKAGE}/{}@{CONTRACT_VERSION}", self.interface())
    }

    /// Its name, such as `callback`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Push => "push",
            Self::Login => "login",
            Self::Payment => "payment",
        }
    }
}

/// A name such as `wxhost:plugin/kv@0.1.0`, taken apart.
pub(crate) struct InterfaceName<'a> {
    pub(crate) package: &'a str,
    pub(crate) interface: &'a str,
    version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = match rest.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (rest, None),
        };
        Some(Self {
            package,
            interface,
            version,
        })
    }

    /// Whether it is of this contract's line: plugins of 0.1.0 and of 0.1.7 run alike.
    pub(crate) fn is_of_this_contract(&self) -> bool {
        line(CONTRACT_VERSION).is_some_and(|line| self.is_of(line))
    }

    /// Whether the version is of the line `major.minor`, and not a pre-release: those match nothing.
    pub(crate) fn is_of(&self, wanted: (u64, u64)) -> bool {
        self.version.and_then(line) == Some(wanted)
    }
}

/// The line of a version, `major.minor`; none for a pre-release.
fn line(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(str::parse::<u64>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(_patch))) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        return None;
    };
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::contract_version;

    #[test]
    fn the_version_is_that_of_the_wit_directory() {
        assert_eq!(contract_version(), CONTRACT_VERSION);
    }

    #[test]
    fn a_plugin_asks_for_money_in_words_that_there_are() {
        let rights: Vec<MoneyRight> = serde_json::from_str(r#"["orders","refunds"]"#).unwrap();
        assert_eq!(rights, [MoneyRight::Orders, MoneyRight::Refunds]);
        assert!(serde_json::from_str::<Vec<MoneyRight>>(r#"["everything"]"#).is_err());
    }

    #[test]
    fn a_prerelease_is_of_no_line() {
        for (name, is_ours) in [
            ("wxhost:plugin/kv@0.1.0", true),
            ("wxhost:plugin/kv@0.1.7", true),
            ("wxhost:plugin/kv@0.1.0-rc.1", false),
            ("wxhost:plugin/kv@0.2.0", false),
            ("wxhost:plugin/kv@0.1", false),
            ("wxhost:plugin/kv", false),
        ] {
            let name = InterfaceName::parse(name).unwrap();
            assert_eq!(name.is_of_this_contract(), is_ours);
        }
    }
}
