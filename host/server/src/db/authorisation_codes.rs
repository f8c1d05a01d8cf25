//! Authorisation codes, by their hashes: each is exchanged once, whoever brings it.

use sqlx::AssertSqlSafe;

use super::{Change, Database, DbError, Lease};

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is this caller's to exchange.
    Taken,
    /// Another one exchanges it now.
    UnderWay,
    /// It was exchanged; it is this account's.
    Done(String),
    /// It can't be exchanged any more: why.
    Failed(String),
}

/// Takes the turn to exchange a code, by its hash. One who knows whose it is may also take a code that could
/// not be exchanged: WeChat tells them what it has brought, where its answer was lost.
///
/// # Errors
/// The database failed.
pub async fn take(
    db: &Database,
    (platform, hash): (&str, &str),
    lease: Lease<'_>,
    knows_account: bool,
) -> Result<Code, DbError> {
    let states = match knows_account {
        true => "('taken', 'failed')",
        false => "('taken')",
    };
    let statement = format!(
        "INSERT INTO authorisation_codes (platform, hash, state, owner, leased_until, created_at) \
         VALUES ($1, $2, 'taken', $3, $4, $5) ON CONFLICT (platform, hash) DO UPDATE \
         SET state = 'taken', owner = excluded.owner, leased_until = excluded.leased_until \
         WHERE authorisation_codes.state IN {states} AND authorisation_codes.leased_until <= $6"
    );
    let taken = sqlx::query(AssertSqlSafe(statement))
        .bind(platform)
        .bind(hash)
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(lease.now_ms)
        .bind(lease.now_ms)
        .execute(&db.writers)
        .await?;
    if taken.rows_affected() == 1 {
        return Ok(Code::Taken);
    }
    let found: Option<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT state, app_id, error FROM authorisation_codes WHERE platform = $1 AND hash = $2",
    )
    .bind(platform)
    .bind(hash)
    .fetch_optional(&db.readers)
    .await?;
    Ok(match found {
        Some((state, Some(app_id), _)) if state == "done" => Code::Done(app_id),
        Some((state, _, error)) if state == "failed" => Code::Failed(error.unwrap_or_default()),
        _ => Code::UnderWay,
    })
}

/// Prolongs the turn to exchange a code.
///
/// # Errors
/// The database failed.
pub async fn renew(
    db: &Database,
    (platform, hash): (&str, &str),
    lease: Lease<'_>,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisation_codes SET leased_until = $1 \
         WHERE platform = $2 AND hash = $3 AND owner = $4 AND state = 'taken'",
    )
    .bind(lease.until_ms)
    .bind(platform)
    .bind(hash)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Notes that a code was exchanged, along with what it brought.
///
/// # Errors
/// The database failed.
pub async fn end(
    change: &mut Change,
    platform: &str,
    hash: &str,
    app_id: &str,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE authorisation_codes SET state = 'done', app_id = $1 WHERE platform = $2 AND hash = $3",
    )
    .bind(app_id)
    .bind(platform)
    .bind(hash)
    .execute(change.connection())
    .await?;
    Ok(())
}

/// Notes that a code can't be exchanged any more, or gives the turn back for another try.
///
/// # Errors
/// The database failed.
pub async fn fail(
    db: &Database,
    (platform, hash): (&str, &str),
    owner: &str,
    error: Option<&str>,
) -> Result<(), DbError> {
    let state = if error.is_some() { "failed" } else { "taken" };
    sqlx::query(
        "UPDATE authorisation_codes SET state = $1, leased_until = 0, error = $2 \
         WHERE platform = $3 AND hash = $4 AND owner = $5 AND state = 'taken'",
    )
    .bind(state)
    .bind(error)
    .bind(platform)
    .bind(hash)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Forgets codes and visits that were made before `before_ms`: none is good for so long.
///
/// # Errors
/// The database failed.
pub async fn forget(db: &Database, before_ms: i64) -> Result<(), DbError> {
    for statement in [
        "DELETE FROM authorisation_codes WHERE created_at < $1",
        "DELETE FROM invitation_visits WHERE created_at < $1",
    ] {
        sqlx::query(statement)
            .bind(before_ms)
            .execute(&db.writers)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::platforms::tests::add_platform;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn a_code_has_one_turn_at_a_time_and_one_end() {
        for db in databases().await {
            add_platform(&db, "wx0c").await;
            let lease = |owner, time| Lease::begin(&db, owner, time);
            let (long, none) = (Duration::from_secs(60), Duration::ZERO);
            let taken_by = async |owner, time| {
                let lease = lease(owner, time);
                take(&db, ("wx0c", "h"), lease, false).await.unwrap()
            };
            assert_eq!(taken_by("one", none).await, Code::Taken);
            // Its host is dead.
            assert_eq!(taken_by("two", long).await, Code::Taken);
            assert_eq!(taken_by("three", long).await, Code::UnderWay);
            fail(&db, ("wx0c", "h"), "two", None).await.unwrap();
            assert_eq!(taken_by("three", long).await, Code::Taken);
            let mut change = db.change().await.unwrap();
            end(&mut change, "wx0c", "h", "wx01").await.unwrap();
            change.commit().await.unwrap();
            assert_eq!(taken_by("four", long).await, Code::Done("wx01".into()));

            let take_other = async |owner, knows_account| {
                let lease = lease(owner, long);
                take(&db, ("wx0c", "g"), lease, knows_account)
                    .await
                    .unwrap()
            };
            assert_eq!(take_other("one", false).await, Code::Taken);
            fail(&db, ("wx0c", "g"), "one", Some("used")).await.unwrap();
            assert_eq!(take_other("two", false).await, Code::Failed("used".into()));
            // WeChat tells what it has brought to one who knows whose it is.
            assert_eq!(take_other("three", true).await, Code::Taken);
            assert_eq!(take_other("two", false).await, Code::UnderWay);
        }
    }
}
