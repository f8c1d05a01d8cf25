//! Hosts whose address WeChat refuses for an account, each reported by the host itself.

use sqlx::AssertSqlSafe;

use super::{Change, DELETE_BLOCK, Database, DbError, values};

/// Rows of one statement.
const BATCH: usize = 128;
const COLUMNS: usize = 7;

/// A row of `address_refusals`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AddressRow {
    /// The account.
    pub app_id: String,
    /// The host, by the mark of its process.
    pub host: String,
    /// Its address as WeChat sees it; empty where WeChat does not say.
    pub address: String,
    /// WeChat's code.
    pub errcode: i64,
    /// What WeChat said, and what to do.
    pub message: String,
    /// Unix milliseconds.
    pub since_at: i64,
    /// When the host last said so, Unix milliseconds.
    pub seen_at: i64,
}

/// Which refusals are meant; all of them where nothing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressFilter<'a> {
    /// For this account.
    pub app_id: Option<&'a str>,
    /// For accounts of this tenant.
    pub tenant: Option<&'a str>,
    /// Of this address.
    pub address: Option<&'a str>,
}

/// Writes what a host reports, in the place of what it reported before. Accounts that are gone are left
/// out.
pub async fn upsert(db: &Database, rows: &[AddressRow]) -> Result<(), DbError> {
    for rows in rows.chunks(BATCH) {
        let values = values::placeholders(db.dialect(), rows.len(), COLUMNS, "");
        let statement = format!(
            "INSERT INTO address_refusals (app_id, host, address, errcode, message, since_at, \
             seen_at) VALUES {values} ON CONFLICT (app_id, host) DO UPDATE SET \
             address = excluded.address, errcode = excluded.errcode, \
             message = excluded.message, since_at = excluded.since_at, \
             seen_at = excluded.seen_at"
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for row in rows {
            query = query
                .bind(&row.app_id)
                .bind(&row.host)
                .bind(&row.address)
                .bind(row.errcode)
                .bind(&row.message)
                .bind(row.since_at)
                .bind(row.seen_at);
        }
        let mut transaction = db.begin().await?;
        query.execute(transaction.connection()).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// The app ids that a host has reported.
pub async fn of_host(db: &Database, host: &str) -> Result<Vec<String>, DbError> {
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT app_id FROM address_refusals WHERE host = $1")
            .bind(host)
            .fetch_all(&db.readers)
            .await?;
    Ok(rows.into_iter().map(|(app_id,)| app_id).collect())
}

/// The refusals for accounts between two app ids, both included.
pub async fn between(db: &Database, first: &str, last: &str) -> Result<Vec<AddressRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT * FROM address_refusals WHERE app_id >= $1 AND app_id <= $2 \
         ORDER BY app_id, host",
    )
    .bind(first)
    .bind(last)
    .fetch_all(&db.readers)
    .await?)
}

/// Notes that what a host has reported still holds.
pub async fn note_seen(db: &Database, host: &str, now_ms: i64) -> Result<(), DbError> {
    let mut transaction = db.begin().await?;
    sqlx::query("UPDATE address_refusals SET seen_at = $2 WHERE host = $1")
        .bind(host)
        .bind(now_ms)
        .execute(transaction.connection())
        .await?;
    transaction.commit().await
}

/// Takes back what a host has reported of these accounts.
pub async fn forget(db: &Database, host: &str, app_ids: &[String]) -> Result<(), DbError> {
    if app_ids.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    for app_id in app_ids {
        sqlx::query("DELETE FROM address_refusals WHERE app_id = $1 AND host = $2")
            .bind(app_id)
            .bind(host)
            .execute(transaction.connection())
            .await?;
    }
    transaction.commit().await
}

/// Takes back all that a host has reported.
pub async fn forget_host(db: &Database, host: &str) -> Result<(), DbError> {
    if of_host(db, host).await?.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    sqlx::query("DELETE FROM address_refusals WHERE host = $1")
        .bind(host)
        .execute(transaction.connection())
        .await?;
    transaction.commit().await
}

/// Forgets what was not said to hold since `bound_ms`, block by block.
pub async fn forget_older(db: &Database, bound_ms: i64) -> Result<(), DbError> {
    let old: Option<(i64,)> =
        sqlx::query_as("SELECT errcode FROM address_refusals WHERE seen_at < $1 LIMIT 1")
            .bind(bound_ms)
            .fetch_optional(&db.readers)
            .await?;
    if old.is_none() {
        return Ok(());
    }
    let statement = "DELETE FROM address_refusals WHERE (app_id, host) IN \
         (SELECT app_id, host FROM address_refusals WHERE seen_at < $1 LIMIT $2)";
    db.delete_in_blocks(statement, bound_ms, DELETE_BLOCK)
        .await
        .map(drop)
}

/// Takes refusals away, whichever host reported them; tells how many. Those hosts ask WeChat again.
pub async fn lift(change: &mut Change, filter: &AddressFilter<'_>) -> Result<u64, DbError> {
    let lifted = sqlx::query(
        "DELETE FROM address_refusals WHERE ($1 = '' OR app_id = $1) \
         AND ($2 = '' OR address = $2) \
         AND ($3 = '' OR app_id IN (SELECT app_id FROM accounts WHERE tenant_id = $3))",
    )
    .bind(filter.app_id.unwrap_or_default())
    .bind(filter.address.unwrap_or_default())
    .bind(filter.tenant.unwrap_or_default())
    .execute(change.connection())
    .await?;
    Ok(lifted.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::accounts::tests::add_account;
    use crate::db::testing::databases;

    fn row(app_id: &str, host: &str, address: &str) -> AddressRow {
        AddressRow {
            app_id: app_id.into(),
            host: host.into(),
            address: address.into(),
            errcode: 40164,
            message: "不在白名单".into(),
            since_at: 1,
            seen_at: 2,
        }
    }

    #[tokio::test]
    async fn hosts_report_for_themselves_and_an_operator_lifts_for_many() {
        for db in databases().await {
            for app_id in ["wx01", "wx02", "wx03"] {
                add_account(&db, app_id).await;
            }
            let rows = [
                row("wx01", "a", "1.2.3.4"),
                row("wx02", "a", "1.2.3.4"),
                row("wx02", "b", "5.6.7.8"),
            ];
            upsert(&db, &rows).await.unwrap();
            let again = AddressRow {
                since_at: 7,
                ..rows[0].clone()
            };
            upsert(&db, std::slice::from_ref(&again)).await.unwrap();
            let shown = between(&db, "wx01", "wx02").await.unwrap();
            assert_eq!(shown, [again, rows[1].clone(), rows[2].clone()]);

            forget(&db, "a", &["wx01".into()]).await.unwrap();
            assert_eq!(of_host(&db, "a").await.unwrap(), ["wx02"]);
            let mut change = db.change().await.unwrap();
            let other = AddressFilter {
                tenant: Some("nobody"),
                ..AddressFilter::default()
            };
            assert_eq!(lift(&mut change, &other).await.unwrap(), 0);
            let this = AddressFilter {
                tenant: Some("acme"),
                address: Some("1.2.3.4"),
                ..AddressFilter::default()
            };
            assert_eq!(lift(&mut change, &this).await.unwrap(), 1);
            change.commit().await.unwrap();
            assert_eq!(of_host(&db, "b").await.unwrap(), ["wx02"]);

            note_seen(&db, "b", 50).await.unwrap();
            forget_older(&db, 50).await.unwrap();
            assert_eq!(of_host(&db, "b").await.unwrap(), ["wx02"]);
            forget_older(&db, 51).await.unwrap();
            assert!(of_host(&db, "b").await.unwrap().is_empty());
        }
    }
}
