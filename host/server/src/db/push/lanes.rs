//! Which host sends an account's pushes.

use sqlx::{AnyConnection, FromRow};

use crate::db::{Database, DbError, Dialect, Lease};

/// A lane that this host has.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LeasedLane {
    /// The account.
    pub app_id: String,
    /// The lease's.
    pub fence: i64,
    /// How many pushes had been put in.
    pub asked: i64,
}

/// Sees to it that the account has a lane, which is looked at now.
pub(super) async fn ask(db: &mut AnyConnection, app_id: &str, now_ms: i64) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO push_lanes (app_id, due_at, fence, asked) VALUES ($1, $2, 0, 1) \
         ON CONFLICT (app_id) DO UPDATE SET asked = push_lanes.asked + 1, \
         due_at = CASE WHEN push_lanes.lease_owner IS NULL THEN excluded.due_at \
         ELSE push_lanes.due_at END",
    )
    .bind(app_id)
    .bind(now_ms)
    .execute(db)
    .await?;
    Ok(())
}

/// Takes the lane that has been due for longest, if one is.
///
/// # Errors
/// The database can't be reached.
pub async fn lease(db: &Database, lease: Lease<'_>) -> Result<Option<LeasedLane>, DbError> {
    let statement = match db.dialect() {
        Dialect::Sqlite => {
            "UPDATE push_lanes SET lease_owner = $1, due_at = $2, fence = fence + 1 \
             WHERE app_id = (SELECT app_id FROM push_lanes WHERE due_at <= $3 \
             ORDER BY due_at LIMIT 1) RETURNING app_id, fence, asked"
        }
        Dialect::Postgres => {
            "UPDATE push_lanes SET lease_owner = $1, due_at = $2, fence = fence + 1 \
             WHERE app_id = (SELECT app_id FROM push_lanes WHERE due_at <= $3 \
             ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING app_id, fence, asked"
        }
    };
    let query = sqlx::query_as(statement)
        .bind(lease.owner)
        .bind(lease.until_ms)
        .bind(lease.now_ms);
    Ok(query.fetch_optional(&db.writers).await?)
}

/// Keeps a lane for longer. How many pushes were put in until now; none if it is another host's.
///
/// # Errors
/// The database can't be reached.
pub async fn renew(
    db: &Database,
    lane: &LeasedLane,
    until_ms: i64,
) -> Result<Option<i64>, DbError> {
    let query = sqlx::query_scalar(
        "UPDATE push_lanes SET due_at = $1 WHERE app_id = $2 AND fence = $3 RETURNING asked",
    );
    let query = query.bind(until_ms).bind(&lane.app_id).bind(lane.fence);
    Ok(query.fetch_optional(&db.writers).await?)
}

/// Gives a lane back, to be looked at next at `due_at`.
///
/// # Errors
/// The database can't be reached: the lease runs out by itself.
pub async fn release(db: &Database, lane: &LeasedLane, due_at: i64) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE push_lanes SET due_at = $1, lease_owner = NULL WHERE app_id = $2 AND fence = $3",
    )
    .bind(due_at)
    .bind(&lane.app_id)
    .bind(lane.fence)
    .execute(&db.writers)
    .await?;
    Ok(())
}

/// Removes a lane that had nothing to send when `asked` pushes had been put in. False if there is more now.
///
/// # Errors
/// The database can't be reached: the lease runs out by itself.
pub async fn give_up(db: &Database, lane: &LeasedLane, asked: i64) -> Result<bool, DbError> {
    let gone =
        sqlx::query("DELETE FROM push_lanes WHERE app_id = $1 AND fence = $2 AND asked = $3")
            .bind(&lane.app_id)
            .bind(lane.fence)
            .bind(asked)
            .execute(&db.writers)
            .await?;
    Ok(gone.rows_affected() == 1)
}

/// Whether this host still has the lane; it has it until the transaction ends.
pub(super) async fn is_ours(
    dialect: Dialect,
    db: &mut AnyConnection,
    lane: &LeasedLane,
) -> Result<bool, DbError> {
    let statement = match dialect {
        Dialect::Sqlite => "SELECT 1 FROM push_lanes WHERE app_id = $1 AND fence = $2",
        Dialect::Postgres => "SELECT 1 FROM push_lanes WHERE app_id = $1 AND fence = $2 FOR UPDATE",
    };
    let found: Option<i64> = sqlx::query_scalar(statement)
        .bind(&lane.app_id)
        .bind(lane.fence)
        .fetch_optional(db)
        .await?;
    Ok(found.is_some())
}
