//! How users log in to an account's pages.

use super::{Change, DbError};

/// Writes an account's; None takes them away.
pub async fn write(change: &mut Change, app_id: &str, login: Option<&str>) -> Result<(), DbError> {
    let Some(login) = login else {
        sqlx::query("DELETE FROM login_settings WHERE app_id = $1")
            .bind(app_id)
            .execute(change.connection())
            .await?;
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO login_settings (app_id, login) VALUES ($1, $2) \
         ON CONFLICT (app_id) DO UPDATE SET login = excluded.login",
    )
    .bind(app_id)
    .bind(login)
    .execute(change.connection())
    .await?;
    Ok(())
}
