//! What plugins remember, read side. The writes are effects of an event and are committed with it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{Database, DbError};

/// Items of one page at most.
pub const MAX_PAGE_ITEMS: u32 = 100;

/// Bytes of values in one page at most, but one item always fits: a page of 100 large values is
/// split.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// A byte that no UTF-8 text holds: it comes after all of them.
const AFTER_TEXT: u8 = 0xff;

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Fresh for each write.
    pub version: i64,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and their values, in byte order of the keys.
    pub items: Vec<(String, Entry)>,
    /// The cursor of the next page, unless this is the last one.
    pub next: Option<String>,
}

/// Why a listing failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The cursor is not one of ours, or not one of this prefix.
    #[error("the cursor did not come from a listing of this prefix")]
    InvalidCursor,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// The value under a key.
pub async fn get(db: &Database, app_id: &str, key: &str) -> Result<Option<Entry>, DbError> {
    let row: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT value, version FROM kv WHERE app_id = $1 AND key = $2")
            .bind(app_id)
            .bind(key.as_bytes())
            .fetch_optional(&db.readers)
            .await
            .map_err(DbError::from)?;
    Ok(row.map(|(value, version)| Entry { value, version }))
}

/// The values whose keys begin with `prefix`, after the place that `cursor` names. `limit` is clamped
/// to 1 to [`MAX_PAGE_ITEMS`].
pub async fn list(
    db: &Database,
    app_id: &str,
    prefix: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page, ListError> {
    let limit = limit.clamp(1, MAX_PAGE_ITEMS);
    // `from` itself is in the page only when there is no cursor: a cursor's key was the last one.
    let (from, inclusive) = match cursor {
        None => (prefix.as_bytes().to_vec(), 1_i64),
        Some(cursor) => (key_of(cursor, prefix)?, 0),
    };
    let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT key, value, version FROM kv WHERE app_id = $1 AND key >= $2 AND key < $3 \
         AND ($4 = 1 OR key > $2) ORDER BY key LIMIT $5",
    )
    .bind(app_id)
    .bind(from)
    .bind(end_of(prefix))
    .bind(inclusive)
    .bind(i64::from(limit) + 1)
    .fetch_all(&db.readers)
    .await
    .map_err(DbError::from)?;
    Ok(page_of(rows, limit as usize))
}

/// The first byte string after all keys that begin with `prefix`.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // UTF-8 never holds 0xff, so this does not overflow.
        Some(last) => *last += 1,
        None => end.push(AFTER_TEXT),
    }
    end
}

fn page_of(rows: Vec<(Vec<u8>, Vec<u8>, i64)>, limit: usize) -> Page {
    let found = rows.len();
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, value, version) in rows.into_iter().take(limit) {
        bytes += value.len();
        if bytes > MAX_PAGE_BYTES && !page.items.is_empty() {
            break;
        }
        let key = String::from_utf8_lossy(&key).into_owned();
        page.items.push((key, Entry { value, version }));
    }
    if page.items.len() < found {
        page.next = page
            .items
            .last()
            .map(|(key, _)| BASE64_URL_SAFE_NO_PAD.encode(key));
    }
    page
}

/// The key that a cursor stands for. The cursor is in the guest's hands: it is believed only inside
/// the prefix.
pub(crate) fn key_of(cursor: &str, prefix: &str) -> Result<Vec<u8>, ListError> {
    let key = BASE64_URL_SAFE_NO_PAD
        .decode(cursor)
        .map_err(|_| ListError::InvalidCursor)?;
    if !key.starts_with(prefix.as_bytes()) || std::str::from_utf8(&key).is_err() {
        return Err(ListError::InvalidCursor);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    async fn put(db: &Database, app_id: &str, key: &str, value: &[u8]) {
        sqlx::query(
            "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES ($1, $2, $3, 7, 1)",
        )
        .bind(app_id)
        .bind(key.as_bytes())
        .bind(value)
        .execute(&db.writers)
        .await
        .unwrap();
    }

    async fn keys(db: &Database, prefix: &str, limit: u32) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = list(db, "wx01", prefix, cursor.as_deref(), limit)
                .await
                .unwrap();
            pages.push(page.items.into_iter().map(|(key, _)| key).collect());
            match page.next {
                Some(next) => cursor = Some(next),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn keys_are_listed_in_byte_order_page_by_page() {
        for db in databases().await {
            for key in [
                "a", "B", "user:1", "user:10", "user:2", "user;", "用户", "Z",
            ] {
                put(&db, "wx01", key, b"v").await;
            }
            put(&db, "wx02", "user:3", b"other").await;
            assert_eq!(
                keys(&db, "", 100).await,
                [[
                    "B", "Z", "a", "user:1", "user:10", "user:2", "user;", "用户"
                ]]
            );
            assert_eq!(
                keys(&db, "user:", 2).await,
                [vec!["user:1", "user:10"], vec!["user:2"]]
            );
            assert_eq!(keys(&db, "用", 1).await, [["用户"]]);
            assert_eq!(keys(&db, "none", 1).await, [Vec::<String>::new()]);
        }
    }

    #[tokio::test]
    async fn values_are_any_bytes_and_belong_to_one_account() {
        for db in databases().await {
            put(&db, "wx01", "k", b"\0\xff").await;
            put(&db, "wx01", "empty", b"").await;
            let entry = Entry {
                value: b"\0\xff".to_vec(),
                version: 7,
            };
            assert_eq!(get(&db, "wx01", "k").await.unwrap(), Some(entry));
            assert_eq!(get(&db, "wx02", "k").await.unwrap(), None);
            let empty = get(&db, "wx01", "empty").await.unwrap().unwrap();
            assert_eq!(empty.value, b"");
        }
    }

    #[tokio::test]
    async fn a_forged_cursor_does_not_leave_its_prefix() {
        for db in databases().await {
            put(&db, "wx01", "secret", b"v").await;
            for forged in [
                "!!",
                "",
                &BASE64_URL_SAFE_NO_PAD.encode("aaa"),
                &BASE64_URL_SAFE_NO_PAD.encode(b"user:\xff"),
            ] {
                let answer = list(&db, "wx01", "user:", Some(forged), 10).await;
                assert!(
                    matches!(answer, Err(ListError::InvalidCursor)),
                    "{forged}: {answer:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_page_of_large_values_is_split() {
        for db in databases().await {
            let large = vec![7; MAX_PAGE_BYTES / 2];
            for key in ["1", "2", "3"] {
                put(&db, "wx01", key, &large).await;
            }
            assert_eq!(keys(&db, "", 100).await, [vec!["1", "2"], vec!["3"]]);
        }
    }

    #[tokio::test]
    async fn limits_out_of_range_are_clamped() {
        for db in databases().await {
            for index in 0..=MAX_PAGE_ITEMS {
                put(&db, "wx01", &format!("{index:03}"), b"").await;
            }
            let page = list(&db, "wx01", "", None, u32::MAX).await.unwrap();
            assert_eq!(page.items.len(), MAX_PAGE_ITEMS as usize);
            let page = list(&db, "wx01", "", None, 0).await.unwrap();
            assert_eq!(page.items.len(), 1);
        }
    }
}
