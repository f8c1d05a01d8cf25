//! What WeChat checks before it releases a platform to everybody (全网发布检测): its own accounts authorise
//! the platform and write to it. They are nobody's here; the host answers by itself.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::Instant;
use wxhost_wechat::api::component::{AuthorizerToken, QueryAuth, Secret};
use wxhost_wechat::api::customer_message::{Content, Send};
use wxhost_wechat::component::release_test::{self, ACCOUNTS, Expected};
use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::message::Message;

use super::CALL_TIME;
use crate::accounts::Platform;
use crate::client::CallError;
use crate::db::authorisations::{self, AuthorisationRow};
use crate::digest::sha256_hex;
use crate::seal::Place;
use crate::services::Services;

/// How long the event of an authorisation is waited for.
const EVENT_TIME: Duration = Duration::from_secs(2);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Whether this is one of WeChat's test accounts.
pub fn is_account(app_id: &str) -> bool {
    ACCOUNTS.contains(&app_id)
}

/// The text that is replied to what a test account's user does, if one is expected; a customer-service message
/// that is expected is sent behind the answer.
pub fn answer(
    services: &Arc<Services>,
    platform: &Arc<Platform>,
    app_id: &str,
    (message, clear): (&Message, &[u8]),
) -> Option<String> {
    match release_test::expected(clear)? {
        Expected::Reply(text) => Some(text),
        Expected::Message { code } => {
            let work = Work {
                services: Arc::clone(services),
                platform: Arc::clone(platform),
                app_id: AppId::parse(app_id).ok()?,
                to: message.from_user.clone(),
                code,
            };
            tokio::spawn(async move {
                if let Err(error) = Box::pin(work.send()).await {
                    tracing::error!(
                        account.app_id = %work.app_id,
                        error = %error,
                        "what WeChat's release test expects can't be sent"
                    );
                }
            });
            None
        }
    }
}

struct Work {
    services: Arc<Services>,
    platform: Arc<Platform>,
    app_id: AppId,
    to: OpenId,
    code: String,
}

impl Work {
    async fn send(&self) -> Result<(), CallError> {
        let token = self.token().await?;
        let message = Send {
            open_id: self.to.clone(),
            content: Content::Text {
                content: release_test::message(&self.code),
            },
            kf_account: None,
        };
        let deadline = Instant::now() + CALL_TIME;
        self.services
            .client
            .call_with(Some(&token), &message, deadline)
            .await
            .map(drop)
    }

    /// What the event of the authorisation brought. It may still be under way, and its code is good once: it is
    /// waited for.
    async fn authorisation(&self) -> Option<AuthorisationRow> {
        let until = Instant::now() + EVENT_TIME;
        loop {
            let (app_id, platform) = (self.app_id.as_str(), self.platform.app_id.as_str());
            let found = authorisations::find(&self.services.db, app_id, platform).await;
            let found = found.ok().flatten();
            let has_token = |row: &AuthorisationRow| row.refresh_token_sealed.is_some();
            if found.as_ref().is_some_and(has_token) || Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The account's token: by the code, or, if the host has exchanged that already, by what it brought.
    async fn token(&self) -> Result<Secret, CallError> {
        let unknown = || CallError::Answer("wechat gives the test account no token".to_owned());
        let code = Secret::parse(&self.code).map_err(|_| unknown())?;
        let (services, platform) = (&self.services, &self.platform);
        let deadline = Instant::now() + CALL_TIME;
        if let Some(row) = self.authorisation().await
            && let Some(sealed) = &row.refresh_token_sealed
        {
            let place = Place::refresh_token(self.app_id.as_str(), platform.app_id.as_str());
            let text = services
                .keys
                .open_text(place, sealed)
                .map_err(|_| unknown())?;
            let refresh_token = Secret::parse(text.expose_secret()).map_err(|_| unknown())?;
            let call = AuthorizerToken {
                component_app_id: &platform.app_id,
                app_id: &self.app_id,
                refresh_token: &refresh_token,
            };
            let renewed = services
                .client
                .call_for_platform(platform, &call, deadline)
                .await?;
            if let Some(next) = renewed.refresh_token {
                let sealed = services.keys.seal(place, next.expose().as_bytes());
                let key = (self.app_id.as_str(), platform.app_id.as_str());
                if let Ok(sealed) = sealed {
                    // WeChat tells it again otherwise.
                    let _ = authorisations::rotate(&services.db, key, row.version, &sealed).await;
                }
            }
            return Secret::parse(renewed.token.expose()).map_err(|_| unknown());
        }
        tracing::debug!(
            code = sha256_hex(&self.code),
            "the release test's code is exchanged here"
        );
        let call = QueryAuth {
            component_app_id: &platform.app_id,
            code: &code,
        };
        let answer = services
            .client
            .call_for_platform(platform, &call, deadline)
            .await?;
        let token = answer.authorization_info.token.ok_or_else(unknown)?;
        Secret::parse(token.expose()).map_err(|_| unknown())
    }
}
