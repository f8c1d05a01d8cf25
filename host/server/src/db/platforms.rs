//! Third-party platforms, and the tickets that WeChat pushes to them.

use super::{Change, Database, DbError};

/// A row of `platforms`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PlatformRow {
    /// The component appid.
    pub app_id: String,
    /// Its name for people.
    pub name: String,
    /// `active` or `disabled`.
    pub status: String,
    /// Where its start-page domain leads.
    pub public_url: String,
    /// The sealed secret.
    pub secret_sealed: String,
    /// The sealed token that signs what comes.
    pub token_sealed: String,
    /// The sealed EncodingAESKey.
    pub aes_key_sealed: String,
    /// The one before it, which still opens what comes.
    pub former_aes_key_sealed: Option<String>,
    /// JSON: what the operator must mend.
    pub attention: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds.
    pub updated_at: i64,
}

const COLUMNS: &str = "app_id, name, status, public_url, secret_sealed, token_sealed, \
     aes_key_sealed, former_aes_key_sealed, attention, created_at, updated_at";

/// Adds a platform; [`DbError::Duplicate`] when there is one of that app id.
pub async fn insert(change: &mut Change, row: &PlatformRow) -> Result<(), DbError> {
    let statement = "INSERT INTO platforms (app_id, name, status, public_url, secret_sealed, \
         token_sealed, aes_key_sealed, former_aes_key_sealed, attention, updated_at, revision, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    bound(change, statement, row, true).await
}

/// Writes back what may change of a platform: all but its app id and time of creation.
pub async fn update(change: &mut Change, row: &PlatformRow) -> Result<(), DbError> {
    let statement = "UPDATE platforms SET name = $2, status = $3, public_url = $4, \
         secret_sealed = $5, token_sealed = $6, aes_key_sealed = $7, former_aes_key_sealed = $8, \
         attention = $9, updated_at = $10, revision = $11 WHERE app_id = $1";
    bound(change, statement, row, false).await
}

async fn bound(
    change: &mut Change,
    statement: &'static str,
    row: &PlatformRow,
    is_new: bool,
) -> Result<(), DbError> {
    let mut query = sqlx::query(statement)
        .bind(&row.app_id)
        .bind(&row.name)
        .bind(&row.status)
        .bind(&row.public_url)
        .bind(&row.secret_sealed)
        .bind(&row.token_sealed)
        .bind(&row.aes_key_sealed)
        .bind(&row.former_aes_key_sealed)
        .bind(&row.attention)
        .bind(row.updated_at)
        .bind(change.revision);
    if is_new {
        query = query.bind(row.created_at);
    }
    query.execute(change.connection()).await?;
    Ok(())
}

/// The platform of that app id, to be changed: nobody else changes it before `change` ends.
pub async fn find_for_change(
    change: &mut Change,
    app_id: &str,
) -> Result<Option<PlatformRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM platforms WHERE app_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(app_id)
        .fetch_optional(change.connection())
        .await?)
}

/// The platform of that app id.
pub async fn find(db: &Database, app_id: &str) -> Result<Option<PlatformRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM platforms WHERE app_id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(app_id)
        .fetch_optional(&db.readers)
        .await?)
}

/// The platforms changed after `revision`, in order; all of them for `-1`.
pub async fn changed_after(db: &Database, revision: i64) -> Result<Vec<PlatformRow>, DbError> {
    let statement = format!("SELECT {COLUMNS} FROM platforms WHERE revision > $1 ORDER BY app_id");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(revision)
        .fetch_all(&db.readers)
        .await?)
}

/// A row of `platform_tickets`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct TicketRow {
    /// The newest ticket, sealed.
    pub ticket_sealed: String,
    /// When WeChat made it, Unix milliseconds.
    pub told_at: i64,
    /// When it came, Unix milliseconds.
    pub received_at: i64,
    /// The one before, sealed.
    pub former_sealed: Option<String>,
    /// When WeChat made that.
    pub former_told_at: Option<i64>,
    /// When WeChat was last asked to push tickets.
    pub asked_at: Option<i64>,
}

/// Keeps a ticket, unless a newer one is there. The one before stays as the former, if it was another.
///
/// # Errors
/// The database failed: nothing is kept.
pub async fn keep_ticket(
    db: &Database,
    platform: &str,
    (ticket_sealed, is_the_same): (&str, bool),
    told_at: i64,
) -> Result<(), DbError> {
    let former = |column: &str, now: &str| {
        let kept = if is_the_same { column } else { now };
        format!("{column} = platform_tickets.{kept}")
    };
    let statement = format!(
        "INSERT INTO platform_tickets (platform, ticket_sealed, told_at, received_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (platform) DO UPDATE SET {}, {}, \
         ticket_sealed = excluded.ticket_sealed, told_at = excluded.told_at, \
         received_at = excluded.received_at WHERE platform_tickets.told_at <= excluded.told_at",
        former("former_sealed", "ticket_sealed"),
        former("former_told_at", "told_at"),
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(platform)
        .bind(ticket_sealed)
        .bind(told_at)
        .bind(db.now_ms())
        .execute(&db.writers)
        .await?;
    Ok(())
}

/// A platform's tickets; None before the first.
///
/// # Errors
/// The database failed.
pub async fn tickets(db: &Database, platform: &str) -> Result<Option<TicketRow>, DbError> {
    Ok(sqlx::query_as(
        "SELECT ticket_sealed, told_at, received_at, former_sealed, former_told_at, asked_at \
         FROM platform_tickets WHERE platform = $1",
    )
    .bind(platform)
    .fetch_optional(&db.readers)
    .await?)
}

/// Takes the turn to ask WeChat to push tickets: false if a host did so after `before`.
///
/// # Errors
/// The database failed.
pub async fn take_turn_to_ask(db: &Database, platform: &str, before: i64) -> Result<bool, DbError> {
    let taken = sqlx::query(
        "UPDATE platform_tickets SET asked_at = $1 WHERE platform = $2 \
         AND (asked_at IS NULL OR asked_at < $3)",
    )
    .bind(db.now_ms())
    .bind(platform)
    .bind(before)
    .execute(&db.writers)
    .await?;
    Ok(taken.rows_affected() == 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::db::testing::databases;

    /// A platform.
    pub(crate) async fn add_platform(db: &Database, app_id: &str) -> PlatformRow {
        let row = PlatformRow {
            app_id: app_id.into(),
            name: "平台".into(),
            status: "active".into(),
            public_url: "https://wx.example".into(),
            secret_sealed: "v1.a.b".into(),
            token_sealed: "v1.c.d".into(),
            aes_key_sealed: "v1.e.f".into(),
            former_aes_key_sealed: None,
            attention: None,
            created_at: 1,
            updated_at: 1,
        };
        let mut change = db.change().await.unwrap();
        insert(&mut change, &row).await.unwrap();
        change.commit().await.unwrap();
        row
    }

    #[tokio::test]
    async fn a_platform_comes_back_as_it_was_written() {
        for db in databases().await {
            let mut row = add_platform(&db, "wx0c").await;
            assert_eq!(find(&db, "wx0c").await.unwrap(), Some(row.clone()));
            let before = db.revision().await.unwrap();
            row.status = "disabled".into();
            row.former_aes_key_sealed = Some("v1.g.h".into());
            row.attention = Some("{}".into());
            let mut change = db.change().await.unwrap();
            assert!(
                find_for_change(&mut change, "wx0c")
                    .await
                    .unwrap()
                    .is_some()
            );
            update(&mut change, &row).await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(changed_after(&db, before).await.unwrap(), [row]);
        }
    }

    #[tokio::test]
    async fn an_older_ticket_never_takes_the_place_of_a_newer_one() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let keep = async |sealed: &str, is_the_same: bool, told_at: i64| {
                let kept = keep_ticket(&db, "wx0c", (sealed, is_the_same), told_at).await;
                kept.unwrap();
                let row = tickets(&db, "wx0c").await.unwrap().unwrap();
                (row.ticket_sealed, row.told_at, row.former_sealed)
            };
            let owned = |text: &str| Some(text.to_owned());
            assert_eq!(keep("a", false, 10).await, ("a".into(), 10, None));
            assert_eq!(keep("b", false, 20).await, ("b".into(), 20, owned("a")));
            assert_eq!(keep("old", false, 5).await, ("b".into(), 20, owned("a")));
            assert_eq!(keep("b2", true, 30).await, ("b2".into(), 30, owned("a")));
            assert_eq!(keep("c", false, 40).await, ("c".into(), 40, owned("b2")));
            assert!(take_turn_to_ask(&db, "wx0c", 1).await.unwrap());
            assert!(!take_turn_to_ask(&db, "wx0c", 1).await.unwrap());
        }
    }
}
