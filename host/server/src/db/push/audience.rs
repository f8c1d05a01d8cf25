//! An audience: which of an account's followers a push goes to, looked at page by page.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;
use tokio::time::Instant;

use crate::db::allowance::{self, Reach, Scenes};
use crate::db::contacts::tags_of;
use crate::db::{Database, DbError};

/// Followers that are looked at together, to count them.
const REACH_PAGE: usize = 5_000;

/// Which followers. Of what is given, all must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// Who has one of these of WeChat's tags. Empty for everyone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<u32>,
    /// Who wrote, tapped the menu, scanned, followed or paid within so many hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acted_within_hours: Option<u32>,
    /// Who has these attributes, as plugins noted them.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
}

/// A page of an audience.
#[derive(Debug, Default)]
pub struct Page {
    /// Who belongs to it.
    pub open_ids: Vec<String>,
    /// The follower up to whom it was looked; none where there is none left.
    pub looked_to: Option<Vec<u8>>,
}

impl Audience {
    /// Whether a follower with these tags and attributes belongs to it, as far as these tell.
    fn takes(&self, tags: &str, attributes: &str) -> bool {
        let has_tag = || {
            let tags = tags_of(tags);
            self.tags.iter().any(|wanted| tags.contains(wanted))
        };
        let has_attributes = || {
            let found: Map<String, Value> = serde_json::from_str(attributes).unwrap_or_default();
            let mut wanted = self.attributes.iter();
            wanted.all(|(name, value)| found.get(name) == Some(value))
        };
        (self.tags.is_empty() || has_tag()) && (self.attributes.is_empty() || has_attributes())
    }

    /// When those of it acted last, at the earliest.
    fn since(&self, now_ms: i64) -> i64 {
        const HOUR_MS: i64 = 3_600_000;
        self.acted_within_hours
            .map_or(i64::MIN, |hours| now_ms - HOUR_MS * i64::from(hours))
    }

    /// The condition that a follower acted since the time at this place.
    fn acted(&self, place: &str) -> String {
        if self.acted_within_hours.is_none() {
            return format!("{place} <= 0");
        }
        let times = [
            "last_message_at",
            "last_menu_at",
            "last_scan_at",
            "last_follow_at",
            "last_payment_at",
        ];
        let since = times.map(|time| format!("{time} >= {place}"));
        format!("({})", since.join(" OR "))
    }

    /// By what those who belong to it can be reached now, and whether all of them were looked at before `until`.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn reach(
        &self,
        db: &Database,
        (app_id, until): (&str, Instant),
        (scenes, now_ms): (&Scenes, i64),
    ) -> Result<(Reach, bool), DbError> {
        let class = allowance::class_of(scenes);
        let (long, short) = allowance::closed_before(now_ms);
        let (acted, since) = (self.acted("$4"), self.since(now_ms));
        let mut reach = Reach::default();
        if self.tags.is_empty() && self.attributes.is_empty() {
            let statement = format!(
                "SELECT class, COUNT(*) FROM (SELECT {class} AS class FROM contacts \
                 WHERE app_id = $1 AND following = 1 AND {acted}) AS classes GROUP BY class"
            );
            let query = sqlx::query_as(AssertSqlSafe(statement)).bind(app_id);
            let query = query.bind(long).bind(short).bind(since);
            let counts: Vec<(i64, i64)> = query.fetch_all(&db.readers).await?;
            for (class, count) in counts {
                reach.count(class, count.unsigned_abs());
            }
            return Ok((reach, true));
        }
        let statement = format!(
            "SELECT open_id, tags, attributes, CASE WHEN {acted} THEN {class} END FROM contacts \
             WHERE app_id = $1 AND open_id > $5 AND following = 1 ORDER BY open_id LIMIT {REACH_PAGE}"
        );
        let mut after = Vec::new();
        loop {
            let query = sqlx::query_as(AssertSqlSafe(&*statement)).bind(app_id);
            let query = query.bind(long).bind(short).bind(since).bind(&after);
            let rows: Vec<(Vec<u8>, String, String, Option<i64>)> =
                query.fetch_all(&db.readers).await?;
            let Some((last, ..)) = rows.last() else {
                return Ok((reach, true));
            };
            after.clone_from(last);
            for (_, tags, attributes, class) in &rows {
                if let Some(class) = class
                    && self.takes(tags, attributes)
                {
                    reach.count(*class, 1);
                }
            }
            if Instant::now() >= until {
                return Ok((reach, false));
            }
        }
    }

    /// Those of the next `limit` followers after `after` who belong to it, in the order of their open ids.
    ///
    /// # Errors
    /// The database can't be reached.
    pub async fn page(
        &self,
        db: &Database,
        (app_id, after): (&str, &[u8]),
        limit: usize,
    ) -> Result<Page, DbError> {
        let since = self.since(db.now_ms());
        let acted = self.acted("$3");
        let statement = format!(
            "SELECT open_id, tags, attributes, CASE WHEN {acted} THEN 1 ELSE 0 END FROM contacts \
             WHERE app_id = $1 AND open_id > $2 AND following = 1 ORDER BY open_id LIMIT $4"
        );
        let rows: Vec<(Vec<u8>, String, String, i64)> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(app_id)
            .bind(after)
            .bind(since)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&db.readers)
            .await?;
        let looked_to = rows.last().map(|(open_id, ..)| open_id.clone());
        let taken = rows
            .into_iter()
            .filter(|(_, tags, attributes, acted)| *acted == 1 && self.takes(tags, attributes));
        // Open ids are ASCII.
        let open_ids = taken.map(|(open_id, ..)| String::from_utf8_lossy(&open_id).into_owned());
        Ok(Page {
            open_ids: open_ids.collect(),
            looked_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_asked_of_a_follower_must_hold() {
        let audience = |given: Value| -> Audience { serde_json::from_value(given).unwrap() };
        for (given, tags, attributes, taken) in [
            (json!({}), "[]", "{}", true),
            (json!({"tags": [1, 2]}), "[2]", "{}", true),
            (json!({"tags": [1, 2]}), "[3]", "{}", false),
            (
                json!({"attributes": {"level": "gold"}}),
                "[]",
                r#"{"level":"gold","a":1}"#,
                true,
            ),
            (
                json!({"attributes": {"level": "gold"}}),
                "[]",
                r#"{"level":"iron"}"#,
                false,
            ),
            (
                json!({"tags": [1], "attributes": {"a": 1}}),
                "[1]",
                "{}",
                false,
            ),
        ] {
            assert_eq!(
                audience(given.clone()).takes(tags, attributes),
                taken,
                "{given}"
            );
        }
        assert!(serde_json::from_value::<Audience>(json!({"tag": 1})).is_err());
    }
}
