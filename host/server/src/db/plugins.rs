//! Components, once each, by digest.

use super::{Change, Database, DbError};

/// A row of `plugins` to be stored.
#[derive(Clone, Debug)]
pub struct PluginRow<'a> {
    /// SHA-256 of the component, in hex.
    pub digest: &'a str,
    /// The component.
    pub component: &'a [u8],
    /// The handlers that it exports, as JSON.
    pub handlers: &'a str,
    /// What it imports, as JSON.
    pub imports: &'a str,
    /// The JSON Schema of its settings.
    pub config_schema: Option<&'a str>,
    /// Its manifest, as JSON.
    pub manifest: Option<&'a str>,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Stores a component unless it is there. One that was stored by a host that did not read manifests gets
/// its own.
pub async fn insert(change: &mut Change, plugin: &PluginRow<'_>) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO plugins (digest, component, size, handlers, imports, config_schema, \
         manifest, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (digest) DO UPDATE SET manifest = excluded.manifest",
    )
    .bind(plugin.digest)
    .bind(plugin.component)
    .bind(i64::try_from(plugin.component.len()).unwrap_or(i64::MAX))
    .bind(plugin.handlers)
    .bind(plugin.imports)
    .bind(plugin.config_schema)
    .bind(plugin.manifest)
    .bind(plugin.created_at)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// The component of that digest.
pub async fn component(db: &Database, digest: &str) -> Result<Option<Vec<u8>>, DbError> {
    let row: Option<(Vec<u8>,)> = sqlx::query_as("SELECT component FROM plugins WHERE digest = $1")
        .bind(digest)
        .fetch_optional(&db.readers)
        .await?;
    Ok(row.map(|(component,)| component))
}

/// The digests of all components.
pub async fn digests(db: &Database) -> Result<Vec<String>, DbError> {
    let rows: Vec<(String,)> = sqlx::query_as("SELECT digest FROM plugins")
        .fetch_all(&db.readers)
        .await?;
    Ok(rows.into_iter().map(|(digest,)| digest).collect())
}

/// Deletes the components stored before `before_ms` that no deployment uses. Tells how many.
pub async fn delete_unused(db: &Database, before_ms: i64) -> Result<u64, DbError> {
    let unused: Option<(String,)> = sqlx::query_as(
        "SELECT digest FROM plugins WHERE created_at < $1 AND NOT EXISTS \
         (SELECT 1 FROM deployments WHERE deployments.digest = plugins.digest) LIMIT 1",
    )
    .bind(before_ms)
    .fetch_optional(&db.readers)
    .await?;
    if unused.is_none() {
        return Ok(0);
    }
    // Deployments are made in changes too, one after the other: none can find its component stored and
    // lose it before it refers to it.
    let mut change = db.change().await?;
    let deleted = sqlx::query(
        "DELETE FROM plugins WHERE created_at < $1 AND NOT EXISTS \
         (SELECT 1 FROM deployments WHERE deployments.digest = plugins.digest)",
    )
    .bind(before_ms)
    .execute(change.connection())
    .await?;
    change.commit().await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::db::{accounts, deployments, testing::databases};

    /// Stores a component.
    pub(crate) async fn add_plugin(db: &Database, digest: &str, created_at: i64) {
        let plugin = PluginRow {
            digest,
            component: b"\0asm\xff",
            handlers: "[]",
            imports: "[]",
            config_schema: None,
            manifest: None,
            created_at,
        };
        let mut change = db.change().await.unwrap();
        insert(&mut change, &plugin).await.unwrap();
        change.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_component_is_stored_once() {
        for db in databases().await {
            for created_at in [1, 2] {
                add_plugin(&db, "d1", created_at).await;
            }
            let stored = component(&db, "d1").await.unwrap();
            assert_eq!(stored.as_deref(), Some(b"\0asm\xff".as_slice()));
            assert_eq!(component(&db, "d2").await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn only_old_components_that_nobody_uses_are_deleted() {
        for db in databases().await {
            accounts::tests::add_account(&db, "wx01").await;
            for (digest, created_at) in [("used", 1), ("unused", 1), ("fresh", 5)] {
                add_plugin(&db, digest, created_at).await;
            }
            deployments::tests::add_deployment(&db, "wx01", "used").await;
            for (before_ms, deleted, expected) in [
                (1, 0, ["fresh", "unused", "used"].as_slice()),
                (5, 1, &["fresh", "used"]),
                (6, 1, &["used"]),
            ] {
                assert_eq!(delete_unused(&db, before_ms).await.unwrap(), deleted);
                let mut left = digests(&db).await.unwrap();
                left.sort();
                assert_eq!(left, expected);
            }
        }
    }
}
