//! The settings of this plugin for this account, as the tenant deployed them.

use crate::error::{Error, Result};
use crate::host;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::config::SecretError;

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

/// A reference to a secret: text that stands for it, and that the host replaces where data leaves it.
/// The secret itself never enters the plugin.
///
/// # Errors
///
/// [`SecretError::Unknown`] when the deployment gave no secret of that name.
pub fn secret(name: &str) -> Result<String, SecretError> {
    host::config::secret(name)
}
