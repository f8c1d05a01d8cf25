//! What users let an account see of them (`snsapi_userinfo`): the tokens by which their profiles are read.

use super::{Database, DbError};

/// A row of `user_grants`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct UserGrantRow {
    /// The account.
    pub app_id: String,
    /// The user.
    pub open_id: String,
    /// The user's token, sealed.
    pub access_token_sealed: String,
    /// When it ends, Unix milliseconds.
    pub expires_at: i64,
    /// What the next one is got with, sealed.
    pub refresh_token_sealed: String,
    /// When the user said yes, Unix milliseconds.
    pub granted_at: i64,
}

/// Keeps what a user has granted, in the place of what they granted before.
///
/// # Errors
/// The database failed.
pub async fn keep(db: &Database, row: &UserGrantRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO user_grants (app_id, open_id, access_token_sealed, expires_at, \
         refresh_token_sealed, granted_at) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (app_id, open_id) DO UPDATE SET \
         access_token_sealed = excluded.access_token_sealed, expires_at = excluded.expires_at, \
         refresh_token_sealed = excluded.refresh_token_sealed, granted_at = excluded.granted_at",
    )
    .bind(&row.app_id)
    .bind(&row.open_id)
    .bind(&row.access_token_sealed)
    .bind(row.expires_at)
    .bind(&row.refresh_token_sealed)
    .bind(row.granted_at)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Keeps a user's next token, unless they have granted anew meanwhile.
///
/// # Errors
/// The database failed.
pub async fn renew(db: &Database, row: &UserGrantRow) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE user_grants SET access_token_sealed = $1, expires_at = $2 \
         WHERE app_id = $3 AND open_id = $4 AND granted_at = $5",
    )
    .bind(&row.access_token_sealed)
    .bind(row.expires_at)
    .bind(&row.app_id)
    .bind(&row.open_id)
    .bind(row.granted_at)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// What a user has granted.
///
/// # Errors
/// The database failed.
pub async fn find(
    db: &Database,
    app_id: &str,
    open_id: &str,
) -> Result<Option<UserGrantRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT app_id, open_id, access_token_sealed, expires_at, refresh_token_sealed, granted_at \
         FROM user_grants WHERE app_id = $1 AND open_id = $2",
    )
    .bind(app_id)
    .bind(open_id)
    .fetch_optional(&db.readers)
    .await?)
}

/// Forgets what was granted before `before_ms`: WeChat renews nothing of it any more.
///
/// # Errors
/// The database failed.
pub async fn forget(db: &Database, before_ms: i64) -> Result<(), DbError> {
    sqlx::query("DELETE FROM user_grants WHERE granted_at < $1")
        .bind(before_ms)
        .execute(&db.writers)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::accounts::tests::add_account;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn a_grant_takes_the_place_of_the_one_before() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let first = UserGrantRow {
                app_id: "wx01".into(),
                open_id: "o1".into(),
                access_token_sealed: "a1".into(),
                expires_at: 10,
                refresh_token_sealed: "r1".into(),
                granted_at: 1,
            };
            keep(&db, &first).await.unwrap();
            let second = UserGrantRow {
                access_token_sealed: "a2".into(),
                granted_at: 2,
                ..first.clone()
            };
            keep(&db, &second).await.unwrap();
            // A renewal of what is there no more.
            renew(&db, &first).await.unwrap();
            let found = find(&db, "wx01", "o1").await.unwrap();
            assert_eq!(found.as_ref(), Some(&second));
            let renewed = UserGrantRow {
                access_token_sealed: "a3".into(),
                expires_at: 20,
                ..second
            };
            renew(&db, &renewed).await.unwrap();
            assert_eq!(find(&db, "wx01", "o1").await.unwrap(), Some(renewed));
            forget(&db, 2).await.unwrap();
            assert!(find(&db, "wx01", "o1").await.unwrap().is_some());
            forget(&db, 3).await.unwrap();
            assert_eq!(find(&db, "wx01", "o1").await.unwrap(), None);
        }
    }
}
