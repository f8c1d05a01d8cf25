//! The columns that hold sealed boxes, for the day when the master key changes.

use sqlx::AssertSqlSafe;

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

/// A column of boxes, and what names a row of it.
#[derive(Clone, Copy, Debug)]
pub struct BoxColumn {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The column that names the row; a second one where one does not do.
    key: (&'static str, Option<&'static str>),
}

/// Those of third-party platforms, of API keys, of users who let an account see them, and of merchants.
pub const BOX_COLUMNS: &[BoxColumn] = &[
    BoxColumn::of_platform("platforms", "secret_sealed", "app_id"),
    BoxColumn::of_platform("platforms", "token_sealed", "app_id"),
    BoxColumn::of_platform("platforms", "aes_key_sealed", "app_id"),
    BoxColumn::of_platform("platforms", "former_aes_key_sealed", "app_id"),
    BoxColumn::of_platform("platform_tickets", "ticket_sealed", "platform"),
    BoxColumn::of_platform("platform_tickets", "former_sealed", "platform"),
    BoxColumn {
        table: "authorisations",
        column: "refresh_token_sealed",
        key: ("app_id", Some("platform")),
    },
    BoxColumn {
        table: "authorisations",
        column: "former_refresh_token_sealed",
        key: ("app_id", Some("platform")),
    },
    BoxColumn {
        table: "platform_events",
        column: "body_sealed",
        key: ("platform", Some("id")),
    },
    BoxColumn {
        table: "api_keys",
        column: "signing_secret_sealed",
        key: ("id", None),
    },
    BoxColumn {
        table: "logins",
        column: "result_sealed",
        key: ("app_id", Some("state_hash")),
    },
    BoxColumn {
        table: "user_grants",
        column: "access_token_sealed",
        key: ("app_id", Some("open_id")),
    },
    BoxColumn {
        table: "user_grants",
        column: "refresh_token_sealed",
        key: ("app_id", Some("open_id")),
    },
    BoxColumn {
        table: "merchants",
        column: "v3_keys_sealed",
        key: ("mch_id", None),
    },
    BoxColumn {
        table: "merchant_certificates",
        column: "key_sealed",
        key: ("mch_id", Some("serial")),
    },
    BoxColumn {
        table: "pay_notices",
        column: "body_sealed",
        key: ("app_id", Some("fact")),
    },
];

impl BoxColumn {
    const fn of_platform(table: &'static str, column: &'static str, key: &'static str) -> Self {
        Self {
            table,
            column,
            key: (key, None),
        }
    }

    fn keys(&self) -> (&'static str, &'static str) {
        (self.key.0, self.key.1.unwrap_or("''"))
    }
}

/// A box of such a column.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct SealedBox {
    /// Names the row.
    #[sqlx(rename = "row_name")]
    pub row: String,
    /// The rest of its name.
    pub sub_row: String,
    /// The box.
    pub sealed: String,
}

/// A block of boxes after that row.
pub async fn boxes_after(
    db: &Database,
    column: &BoxColumn,
    (row, sub_row): (&str, &str),
    limit: u32,
) -> Result<Vec<SealedBox>, DbError> {
    let (first, second) = column.keys();
    let statement = format!(
        "SELECT {first} AS row_name, {second} AS sub_row, {sealed} AS sealed FROM {table} \
         WHERE {sealed} IS NOT NULL AND ({first} > $1 OR ({first} = $1 AND {second} > $2)) \
         ORDER BY row_name, sub_row LIMIT $3",
        sealed = column.column,
        table = column.table,
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(row)
        .bind(sub_row)
        .bind(i64::from(limit))
        .fetch_all(&db.readers)
        .await?)
}

/// Puts what is in a box into another one, unless somebody has changed it meanwhile; tells whether it did.
pub async fn update_box(
    db: &Database,
    column: &BoxColumn,
    before: &SealedBox,
    resealed: &str,
) -> Result<bool, DbError> {
    let (first, second) = column.keys();
    let statement = format!(
        "UPDATE {} SET {sealed} = $1 WHERE {first} = $2 AND {second} = $3 AND {sealed} = $4",
        column.table,
        sealed = column.column,
    );
    let updated = sqlx::query(AssertSqlSafe(statement))
        .bind(resealed)
        .bind(&before.row)
        .bind(&before.sub_row)
        .bind(&before.sealed)
        .execute(&db.writers)
        .await?;
    Ok(updated.rows_affected() == 1)
}
