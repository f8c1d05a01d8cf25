//! Imports of followers: how far each has come, so that any host can go on with it.
//!
//! Listing puts every follower into `contacts` and marks it (`to_fetch`); fetching takes the marks away
//! as WeChat tells of each. So a host that dies loses one page or one batch, which the next one asks for
//! again. What plugins keep in a contact is not touched.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::values::placeholders;
use super::{Database, DbError, Dialect, Lease};

/// Rows of one statement.
const ROWS: usize = 500;

/// How far an import has come.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Import {
    /// The account.
    pub app_id: String,
    /// `running`, `waiting`, `done` or `failed`.
    pub state: String,
    /// Followers that WeChat has said there are.
    pub total: i64,
    /// Followers that were listed.
    pub listed: i64,
    /// Followers that WeChat was asked about.
    pub fetched: i64,
    /// Where the next page of the list begins; empty for the first.
    pub next_open_id: String,
    /// 1 once the list is whole.
    pub all_listed: i64,
    /// Failures since the last success.
    pub failures: i64,
    /// Why it waits or failed.
    pub error: Option<String>,
    /// When a host looks at it next; Unix milliseconds.
    pub due_at: i64,
    /// When it began.
    pub started_at: i64,
    /// When it last came further.
    pub updated_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
}

const COLUMNS: &str = "app_id, state, total, listed, fetched, next_open_id, all_listed, failures, \
     error, due_at, started_at, updated_at, finished_at";

/// A page of the list.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Followers on all pages.
    pub total: i64,
    /// Those of this page.
    pub open_ids: &'a [&'a str],
    /// Where the next page begins; None after the last.
    pub next: Option<&'a str>,
    /// When the page was asked for; Unix milliseconds.
    pub at_ms: i64,
}

/// What WeChat told of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub open_id: String,
    /// Whether the contact follows; None if nothing was told.
    pub following: Option<bool>,
    /// The last follow; Unix milliseconds.
    pub followed_at: Option<i64>,
    /// The person over accounts.
    pub union_id: Option<String>,
    /// The scene of the QR code that led here.
    pub qr_scene: Option<String>,
    /// Ids of tags.
    pub tags: Vec<u32>,
    /// The account's remark.
    pub remark: String,
}

/// Starts an import, or lets one that failed or waits go on; one that is done begins anew. One that
/// runs is left alone.
///
/// # Errors
/// The database can't be reached.
pub async fn start(db: &Database, app_id: &str, now_ms: i64) -> Result<(), DbError> {
    let anew = |column: &str, value: &str| {
        format!(
            "{column} = CASE WHEN follower_imports.state = 'done' THEN {value} \
             ELSE follower_imports.{column} END"
        )
    };
    let changes = [
        anew("total", "0"),
        anew("listed", "0"),
        anew("fetched", "0"),
        anew("next_open_id", "''"),
        anew("all_listed", "0"),
        anew("started_at", "excluded.started_at"),
    ]
    .join(", ");
    let statement = format!(
        "INSERT INTO follower_imports (app_id, state, total, listed, fetched, next_open_id, \
         all_listed, failures, due_at, started_at, updated_at) \
         VALUES ($1, 'running', 0, 0, 0, '', 0, 0, $2, $3, $4) \
         ON CONFLICT (app_id) DO UPDATE SET {changes}, state = 'running', failures = 0, \
         error = NULL, due_at = excluded.due_at, updated_at = excluded.updated_at, \
         finished_at = NULL, lease_owner = NULL WHERE follower_imports.state <> 'running'"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(now_ms)
        .bind(now_ms)
        .bind(now_ms)
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// An account's import, if there ever was one.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, app_id: &str) -> Result<Option<Import>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM follower_imports WHERE app_id = $1");
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .fetch_optional(&db.readers)
        .await?)
}

/// Leases an import that is due.
///
/// # Errors
/// The database can't be reached.
pub async fn lease(db: &Database, lease: Lease<'_>) -> Result<Option<Import>, DbError> {
    let due: Option<String> = sqlx::query_scalar(
        "SELECT app_id FROM follower_imports WHERE state IN ('running', 'waiting') \
         AND due_at <= $1 ORDER BY due_at LIMIT 1",
    )
    .bind(lease.now_ms)
    .fetch_optional(&db.readers)
    .await?;
    let Some(app_id) = due else {
        return Ok(None);
    };
    let statement = format!(
        "UPDATE follower_imports SET state = 'running', lease_owner = $1, due_at = $2 \
         WHERE app_id = $3 AND state IN ('running', 'waiting') AND due_at <= $4 \
         RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement))
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(app_id)
        .bind(lease.now_ms)
        .fetch_optional(&db.writers)
        .await?)
}

/// Keeps a page of the list. False: another host has the import.
///
/// # Errors
/// The database can't be reached: nothing is kept.
pub async fn keep_page(
    db: &Database,
    app_id: &str,
    lease: Lease<'_>,
    page: Listed<'_>,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let kept = sqlx::query(
        "UPDATE follower_imports SET total = $1, listed = listed + $2, next_open_id = $3, \
         all_listed = $4, failures = 0, error = NULL, due_at = $5, updated_at = $6 \
         WHERE app_id = $7 AND lease_owner = $8 AND state = 'running'",
    )
    .bind(page.total)
    .bind(count(page.open_ids.len()))
    .bind(page.next.unwrap_or_default())
    .bind(i64::from(page.next.is_none()))
    .bind(lease.until_ms)
    .bind(lease.now_ms)
    .bind(app_id)
    .bind(lease.owner)
    .execute(&mut *connection)
    .await?;
    if kept.rows_affected() != 1 {
        return Ok(false);
    }
    // In one order, so that batches of several hosts do not wait for each other.
    let mut open_ids = page.open_ids.to_vec();
    open_ids.sort_unstable();
    open_ids.dedup();
    for open_ids in open_ids.chunks(ROWS) {
        mark(db.dialect(), connection, app_id, open_ids, page.at_ms).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

async fn mark(
    dialect: Dialect,
    db: &mut AnyConnection,
    app_id: &str,
    open_ids: &[&str],
    at_ms: i64,
) -> Result<(), DbError> {
    let new = ", 1, '[]', '', '{}', 0, 0, 0, 0, 0, 1";
    let values = placeholders(dialect, open_ids.len(), 4, new);
    let newer = "contacts.following_at > excluded.following_at";
    let statement = format!(
        "INSERT INTO contacts (app_id, open_id, following_at, first_seen_at, following, tags, \
         remark, attributes, message_used, menu_used, scan_used, follow_used, payment_used, \
         to_fetch) VALUES {values} ON CONFLICT (app_id, open_id) DO UPDATE SET \
         following = CASE WHEN {newer} THEN contacts.following ELSE 1 END, \
         following_at = CASE WHEN {newer} THEN contacts.following_at ELSE excluded.following_at \
         END, made_by_effect = NULL, to_fetch = 1"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(open_ids.len() == ROWS);
    for open_id in open_ids {
        query = query
            .bind(app_id)
            .bind(open_id.as_bytes())
            .bind(at_ms)
            .bind(at_ms);
    }
    query.execute(db).await?;
    Ok(())
}

/// People that WeChat is still to be asked about, `limit` of them at most.
///
/// # Errors
/// The database can't be reached.
pub async fn to_fetch(db: &Database, app_id: &str, limit: i64) -> Result<Vec<String>, DbError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT open_id FROM contacts WHERE app_id = $1 AND to_fetch = 1 ORDER BY open_id LIMIT $2",
    )
    .bind(app_id)
    .bind(limit)
    .fetch_all(&db.readers)
    .await?;
    let open_ids = rows.iter().map(|row| String::from_utf8_lossy(row));
    Ok(open_ids.map(std::borrow::Cow::into_owned).collect())
}

/// Keeps what WeChat told of people, as of `at_ms`. False: another host has the import.
///
/// # Errors
/// The database can't be reached: nothing is kept.
pub async fn keep_told(
    db: &Database,
    app_id: &str,
    lease: Lease<'_>,
    told: &[Told],
    at_ms: i64,
) -> Result<bool, DbError> {
    let mut transaction = db.begin().await?;
    let connection = transaction.connection();
    let kept = sqlx::query(
        "UPDATE follower_imports SET fetched = fetched + $1, failures = 0, error = NULL, \
         due_at = $2, updated_at = $3 WHERE app_id = $4 AND lease_owner = $5 \
         AND state = 'running'",
    )
    .bind(count(told.len()))
    .bind(lease.until_ms)
    .bind(lease.now_ms)
    .bind(app_id)
    .bind(lease.owner)
    .execute(&mut *connection)
    .await?;
    if kept.rows_affected() != 1 {
        return Ok(false);
    }
    let mut told: Vec<&Told> = told.iter().collect();
    told.sort_unstable_by(|a, b| a.open_id.cmp(&b.open_id));
    for contact in told {
        note(connection, app_id, contact, at_ms).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Notes what was told of a contact who was listed before. Of who does not follow, WeChat tells
/// nothing: what is known stays.
async fn note(
    db: &mut AnyConnection,
    app_id: &str,
    told: &Told,
    at_ms: i64,
) -> Result<(), DbError> {
    let follows = told.following == Some(true);
    let tags = serde_json::to_string(&told.tags).unwrap_or_else(|_| String::from("[]"));
    sqlx::query(
        "UPDATE contacts SET to_fetch = 0, \
         following = CASE WHEN $3 < 0 OR following_at > $4 THEN following ELSE $3 END, \
         following_at = CASE WHEN $3 < 0 OR following_at > $4 THEN following_at ELSE $4 END, \
         followed_at = CASE WHEN $5 > COALESCE(followed_at, 0) THEN $5 ELSE followed_at END, \
         union_id = CASE WHEN $6 <> '' THEN $6 ELSE union_id END, \
         qr_scene = CASE WHEN qr_scene IS NULL AND $7 <> '' THEN $7 ELSE qr_scene END, \
         tags = CASE WHEN $3 = 1 THEN $8 ELSE tags END, \
         remark = CASE WHEN $3 = 1 THEN $9 ELSE remark END \
         WHERE app_id = $1 AND open_id = $2",
    )
    .bind(app_id)
    .bind(told.open_id.as_bytes())
    .bind(told.following.map_or(-1, i64::from))
    .bind(at_ms)
    .bind(told.followed_at.filter(|_| follows).unwrap_or_default())
    .bind(plain(told.union_id.as_deref()))
    .bind(plain(told.qr_scene.as_deref()))
    .bind(tags)
    .bind(plain(Some(&told.remark)))
    .execute(db)
    .await?;
    Ok(())
}

/// Lets an import wait until `due_at`, because of `error`; a failure is counted. Without an error it
/// is given back for another host to go on with.
///
/// # Errors
/// The database can't be reached: the import waits until its lease has run out.
pub async fn postpone(
    db: &Database,
    app_id: &str,
    owner: &str,
    due_at: i64,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE follower_imports SET state = $1, error = $2, failures = failures + $3, \
         due_at = $4, lease_owner = NULL WHERE app_id = $5 AND lease_owner = $6",
    )
    .bind(if error.is_some() {
        "waiting"
    } else {
        "running"
    })
    .bind(error)
    .bind(i64::from(error.is_some()))
    .bind(due_at)
    .bind(app_id)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Ends an import: done, or failed because of `error`.
///
/// # Errors
/// The database can't be reached.
pub async fn finish(
    db: &Database,
    app_id: &str,
    owner: &str,
    now_ms: i64,
    error: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE follower_imports SET state = $1, error = $2, finished_at = $3, updated_at = $4, \
         lease_owner = NULL WHERE app_id = $5 AND lease_owner = $6",
    )
    .bind(if error.is_some() { "failed" } else { "done" })
    .bind(error)
    .bind(now_ms)
    .bind(now_ms)
    .bind(app_id)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// A text that both databases take.
fn plain(text: Option<&str>) -> String {
    text.unwrap_or_default().replace('\0', "")
}

fn count(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::contacts;
    use crate::db::testing::databases;

    const APP: &str = "wx01";

    fn by(owner: &str, now_ms: i64) -> Lease<'_> {
        Lease {
            owner,
            now_ms,
            until_ms: now_ms + 100,
        }
    }

    fn page<'a>(open_ids: &'a [&'a str], next: Option<&'a str>) -> Listed<'a> {
        Listed {
            total: 3,
            open_ids,
            next,
            at_ms: 10,
        }
    }

    fn told(open_id: &str) -> Told {
        Told {
            open_id: open_id.to_owned(),
            following: Some(true),
            followed_at: Some(5),
            union_id: Some("u\0".to_owned()),
            qr_scene: Some("shop".to_owned()),
            tags: vec![2],
            remark: "VIP".to_owned(),
        }
    }

    #[tokio::test]
    async fn an_import_goes_on_where_a_dead_host_left_it() {
        for db in databases().await {
            start(&db, APP, 1).await.unwrap();
            let first = lease(&db, by("dead", 10)).await.unwrap().unwrap();
            assert_eq!((first.listed, &*first.next_open_id), (0, ""));
            assert!(lease(&db, by("me", 20)).await.unwrap().is_none());
            let listed = page(&["oB", "oA"], Some("oB"));
            assert!(keep_page(&db, APP, by("dead", 20), listed).await.unwrap());

            let again = lease(&db, by("me", 120)).await.unwrap().unwrap();
            assert_eq!((again.listed, &*again.next_open_id), (2, "oB"));
            // Should it not have died, it has lost the import.
            assert!(!keep_page(&db, APP, by("dead", 121), listed).await.unwrap());
            let last = page(&["oC"], None);
            assert!(keep_page(&db, APP, by("me", 121), last).await.unwrap());
            assert_eq!(to_fetch(&db, APP, 2).await.unwrap(), ["oA", "oB"]);
            let people = [told("oA"), told("oB")];
            assert!(
                keep_told(&db, APP, by("me", 122), &people, 15)
                    .await
                    .unwrap()
            );
            assert_eq!(to_fetch(&db, APP, 9).await.unwrap(), ["oC"]);
            finish(&db, APP, "me", 130, None).await.unwrap();

            let done = find(&db, APP).await.unwrap().unwrap();
            assert_eq!((&*done.state, done.listed, done.fetched), ("done", 3, 2));
            start(&db, APP, 140).await.unwrap();
            let anew = find(&db, APP).await.unwrap().unwrap();
            assert_eq!(
                (&*anew.state, anew.listed, anew.started_at),
                ("running", 0, 140)
            );
        }
    }

    #[tokio::test]
    async fn what_is_imported_leaves_what_is_newer_and_what_plugins_keep() {
        for db in databases().await {
            sqlx::query(
                "INSERT INTO contacts (app_id, open_id, following, following_at, first_seen_at, \
                 qr_scene, opted_out_at, tags, remark, attributes, message_used, menu_used, \
                 scan_used, follow_used, payment_used, to_fetch) VALUES ($1, $2, 0, 12, 3, \
                 'fair', 4, '[]', '', '{\"a\":1}', 0, 0, 0, 0, 0, 0)",
            )
            .bind(APP)
            .bind(&b"oA"[..])
            .execute(&db.writers)
            .await
            .unwrap();
            start(&db, APP, 1).await.unwrap();
            lease(&db, by("me", 10)).await.unwrap().unwrap();
            keep_page(&db, APP, by("me", 10), page(&["oA", "oB"], None))
                .await
                .unwrap();
            let mut gone = told("oB");
            gone.following = Some(false);
            keep_told(&db, APP, by("me", 11), &[told("oA"), gone], 11)
                .await
                .unwrap();

            let contact = contacts::find(&db, APP, "oA").await.unwrap().unwrap();
            // Left at 12, after WeChat was asked at 10 and 11.
            assert_eq!(contact.following, Some(false));
            assert_eq!((contact.first_seen_at, contact.followed_at), (3, Some(5)));
            assert_eq!(contact.qr_scene.as_deref(), Some("fair"));
            assert_eq!(contact.union_id.as_deref(), Some("u"));
            assert_eq!((contact.tags, &*contact.remark), (vec![2], "VIP"));
            assert_eq!(
                (&*contact.attributes, contact.opted_out_at),
                ("{\"a\":1}", Some(4))
            );
            let other = contacts::find(&db, APP, "oB").await.unwrap().unwrap();
            assert_eq!((other.following, other.followed_at), (Some(false), None));
            assert_eq!((other.tags.len(), &*other.remark), (0, ""));
        }
    }

    #[tokio::test]
    async fn a_waiting_import_is_due_again_and_starts_at_once_when_asked() {
        for db in databases().await {
            start(&db, APP, 1).await.unwrap();
            lease(&db, by("me", 10)).await.unwrap().unwrap();
            postpone(&db, APP, "me", 1000, Some("busy")).await.unwrap();
            let waiting = find(&db, APP).await.unwrap().unwrap();
            assert_eq!((&*waiting.state, waiting.failures), ("waiting", 1));
            assert!(lease(&db, by("me", 999)).await.unwrap().is_none());
            start(&db, APP, 500).await.unwrap();
            assert!(lease(&db, by("me", 500)).await.unwrap().is_some());
            postpone(&db, APP, "me", 501, None).await.unwrap();
            assert!(lease(&db, by("other", 501)).await.unwrap().is_some());
            finish(&db, APP, "other", 502, Some("no right"))
                .await
                .unwrap();
            let failed = find(&db, APP).await.unwrap().unwrap();
            assert_eq!(
                (&*failed.state, failed.error.as_deref()),
                ("failed", Some("no right"))
            );
        }
    }
}
