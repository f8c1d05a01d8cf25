//! Access tokens of the accounts that a third-party platform serves: each is got with a refresh token, and
//! brings the next one, which is durable before the token is used. Where an answer was lost, and with it the
//! refresh token, WeChat tells the present one.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::Instant;
use wxhost_wechat::api::component::{AuthorizerToken, GetAuthorizerInfo, Secret};
use wxhost_wechat::api::token::Fresh;
use wxhost_wechat::errcode::ApiError;

use super::fetch::{Miss, fetched};
use super::{Credential, Token, TokenError, Tokens, Wanted, in_time};
use crate::accounts::{Account, Authorisation, Platform};
use crate::backoff::jittered;
use crate::credentials::Purpose;
use crate::db::authorisations::{self, AuthorisationRow};
use crate::seal::Place;

/// How often it is tried to keep a refresh token while the database is away.
const KEEPS: u32 = 4;
/// The wait between two of them.
const KEEP_WAIT: Duration = Duration::from_millis(500);

/// Whose refresh token is meant.
#[derive(Clone, Copy)]
struct Whose<'a> {
    account: &'a Arc<Account>,
    platform: &'a Arc<Platform>,
}

impl Whose<'_> {
    fn key(&self) -> (&str, &str) {
        (self.account.app_id.as_str(), self.platform.app_id.as_str())
    }
}

impl Tokens {
    /// Holds the access token that came along with an authorisation, on all hosts, in the place of one that
    /// was fetched before.
    ///
    /// # Errors
    /// It can't be made known before `deadline`; the next one is fetched then.
    pub async fn hold_granted(
        &self,
        account: &Arc<Account>,
        token: Fresh,
        (asked_at_ms, deadline): (i64, Instant),
    ) -> Result<Arc<Token>, TokenError> {
        let wanted = Wanted {
            in_hand: Some(Arc::new(fetched(token, asked_at_ms, true))),
            ..Wanted::of(account, Credential::AccessToken, Purpose::Grant)
        };
        in_time(self.land(&wanted), deadline).await
    }

    pub(super) async fn ask_authorised(
        &self,
        account: &Arc<Account>,
        authorisation: &Authorisation,
        until: Instant,
    ) -> Result<Fresh, Miss> {
        let whose = Whose {
            account,
            platform: &authorisation.platform,
        };
        let mut is_healed = false;
        loop {
            let row = self.authorisation(whose).await?;
            let refresh_token = row.as_ref().and_then(|row| self.refresh_token(whose, row));
            let (Some(row), Some(refresh_token)) = (&row, refresh_token) else {
                match row {
                    Some(row) if !is_healed => {
                        is_healed = true;
                        self.heal(whose, &row, until).await?;
                        continue;
                    }
                    _ => return Err(Miss::Final(TokenError::NoSecret)),
                }
            };
            let call = AuthorizerToken {
                component_app_id: &whose.platform.app_id,
                app_id: &account.app_id,
                refresh_token: &refresh_token,
            };
            match Box::pin(self.platform_call(whose.platform, &call, until)).await {
                Ok(renewed) => {
                    let next = renewed.refresh_token.as_ref();
                    let next = next.filter(|next| next.expose() != refresh_token.expose());
                    match next {
                        // Somebody has authorised anew meanwhile: what is in hand may have ended.
                        Some(next) if !self.keep(whose, row, next).await => {}
                        _ => return Ok(renewed.token),
                    }
                }
                Err(Miss::Final(TokenError::Refused(refusal)))
                    if refusal.errcode.refuses_refresh_token() && !is_healed =>
                {
                    is_healed = true;
                    if !self.heal(whose, row, until).await? {
                        return Err(self.need_authorisation(whose, &refusal).await);
                    }
                }
                Err(Miss::Final(TokenError::Refused(refusal)))
                    if refusal.errcode.refuses_refresh_token()
                        || refusal.errcode.is_not_authorised() =>
                {
                    return Err(self.need_authorisation(whose, &refusal).await);
                }
                Err(miss) => return Err(miss),
            }
        }
    }

    async fn authorisation(&self, whose: Whose<'_>) -> Result<Option<AuthorisationRow>, Miss> {
        let (app_id, platform) = whose.key();
        let found = authorisations::find(self.parts.accounts.db(), app_id, platform).await;
        found.map_err(|error| {
            tracing::warn!(account.app_id = app_id, error = %error, "an account's refresh token can't be read");
            Miss::Unsent
        })
    }

    fn refresh_token(&self, whose: Whose<'_>, row: &AuthorisationRow) -> Option<Secret> {
        let (app_id, platform) = whose.key();
        let sealed = row.refresh_token_sealed.as_deref()?;
        let place = Place::refresh_token(app_id, platform);
        match self.parts.keys.open_text(place, sealed) {
            Ok(text) => Secret::parse(text.expose_secret()).ok(),
            Err(error) => {
                tracing::error!(account.app_id = app_id, error = %error, "an account's refresh token does not open");
                None
            }
        }
    }

    /// Keeps a refresh token. False if another one was authorised meanwhile. While the database is away it is
    /// tried again, and in the end given up: WeChat tells it again when the former is refused.
    async fn keep(&self, whose: Whose<'_>, row: &AuthorisationRow, next: &Secret) -> bool {
        let (app_id, platform) = whose.key();
        let place = Place::refresh_token(app_id, platform);
        let Ok(sealed) = self.parts.keys.seal(place, next.expose().as_bytes()) else {
            return true;
        };
        let db = self.parts.accounts.db();
        for keeps in 1..=KEEPS {
            let kept = authorisations::rotate(db, whose.key(), row.version, &sealed).await;
            match kept {
                Ok(is_kept) => {
                    // Or an earlier try was, whose answer was lost.
                    return is_kept || keeps > 1;
                }
                Err(error) => tracing::warn!(
                    account.app_id = app_id,
                    error = %error,
                    "an account's new refresh token can't be kept now"
                ),
            }
            tokio::time::sleep(jittered(KEEP_WAIT)).await;
        }
        true
    }

    /// Asks WeChat for the present refresh token. False if it tells none but the one that is known.
    async fn heal(
        &self,
        whose: Whose<'_>,
        row: &AuthorisationRow,
        until: Instant,
    ) -> Result<bool, Miss> {
        let call = GetAuthorizerInfo {
            component_app_id: &whose.platform.app_id,
            app_id: &whose.account.app_id,
        };
        let told = match Box::pin(self.platform_call(whose.platform, &call, until)).await {
            Ok(told) => told,
            Err(Miss::Final(TokenError::Refused(refusal)))
                if refusal.errcode.is_not_authorised() =>
            {
                return Err(self.need_authorisation(whose, &refusal).await);
            }
            Err(miss) => return Err(miss),
        };
        let Some(present) = told.authorization_info.refresh_token else {
            return Ok(false);
        };
        let known = self.refresh_token(whose, row);
        if known.is_some_and(|known| known.expose() == present.expose()) {
            return Ok(false);
        }
        tracing::info!(
            account.app_id = whose.account.app_id.as_str(),
            "WeChat knows another refresh token of an account; using that one"
        );
        self.keep(whose, row, &present).await;
        Ok(true)
    }

    /// Notes for all hosts that the account's owner must authorise the platform again.
    async fn need_authorisation(&self, whose: Whose<'_>, refusal: &ApiError) -> Miss {
        let app_id = whose.account.app_id.as_str();
        let attention = self.attention(app_id, refusal);
        let accounts = &self.parts.accounts;
        let noting = accounts.need_authorisation(app_id, &attention);
        self.note_attention(app_id, noting).await;
        Miss::Final(TokenError::AccountBlocked { attention })
    }
}
