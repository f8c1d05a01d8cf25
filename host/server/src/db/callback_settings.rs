//! How an account's callbacks come: the callback lane's settings of it.

use super::{Change, DbError};

/// A row of `callback_settings`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CallbackSettingsRow {
    /// `plain`, `compatible` or `safe`.
    pub mode: String,
    /// The sealed callback token.
    pub token_sealed: String,
    /// The sealed EncodingAESKey.
    pub aes_key_sealed: Option<String>,
    /// The sealed EncodingAESKey before the last change, if an early version made it: sealed as the present
    /// key is. It is newer than `former_aes_key_sealed`.
    pub previous_aes_key_sealed: Option<String>,
    /// The sealed EncodingAESKey before the last change.
    pub former_aes_key_sealed: Option<String>,
    /// How far a callback's timestamp may be off, in seconds.
    pub window_seconds: i64,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
    /// JSON: the words that stop and resume messages.
    pub opt_out_words: Option<String>,
}

/// Adds those of a new account.
pub async fn insert(
    change: &mut Change,
    app_id: &str,
    row: &CallbackSettingsRow,
) -> Result<(), DbError> {
    let statement = "INSERT INTO callback_settings (app_id, mode, token_sealed, aes_key_sealed, \
         previous_aes_key_sealed, former_aes_key_sealed, window_seconds, fallback_text, \
         opt_out_words) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    write(change, statement, app_id, row).await
}

/// Writes back an account's.
pub async fn update(
    change: &mut Change,
    app_id: &str,
    row: &CallbackSettingsRow,
) -> Result<(), DbError> {
    let statement = "UPDATE callback_settings SET mode = $2, token_sealed = $3, \
         aes_key_sealed = $4, previous_aes_key_sealed = $5, former_aes_key_sealed = $6, \
         window_seconds = $7, fallback_text = $8, opt_out_words = $9 WHERE app_id = $1";
    write(change, statement, app_id, row).await
}

async fn write(
    change: &mut Change,
    statement: &'static str,
    app_id: &str,
    row: &CallbackSettingsRow,
) -> Result<(), DbError> {
    sqlx::query(statement)
        .bind(app_id)
        .bind(&row.mode)
        .bind(&row.token_sealed)
        .bind(&row.aes_key_sealed)
        .bind(&row.previous_aes_key_sealed)
        .bind(&row.former_aes_key_sealed)
        .bind(row.window_seconds)
        .bind(&row.fallback_text)
        .bind(&row.opt_out_words)
        .execute(change.connection())
        .await?;
    Ok(())
}
