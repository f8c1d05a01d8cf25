//! The loop that makes the pushes of schedules as they come due.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{PushLane, Recurrence};
use crate::clock::millis;
use crate::db::DbError;
use crate::db::push::schedules::{self, ScheduleRow};
use crate::db::push::{PushRow, new_id};

/// How often is looked whether something is due.
const PERIOD: Duration = Duration::from_secs(1);
/// How late a firing may be and still be one: later it was missed.
const LATEST: Duration = Duration::from_secs(10 * 60);
/// How long those are tried who wait.
const LIFE_MS: i64 = 24 * 3_600_000;
/// What becomes of a firing that was missed, where the schedule says so.
pub const ONCE: &str = "once";

/// Makes pushes until `stop`.
pub(super) async fn run(lane: Arc<PushLane>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if lane.db.is_own_clock_off() {
            continue;
        }
        while !stop.is_cancelled() {
            match lane.fire_next().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!(error = %error, "schedules can't be looked at");
                    break;
                }
            }
        }
    }
}

impl PushLane {
    /// Fires what has been due for longest; false if nothing is.
    async fn fire_next(&self) -> Result<bool, DbError> {
        let now_ms = self.db.now_ms();
        let Some(schedule) = schedules::due(&self.db, now_ms).await? else {
            return Ok(false);
        };
        let (next_at, fires) = firing(&schedule, now_ms);
        let account = self.services.accounts.get(&schedule.app_id);
        let account = account.filter(|account| account.is_active() && fires);
        let Some(account) = account else {
            return schedules::fire(&self.db, &schedule, next_at, None)
                .await
                .map(|_| true);
        };
        let open_ids: Vec<&str> = schedule.open_ids.lines().collect();
        let quotas = &self.services.quotas;
        let room = match quotas
            .take_messages(account.holders(), open_ids.len())
            .await?
        {
            Ok(room) => room,
            Err(over) => {
                tracing::warn!(
                    account.app_id = schedule.app_id,
                    schedule.id = schedule.id,
                    error = %over,
                    "a recurring push is left out"
                );
                return schedules::fire(&self.db, &schedule, next_at, None)
                    .await
                    .map(|_| true);
            }
        };
        let push = push_of(&schedule, open_ids.len(), now_ms);
        let pushed = Some((&push, &*open_ids));
        if schedules::fire(&self.db, &schedule, next_at, pushed).await? {
            room.used();
            self.services.push.notify_one();
        }
        Ok(true)
    }
}

/// When a schedule that is due fires next, and whether it fires now. What was missed is never made up for
/// more than once: a database that was restored from long ago does not send its past.
fn firing(schedule: &ScheduleRow, now_ms: i64) -> (Option<i64>, bool) {
    // A pattern that this version can't read any more has no next time.
    let recurrence = Recurrence::parse(&schedule.cron, &schedule.time_zone).ok();
    let next_at = recurrence.and_then(|recurrence| recurrence.next_after(now_ms));
    let due_at = schedule.next_at.unwrap_or(now_ms);
    let is_missed = now_ms - due_at > millis(LATEST);
    (next_at, !is_missed || schedule.missed == ONCE)
}

/// The push of a firing.
fn push_of(schedule: &ScheduleRow, recipients: usize, now_ms: i64) -> PushRow {
    PushRow {
        app_id: schedule.app_id.clone(),
        id: new_id(now_ms),
        kind: schedule.kind.clone(),
        content: schedule.content.clone(),
        state: "running".to_owned(),
        idempotency_key: None,
        request_digest: String::new(),
        reference: schedule.reference.clone(),
        audience: schedule.audience.clone(),
        taken_to: Vec::new(),
        starts_at: now_ms,
        expires_at: now_ms + LIFE_MS,
        recipients: i64::try_from(recipients).unwrap_or(i64::MAX),
        sent: 0,
        delivered: 0,
        undelivered: 0,
        failed: 0,
        skipped: 0,
        unsure: 0,
        created_at: now_ms,
        ended_at: None,
        is_urgent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    /// 2026-03-28 11:30 in Shanghai.
    const NOW: i64 = 1_774_668_600_000;

    #[test]
    fn what_was_missed_is_skipped_or_made_up_for_once() {
        for (missed, late, fires) in [
            ("skip", 0, true),
            ("skip", 10 * MINUTE, true),
            ("skip", 11 * MINUTE, false),
            ("skip", 40 * 24 * 60 * MINUTE, false),
            ("once", 40 * 24 * 60 * MINUTE, true),
        ] {
            let schedule = ScheduleRow {
                app_id: "wx01".into(),
                id: "1".into(),
                kind: "text".into(),
                content: String::new(),
                open_ids: String::new(),
                audience: None,
                reference: None,
                cron: "30 * * * *".into(),
                time_zone: "Asia/Shanghai".into(),
                missed: missed.into(),
                state: "active".into(),
                next_at: Some(NOW - late),
                last_push_id: None,
                created_at: 0,
            };
            let expected = (Some(NOW + 60 * MINUTE), fires);
            assert_eq!(firing(&schedule, NOW), expected, "{missed}, {late}");
        }
    }
}
