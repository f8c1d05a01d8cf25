//! API keys: by what right a tenant's own systems call the host.
//!
//! A key is shown once, when it is made; what is stored is its SHA-256. All good keys are in memory
//! ([`ApiKeys::find`]): changes come from the database, on this host at once and on every other one
//! when it is woken or, at the latest, when it looks again; so a revoked key is good nowhere after a
//! second. While the database is away, the keys stay as they were last seen.

mod change;
mod grants;
mod key;
mod rate;
mod signing;

use std::{collections::HashMap, fmt, sync::Arc};

pub use self::{
    change::{DEFAULT_RATE, MAX_RATE, NewKey, NewTexts},
    grants::{Grant, GrantError, KeyGrants},
    key::{ApiKey, KeyError, KeyText},
    rate::{RateLimited, RateLimits},
    signing::{SignedRequest, SigningSecret},
};
use crate::db::{self, Database, DbError};
use crate::registry::{Reading, Registry};

use self::key::Fingerprint;

/// The keys that are good, always at hand.
pub struct ApiKeys {
    registry: Registry<Keys>,
}

/// Good keys, by what they are known by.
#[derive(Clone, Default)]
struct Keys {
    by_fingerprint: HashMap<Fingerprint, Arc<ApiKey>>,
    by_id: HashMap<Arc<str>, Arc<ApiKey>>,
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("known", &self.registry.known().by_id.len())
            .finish_non_exhaustive()
    }
}

impl ApiKeys {
    /// Loads all keys.
    ///
    /// # Errors
    /// The database failed.
    pub async fn load(db: Database) -> Result<Self, DbError> {
        let keys = Self {
            registry: Registry::new(db),
        };
        keys.registry
            .load(|reading| keys.read_changes(reading))
            .await?;
        Ok(keys)
    }

    /// Where changes are made.
    fn db(&self) -> &Database {
        self.registry.db()
    }

    /// The good key of that text. What is compared are SHA-256 sums, which a caller can't steer, so
    /// the time of the search tells nothing of the keys that there are.
    pub fn find(&self, text: &str) -> Option<Arc<ApiKey>> {
        let fingerprint = Fingerprint::of(text)?;
        self.registry
            .known()
            .by_fingerprint
            .get(&fingerprint)
            .cloned()
    }

    /// The good key of that id.
    pub fn of_id(&self, id: &str) -> Option<Arc<ApiKey>> {
        self.registry.known().by_id.get(id).cloned()
    }

    /// Brings the keys up to date with the database. One cheap query when nothing has changed.
    ///
    /// # Errors
    /// The database failed; the keys stay as they are.
    pub async fn refresh(&self) -> Result<(), DbError> {
        let read = |reading| self.read_changes(reading);
        self.registry.refresh(read).await.map(drop)
    }

    /// Stores when keys were used since the last time.
    ///
    /// # Errors
    /// The database failed: the next time stores them.
    pub async fn store_uses(&self) -> Result<(), DbError> {
        let used: Vec<_> = self
            .registry
            .known()
            .by_id
            .values()
            .filter_map(|key| Some((Arc::clone(key), key.take_use()?)))
            .collect();
        let uses: Vec<_> = used
            .iter()
            .map(|(key, time_ms)| (key.id.to_string(), *time_ms))
            .collect();
        let stored = db::keys::note_uses(self.db(), &uses).await;
        if stored.is_err() {
            for (key, time_ms) in used {
                key.note_use(time_ms);
            }
        }
        stored
    }

    async fn read_changes(&self, reading: Reading<Keys>) -> Result<(Keys, ()), DbError> {
        let mut keys = match reading.is_anew() {
            true => Keys::default(),
            false => Keys::clone(&reading.known),
        };
        for row in db::keys::changed_after(self.db(), reading.since).await? {
            let fingerprint = Fingerprint::from_hex(&row.digest);
            if row.revoked_at.is_some() {
                fingerprint.map(|fingerprint| keys.by_fingerprint.remove(&fingerprint));
                keys.by_id.remove(&*row.id);
                continue;
            }
            match (fingerprint, ApiKey::from_row(&row)) {
                (Some(fingerprint), Ok(key)) => {
                    let key = Arc::new(key);
                    keys.by_id.insert(Arc::clone(&key.id), Arc::clone(&key));
                    keys.by_fingerprint.insert(fingerprint, key);
                }
                (_, key) => tracing::error!(
                    key.id = row.id,
                    error = key.err().map(|error| error.to_string()),
                    "an API key cannot be used as it is stored"
                ),
            }
        }
        Ok((keys, ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::Author,
        db::{
            accounts::tests::add_account,
            audit::AuditFilter,
            testing::{databases, sqlite},
        },
        seal::{MasterKey, MasterKeys},
        settings::ChangeError,
    };

    fn wanted() -> NewKey {
        NewKey {
            tenant_id: "acme".into(),
            name: "CRM".into(),
            app_ids: Some(vec!["wx01".into()]),
            grants: KeyGrants::parse(["access-token", "forward:/cgi-bin/user"]).unwrap(),
            rate_per_minute: 60,
        }
    }

    fn seals() -> MasterKeys {
        MasterKeys::new(MasterKey::from_bytes(&[1; 32]), None)
    }

    fn admin() -> Author {
        Author::admin("r1")
    }

    #[tokio::test]
    async fn a_key_is_good_on_every_host_until_it_is_revoked_on_one() {
        for db in databases().await {
            add_account(&db, "wx01").await;
            let one = ApiKeys::load((*db).clone()).await.unwrap();
            let other = ApiKeys::load((*db).clone()).await.unwrap();
            let (row, NewTexts { key: text, .. }) =
                one.add(wanted(), (&seals(), &admin())).await.unwrap();
            assert!(!format!("{row:?}").contains(&text.expose()[4..]));
            for host in [&one, &other] {
                host.refresh().await.unwrap();
                let key = host.find(text.expose()).unwrap();
                assert_eq!(*key.id, *row.id);
                assert!(key.grants.allows(&Grant::AccessToken));
            }
            let (most, last) = text.expose().split_at(text.expose().len() - 1);
            let another = if last == "0" { "1" } else { "0" };
            assert!(other.find(&format!("{most}{another}")).is_none());

            other.find(text.expose()).unwrap().note_use(5);
            other.store_uses().await.unwrap();
            other.revoke(&row.id, &admin()).await.unwrap();
            let again = other.revoke(&row.id, &admin()).await.unwrap();
            assert_eq!(again.last_used_at, Some(5));
            for host in [&one, &other] {
                host.refresh().await.unwrap();
                assert!(host.find(text.expose()).is_none());
            }
            let entries = AuditFilter {
                limit: 9,
                ..AuditFilter::default()
            };
            let entries = db::audit::list(&db, &entries).await.unwrap();
            let mut actions: Vec<_> = entries.iter().map(|e| e.action.as_str()).collect();
            actions.sort_unstable();
            assert_eq!(actions, ["key.add", "key.revoke", "key.revoke"]);
            assert!(
                entries
                    .iter()
                    .all(|e| e.actor == "admin" && e.object == row.id)
            );
        }
    }

    #[tokio::test]
    async fn a_key_that_could_not_be_used_is_refused_by_its_field() {
        let db = sqlite().await;
        add_account(&db, "wx01").await;
        let keys = ApiKeys::load((*db).clone()).await.unwrap();
        let refused = async |expected: &str, spoil: fn(&mut NewKey)| {
            let mut key = wanted();
            spoil(&mut key);
            match keys.add(key, (&seals(), &admin())).await {
                Err(ChangeError::Invalid { field, .. }) => assert_eq!(field, expected),
                other => panic!("must be refused for {expected}: {other:?}"),
            }
        };
        refused("name", |key| key.name = "x".repeat(129)).await;
        refused("tenant_id", |key| key.tenant_id = "nobody".into()).await;
        refused("app_ids", |key| key.app_ids = Some(vec![])).await;
        refused("app_ids", |key| key.app_ids = Some(vec!["wx09".into()])).await;
        refused("grants", |key| key.grants = KeyGrants::default()).await;
        refused("rate_per_minute", |key| key.rate_per_minute = 0).await;
        refused("rate_per_minute", |key| key.rate_per_minute = MAX_RATE + 1).await;
        let gone = keys.revoke("key-none", &admin()).await;
        assert!(
            matches!(gone, Err(ChangeError::NotFound { .. })),
            "{gone:?}"
        );
    }

    #[tokio::test]
    async fn keys_stay_good_while_the_database_is_away() {
        let db = sqlite().await;
        add_account(&db, "wx01").await;
        let keys = ApiKeys::load((*db).clone()).await.unwrap();
        let (_, NewTexts { key: text, .. }) =
            keys.add(wanted(), (&seals(), &admin())).await.unwrap();
        keys.refresh().await.unwrap();
        db.close().await;
        assert!(keys.refresh().await.is_err());
        let key = keys.find(text.expose()).unwrap();
        key.note_use(7);
        assert!(keys.store_uses().await.is_err());
        assert_eq!(key.take_use(), Some(7));
    }
}
