//! By how much effects would let what is in use grow, exactly: what they replace or take away counts too.

use std::collections::BTreeMap;

use crate::db::commit::Write;
use crate::db::personal::{self, Step};
use crate::db::{Database, DbError};

/// By how much what is in use grows; less than nothing where it shrinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Growth {
    /// Bytes of values, keys included.
    pub value_bytes: i64,
    /// Values.
    pub values: i64,
    /// Contacts that effects made.
    pub contacts_made: i64,
    /// Bytes of contacts' attributes.
    pub attribute_bytes: i64,
    /// Messages and other calls that wait.
    pub waiting_messages: i64,
}

impl Growth {
    /// The most that it can be, without a look at what is there.
    pub fn at_most(writes: &[Write], steps: &[Step]) -> Self {
        let mut growth = Self::default();
        for write in writes {
            if let Some(value) = &write.value {
                growth.values += 1;
                growth.value_bytes += bytes(write.key.len() + value.len());
            }
        }
        for step in steps {
            match step {
                Step::Send(_) => growth.waiting_messages += 1,
                Step::Change { change, .. } => {
                    growth.contacts_made += 1;
                    growth.attribute_bytes += bytes(change.attribute_bytes());
                }
            }
        }
        growth
    }
}

/// By how much what is in use would grow.
///
/// # Errors
/// The database failed.
pub async fn growth(
    db: &Database,
    app_id: &str,
    writes: &[Write],
    steps: &[Step],
) -> Result<Growth, DbError> {
    let mut growth = Growth::at_most(&[], steps);
    let mut last: BTreeMap<&str, Option<&Vec<u8>>> = BTreeMap::new();
    for write in writes {
        last.insert(&write.key, write.value.as_ref());
    }
    for (key, value) in last {
        if let Some(value) = value {
            growth.values += 1;
            growth.value_bytes += bytes(key.len() + value.len());
        }
        let before: Option<(i64,)> = sqlx::query_as(
            "SELECT CAST(length(value) AS BIGINT) FROM kv WHERE app_id = $1 AND key = $2",
        )
        .bind(app_id)
        .bind(key.as_bytes())
        .fetch_optional(&db.readers)
        .await?;
        if let Some((length,)) = before {
            growth.values -= 1;
            growth.value_bytes -= bytes(key.len()) + length;
        }
    }
    (growth.contacts_made, growth.attribute_bytes) = personal::growth(db, app_id, steps).await?;
    Ok(growth)
}

fn bytes(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}
