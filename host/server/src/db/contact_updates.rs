//! Contact updates: what events tell of people, written many at a time.
//!
//! An update never takes anything back: it is applied once or twice, early or late, with the same
//! result, because each column keeps what is newest by WeChat's clock. What plugins keep in a contact
//! (attributes, opt-out) is not touched here.

use sqlx::{Any, AnyConnection, AssertSqlSafe, any::AnyArguments, query::Query};
use wxhost_wechat::id::{AppId, OpenId};

use super::contacts::Interactions;
use super::values::{pieces, placeholders};
use super::{Database, DbError, Dialect};

/// Events of one transaction. The more, the fewer times a page of the table is written.
pub const BATCH: usize = 16_384;

/// What one event, or several of one contact, tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactUpdate {
    /// The account.
    pub app_id: AppId,
    /// The contact.
    pub open_id: OpenId,
    /// The person over accounts, where told.
    pub union_id: Option<Box<str>>,
    /// The earliest event.
    pub first_seen_at: i64,
    /// The last follow.
    pub followed_at: Option<i64>,
    /// The last unfollow.
    pub unfollowed_at: Option<i64>,
    /// Whether the contact follows, and since when that is known.
    pub following: Option<(bool, i64)>,
    /// The scene of the QR code by which the contact followed.
    pub qr_scene: Option<Box<str>>,
    /// What the contact did.
    pub last: Interactions,
    /// The last menu tap after which WeChat takes customer-service messages.
    pub menu_granted_at: Option<i64>,
}

impl ContactUpdate {
    /// Nothing but that a contact was there at a time, Unix milliseconds.
    pub fn new(app_id: AppId, open_id: OpenId, at_ms: i64) -> Self {
        Self {
            app_id,
            open_id,
            union_id: None,
            first_seen_at: at_ms,
            followed_at: None,
            unfollowed_at: None,
            following: None,
            qr_scene: None,
            last: Interactions::default(),
            menu_granted_at: None,
        }
    }

    /// Takes in what a later update of the same contact tells.
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

/// Which columns an update fills. Most tell of a message and nothing else: a statement of their own
/// takes a fraction of the values, and of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Message,
    Any,
}

/// What of each shape is bound, after the key and `first_seen_at`.
const MESSAGE: &[&str] = &["last_message_at"];
const ANY: &[&str] = &[
    "union_id",
    "following",
    "following_at",
    "followed_at",
    "unfollowed_at",
    "qr_scene",
    "last_message_at",
    "last_menu_at",
    "last_scan_at",
    "last_follow_at",
    "last_payment_at",
    "menu_granted_at",
];

/// A scene that opens again begins to count again.
const COUNTS: [(&str, &str); 5] = [
    ("message_used", "last_message_at"),
    ("menu_used", "menu_granted_at"),
    ("scan_used", "last_scan_at"),
    ("follow_used", "last_follow_at"),
    ("payment_used", "last_payment_at"),
];

/// What a new row holds that no update tells.
const NEW_ROW: &str = ", '[]', '', '{}', 0, 0, 0, 0, 0, 0";

impl Shape {
    fn of(update: &ContactUpdate) -> Self {
        match update {
            ContactUpdate {
                app_id: _,
                open_id: _,
                first_seen_at: _,
                last:
                    Interactions {
                        message: _,
                        menu: None,
                        scan: None,
                        follow: None,
                        payment: None,
                    },
                union_id: None,
                followed_at: None,
                unfollowed_at: None,
                following: None,
                qr_scene: None,
                menu_granted_at: None,
            } => Self::Message,
            _ => Self::Any,
        }
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Message => MESSAGE,
            Self::Any => ANY,
        }
    }

    fn statement(self, dialect: Dialect, rows: usize) -> String {
        let columns = self.columns();
        let values = placeholders(dialect, rows, 3 + columns.len(), NEW_ROW);
        let kept = columns.iter().map(|column| change(column));
        let counts = COUNTS
            .iter()
            .filter(|(_, opened)| columns.contains(opened))
            .map(|(column, opened)| {
                let newer = newer(opened);
                format!("{column} = CASE WHEN {newer} THEN 0 ELSE contacts.{column} END")
            });
        let changes: Vec<String> = kept.chain(counts).collect();
        format!(
            "INSERT INTO contacts (app_id, open_id, first_seen_at, {}, tags, remark, attributes, \
             message_used, menu_used, scan_used, follow_used, payment_used, to_fetch) \
             VALUES {values} ON CONFLICT (app_id, open_id) DO UPDATE SET \
             first_seen_at = CASE WHEN excluded.first_seen_at < contacts.first_seen_at \
             THEN excluded.first_seen_at ELSE contacts.first_seen_at END, \
             made_by_effect = NULL, {}",
            columns.join(", "),
            changes.join(", ")
        )
    }

    fn bind<'a>(self, query: AnyQuery<'a>, seen: &'a ContactUpdate) -> AnyQuery<'a> {
        let query = query
            .bind(seen.app_id.as_str())
            .bind(seen.open_id.as_str().as_bytes())
            .bind(seen.first_seen_at);
        match self {
            Self::Message => query.bind(seen.last.message),
            Self::Any => query
                .bind(seen.union_id.as_deref())
                .bind(seen.following.map(|(following, _)| i64::from(following)))
                .bind(seen.following.map(|(_, since)| since))
                .bind(seen.followed_at)
                .bind(seen.unfollowed_at)
                .bind(seen.qr_scene.as_deref())
                .bind(seen.last.message)
                .bind(seen.last.menu)
                .bind(seen.last.scan)
                .bind(seen.last.follow)
                .bind(seen.last.payment)
                .bind(seen.menu_granted_at),
        }
    }
}

type AnyQuery<'a> = Query<'a, Any, AnyArguments>;

/// Whether what is told of `column` is as new as what is known.
fn newer(column: &str) -> String {
    format!("excluded.{column} >= COALESCE(contacts.{column}, 0)")
}

/// What a column becomes: what is newest, or what is known.
fn change(column: &str) -> String {
    let time = match column {
        "union_id" | "qr_scene" => {
            return format!("{column} = COALESCE(excluded.{column}, contacts.{column})");
        }
        "following" => "following_at",
        time => time,
    };
    let newer = newer(time);
    format!("{column} = CASE WHEN {newer} THEN excluded.{column} ELSE contacts.{column} END")
}

/// Writes updates, one per contact, in the order of their keys. Those of a shape are one transaction:
/// transactions that lock rows in one order do not wait for each other in a circle.
///
/// # Errors
/// The database can't be reached: what was not written yet is not. To write all again is no error.
pub async fn write(db: &Database, people: &[ContactUpdate]) -> Result<(), DbError> {
    for shape in [Shape::Message, Shape::Any] {
        let of_shape: Vec<&ContactUpdate> = people
            .iter()
            .filter(|seen| Shape::of(seen) == shape)
            .collect();
        if of_shape.is_empty() {
            continue;
        }
        let mut transaction = db.begin().await?;
        for piece in pieces(&of_shape) {
            insert(db.dialect(), transaction.connection(), shape, piece).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// Writes one inside a transaction.
pub(super) async fn write_one(
    dialect: Dialect,
    db: &mut AnyConnection,
    seen: &ContactUpdate,
) -> Result<(), DbError> {
    insert(dialect, db, Shape::of(seen), &[seen]).await
}

async fn insert(
    dialect: Dialect,
    db: &mut AnyConnection,
    shape: Shape,
    people: &[&ContactUpdate],
) -> Result<(), DbError> {
    let statement = shape.statement(dialect, people.len());
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for seen in people {
        query = shape.bind(query, seen);
    }
    query.execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::contacts::{Contact, ListError, find, list};
    use crate::db::testing::databases;

    const APP: &str = "wx01";
    /// More than one statement takes.
    const PEOPLE: usize = 512;

    fn seen(open_id: &str, at: i64) -> ContactUpdate {
        let open_id = OpenId::parse(open_id).unwrap();
        ContactUpdate::new(AppId::parse(APP).unwrap(), open_id, at)
    }

    fn followed(at: i64) -> ContactUpdate {
        let mut update = seen("oA", at);
        update.followed_at = Some(at);
        update.following = Some((true, at));
        update.last.follow = Some(at);
        update.qr_scene = Some("shop".into());
        update
    }

    fn unfollowed(at: i64) -> ContactUpdate {
        let mut update = seen("oA", at);
        update.unfollowed_at = Some(at);
        update.following = Some((false, at));
        update
    }

    fn wrote(at: i64) -> ContactUpdate {
        let mut update = seen("oA", at);
        update.last.message = Some(at);
        update.union_id = Some("u1".into());
        update
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
            version: 0,
        }
    }

    #[tokio::test]
    async fn what_was_seen_adds_up_in_any_order_and_twice() {
        for db in databases().await {
            let orders = [[0, 1, 2], [2, 1, 0], [1, 2, 0]];
            for order in orders {
                for step in order.into_iter().chain([0]) {
                    let update = [followed(10), wrote(20), unfollowed(30)][step].clone();
                    write(&db, &[update]).await.unwrap();
                }
                let contact = find(&db, APP, "oA").await.unwrap().unwrap();
                assert_eq!(contact, expected(), "{order:?}");
                sqlx::query("DELETE FROM contacts")
                    .execute(&db.writers)
                    .await
                    .unwrap();
            }
        }
    }

    #[tokio::test]
    async fn updates_merged_before_they_are_written_say_the_same() {
        for db in databases().await {
            let mut all = unfollowed(30);
            all.merge(wrote(20));
            all.merge(followed(10));
            write(&db, &[all]).await.unwrap();
            assert_eq!(find(&db, APP, "oA").await.unwrap().unwrap(), expected());
        }
    }

    #[tokio::test]
    async fn a_message_alone_changes_only_what_it_tells() {
        for db in databases().await {
            let message = |open_id: &str, at: i64| {
                let mut update = seen(open_id, at);
                update.last.message = Some(at);
                update
            };
            write(&db, &[followed(10), message("oB", 5)]).await.unwrap();
            for at in [20, 15] {
                write(&db, &[message("oA", at)]).await.unwrap();
            }
            let contact = find(&db, APP, "oA").await.unwrap().unwrap();
            let expected = Contact {
                union_id: None,
                following: Some(true),
                unfollowed_at: None,
                ..expected()
            };
            assert_eq!(contact, expected);
            let other = find(&db, APP, "oB").await.unwrap().unwrap();
            assert_eq!((other.first_seen_at, other.last.message), (5, Some(5)));
        }
    }

    #[tokio::test]
    async fn many_updates_are_written_and_listed_in_pages() {
        for db in databases().await {
            let batch: Vec<_> = (0..PEOPLE).map(|n| seen(&format!("o{n:03}"), 1)).collect();
            write(&db, &batch).await.unwrap();
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
            let expected: Vec<_> = (0..PEOPLE).map(|n| format!("o{n:03}")).collect();
            assert_eq!(found, expected);
            assert!(find(&db, "wx02", "o000").await.unwrap().is_none());
            assert!(matches!(
                list(&db, APP, Some("no cursor!"), 10).await,
                Err(ListError::InvalidCursor)
            ));
        }
    }
}
