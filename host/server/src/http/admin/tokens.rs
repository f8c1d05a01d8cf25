//! `/api/v1/accounts/{app_id}/access-token` and `…/attention`.

use std::time::Duration;

use axum::Json;
use tokio::time::Instant;

use super::{Write, accounts::Account};
use crate::{
    audit::Action,
    db::accounts::AccountRow,
    http::error::{ApiError, ErrorBody},
    tokens::{TokenError, TokenState},
};

/// How long an operator waits for WeChat.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes WeChat give out a new access token and end the present one at once: after a leak. Twice, 30
/// seconds apart, ends the leaked one for certain. 20 a day.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/access-token/refresh", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = TokenState),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn refresh(write: Write<AccountRow>) -> Result<Json<TokenState>, ApiError> {
    let (services, app_id) = (write.services(), &*write.object.app_id);
    let Some(account) = services.accounts.get(app_id) else {
        return Err(ApiError::not_found("account", app_id));
    };
    let author = write.author();
    let entry = |result| author.entry(Action::TokenRefresh, Some(app_id), "", result);
    // What WeChat will do can't be taken back when the audit can't be written.
    services.audit.write(entry("asked")).await?;
    let deadline = Instant::now() + PATIENCE;
    let forced = services
        .client
        .tokens()
        .force_refresh(&account, deadline)
        .await;
    let result = forced.as_ref().map_or_else(TokenError::code, |_| "ok");
    if let Err(error) = services.audit.write(entry(result)).await {
        tracing::error!(error = %error, "what came of a forced token is missing in the audit");
    }
    Ok(Json(TokenState::from(&*forced?)))
}

/// Says that the owner has mended what the account's `attention` names: WeChat is asked for tokens
/// again.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/attention", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn clear_attention(write: Write<AccountRow>) -> Result<Json<Account>, ApiError> {
    let (services, app_id) = (write.services(), &write.object.app_id);
    let row = services
        .accounts
        .clear_attention(app_id, &write.author())
        .await?;
    write.announce().await;
    if let Some(account) = services.accounts.get(app_id) {
        services.client.tokens().clear_backoff(&account);
    }
    Ok(Json(row.into()))
}
