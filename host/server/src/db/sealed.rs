//! The columns that hold sealed boxes, for the day when the master key changes.

use super::{Change, Database, DbError};

/// The boxes of an account.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SealedAccount {
    /// The account.
    pub app_id: String,
    /// The callback token.
    pub token_sealed: String,
    /// The EncodingAESKey.
    pub aes_key_sealed: Option<String>,
    /// The EncodingAESKey before it, sealed as the present key is.
    pub previous_aes_key_sealed: Option<String>,
    /// The EncodingAESKey before it.
    pub former_aes_key_sealed: Option<String>,
    /// The AppSecret.
    pub secret_sealed: Option<String>,
}

/// The box of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SealedDeployment {
    /// The account.
    pub app_id: String,
    /// The deployment.
    pub version: i64,
    /// Its secrets.
    pub secrets_sealed: String,
}

/// The box of an event that waits for its run.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SealedEvent {
    /// The account.
    pub app_id: String,
    /// The event.
    pub event_id: String,
    /// Its body.
    pub event: String,
}

/// A block of accounts with an app id after `app_id`.
pub async fn accounts_after(
    change: &mut Change,
    app_id: &str,
    limit: u32,
) -> Result<Vec<SealedAccount>, DbError> {
    Ok(sqlx::query_as(
        "SELECT app_id, token_sealed, aes_key_sealed, previous_aes_key_sealed, \
         former_aes_key_sealed, secret_sealed \
         FROM callback_settings JOIN credential_settings USING (app_id) WHERE app_id > $1 ORDER BY app_id LIMIT $2",
    )
    .bind(app_id)
    .bind(i64::from(limit))
    .fetch_all(change.connection())
    .await?)
}

/// Writes an account's boxes back. The secrets in them are the same, so other hosts need not look.
pub async fn update_account(change: &mut Change, account: &SealedAccount) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE callback_settings SET token_sealed = $2, aes_key_sealed = $3, \
         previous_aes_key_sealed = $4, former_aes_key_sealed = $5 WHERE app_id = $1",
    )
    .bind(&account.app_id)
    .bind(&account.token_sealed)
    .bind(&account.aes_key_sealed)
    .bind(&account.previous_aes_key_sealed)
    .bind(&account.former_aes_key_sealed)
    .execute(change.connection())
    .await?;
    sqlx::query("UPDATE credential_settings SET secret_sealed = $2 WHERE app_id = $1")
        .bind(&account.app_id)
        .bind(&account.secret_sealed)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// A block of deployments after that version of that account.
pub async fn deployments_after(
    change: &mut Change,
    app_id: &str,
    version: i64,
    limit: u32,
) -> Result<Vec<SealedDeployment>, DbError> {
    Ok(sqlx::query_as(
        "SELECT app_id, version, secrets_sealed FROM deployments \
         WHERE app_id > $1 OR (app_id = $1 AND version > $2) ORDER BY app_id, version LIMIT $3",
    )
    .bind(app_id)
    .bind(version)
    .bind(i64::from(limit))
    .fetch_all(change.connection())
    .await?)
}

/// Writes a deployment's box back.
pub async fn update_deployment(
    change: &mut Change,
    deployment: &SealedDeployment,
) -> Result<(), DbError> {
    sqlx::query("UPDATE deployments SET secrets_sealed = $3 WHERE app_id = $1 AND version = $2")
        .bind(&deployment.app_id)
        .bind(deployment.version)
        .bind(&deployment.secrets_sealed)
        .execute(change.connection())
        .await?;
    Ok(())
}

/// A block of waiting events after that event of that account.
pub async fn events_after(
    db: &Database,
    app_id: &str,
    event_id: &str,
    limit: u32,
) -> Result<Vec<SealedEvent>, DbError> {
    Ok(sqlx::query_as(
        "SELECT app_id, event_id, event FROM inbox WHERE state = 'pending' AND event IS NOT NULL \
         AND (app_id > $1 OR (app_id = $1 AND event_id > $2)) ORDER BY app_id, event_id LIMIT $3",
    )
    .bind(app_id)
    .bind(event_id)
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?)
}

/// Puts a waiting event into another box, unless another host has ended it or put it into one
/// meanwhile; tells whether it did.
pub async fn update_event(
    db: &Database,
    event: &SealedEvent,
    resealed: &str,
) -> Result<bool, DbError> {
    let updated = sqlx::query(
        "UPDATE inbox SET event = $4 \
         WHERE app_id = $1 AND event_id = $2 AND state = 'pending' AND event = $3",
    )
    .bind(&event.app_id)
    .bind(&event.event_id)
    .bind(&event.event)
    .bind(resealed)
    .execute(&db.writers)
    .await?;
    Ok(updated.rows_affected() == 1)
}
