//! What an account's owner has granted to the third-party platform that serves it.

use wxhost_wechat::component::permission;
use wxhost_wechat::errcode::{ApiError, Errcode};

use super::CallError;
use crate::accounts::Account;

/// Refuses what WeChat would refuse (61007), by the name of what is missing: the account's owner has not
/// granted it to the platform.
pub(super) fn expect(account: &Account, path: &str) -> Result<(), CallError> {
    let Some(by) = &account.authorisation else {
        return Ok(());
    };
    // Nothing is known of it yet.
    if by.permission_sets.is_empty() {
        return Ok(());
    }
    match permission::missing(path, &by.permission_sets) {
        None => Ok(()),
        Some(set) => Err(CallError::Refused(ApiError {
            errcode: Errcode::NOT_GRANTED,
            errmsg: format!(
                "the account's owner has not granted the platform the permission set {}",
                permission::shown(set)
            ),
            rid: None,
        })),
    }
}
