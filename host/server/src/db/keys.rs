//! API keys of tenants' own systems: what they may do, not what they are.

use super::{Change, Database, DbError};

/// Updates of one transaction when uses are noted: short enough not to hold up other writers.
const USES_BLOCK: usize = 500;

/// A row of `api_keys`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyRow {
    /// Names the key; not the key itself.
    pub id: String,
    /// Whose systems use it.
    pub tenant_id: String,
    /// Its name for people.
    pub name: String,
    /// SHA-256 of the key, in hex.
    pub digest: String,
    /// The accounts that it reaches, a JSON list; all of the tenant's if absent.
    pub app_ids: Option<String>,
    /// What it may do, a JSON list of words.
    pub grants: String,
    /// Requests a minute.
    pub rate_per_minute: i64,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds; absent while it is good.
    pub revoked_at: Option<i64>,
    /// Unix milliseconds, some seconds late.
    pub last_used_at: Option<i64>,
    /// What requests are signed with, sealed; keys of an earlier version have none.
    pub signing_secret_sealed: Option<String>,
}

/// Which keys to list.
#[derive(Clone, Copy, Debug)]
pub struct KeyFilter<'a> {
    /// Of this tenant only.
    pub tenant_id: Option<&'a str>,
    /// Older than this key.
    pub before: Option<&'a str>,
    /// So many at most.
    pub limit: u32,
}

/// Adds a key; [`DbError::MissingReference`] when there is no such tenant.
pub async fn insert(change: &mut Change, key: &KeyRow) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO api_keys (id, tenant_id, name, digest, app_ids, grants, rate_per_minute, \
         created_at, revoked_at, last_used_at, revision, signing_secret_sealed) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&key.id)
    .bind(&key.tenant_id)
    .bind(&key.name)
    .bind(&key.digest)
    .bind(&key.app_ids)
    .bind(&key.grants)
    .bind(key.rate_per_minute)
    .bind(key.created_at)
    .bind(key.revoked_at)
    .bind(key.last_used_at)
    .bind(change.revision)
    .bind(&key.signing_secret_sealed)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// How many keys of a tenant are good.
pub async fn count_good(change: &mut Change, tenant_id: &str) -> Result<i64, DbError> {
    let (count,) =
        sqlx::query_as("SELECT COUNT(*) FROM api_keys WHERE tenant_id = $1 AND revoked_at IS NULL")
            .bind(tenant_id)
            .fetch_one(change.connection())
            .await?;
    Ok(count)
}

/// Revokes a key from `now_ms` on; one that is revoked already stays as it is.
pub async fn revoke(change: &mut Change, id: &str, now_ms: i64) -> Result<Option<KeyRow>, DbError> {
    sqlx::query(
        "UPDATE api_keys SET revoked_at = $2, revision = $3 WHERE id = $1 AND revoked_at IS NULL",
    )
    .bind(id)
    .bind(now_ms)
    .bind(change.revision)
    .execute(change.connection())
    .await?;
    Ok(sqlx::query_as("SELECT * FROM api_keys WHERE id = $1")
        .bind(id)
        .fetch_optional(change.connection())
        .await?)
}

/// Keys, newest first.
pub async fn list(db: &Database, filter: &KeyFilter<'_>) -> Result<Vec<KeyRow>, DbError> {
    let (before_time, before_id) = match filter.before {
        None => (i64::MAX, ""),
        Some(id) => match created_at(db, id).await? {
            Some(time) => (time, id),
            None => return Ok(Vec::new()),
        },
    };
    Ok(sqlx::query_as(
        "SELECT * FROM api_keys WHERE ($1 = '' OR tenant_id = $1) AND created_at <= $2 \
         AND (created_at < $2 OR id < $3) ORDER BY created_at DESC, id DESC LIMIT $4",
    )
    .bind(filter.tenant_id.unwrap_or_default())
    .bind(before_time)
    .bind(before_id)
    .bind(i64::from(filter.limit))
    .fetch_all(&db.readers)
    .await?)
}

async fn created_at(db: &Database, id: &str) -> Result<Option<i64>, DbError> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT created_at FROM api_keys WHERE id = $1")
        .bind(id)
        .fetch_optional(&db.readers)
        .await?;
    Ok(row.map(|(time,)| time))
}

/// The keys added or revoked after `revision`; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<KeyRow>, DbError> {
    Ok(sqlx::query_as("SELECT * FROM api_keys WHERE revision > $1")
        .bind(revision)
        .fetch_all(&db.readers)
        .await?)
}

/// Notes when keys were last used: ids with Unix milliseconds. An earlier time changes nothing.
pub async fn note_uses(db: &Database, uses: &[(String, i64)]) -> Result<(), DbError> {
    for block in uses.chunks(USES_BLOCK) {
        let mut transaction = db.begin().await?;
        for (id, time_ms) in block {
            sqlx::query(
                "UPDATE api_keys SET last_used_at = $2 \
                 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
            )
            .bind(id)
            .bind(time_ms)
            .execute(transaction.connection())
            .await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{accounts::tests::add_account, testing::databases};

    fn key(id: &str, created_at: i64) -> KeyRow {
        KeyRow {
            id: id.into(),
            tenant_id: "acme".into(),
            name: "CRM".into(),
            digest: format!("d-{id}"),
            app_ids: Some(r#"["wx01"]"#.into()),
            grants: r#"["access-token"]"#.into(),
            rate_per_minute: 60,
            created_at,
            revoked_at: None,
            last_used_at: None,
            signing_secret_sealed: None,
        }
    }

    async fn ids(db: &Database, tenant_id: Option<&str>, before: Option<&str>) -> Vec<String> {
        let filter = KeyFilter {
            tenant_id,
            before,
            limit: 2,
        };
        let rows = list(db, &filter).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    #[tokio::test]
    async fn a_key_is_kept_listed_revoked_once_and_seen_by_its_revision() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let mut change = db.change().await.unwrap();
            for (id, time) in [("k1", 1), ("k2", 2), ("k3", 2)] {
                insert(&mut change, &key(id, time)).await.unwrap();
            }
            assert_eq!(count_good(&mut change, "acme").await.unwrap(), 3);
            change.commit().await.unwrap();
            assert_eq!(ids(&db, None, None).await, ["k3", "k2"]);
            assert_eq!(ids(&db, Some("acme"), Some("k2")).await, ["k1"]);
            assert!(ids(&db, Some("other"), None).await.is_empty());
            assert!(ids(&db, None, Some("gone")).await.is_empty());

            let before = db.revision().await.unwrap();
            note_uses(&db, &[("k1".into(), 7), ("k1".into(), 5)])
                .await
                .unwrap();
            assert!(changed_after(&db, before).await.unwrap().is_empty());
            for now in [9, 10] {
                let mut change = db.change().await.unwrap();
                let row = revoke(&mut change, "k1", now).await.unwrap().unwrap();
                assert_eq!((row.revoked_at, row.last_used_at), (Some(9), Some(7)));
                assert_eq!(revoke(&mut change, "k9", now).await.unwrap(), None);
                assert_eq!(count_good(&mut change, "acme").await.unwrap(), 2);
                change.commit().await.unwrap();
            }
            assert_eq!(changed_after(&db, before).await.unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn a_key_of_no_tenant_is_refused() {
        for db in databases().await {
            let mut change = db.change().await.unwrap();
            let refused = insert(&mut change, &key("k1", 1)).await;
            assert!(
                matches!(refused, Err(DbError::MissingReference(_))),
                "{refused:?}"
            );
        }
    }
}
