//! Contacts: reading one, and lists. What events tell of them is written by `contact_updates`.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sqlx::query::QueryAs;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use super::{Database, DbError, Dialect, places};

/// When a contact last did what; Unix milliseconds.
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

/// What an account knows of a contact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// The open id.
    pub open_id: String,
    /// The person over accounts, where known.
    pub union_id: Option<String>,
    /// Whether the contact follows the account, where known.
    pub following: Option<bool>,
    /// The first event or import that named the contact; Unix milliseconds.
    pub first_seen_at: i64,
    /// The last follow, where known.
    pub followed_at: Option<i64>,
    /// The last unfollow, where known.
    pub unfollowed_at: Option<i64>,
    /// The scene of the QR code by which the contact followed.
    pub qr_scene: Option<String>,
    /// What the contact did last.
    pub last: Interactions,
    /// Ids of WeChat's tags.
    pub tags: Vec<u32>,
    /// The account's remark; may be empty.
    pub remark: String,
    /// What plugins noted: a JSON object.
    pub attributes: String,
    /// Since when the contact wants no messages.
    pub opted_out_at: Option<i64>,
    /// Fresh for each change that an effect made; 0 before the first.
    pub version: i64,
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

const SELECT: &str = "SELECT open_id, union_id, following, first_seen_at, followed_at, \
     unfollowed_at, qr_scene, tags, remark, attributes, opted_out_at, last_message_at, \
     last_menu_at, last_scan_at, last_follow_at, last_payment_at, version FROM contacts";

/// A contact.
///
/// # Errors
/// The database can't be reached.
pub async fn find(db: &Database, app_id: &str, open_id: &str) -> Result<Option<Contact>, DbError> {
    let statement = format!("{SELECT} WHERE app_id = $1 AND open_id = $2");
    let row: Option<ContactRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(app_id)
        .bind(open_id.as_bytes())
        .fetch_optional(&db.readers)
        .await?;
    Ok(row.map(Contact::from))
}

/// Contacts of an account, each once.
#[derive(Debug, Clone, Copy)]
pub struct Contacts<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The contacts.
    pub open_ids: &'a [&'a str],
}

type Arguments = <Any as sqlx::Database>::Arguments;

impl Contacts<'_> {
    /// The places for their open ids, from `$first` on.
    pub(super) fn places(&self, first: usize) -> String {
        places(first, self.open_ids.len()).join(", ")
    }

    /// The same, the rows locked in the order in which others lock them too.
    pub(super) fn locked(&self, dialect: Dialect, first: usize) -> String {
        let places = self.places(first);
        match dialect {
            Dialect::Sqlite => places,
            Dialect::Postgres => format!(
                "SELECT open_id FROM contacts WHERE app_id = $1 AND open_id IN ({places}) \
                 ORDER BY open_id FOR UPDATE"
            ),
        }
    }

    /// Binds the open ids, over again where places are left.
    pub(super) fn bound_to<'q, O>(
        &self,
        query: QueryAs<'q, Any, O, Arguments>,
    ) -> QueryAs<'q, Any, O, Arguments> {
        let count = places(0, self.open_ids.len()).len();
        let ids = self.open_ids.iter().copied().cycle().take(count);
        ids.fold(query, |query, id| query.bind(id.as_bytes().to_vec()))
    }
}

/// Several contacts, in no order; those that the host never met are not among them.
///
/// # Errors
/// The database can't be reached.
pub async fn find_all(db: &Database, contacts: Contacts<'_>) -> Result<Vec<Contact>, DbError> {
    if contacts.open_ids.is_empty() {
        return Ok(Vec::new());
    }
    let places = contacts.places(2);
    let statement = format!("{SELECT} WHERE app_id = $1 AND open_id IN ({places})");
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(contacts.app_id);
    let rows: Vec<ContactRow> = contacts.bound_to(query).fetch_all(&db.readers).await?;
    Ok(rows.into_iter().map(Contact::from).collect())
}

/// Those of several contacts who want no messages.
pub(super) async fn opted_out(
    db: &mut AnyConnection,
    contacts: Contacts<'_>,
) -> Result<HashSet<Vec<u8>>, DbError> {
    let places = contacts.places(2);
    let statement = format!(
        "SELECT open_id FROM contacts WHERE app_id = $1 AND open_id IN ({places}) \
         AND opted_out_at IS NOT NULL"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(contacts.app_id);
    let rows: Vec<(Vec<u8>,)> = contacts.bound_to(query).fetch_all(db).await?;
    Ok(rows.into_iter().map(|(open_id,)| open_id).collect())
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
        .fetch_all(&db.readers)
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
    version: i64,
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
            version: row.version,
        }
    }
}

/// The tags in a stored list.
pub(super) fn tags_of(stored: &str) -> Vec<u32> {
    // Written by this host only, so it parses; nothing known is the safe reading.
    serde_json::from_str(stored).unwrap_or_default()
}
