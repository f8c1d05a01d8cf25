//! Events that a host of an earlier version has answered, under the id that it gave them.
//!
//! A message was once known by its MsgId alone. While hosts are updated one by one, and shortly after,
//! WeChat may deliver to this version what the one before has done; it must not be done twice. So for one
//! window after the start, where the database shows that there was such a version, its ids are looked
//! up too. A MsgId may be several contacts': an answer that is for another contact is none for this one.

use std::time::Duration;

use wxhost_wechat::reply;

use super::{Arrival, CallbackLane};
use crate::clock::millis;
use crate::db::inbox::{self, Acknowledged};
use crate::inbox::{Answer, Settled};
use crate::store::redis::Claim;

/// How often an event that a host of the earlier version runs is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

impl CallbackLane {
    /// What became of an event under its earlier id; None if it was never known by that.
    pub(super) async fn settled_earlier(&self, arrival: &Arrival) -> Option<Settled> {
        let window =
            Duration::from_secs(arrival.context.account.callbacks.receiver.window_seconds());
        if self.started.elapsed() > window || !self.follows_earlier_version(window).await {
            return None;
        }
        let earlier = arrival.message.earlier_event_id()?;
        let app_id = arrival.context.account.app_id.as_str();
        loop {
            let kept = inbox::look(&self.services.db, app_id, &earlier).await;
            match kept.ok().flatten() {
                Some(Acknowledged::Done { answer }) => return answered(arrival, &answer),
                // Its answer comes late, from whoever has it.
                Some(Acknowledged::Kept) => return answered(arrival, ""),
                None => {}
            }
            let redis = self.services.store.shared()?;
            match redis.look(app_id, &earlier).await {
                Ok(Some(Claim::Answered(answer))) => return answered(arrival, &answer),
                // Its claim runs out by itself, should that host be gone.
                Ok(Some(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Whether a host of the earlier version has committed events lately. Asked once.
    async fn follows_earlier_version(&self, window: Duration) -> bool {
        let since = self.services.clock.now_ms() - millis(window);
        let found = self
            .has_earlier
            .get_or_try_init(|| inbox::has_earlier_ids(&self.services.db, since))
            .await;
        found.is_ok_and(|found| *found)
    }
}

/// The earlier answer, if it is this contact's.
fn answered(arrival: &Arrival, answer: &str) -> Option<Settled> {
    let is_ours = answer.is_empty() || reply::is_for(answer, &arrival.message.from_user);
    is_ours.then(|| Settled::Answered(Answer::reply(answer)))
}
