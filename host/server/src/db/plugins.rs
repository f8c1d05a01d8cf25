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
        .fetch_optional(&db.pool)
        .await?;
    Ok(row.map(|(component,)| component))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn a_component_is_stored_once() {
        for db in databases().await {
            for created_at in [1, 2] {
                let plugin = PluginRow {
                    digest: "d1",
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
            let stored = component(&db, "d1").await.unwrap();
            assert_eq!(stored.as_deref(), Some(b"\0asm\xff".as_slice()));
            assert_eq!(component(&db, "d2").await.unwrap(), None);
        }
    }
}
