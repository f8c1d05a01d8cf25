//! Tenants: the customers that accounts belong to.

use super::{Change, Database, DbError};

/// A row of `tenants`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TenantRow {
    /// Its name in the API.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// How many of its plugins' calls may run at the same time.
    pub max_concurrent_calls: i64,
    /// The account whose settings, plugin and quotas accounts get that come by an invitation.
    pub like_app_id: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Adds a tenant; [`DbError::Duplicate`] when there is one of that id.
pub async fn insert(change: &mut Change, tenant: &TenantRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO tenants (id, name, max_concurrent_calls, created_at, revision) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&tenant.id)
    .bind(&tenant.name)
    .bind(tenant.max_concurrent_calls)
    .bind(tenant.created_at)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// The tenant of that id.
pub async fn find(db: &Database, id: &str) -> Result<Option<TenantRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT id, name, max_concurrent_calls, like_app_id, created_at FROM tenants WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(&db.readers)
    .await?)
}

/// Says whose settings a tenant's invited accounts get. False if there is no such tenant.
pub async fn set_like(change: &mut Change, id: &str, like: Option<&str>) -> Result<bool, DbError> {
    let set = sqlx::query("UPDATE tenants SET like_app_id = $1 WHERE id = $2")
        .bind(like)
        .bind(id)
        .execute(change.connection())
        .await?;
    Ok(set.rows_affected() == 1)
}

/// The tenants changed after `revision`; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<TenantRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT id, name, max_concurrent_calls, like_app_id, created_at FROM tenants WHERE revision > $1 \
         ORDER BY created_at, id",
    )
    .bind(revision)
    .fetch_all(&db.readers)
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn a_tenant_is_kept_once_and_seen_by_its_revision() {
        for db in databases().await {
            let tenant = TenantRow {
                id: "acme".into(),
                name: "Acme 公司".into(),
                max_concurrent_calls: 8,
                like_app_id: None,
                created_at: 1,
            };
            let before = db.revision().await.unwrap();
            let mut change = db.change().await.unwrap();
            insert(&mut change, &tenant).await.unwrap();
            change.commit().await.unwrap();

            assert_eq!(find(&db, "acme").await.unwrap(), Some(tenant.clone()));
            assert_eq!(find(&db, "none").await.unwrap(), None);
            let seen = changed_after(&db, before).await.unwrap();
            assert_eq!(seen, std::slice::from_ref(&tenant));
            assert_eq!(changed_after(&db, before + 1).await.unwrap(), []);

            let mut change = db.change().await.unwrap();
            let again = insert(&mut change, &tenant).await;
            assert!(matches!(again, Err(DbError::Duplicate(_))), "{again:?}");
        }
    }
}
