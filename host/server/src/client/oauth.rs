//! Calls of web authorisation (网页授权): by the account's AppSecret, or by the third-party platform that serves
//! it.

use std::sync::Arc;

use tokio::time::Instant;
use wxhost_wechat::api::component::Secret;
use wxhost_wechat::api::oauth::{ExchangeCode, RefreshGrant, Right, UserGrant};

use super::{CallError, Client};
use crate::accounts::Account;

/// Path of the exchange that bears an AppSecret, which WeChat takes from listed addresses only.
const EXCHANGE: &str = "/sns/oauth2/access_token";

impl Client {
    /// Exchanges a login code.
    ///
    /// # Errors
    /// As [`Self::call`]. Whether the code was used up by a call that broke off is not known.
    pub async fn exchange_code(
        &self,
        account: &Arc<Account>,
        code: &Secret,
        deadline: Instant,
    ) -> Result<UserGrant, CallError> {
        let app_id = &account.app_id;
        match &account.authorisation {
            Some(by) => {
                let right = Right::Platform(&by.platform.app_id);
                let call = ExchangeCode {
                    app_id,
                    right,
                    code,
                };
                self.call_for_platform(&by.platform, &call, deadline).await
            }
            None => {
                let secret = account.credentials.secret.as_ref();
                let right = Right::Secret(secret.ok_or(CallError::NoSecret)?);
                let call = ExchangeCode {
                    app_id,
                    right,
                    code,
                };
                let exchanged = self.call_with(None, &call, deadline).await;
                if let Err(CallError::Refused(refusal)) = &exchanged {
                    self.note_address(account, EXCHANGE, refusal);
                }
                exchanged
            }
        }
    }

    /// Gets a user's next token.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn refresh_grant(
        &self,
        account: &Arc<Account>,
        refresh_token: &Secret,
        deadline: Instant,
    ) -> Result<UserGrant, CallError> {
        let by = account.authorisation.as_ref();
        let call = RefreshGrant {
            app_id: &account.app_id,
            platform: by.map(|by| &by.platform.app_id),
            refresh_token,
        };
        match by {
            Some(by) => self.call_for_platform(&by.platform, &call, deadline).await,
            None => self.call_with(None, &call, deadline).await,
        }
    }
}
