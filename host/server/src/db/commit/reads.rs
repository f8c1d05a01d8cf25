//! Whether all that a call has read is still so, found with few statements: it is looked up where on
//! SQLite nobody else can write, and a call may have read hundreds of things.
//!
//! To look on another connection first, and here only at what was written since, would need every
//! writer to note whom it touches, and could still not be trusted for a member of an open group. What
//! bounds the cost is what a call may read: `reads` of its limits, and `listed-values` of the runtime.

use std::collections::HashMap;

use sqlx::{AnyConnection, AssertSqlSafe};

use super::{Listing, ReadSet};
use crate::db::values::{pieces, placeholders};
use crate::db::{DbError, Dialect, kv};

/// The first key, prefix or contact whose state is not what the call saw.
pub(super) async fn first_change(
    dialect: Dialect,
    db: &mut AnyConnection,
    app_id: &str,
    reads: &ReadSet,
) -> Result<Option<String>, DbError> {
    for piece in pieces(&reads.values) {
        let keys = piece.iter().map(|(key, _)| key.as_str());
        let now = versions(db, (app_id, keys), &values_statement(dialect, piece.len())).await?;
        let mut changed = piece.iter();
        let changed = changed.find(|(key, version)| now.get(key.as_bytes()) != version.as_ref());
        if let Some((key, _)) = changed {
            return Ok(Some(key.clone()));
        }
    }
    for piece in pieces(&reads.listings) {
        let now = listed(dialect, db, app_id, piece).await?;
        let mut changed = piece.iter().zip(now);
        if let Some((listing, _)) = changed.find(|(listing, now)| listing.found != *now) {
            return Ok(Some(listing.prefix.clone()));
        }
    }
    for piece in pieces(&reads.contacts) {
        let ids = piece.iter().map(|(open_id, _)| open_id.as_str());
        let now = versions(db, (app_id, ids), &contacts_statement(dialect, piece.len())).await?;
        let version_of = |open_id: &str| now.get(open_id.as_bytes()).copied().unwrap_or_default();
        let mut changed = piece.iter();
        if let Some((open_id, _)) = changed.find(|(id, version)| version_of(id) != *version) {
            return Ok(Some(open_id.clone()));
        }
    }
    Ok(None)
}

fn values_statement(dialect: Dialect, keys: usize) -> String {
    let keys = placeholders(dialect, keys, 2, "");
    format!("SELECT key, version FROM kv WHERE (app_id, key) IN (VALUES {keys})")
}

fn contacts_statement(dialect: Dialect, ids: usize) -> String {
    let ids = placeholders(dialect, ids, 2, "");
    format!("SELECT open_id, version FROM contacts WHERE (app_id, open_id) IN (VALUES {ids})")
}

/// From page to page, and into the index for each: SQLite does as CROSS JOIN says, PostgreSQL looks at all of
/// the table unless each page is a query of its own.
fn listings_statement(dialect: Dialect, pages: usize) -> String {
    let pages = placeholders(dialect, pages, 4, "");
    let page = "kv WHERE app_id = owner AND key >= first AND key < past";
    let pages = format!("WITH pages (number, owner, first, past) AS (VALUES {pages}) ");
    match dialect {
        Dialect::Sqlite => format!(
            "{pages} SELECT number, key, version FROM pages CROSS JOIN {page} ORDER BY number, key"
        ),
        Dialect::Postgres => format!(
            "{pages} SELECT number, key, version FROM pages CROSS JOIN LATERAL \
             (SELECT key, version FROM {page} ORDER BY key) AS page ORDER BY number, key"
        ),
    }
}

async fn versions<'a>(
    db: &mut AnyConnection,
    (app_id, keys): (&str, impl Iterator<Item = &'a str>),
    statement: &str,
) -> Result<HashMap<Vec<u8>, i64>, DbError> {
    let mut query = sqlx::query_as(AssertSqlSafe(statement));
    for key in keys {
        query = query.bind(app_id.to_owned()).bind(key.as_bytes().to_vec());
    }
    let rows: Vec<(Vec<u8>, i64)> = query.fetch_all(db).await?;
    Ok(rows.into_iter().collect())
}

/// What each page of a listing holds now: the keys after its beginning, up to its last one, or to the
/// end if it was the last page.
async fn listed(
    dialect: Dialect,
    db: &mut AnyConnection,
    app_id: &str,
    listings: &[Listing],
) -> Result<Vec<Vec<(String, i64)>>, DbError> {
    let statement = listings_statement(dialect, listings.len());
    let mut query = sqlx::query_as(AssertSqlSafe(statement));
    for (number, listing) in listings.iter().enumerate() {
        let (first, past) = range(listing);
        query = query
            .bind(i64::try_from(number).unwrap_or(i64::MAX))
            .bind(app_id)
            .bind(first)
            .bind(past);
    }
    let rows: Vec<(i64, Vec<u8>, i64)> = query.fetch_all(db).await?;
    let mut listed = vec![Vec::new(); listings.len()];
    for (number, key, version) in rows {
        let page = usize::try_from(number).ok();
        if let Some(page) = page.and_then(|number| listed.get_mut(number)) {
            page.push((String::from_utf8_lossy(&key).into_owned(), version));
        }
    }
    Ok(listed)
}

/// The first key that a page may hold, and the first one after it.
fn range(listing: &Listing) -> (Vec<u8>, Vec<u8>) {
    // Nothing comes between a key and the same with a zero behind it.
    let behind = |key: &str| [key.as_bytes(), &[0]].concat();
    let first = match &listing.after {
        Some(after) => behind(after),
        None => listing.prefix.as_bytes().to_vec(),
    };
    let past = match listing.found.last() {
        Some((last, _)) if listing.more => behind(last),
        _ => kv::end_of(&listing.prefix),
    };
    (first, past)
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;
    use crate::db::Database;
    use crate::db::testing::databases;

    async fn plan(db: &Database, statement: &str, columns: usize, rows: usize) -> String {
        let (explain, column) = match db.dialect() {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN", "detail"),
            Dialect::Postgres => ("EXPLAIN (COSTS OFF)", "QUERY PLAN"),
        };
        let mut query = sqlx::query(AssertSqlSafe(format!("{explain} {statement}")));
        for row in 0..rows {
            let key = format!("k{row}");
            if columns == 4 {
                query = query.bind(i64::try_from(row).unwrap());
            }
            query = query.bind("wx01").bind(key.clone().into_bytes());
            if columns == 4 {
                query = query.bind(format!("{key}0").into_bytes());
            }
        }
        let lines = query.fetch_all(&db.readers).await.unwrap();
        let lines = lines.iter().map(|line| line.get::<String, _>(column));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn all_that_was_read_is_looked_up_by_an_index() {
        for db in databases().await {
            let bytes = match db.dialect() {
                Dialect::Sqlite => "CAST('k' || i AS BLOB)",
                Dialect::Postgres => "CAST('k' || i AS BYTEA)",
            };
            let numbers =
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)";
            for statement in [
                format!(
                    "{numbers} INSERT INTO kv (app_id, key, value, version, updated_at) \
                     SELECT 'wx01', {bytes}, {bytes}, i, 1 FROM n"
                ),
                "ANALYZE".to_owned(),
            ] {
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&db.writers)
                    .await
                    .unwrap();
            }
            let dialect = db.dialect();
            for (statement, columns, rows) in [
                (values_statement(dialect, 128), 2, 128),
                (listings_statement(dialect, 128), 4, 128),
                (contacts_statement(dialect, 16), 2, 16),
            ] {
                let plan = plan(&db, &statement, columns, rows).await;
                let whole = ["SCAN kv", "Seq Scan on kv", "SCAN contacts"];
                assert!(!whole.iter().any(|scan| plan.contains(scan)), "{plan}");
            }
        }
    }
}
