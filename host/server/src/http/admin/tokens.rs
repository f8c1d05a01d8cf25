//! `/api/v1/accounts/{app_id}/access-token` and `…/attention`.

use std::time::Duration;

use axum::{Json, extract::State};
use tokio::time::Instant;

use super::{AdminState, Operator, Path, accounts::Account};
use crate::{
    audit::Action,
    db::audit,
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
pub(super) async fn refresh(
    operator: Operator,
    State(state): State<AdminState>,
    Path(app_id): Path<String>,
) -> Result<Json<TokenState>, ApiError> {
    let Some(account) = state.accounts.get(&app_id) else {
        return Err(ApiError::not_found("account", &app_id));
    };
    let deadline = Instant::now() + PATIENCE;
    let forced = state.tokens.force_refresh(&account, deadline).await;
    let result = forced.as_ref().map_or_else(TokenError::code, |_| "ok");
    let author = operator.author();
    let entry = author.entry(Action::TokenRefresh, Some(&app_id), "", result);
    // What WeChat has done can't be taken back when the audit can't be written.
    if let Err(error) = audit::insert(&state.db, &[entry]).await {
        tracing::error!(error = %error, "a forced token is missing in the audit");
    }
    Ok(Json(TokenState::from(&*forced?)))
}

/// Says that the owner has mended what the account's `attention` names: WeChat is asked for tokens
/// again.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/attention", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = Account),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn clear_attention(
    operator: Operator,
    State(state): State<AdminState>,
    Path(app_id): Path<String>,
) -> Result<Json<Account>, ApiError> {
    let row = state
        .accounts
        .clear_attention(&app_id, &operator.author())
        .await?;
    state.announce().await;
    if let Some(account) = state.accounts.get(&app_id) {
        state.tokens.clear_backoff(&account);
    }
    Ok(Json(row.into()))
}
