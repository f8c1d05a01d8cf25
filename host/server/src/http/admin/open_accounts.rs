//! `/api/v1/accounts/{app_id}/open-account`: the Open Platform account (开放平台账号) that gives a person one
//! union id over several accounts. Of accounts that a third-party platform serves.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use wxhost_wechat::api::open_account::{Bind, Create, Get, Unbind};

use super::{JsonBody, Read, Write};
use crate::accounts::Account;
use crate::audit::Action;
use crate::db::accounts::AccountRow;
use crate::http::error::{ApiError, ErrorBody};
use crate::services::Services;

/// How long an operator waits for WeChat.
const PATIENCE: Duration = Duration::from_secs(15);

/// An Open Platform account.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenAccount {
    /// Its id.
    #[schema(example = "wx0123456789abcdef")]
    open_app_id: String,
}

/// Which Open Platform account to bind to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenAccountToBind {
    /// Its id; a new one is made without it.
    open_app_id: Option<String>,
}

/// Shows which Open Platform account an account belongs to.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/open-account", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = OpenAccount),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn show(read: Read<AccountRow>) -> Result<Json<OpenAccount>, ApiError> {
    let services = read.services();
    let account = known(services, &read.object)?;
    let deadline = Instant::now() + PATIENCE;
    let found = services.client.call(&account, &Get {}, deadline).await?;
    Ok(Json(OpenAccount {
        open_app_id: found.open_appid,
    }))
}

/// Binds an account to an Open Platform account, or to a new one.
#[utoipa::path(put, path = "/api/v1/accounts/{app_id}/open-account", tag = "accounts", params(("app_id" = String, Path)), request_body = OpenAccountToBind, responses(
    (status = 200, body = OpenAccount),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn bind(
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<OpenAccountToBind>,
) -> Result<Json<OpenAccount>, ApiError> {
    let services = write.services();
    let account = known(services, &write.object)?;
    let deadline = Instant::now() + PATIENCE;
    let client = &services.client;
    let open_app_id = match body.open_app_id {
        None => {
            note(&write, "create").await?;
            client
                .call(&account, &Create {}, deadline)
                .await?
                .open_appid
        }
        Some(open_appid) => {
            note(&write, &format!("bind {open_appid}")).await?;
            let call = Bind { open_appid };
            client.call(&account, &call, deadline).await?;
            call.open_appid
        }
    };
    Ok(Json(OpenAccount { open_app_id }))
}

/// Takes an account out of its Open Platform account.
#[utoipa::path(delete, path = "/api/v1/accounts/{app_id}/open-account", tag = "accounts", params(("app_id" = String, Path)), responses(
    (status = 200, body = OpenAccount),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn unbind(write: Write<AccountRow>) -> Result<Json<OpenAccount>, ApiError> {
    let services = write.services();
    let account = known(services, &write.object)?;
    let deadline = Instant::now() + PATIENCE;
    let client = &services.client;
    let bound = client.call(&account, &Get {}, deadline).await?;
    note(&write, &format!("unbind {}", bound.open_appid)).await?;
    let call = Unbind {
        open_appid: bound.open_appid,
    };
    client.call(&account, &call, deadline).await?;
    Ok(Json(OpenAccount {
        open_app_id: call.open_appid,
    }))
}

fn known(services: &Services, row: &AccountRow) -> Result<Arc<Account>, ApiError> {
    let account = services.accounts.get(&row.app_id);
    account.ok_or_else(|| ApiError::not_found("account", &row.app_id))
}

async fn note(write: &Write<AccountRow>, object: &str) -> Result<(), ApiError> {
    let app_id = Some(&*write.object.app_id);
    let author = write.author();
    let entry = author.entry(Action::OpenAccountTurn, app_id, object, "asked");
    // What WeChat will do can't be taken back when the audit can't be written.
    Ok(write.services().audit.write(entry).await?)
}
