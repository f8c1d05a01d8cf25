//! Contacts: what an account remembers of the people who met it.
//!
//! Each event tells something of a person ([`Observation`]). It is handed in behind the answer and
//! written in batches ([`SightingWriter`]), one row per person however much the person did. A full
//! queue drops observations and counts them (`wxhost_contact_sightings_dropped_total`) rather than
//! hold up WeChat's five seconds. An event that sends something writes its own sighting with its
//! commit instead (`db::commit`), so that no message is sent before the ledger knows why it may be.

mod observation;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxhost_wechat::id::{AppId, OpenId};

pub use self::observation::{Act, Observation};
use crate::db::contacts::{BATCH, Sighting, write_sightings};
pub use crate::db::contacts::{Contact, Interactions};
use crate::db::{self, Database, DbError};
use crate::telemetry::Metrics;

/// Observations that may wait: some seconds of a busy host.
const QUEUE: usize = 1 << 16;
/// How long the writer gathers: what a person does within it is one row's change.
const LINGER: Duration = Duration::from_millis(200);
/// How long the writer waits before it tries a failed batch again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tries of a batch after shutdown began, before it is given up.
const LAST_TRIES: u32 = 3;

/// Where observations are handed in.
#[derive(Debug, Clone)]
pub struct Sightings {
    queue: mpsc::Sender<Observation>,
    metrics: Arc<Metrics>,
}

/// The loop that writes them.
#[derive(Debug)]
pub struct SightingWriter {
    queue: mpsc::Receiver<Observation>,
    gathered: HashMap<(AppId, OpenId), Sighting>,
    db: Database,
    metrics: Arc<Metrics>,
}

/// A queue and its writer.
pub fn channel(db: Database, metrics: Arc<Metrics>) -> (Sightings, SightingWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sightings = Sightings {
        queue: sender,
        metrics: Arc::clone(&metrics),
    };
    let writer = SightingWriter {
        queue: receiver,
        gathered: HashMap::new(),
        db,
        metrics,
    };
    (sightings, writer)
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

impl Sightings {
    /// Hands an observation in.
    pub fn add(&self, observation: Observation) {
        if self.queue.try_send(observation).is_err() {
            self.metrics.sightings_dropped.inc();
        }
    }
}

impl SightingWriter {
    /// Writes until every [`Sightings`] is gone or `stop` is called, then what is still queued.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                received = self.queue.recv() => match received {
                    Some(observation) => self.gather(observation),
                    None => return,
                },
                () = stop.cancelled() => break,
            }
            self.fill(&stop).await;
            self.write(&stop).await;
        }
        self.queue.close();
        while let Some(observation) = self.queue.recv().await {
            self.gather(observation);
            if self.gathered.len() == BATCH {
                self.write(&stop).await;
            }
        }
        self.write(&stop).await;
    }

    fn gather(&mut self, observation: Observation) {
        let key = (observation.app_id.clone(), observation.open_id.clone());
        let sighting = observation.into_sighting();
        match self.gathered.get_mut(&key) {
            Some(gathered) => gathered.merge(sighting),
            None => {
                self.gathered.insert(key, sighting);
            }
        }
    }

    /// Gathers for a moment, or until a batch is full.
    async fn fill(&mut self, stop: &CancellationToken) {
        let enough = Instant::now() + LINGER;
        while self.gathered.len() < BATCH {
            tokio::select! {
                received = self.queue.recv() => match received {
                    Some(observation) => self.gather(observation),
                    None => return,
                },
                () = tokio::time::sleep_until(enough) => return,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn write(&mut self, stop: &CancellationToken) {
        let mut batch: Vec<Sighting> = self.gathered.drain().map(|(_, seen)| seen).collect();
        // Hosts lock rows in one order, so that two batches do not wait for each other.
        batch.sort_unstable_by(|a, b| (&a.app_id, &a.open_id).cmp(&(&b.app_id, &b.open_id)));
        let mut last_tries = 0;
        while let Err(error) = write_sightings(&self.db, &batch).await {
            if stop.is_cancelled() {
                last_tries += 1;
            }
            let hopeless = !matches!(error, DbError::Unavailable(_) | DbError::Conflict(_));
            if hopeless || last_tries >= LAST_TRIES {
                tracing::error!(contacts = batch.len(), error = %error, "what was seen of contacts is lost");
                self.metrics.sightings_dropped.inc_by(batch.len() as u64);
                return;
            }
            tracing::warn!(contacts = batch.len(), error = %error, "what was seen of contacts waits for the database");
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                () = stop.cancelled(), if last_tries == 0 => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::databases;

    fn observation(open_id: &str, at_ms: i64, act: Act) -> Observation {
        Observation {
            app_id: AppId::parse("wx01").unwrap(),
            open_id: OpenId::parse(open_id).unwrap(),
            union_id: None,
            at_ms,
            act,
        }
    }

    #[tokio::test]
    async fn what_is_queued_when_the_host_stops_is_written_one_row_per_person() {
        for db in databases().await {
            let metrics = Arc::new(Metrics::new());
            let (sightings, writer) = channel(db.clone(), Arc::clone(&metrics));
            let people = BATCH + 10;
            for at in [5, 7] {
                for n in 0..people {
                    sightings.add(observation(&format!("o{n:04}"), at, Act::Message));
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
            assert_eq!(metrics.sightings_dropped.get(), 0);
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_rather_than_wait() {
        let db = crate::db::testing::sqlite().await;
        let metrics = Arc::new(Metrics::new());
        let (sightings, _writer) = channel(db.clone(), Arc::clone(&metrics));
        for _ in 0..QUEUE + 3 {
            sightings.add(observation("oA", 1, Act::Menu { grants: false }));
        }
        assert_eq!(metrics.sightings_dropped.get(), 3);
    }
}
