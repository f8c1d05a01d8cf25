//! What all settings of an account have in common: why stored ones can't be used, and why a change is not
//! made. Each part of the host keeps its own: how callbacks come is [`crate::inbox`]'s, how WeChat is called
//! [`crate::credentials`]', what serves the account [`crate::plugins`]'. [`crate::accounts`] puts an account
//! together from them.

use std::fmt;
use std::ops::RangeInclusive;

use crate::db::DbError;
use crate::seal::SealError;

/// Characters of a name for people.
const MAX_NAME_CHARACTERS: usize = 128;

/// Why what is stored of an account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// A box does not open.
    #[error("a secret of the account cannot be opened")]
    Seal(#[from] SealError),
    /// A column holds what it should not.
    #[error("the stored {column} is not valid: {reason}")]
    Column {
        /// Which.
        column: &'static str,
        /// Why.
        reason: String,
    },
}

/// Makes an error of what is wrong with a column.
pub(crate) fn column<E: fmt::Display>(column: &'static str) -> impl FnOnce(E) -> StoredError {
    move |error| StoredError::Column {
        column,
        reason: error.to_string(),
    }
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A value is not acceptable.
    #[error("{field}: {reason}")]
    Invalid {
        /// Its name in the API.
        field: &'static str,
        /// Why, for the caller.
        reason: String,
    },
    /// There is one of that id already.
    #[error("there is already {what} {id}")]
    Exists {
        /// "a tenant" or "an account".
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is none of that id.
    #[error("there is no {what} {id}")]
    NotFound {
        /// "tenant", "account", "deployment" …
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A secret could not be sealed or opened.
    #[error("a secret could not be sealed or opened")]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl ChangeError {
    pub(crate) fn invalid(field: &'static str, reason: impl fmt::Display) -> Self {
        Self::Invalid {
            field,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn no_platform(app_id: &str) -> Self {
        Self::NotFound {
            what: "platform",
            id: app_id.to_owned(),
        }
    }

    pub(crate) fn no_account(app_id: &str) -> Self {
        Self::NotFound {
            what: "account",
            id: app_id.to_owned(),
        }
    }
}

impl From<StoredError> for ChangeError {
    /// What could not be used is not stored in the first place.
    fn from(error: StoredError) -> Self {
        match error {
            StoredError::Seal(error) => error.into(),
            StoredError::Column { column, reason } => Self::invalid(column, reason),
        }
    }
}

/// The names of settings that a change has changed, of a list that tells of each.
pub(crate) fn changed<const N: usize>(
    settings: [(&'static str, bool); N],
) -> impl Iterator<Item = &'static str> {
    let changed = settings.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name)
}

/// Refuses a name for people that is too long or would break lines.
pub(crate) fn check_name(name: &str) -> Result<(), ChangeError> {
    if name.chars().count() <= MAX_NAME_CHARACTERS && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ChangeError::invalid(
        "name",
        format_args!(
            "must have at most {MAX_NAME_CHARACTERS} characters and no control characters"
        ),
    ))
}

/// `1 to 9`.
pub(crate) fn span(range: &RangeInclusive<u32>) -> String {
    format!("{} to {}", range.start(), range.end())
}
