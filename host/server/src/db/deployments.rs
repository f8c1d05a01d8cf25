//! Deployments: a component with its settings, for one account. Never changed once written.

use super::{Change, Database, DbError};

/// A row of `deployments`, with what its plugin's row says.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeploymentRow {
    /// The account.
    pub app_id: String,
    /// 1, 2, 3 … per account.
    pub version: i64,
    /// The component.
    pub digest: String,
    /// The settings, as JSON.
    pub config: String,
    /// The secrets, a sealed JSON object.
    pub secrets_sealed: String,
    /// The limits, as JSON.
    pub limits: String,
    /// Unix milliseconds.
    pub created_at: i64,
    /// The handlers of the component, as JSON.
    pub handlers: String,
    /// The component's manifest, as JSON.
    pub manifest: Option<String>,
    /// Bytes of the component.
    pub size: i64,
}

/// A deployment to be written.
#[derive(Clone, Debug)]
pub struct NewDeployment<'a> {
    /// The account.
    pub app_id: &'a str,
    /// From [`next_version`].
    pub version: i64,
    /// The component, which is stored already.
    pub digest: &'a str,
    /// The settings, as JSON.
    pub config: &'a str,
    /// The secrets, a sealed JSON object.
    pub secrets_sealed: &'a str,
    /// The limits, as JSON.
    pub limits: &'a str,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// The version that the account's next deployment gets.
pub async fn next_version(change: &mut Change, app_id: &str) -> Result<i64, DbError> {
    let (highest,): (i64,) =
        sqlx::query_as("SELECT COALESCE(MAX(version), 0) FROM deployments WHERE app_id = $1")
            .bind(app_id)
            .fetch_one(change.connection())
            .await?;
    Ok(highest + 1)
}

/// Writes a deployment.
pub async fn insert(change: &mut Change, deployment: &NewDeployment<'_>) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO deployments (app_id, version, digest, config, secrets_sealed, limits, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(deployment.app_id)
    .bind(deployment.version)
    .bind(deployment.digest)
    .bind(deployment.config)
    .bind(deployment.secrets_sealed)
    .bind(deployment.limits)
    .bind(deployment.created_at)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// Tells whether the account has that version.
pub async fn exists(change: &mut Change, app_id: &str, version: i64) -> Result<bool, DbError> {
    let row: Option<(i64,)> =
        sqlx::query_as("SELECT version FROM deployments WHERE app_id = $1 AND version = $2")
            .bind(app_id)
            .bind(version)
            .fetch_optional(change.connection())
            .await?;
    Ok(row.is_some())
}

/// The highest version of the account below `version`.
pub async fn version_below(
    change: &mut Change,
    app_id: &str,
    version: i64,
) -> Result<Option<i64>, DbError> {
    let row: Option<(i64,)> = sqlx::query_as(
        "SELECT version FROM deployments WHERE app_id = $1 AND version < $2 \
         ORDER BY version DESC LIMIT 1",
    )
    .bind(app_id)
    .bind(version)
    .fetch_optional(change.connection())
    .await?;
    Ok(row.map(|(version,)| version))
}

/// Deletes all deployments of the account but the `kept` newest and `spared`. Tells how many it deleted.
/// The newest stays, so that no version is given twice.
pub async fn delete_old(
    change: &mut Change,
    app_id: &str,
    kept: u32,
    spared: Option<i64>,
) -> Result<u64, DbError> {
    let deleted = sqlx::query(
        "DELETE FROM deployments WHERE app_id = $1 AND version <> $3 AND version NOT IN \
         (SELECT version FROM deployments WHERE app_id = $1 ORDER BY version DESC LIMIT $2)",
    )
    .bind(app_id)
    .bind(i64::from(kept))
    .bind(spared.unwrap_or(0))
    .execute(change.connection())
    .await?;
    Ok(deleted.rows_affected())
}

const FIND: &str = "SELECT d.*, p.handlers, p.manifest, p.size FROM deployments d \
     JOIN plugins p ON p.digest = d.digest WHERE d.app_id = $1 AND d.version = $2";

/// One deployment, as a change sees it.
pub async fn find_for_change(
    change: &mut Change,
    app_id: &str,
    version: i64,
) -> Result<Option<DeploymentRow>, DbError> {
    Ok(sqlx::query_as(FIND)
        .bind(app_id)
        .bind(version)
        .fetch_optional(change.connection())
        .await?)
}

/// One deployment.
pub async fn find(
    db: &Database,
    app_id: &str,
    version: i64,
) -> Result<Option<DeploymentRow>, DbError> {
    Ok(sqlx::query_as(FIND)
        .bind(app_id)
        .bind(version)
        .fetch_optional(&db.readers)
        .await?)
}

/// The active deployments of the accounts changed after `revision`; of all accounts for `-1`.
pub async fn active_changed_after(
    db: &Database,
    revision: i64,
) -> Result<Vec<DeploymentRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT d.*, p.handlers, p.manifest, p.size FROM accounts a \
         JOIN plugin_settings s ON s.app_id = a.app_id \
         JOIN deployments d ON d.app_id = s.app_id AND d.version = s.active_version \
         JOIN plugins p ON p.digest = d.digest WHERE a.revision > $1",
    )
    .bind(revision)
    .fetch_all(&db.readers)
    .await?)
}

/// At most `limit` deployments of the account below version `before`, newest first.
pub async fn list(
    db: &Database,
    app_id: &str,
    before: i64,
    limit: u32,
) -> Result<Vec<DeploymentRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT d.*, p.handlers, p.manifest, p.size FROM deployments d JOIN plugins p ON p.digest = d.digest \
         WHERE d.app_id = $1 AND d.version < $2 ORDER BY d.version DESC LIMIT $3",
    )
    .bind(app_id)
    .bind(before)
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::db::{accounts, plugins, testing::databases};

    /// Another deployment of a stored component; not the active one.
    pub(crate) async fn add_deployment(db: &Database, app_id: &str, digest: &str) {
        let mut change = db.change().await.unwrap();
        let version = next_version(&mut change, app_id).await.unwrap();
        let deployment = NewDeployment {
            app_id,
            version,
            digest,
            config: "{}",
            secrets_sealed: "s",
            limits: "{}",
            created_at: 1,
        };
        insert(&mut change, &deployment).await.unwrap();
        change.commit().await.unwrap();
    }

    #[tokio::test]
    async fn versions_count_up_per_account_and_the_active_one_is_found() {
        for db in databases().await {
            let mut account = accounts::tests::add_account(&db, "wx01").await;
            accounts::tests::add_account(&db, "wx02").await;
            let plugin = plugins::PluginRow {
                digest: "d1",
                component: b"abc",
                handlers: r#"["callback"]"#,
                imports: "[]",
                config_schema: None,
                manifest: None,
                created_at: 1,
            };
            let mut change = db.change().await.unwrap();
            plugins::insert(&mut change, &plugin).await.unwrap();
            for (app_id, expected) in [("wx01", 1), ("wx01", 2), ("wx02", 1)] {
                let version = next_version(&mut change, app_id).await.unwrap();
                assert_eq!(version, expected);
                let deployment = NewDeployment {
                    app_id,
                    version,
                    digest: "d1",
                    config: "{}",
                    secrets_sealed: "s",
                    limits: "{}",
                    created_at: 1,
                };
                insert(&mut change, &deployment).await.unwrap();
            }
            assert!(exists(&mut change, "wx01", 2).await.unwrap());
            assert!(!exists(&mut change, "wx01", 3).await.unwrap());
            assert_eq!(
                version_below(&mut change, "wx01", 2).await.unwrap(),
                Some(1)
            );
            assert_eq!(version_below(&mut change, "wx01", 1).await.unwrap(), None);
            account.plugin.active_version = Some(2);
            accounts::update(&mut change, &account).await.unwrap();
            change.commit().await.unwrap();

            let active = active_changed_after(&db, -1).await.unwrap();
            assert_eq!(active.len(), 1);
            assert_eq!((active[0].version, active[0].size), (2, 3));
            assert_eq!(active[0].handlers, r#"["callback"]"#);
            let found = find(&db, "wx01", 2).await.unwrap();
            assert_eq!(found.as_ref(), active.first());
            let all = list(&db, "wx01", i64::MAX, 10).await.unwrap();
            let versions: Vec<_> = all.iter().map(|row| row.version).collect();
            assert_eq!(versions, [2, 1]);
        }
    }

    #[tokio::test]
    async fn only_the_newest_deployments_and_a_spared_one_stay() {
        for db in databases().await {
            plugins::tests::add_plugin(&db, "d1", 1).await;
            for (app_id, count) in [("wx01", 6), ("wx02", 3)] {
                accounts::tests::add_account(&db, app_id).await;
                for _ in 0..count {
                    add_deployment(&db, app_id, "d1").await;
                }
            }
            let left = async || {
                let rows = list(&db, "wx01", i64::MAX, 10).await.unwrap();
                rows.iter().map(|row| row.version).collect::<Vec<_>>()
            };
            for (kept, spared, deleted, expected) in [
                (6, None, 0, vec![6, 5, 4, 3, 2, 1]),
                (3, Some(2), 2, vec![6, 5, 4, 2]),
                (3, Some(5), 1, vec![6, 5, 4]),
            ] {
                let mut change = db.change().await.unwrap();
                let count = delete_old(&mut change, "wx01", kept, spared).await.unwrap();
                change.commit().await.unwrap();
                assert_eq!((count, left().await), (deleted, expected));
            }
            // Another account's are its own.
            assert_eq!(list(&db, "wx02", i64::MAX, 10).await.unwrap().len(), 3);
        }
    }
}
