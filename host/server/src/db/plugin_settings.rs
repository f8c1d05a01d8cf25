//! What serves an account: which of its deployments is active, and what the operator lets it reach.

use super::{Change, DbError};

/// A row of `plugin_settings`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PluginSettingsRow {
    /// The deployment that serves it.
    pub active_version: Option<i64>,
    /// JSON: what the operator grants its plugin.
    pub grants: String,
}

/// Adds those of a new account.
pub async fn insert(
    change: &mut Change,
    app_id: &str,
    row: &PluginSettingsRow,
) -> Result<(), DbError> {
    let statement =
        "INSERT INTO plugin_settings (app_id, active_version, grants) VALUES ($1, $2, $3)";
    write(change, statement, app_id, row).await
}

/// An account's, to be changed: nobody else changes them before `change` ends.
pub async fn find_for_change(
    change: &mut Change,
    app_id: &str,
) -> Result<Option<PluginSettingsRow>, DbError> {
    // Changes queue up behind the revision's row, so no lock on this one is needed.
    Ok(
        sqlx::query_as("SELECT active_version, grants FROM plugin_settings WHERE app_id = $1")
            .bind(app_id)
            .fetch_optional(change.connection())
            .await?,
    )
}

/// Writes back an account's.
pub async fn update(
    change: &mut Change,
    app_id: &str,
    row: &PluginSettingsRow,
) -> Result<(), DbError> {
    let statement = "UPDATE plugin_settings SET active_version = $2, grants = $3 WHERE app_id = $1";
    write(change, statement, app_id, row).await
}

async fn write(
    change: &mut Change,
    statement: &'static str,
    app_id: &str,
    row: &PluginSettingsRow,
) -> Result<(), DbError> {
    sqlx::query(statement)
        .bind(app_id)
        .bind(row.active_version)
        .bind(&row.grants)
        .execute(change.connection())
        .await?;
    Ok(())
}
