//! Contacts: what an account remembers of the people who met it.
//!
//! Each event tells something of a contact ([`UserAction`]). It is handed in behind the answer and
//! written in batches ([`ContactUpdateWriter`]), one row per contact however much the contact did. A full
//! queue drops them and counts them (`wxhost_contact_updates_dropped_total`) rather than
//! hold up WeChat's five seconds. An event that sends something writes its own update with its
//! commit instead (`db::commit`), so that no message is sent before the ledger knows why it may be.

pub mod import;
mod user_action;

use wxhost_wechat::id::OpenId;

pub use self::user_action::{Act, UserAction};
use crate::db::contact_updates::{self, BATCH, ContactUpdate};
pub use crate::db::contacts::{Contact, Interactions};
use crate::db::{self, Database, DbError};
use crate::telemetry::Metrics;
use crate::write_behind::{self, Queue, Row, Writer};

/// Where user actions are handed in.
pub type ContactUpdates = Queue<UserAction>;

/// The loop that writes them.
pub type ContactUpdateWriter = Writer<UserAction>;

impl Row for UserAction {
    const NAME: &'static str = "user actions";
    const BATCH: usize = BATCH;

    fn bytes(&self) -> usize {
        let scene = match &self.act {
            Act::Follow { scene: Some(scene) } => scene.len(),
            _ => 0,
        };
        size_of::<Self>() + scene + self.union_id.as_ref().map_or(0, |id| id.len())
    }

    async fn insert(db: &Database, rows: &[Self]) -> Result<(), DbError> {
        contact_updates::write(db, &gathered(rows)).await
    }
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: &Metrics) -> (ContactUpdates, ContactUpdateWriter) {
    write_behind::channel(db, metrics.contact_updates.clone())
}

/// A contact of an account, as last written.
///
/// # Errors
/// The database can't be reached.
pub async fn get(
    db: &Database,
    app_id: &str,
    open_id: &OpenId,
) -> Result<Option<Contact>, DbError> {
    db::contacts::find(db, app_id, open_id.as_str()).await
}

/// One update per contact, in the order of the rows' keys: hosts lock rows in one order then, and two
/// batches do not wait for each other.
fn gathered(events: &[UserAction]) -> Vec<ContactUpdate> {
    let mut events: Vec<&UserAction> = events.iter().collect();
    // Stable: what a contact did stays in the order in which it came.
    events.sort_by(|a, b| a.contact().cmp(&b.contact()));
    let merged = |events: &[&UserAction]| {
        let updates = events.iter().map(|&event| event.clone().into_update());
        updates.reduce(|mut earlier, later| {
            earlier.merge(later);
            earlier
        })
    };
    let people = events.chunk_by(|a, b| a.contact() == b.contact());
    people.filter_map(merged).collect()
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use wxhost_wechat::id::AppId;

    use super::*;
    use crate::db::testing::databases;

    #[tokio::test]
    async fn what_is_queued_when_the_host_stops_is_written_one_row_per_contact() {
        for db in databases().await {
            let metrics = Metrics::new();
            let (contact_updates, writer) = channel(db.clone(), &metrics);
            let people = 300;
            for at_ms in [5, 7] {
                for n in 0..people {
                    contact_updates.add(UserAction {
                        app_id: AppId::parse("wx01").unwrap(),
                        open_id: OpenId::parse(&format!("o{n:04}")).unwrap(),
                        union_id: None,
                        at_ms,
                        act: Act::Message,
                    });
                }
            }
            let stop = CancellationToken::new();
            stop.cancel();
            writer.run(stop).await;
            let page = db::contacts::list(&db, "wx01", None, 1000).await.unwrap();
            assert_eq!(page.contacts.len(), people);
            for contact in page.contacts {
                assert_eq!((contact.first_seen_at, contact.last.message), (5, Some(7)));
            }
            assert_eq!(metrics.contact_updates.dropped.get(), 0);
        }
    }
}
