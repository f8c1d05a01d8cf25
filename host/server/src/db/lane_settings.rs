//! What an account sets for a lane, JSON in the lane's own table; there is no row where nothing is set.

use sqlx::AssertSqlSafe;

use super::{Change, DbError};

/// Which settings.
#[derive(Clone, Copy, Debug)]
pub enum LaneSettings {
    /// How users log in to its pages.
    Login,
    /// When its pushes rest.
    QuietHours,
}

impl LaneSettings {
    /// Their table, and the column in it.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Login => ("login_settings", "login"),
            Self::QuietHours => ("push_settings", "quiet_hours"),
        }
    }

    /// Writes an account's; None takes them away.
    ///
    /// # Errors
    /// The database failed.
    pub async fn write(
        self,
        change: &mut Change,
        app_id: &str,
        settings: Option<&str>,
    ) -> Result<(), DbError> {
        let (table, column) = self.place();
        let Some(settings) = settings else {
            let statement = format!("DELETE FROM {table} WHERE app_id = $1");
            sqlx::query(AssertSqlSafe(statement))
                .bind(app_id)
                .execute(change.connection())
                .await?;
            return Ok(());
        };
        let statement = format!(
            "INSERT INTO {table} (app_id, {column}) VALUES ($1, $2) \
             ON CONFLICT (app_id) DO UPDATE SET {column} = excluded.{column}"
        );
        sqlx::query(AssertSqlSafe(statement))
            .bind(app_id)
            .bind(settings)
            .execute(change.connection())
            .await?;
        Ok(())
    }
}
