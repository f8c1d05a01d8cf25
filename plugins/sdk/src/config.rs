//! The settings of this plugin for this account, as the tenant deployed them.

use crate::error::{Error, Result};
use crate::host;
use serde::de::DeserializeOwned;

/// The settings as JSON text; `{}` when none were given. At most 64 KiB.
#[must_use]
pub fn text() -> String {
    host::config::get()
}

/// The settings as a value of your own type.
///
/// # Errors
///
/// With [`Fault::Config`](crate::Fault::Config), when the settings don't fit the type.
pub fn parse<T: DeserializeOwned>() -> Result<T> {
    serde_json::from_str(&text())
        .map_err(|error| Error::config(format!("the settings do not fit this plugin: {error}")))
}

/// Whether the deployment gave a secret of this name. The secret itself never enters the plugin: a
/// request names it, see [`Part::secret`](crate::egress::Part::secret).
#[must_use]
pub fn has_secret(name: &str) -> bool {
    host::config::has_secret(name)
}
