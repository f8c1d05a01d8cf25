//! Contacts: what callbacks tell of people, written many at a time; reading one, and lists.
//!
//! A sighting never takes anything back: it is applied once or twice, early or late, with the same
//! result, because each column keeps what is newest by WeChat's clock. What plugins keep in a contact
//! (attributes, opt-out) is not touched here.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sqlx::{AnyConnection, AssertSqlSafe};
use wxhost_wechat::id::{AppId, OpenId};

use super::values::placeholders;
use super::{Database, DbError, Dialect};

/// Sightings of one statement. Fifteen values each stay below what either database takes.
pub const MAX_SIGHTINGS: usize = 512;
const COLUMNS: usize = 15;

/// When a person last did what; Unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interactions {
    /// Wrote a message.
    pub message: Option<i64>,
    /// Tapped a menu item.
    pub menu: Option<i64>,
    /// Scanned a QR code of the account.
    pub scan: Option<i64>,
    /// Followed.
    pub follow: Option<i64>,
    /// Paid.
    pub payment: Option<i64>,
}

/// What one event, or several of one person, tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The account.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// The person over accounts, where told.
    pub union_id: Option<Box<str>>,
    /// The earliest event.
    pub first_seen_at: i64,
    /// The last follow.
    pub followed_at: Option<i64>,
    /// The last unfollow.
    pub unfollowed_at: Option<i64>,
    /// Whether the person follows, and since when that is known.
    pub following: Option<(bool, i64)>,
    /// The scene of the QR code by which the person followed.
    pub qr_scene: Option<Box<str>>,
    /// What the person did.
    pub last: Interactions,
    /// The last menu tap after which WeChat takes customer-service messages.
    pub menu_granted_at: Option<i64>,
}

impl Sighting {
    /// Takes in what a later sighting of the same person tells.
    pub fn merge(&mut self, later: Self) {
        self.union_id = later.union_id.or(self.union_id.take());
        self.first_seen_at = self.first_seen_at.min(later.first_seen_at);
        // None is less than any time.
        self.followed_at = self.followed_at.max(later.followed_at);
        self.unfollowed_at = self.unfollowed_at.max(later.unfollowed_at);
        let since = |following: Option<(bool, i64)>| following.map(|(_, since)| since);
        if since(later.following) >= since(self.following) {
            self.following = later.following;
        }
        self.qr_scene = later.qr_scene.or(self.qr_scene.take());
        self.last.message = self.last.message.max(later.last.message);
        self.last.menu = self.last.menu.max(later.last.menu);
        self.last.scan = self.last.scan.max(later.last.scan);
        self.last.follow = self.last.follow.max(later.last.follow);
        self.last.payment = self.last.payment.max(later.last.payment);
        self.menu_granted_at = self.menu_granted_at.max(later.menu_granted_at);
    }
}

/// A person, as far as an account knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The open id.
    pub open_id: String,
    /// The person over accounts, where known.
    pub union_id: Option<String>,
    /// Whether the person follows the account, where known.
    pub following: Option<bool>,
    /// The first event or import that named the person; Unix milliseconds.
    pub first_seen_at: i64,
    /// The last follow, where known.
    pub followed_at: Option<i64>,
    /// The last unfollow, where known.
    pub unfollowed_at: Option<i64>,
    /// The scene of the QR code by which the person followed.
    pub qr_scene: Option<String>,
    /// What the person did last.
    pub last: Interactions,
    /// Ids of WeChat's tags.
    pub tags: Vec<u32>,
    /// The account's remark; may be empty.
    pub remark: String,
    /// What plugins noted: a JSON object.
    pub attributes: String,
    /// Since when the person wants no messages.
    pub opted_out_at: Option<i64>,
}

/// A page of contacts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContactPage {
    /// In byte order of their open ids.
    pub contacts: Vec<Contact>,
    /// The cursor of the next page, unless this is the last one.
    pub next: Option<String>,
}

/// Why a list failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The cursor is not one of ours.
    #[error("the cursor did not come from a list of contacts")]
    InvalidCursor,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Writes sightings, one per person, [`MAX_SIGHTINGS`] of them at most, in one statement.
///
/// # Errors
/// The database can't be reached: nothing is written.
pub async fn write_sightings(db: &Database, sightings: &[Sighting]) -> Result<(), DbError> {
    let mut connection = db.pool.acquire().await?;
    write_in(db.dialect(), &mut connection, sightings).await
}

/// The same inside a transaction.
pub(super) async fn write_in(
    dialect: Dialect,
    db: &mut AnyConnection,
    sightings: &[Sighting],
) -> Result<(), DbError> {
    if sightings.is_empty() {
        return Ok(());
    }
    let statement = sighting_statement(dialect, sightings.len());
    let frequent = matches!(sightings.len(), 1 | MAX_SIGHTINGS);
    let mut query = sqlx::query(AssertSqlSafe(statement)).persistent(frequent);
    for seen in sightings {
        query = query
            .bind(seen.app_id.as_str())
            .bind(seen.open_id.as_str().as_bytes())
            .bind(seen.union_id.as_deref())
            .bind(seen.following.map(|(following, _)| i64::from(following)))
            .bind(seen.following.map(|(_, since)| since))
            .bind(seen.first_seen_at)
            .bind(seen.followed_at)
            .bind(seen.unfollowed_at)
            .bind(seen.qr_scene.as_deref())
            .bind(seen.last.message)
            .bind(seen.last.menu)
            .bind(seen.last.scan)
            .bind(seen.last.follow)
            .bind(seen.last.payment)
            .bind(seen.menu_granted_at);
    }
    query.execute(db).await?;
    Ok(())
}

/// `tags`, `remark`, `attributes` and the counts of a new row.
const NEW_ROW: &str = "'[]', '', '{}', 0, 0, 0, 0, 0, 0";

fn sighting_statement(dialect: Dialect, rows: usize) -> String {
    let values = placeholders(dialect, rows, COLUMNS).replace(')', &format!(", {NEW_ROW})"));
    let newest = |column: &str| {
        format!(
            "{column} = CASE WHEN excluded.{column} >= COALESCE(contacts.{column}, 0) \
             THEN excluded.{column} ELSE contacts.{column} END"
        )
    };
    // A scene that opens again begins to count again.
    let used = |column: &str, opened: &str| {
        format!(
            "{column} = CASE WHEN excluded.{opened} >= COALESCE(contacts.{opened}, 0) \
             THEN 0 ELSE contacts.{column} END"
        )
    };
    let changes = [
        "union_id = COALESCE(excluded.union_id, contacts.union_id)".to_owned(),
        "following = CASE WHEN excluded.following_at >= COALESCE(contacts.following_at, 0) \
         THEN excluded.following ELSE contacts.following END"
            .to_owned(),
        "first_seen_at = CASE WHEN excluded.first_seen_at < contacts.first_seen_at \
         THEN excluded.first_seen_at ELSE contacts.first_seen_at END"
            .to_owned(),
        "qr_scene = COALESCE(excluded.qr_scene, contacts.qr_scene)".to_owned(),
        newest("following_at"),
        newest("followed_at"),
        newest("unfollowed_at"),
        newest("last_message_at"),
        newest("last_menu_at"),
        newest("last_scan_at"),
        newest("last_follow_at"),
        newest("last_payment_at"),
        newest("menu_granted_at"),
        used("message_used", "last_message_at"),
        used("menu_used", "menu_granted_at"),
        used("scan_used", "last_scan_at"),
        used("follow_used", "last_follow_at"),
        used("payment_used", "last_payment_at"),
    ]
    .join(", ");
    format!(
        "INSERT INTO contacts (app_id, open_id, union_id, following, following_at, first_seen_at, \
         followed_at, unfollowed_at, qr_scene, last_message_at, last_menu_at, last_scan_at, \
         last_follow_at, last_payment_at, menu_granted_at, tags, remark, attributes, message_used, \
         menu_used, scan_used, follow_used, payment_used, to_fetch) VALUES {values} \
         ON CONFLICT (app_id, open_id) DO UPDATE SET {changes}"
    )
}

const SELECT: &str = "SELECT open_id, union_id, following, first_seen_at, followed_at, \
     unfollowed_at, qr_scene, tags, remark, attributes, opted_out_at, last_message_at, \
     last_menu_at, last_scan_at, last_follow_at, last_payment_at FROM contacts";

/// A contact.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, app_id: &str, open_id: &str) -> Result<Option<Contact>, DbError> {
    let statement = format!("{SELECT} WHERE app_id = $1 AND open_id = $2");
    let row: Option<ContactRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(open_id.as_bytes())
        .fetch_optional(&db.pool)
        .await?;
    Ok(row.map(Contact::from))
}

/// Contacts after the place that `cursor` names, `limit` of them at most.
///
/// # Errors
/// A cursor that is not ours; the database.
pub async fn list(
    db: &Database,
    app_id: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<ContactPage, ListError> {
    let after = match cursor {
        None => Vec::new(),
        Some(cursor) => BASE64_URL_SAFE_NO_PAD
            .decode(cursor)
            .map_err(|_| ListError::InvalidCursor)?,
    };
    let statement =
        format!("{SELECT} WHERE app_id = $1 AND open_id > $2 ORDER BY open_id LIMIT $3");
    let mut rows: Vec<ContactRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(after)
        .bind(i64::from(limit) + 1)
        .fetch_all(&db.pool)
        .await
        .map_err(DbError::from)?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|row| BASE64_URL_SAFE_NO_PAD.encode(&row.open_id));
    let contacts = rows.into_iter().map(Contact::from).collect();
    Ok(ContactPage { contacts, next })
}

#[derive(sqlx::FromRow)]
struct ContactRow {
    open_id: Vec<u8>,
    union_id: Option<String>,
    following: Option<i64>,
    first_seen_at: i64,
    followed_at: Option<i64>,
    unfollowed_at: Option<i64>,
    qr_scene: Option<String>,
    tags: String,
    remark: String,
    attributes: String,
    opted_out_at: Option<i64>,
    last_message_at: Option<i64>,
    last_menu_at: Option<i64>,
    last_scan_at: Option<i64>,
    last_follow_at: Option<i64>,
    last_payment_at: Option<i64>,
}

impl From<ContactRow> for Contact {
    fn from(row: ContactRow) -> Self {
        Self {
            open_id: String::from_utf8_lossy(&row.open_id).into_owned(),
            union_id: row.union_id,
            following: row.following.map(|following| following == 1),
            first_seen_at: row.first_seen_at,
            followed_at: row.followed_at,
            unfollowed_at: row.unfollowed_at,
            qr_scene: row.qr_scene,
            last: Interactions {
                message: row.last_message_at,
                menu: row.last_menu_at,
                scan: row.last_scan_at,
                follow: row.last_follow_at,
                payment: row.last_payment_at,
            },
            tags: tags_of(&row.tags),
            remark: row.remark,
            attributes: row.attributes,
            opted_out_at: row.opted_out_at,
        }
    }
}

/// The tags in a stored list.
pub(super) fn tags_of(stored: &str) -> Vec<u32> {
    // Written by this host only, so it parses; nothing known is the safe reading.
    serde_json::from_str(stored).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    const APP: &str = "wx01";

    fn seen(open_id: &str, at: i64) -> Sighting {
        Sighting {
            app_id: AppId::parse(APP).unwrap(),
            open_id: OpenId::parse(open_id).unwrap(),
            union_id: None,
            first_seen_at: at,
            followed_at: None,
            unfollowed_at: None,
            following: None,
            qr_scene: None,
            last: Interactions::default(),
            menu_granted_at: None,
        }
    }

    fn followed(at: i64) -> Sighting {
        let mut sighting = seen("oA", at);
        sighting.followed_at = Some(at);
        sighting.following = Some((true, at));
        sighting.last.follow = Some(at);
        sighting.qr_scene = Some("shop".into());
        sighting
    }

    fn unfollowed(at: i64) -> Sighting {
        let mut sighting = seen("oA", at);
        sighting.unfollowed_at = Some(at);
        sighting.following = Some((false, at));
        sighting
    }

    fn wrote(at: i64) -> Sighting {
        let mut sighting = seen("oA", at);
        sighting.last.message = Some(at);
        sighting.union_id = Some("u1".into());
        sighting
    }

    /// What follows from a follow at 10, a message at 20 and an unfollow at 30, in any order.
    fn expected() -> Contact {
        Contact {
            open_id: "oA".to_owned(),
            union_id: Some("u1".to_owned()),
            following: Some(false),
            first_seen_at: 10,
            followed_at: Some(10),
            unfollowed_at: Some(30),
            qr_scene: Some("shop".to_owned()),
            last: Interactions {
                message: Some(20),
                follow: Some(10),
                ..Interactions::default()
            },
            tags: Vec::new(),
            remark: String::new(),
            attributes: "{}".to_owned(),
            opted_out_at: None,
        }
    }

    #[tokio::test]
    async fn what_was_seen_adds_up_in_any_order_and_twice() {
        for db in databases().await {
            let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
            for order in orders {
                for step in order.into_iter().chain([0]) {
                    let sighting = [followed(10), wrote(20), unfollowed(30)][step].clone();
                    write_sightings(&db, &[sighting]).await.unwrap();
                }
                let contact = find(&db, APP, "oA").await.unwrap().unwrap();
                assert_eq!(contact, expected(), "{order:?}");
                sqlx::query("DELETE FROM contacts")
                    .execute(&db.pool)
                    .await
                    .unwrap();
            }
        }
    }

    #[tokio::test]
    async fn sightings_merged_before_they_are_written_say_the_same() {
        for db in databases().await {
            let mut all = unfollowed(30);
            all.merge(wrote(20));
            all.merge(followed(10));
            write_sightings(&db, &[all]).await.unwrap();
            assert_eq!(find(&db, APP, "oA").await.unwrap().unwrap(), expected());
        }
    }

    #[tokio::test]
    async fn a_full_batch_fits_one_statement_and_is_listed_in_pages() {
        for db in databases().await {
            let batch: Vec<_> = (0..MAX_SIGHTINGS)
                .map(|n| seen(&format!("o{n:03}"), 1))
                .collect();
            write_sightings(&db, &batch).await.unwrap();
            let mut cursor: Option<String> = None;
            let mut found = Vec::new();
            loop {
                let page = list(&db, APP, cursor.as_deref(), 200).await.unwrap();
                found.extend(page.contacts.into_iter().map(|contact| contact.open_id));
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = (0..MAX_SIGHTINGS).map(|n| format!("o{n:03}")).collect();
            assert_eq!(found, expected);
            assert!(find(&db, "wx02", "o000").await.unwrap().is_none());
            assert!(matches!(
                list(&db, APP, Some("no cursor!"), 10).await,
                Err(ListError::InvalidCursor)
            ));
        }
    }
}
