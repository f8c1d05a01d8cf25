//! Logins that came back with a code, by the hashes of their states: each code is exchanged once, however often
//! a browser brings it, and a ticket is good for one question.

use super::{Database, DbError, Lease};

/// Which login is meant.
#[derive(Clone, Copy, Debug)]
pub struct LoginKey<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The hash of its state.
    pub state_hash: &'a str,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// It is this caller's to go on with: its code is to be exchanged, or this came of that, sealed.
    Taken(Option<String>),
    /// Another one exchanges it now.
    UnderWay,
    /// What came of it, sealed.
    Done(String),
    /// WeChat did not take the code: why.
    Failed(String),
    /// Its state came before, with another code.
    Used,
}

/// A row of `logins`, as far as it tells what became of it.
type Found = (String, String, Option<String>, Option<String>);

/// Takes the turn to exchange a login's code.
///
/// # Errors
/// The database failed.
pub async fn take(
    db: &Database,
    key: LoginKey<'_>,
    code_hash: &str,
    lease: Lease<'_>,
) -> Result<Login, DbError> {
    let taken: Option<(Option<String>,)> = sqlx::query_as(
        "INSERT INTO logins (app_id, state_hash, code_hash, state, owner, leased_until, created_at) \
         VALUES ($1, $2, $3, 'taken', $4, $5, $6) ON CONFLICT (app_id, state_hash) DO UPDATE \
         SET owner = excluded.owner, leased_until = excluded.leased_until \
         WHERE logins.state = 'taken' AND logins.code_hash = excluded.code_hash \
         AND logins.leased_until <= $7 RETURNING result_sealed",
    )
    .bind(key.app_id)
    .bind(key.state_hash)
    .bind(code_hash)
    .bind(lease.owner)
    .bind(lease.until_ms)
    .bind(lease.now_ms)
    .bind(lease.now_ms)
    .fetch_optional(&db.writers)
    .await?;
    if let Some((exchanged,)) = taken {
        return Ok(Login::Taken(exchanged));
    }
    let found: Option<Found> = sqlx::query_as(
        "SELECT state, code_hash, result_sealed, error FROM logins \
         WHERE app_id = $1 AND state_hash = $2",
    )
    .bind(key.app_id)
    .bind(key.state_hash)
    .fetch_optional(&db.readers)
    .await?;
    Ok(match found {
        Some((_, with, ..)) if with != code_hash => Login::Used,
        Some((state, _, Some(result), _)) if state == "done" => Login::Done(result),
        Some((state, _, _, error)) if state == "failed" => Login::Failed(error.unwrap_or_default()),
        _ => Login::UnderWay,
    })
}

/// Keeps who it is, before anything is decided, and the turn for as long as the lease says; where it was lost
/// meanwhile, nothing.
///
/// # Errors
/// The database failed.
pub async fn note(
    db: &Database,
    key: LoginKey<'_>,
    lease: Lease<'_>,
    result_sealed: &str,
) -> Result<(), DbError> {
    keep(db, key, lease, ("taken", result_sealed, None)).await?;
    Ok(())
}

/// Keeps what came of a login. False where the turn was lost meanwhile: what counts is what the other one keeps.
///
/// # Errors
/// The database failed.
pub async fn end(
    db: &Database,
    key: LoginKey<'_>,
    lease: Lease<'_>,
    (result_sealed, ticket_hash): (&str, Option<&str>),
) -> Result<bool, DbError> {
    keep(db, key, lease, ("done", result_sealed, ticket_hash)).await
}

async fn keep(
    db: &Database,
    key: LoginKey<'_>,
    lease: Lease<'_>,
    (state, result_sealed, ticket_hash): (&str, &str, Option<&str>),
) -> Result<bool, DbError> {
    let kept = sqlx::query(
        "UPDATE logins SET state = $1, result_sealed = $2, ticket_hash = $3, leased_until = $4 \
         WHERE app_id = $5 AND state_hash = $6 AND owner = $7 AND state = 'taken'",
    )
    .bind(state)
    .bind(result_sealed)
    .bind(ticket_hash)
    .bind(lease.until_ms)
    .bind(key.app_id)
    .bind(key.state_hash)
    .bind(lease.owner)
    .execute(&db.writers)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Notes that WeChat does not take the code, or gives the turn back for another try.
///
/// # Errors
/// The database failed.
pub async fn fail(
    db: &Database,
    key: LoginKey<'_>,
    owner: &str,
    error: Option<&str>,
) -> Result<(), DbError> {
    let state = if error.is_some() { "failed" } else { "taken" };
    sqlx::query(
        "UPDATE logins SET state = $1, error = $2, leased_until = 0 \
         WHERE app_id = $3 AND state_hash = $4 AND owner = $5 AND state = 'taken'",
    )
    .bind(state)
    .bind(error)
    .bind(key.app_id)
    .bind(key.state_hash)
    .bind(owner)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// The state's hash and the sealed result of a login, by its ticket, for the first who asks and only where the
/// login came after `since_ms`.
///
/// # Errors
/// The database failed.
pub async fn redeem(
    db: &Database,
    app_id: &str,
    ticket_hash: &str,
    (since_ms, now_ms): (i64, i64),
) -> Result<Option<(String, String)>, DbError> {
    let found: Option<(String, Option<String>)> = sqlx::query_as(
        "UPDATE logins SET ticket_used_at = $1 WHERE app_id = $2 AND ticket_hash = $3 \
         AND ticket_used_at IS NULL AND created_at >= $4 RETURNING state_hash, result_sealed",
    )
    .bind(now_ms)
    .bind(app_id)
    .bind(ticket_hash)
    .bind(since_ms)
    .fetch_optional(&db.writers)
    .await?;
    Ok(found.and_then(|(state_hash, result)| Some((state_hash, result?))))
}

/// Forgets logins that came before `before_ms`.
///
/// # Errors
/// The database failed.
pub async fn forget(db: &Database, before_ms: i64) -> Result<(), DbError> {
    sqlx::query("DELETE FROM logins WHERE created_at < $1")
        .bind(before_ms)
        .execute(&db.writers)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::accounts::tests::add_account;
    use crate::db::testing::databases;

    const KEY: LoginKey<'_> = LoginKey {
        app_id: "wx01",
        state_hash: "s",
    };

    #[tokio::test]
    async fn a_code_has_one_turn_at_a_time_and_one_end() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let take_by = async |owner, code, time| {
                let lease = Lease::begin(&db, owner, time);
                take(&db, KEY, code, lease).await.unwrap()
            };
            let (long, none) = (Duration::from_secs(60), Duration::ZERO);
            let lease = |owner| Lease::begin(&db, owner, long);
            assert_eq!(take_by("one", "c", none).await, Login::Taken(None));
            // Its host is dead.
            assert_eq!(take_by("two", "c", long).await, Login::Taken(None));
            assert_eq!(take_by("three", "c", long).await, Login::UnderWay);
            assert_eq!(take_by("three", "other", long).await, Login::Used);
            fail(&db, KEY, "two", None).await.unwrap();
            assert_eq!(take_by("three", "c", long).await, Login::Taken(None));
            note(&db, KEY, lease("three"), "who").await.unwrap();
            fail(&db, KEY, "three", None).await.unwrap();
            // What is known is not asked for again.
            let known = Login::Taken(Some("who".into()));
            assert_eq!(take_by("three", "c", long).await, known);
            // Who has lost the turn ends nothing.
            assert!(!end(&db, KEY, lease("two"), ("late", None)).await.unwrap());
            assert_eq!(take_by("four", "c", long).await, Login::UnderWay);
            assert!(
                end(&db, KEY, lease("three"), ("r", Some("t")))
                    .await
                    .unwrap()
            );
            assert_eq!(take_by("four", "c", long).await, Login::Done("r".into()));
        }
    }

    #[tokio::test]
    async fn a_ticket_is_good_once_and_for_a_while() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let lease = Lease::begin(&db, "one", Duration::from_secs(60));
            take(&db, KEY, "c", lease).await.unwrap();
            assert!(end(&db, KEY, lease, ("r", Some("t"))).await.unwrap());
            let now_ms = db.now_ms();
            let redeemed = async |app_id, ticket, since_ms| {
                redeem(&db, app_id, ticket, (since_ms, now_ms))
                    .await
                    .unwrap()
            };
            assert_eq!(redeemed("wx01", "t", now_ms + 60_000).await, None);
            assert_eq!(redeemed("wx02", "t", 0).await, None);
            assert_eq!(redeemed("wx01", "other", 0).await, None);
            let result = Some(("s".to_owned(), "r".to_owned()));
            assert_eq!(redeemed("wx01", "t", 0).await, result);
            assert_eq!(redeemed("wx01", "t", 0).await, None);
        }
    }
}
