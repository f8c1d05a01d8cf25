//! How an account calls WeChat: what its tokens and tickets are got with.

use super::{Change, DbError};

/// A row of `credential_settings`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CredentialSettingsRow {
    /// The sealed AppSecret.
    pub secret_sealed: Option<String>,
    /// `stable` or `classic`.
    pub token_line: String,
    /// JSON: what the account's owner must mend.
    pub attention: Option<String>,
    /// JSON: origins whose pages may have JS-SDK signatures.
    pub jssdk_origins: String,
    /// The third-party platform that it calls WeChat by, in the place of its AppSecret.
    pub platform: Option<String>,
}

/// Adds those of a new account.
pub async fn insert(
    change: &mut Change,
    app_id: &str,
    row: &CredentialSettingsRow,
) -> Result<(), DbError> {
    let statement = "INSERT INTO credential_settings (app_id, secret_sealed, token_line, attention, \
         jssdk_origins, platform) VALUES ($1, $2, $3, $4, $5, $6)";
    write(change, statement, app_id, row).await
}

/// Writes back an account's.
pub async fn update(
    change: &mut Change,
    app_id: &str,
    row: &CredentialSettingsRow,
) -> Result<(), DbError> {
    let statement = "UPDATE credential_settings SET secret_sealed = $2, token_line = $3, \
         attention = $4, jssdk_origins = $5, platform = $6 WHERE app_id = $1";
    write(change, statement, app_id, row).await
}

async fn write(
    change: &mut Change,
    statement: &'static str,
    app_id: &str,
    row: &CredentialSettingsRow,
) -> Result<(), DbError> {
    sqlx::query(statement)
        .bind(app_id)
        .bind(&row.secret_sealed)
        .bind(&row.token_line)
        .bind(&row.attention)
        .bind(&row.jssdk_origins)
        .bind(&row.platform)
        .execute(change.connection())
        .await?;
    Ok(())
}
