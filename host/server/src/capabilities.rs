//! What a plugin may read during one call, and the memory of what it did read.
//!
//! One value of [`CallCapabilities`] serves one run of a handler: account, settings and store are
//! inside it, so a guest can't name another account's. Every durable read is noted with its version;
//! `db::commit` checks the notes before it writes anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use wxhost_runtime::{
    AccountInfo, CacheError, Capabilities, KvEntry, KvError, KvItem, KvPage, contacts, egress,
    wechat_api,
};

use crate::accounts::{Account, Deployment};
use crate::clock::Clock;
use crate::db::commit::{Listing, ReadSet};
use crate::db::{Database, kv, patiently};
use crate::store::Store;

/// What one run of a handler may read.
pub struct CallCapabilities {
    account: Arc<Account>,
    deployment: Arc<Deployment>,
    db: Database,
    store: Store,
    clock: Clock,
    reads: Mutex<ReadSet>,
    database_away: AtomicBool,
}

impl CallCapabilities {
    /// Capabilities for one run, with nothing read yet.
    pub fn new(
        account: Arc<Account>,
        deployment: Arc<Deployment>,
        db: Database,
        store: Store,
        clock: Clock,
    ) -> Self {
        Self {
            account,
            deployment,
            db,
            store,
            clock,
            reads: Mutex::default(),
            database_away: AtomicBool::new(false),
        }
    }

    /// What was read; taken out.
    pub fn take_reads(&self) -> ReadSet {
        std::mem::take(&mut self.reads.lock())
    }

    /// Whether a read failed because the database was away.
    pub fn database_was_away(&self) -> bool {
        self.database_away.load(Ordering::Relaxed)
    }

    fn away(&self, error: &dyn std::error::Error) -> KvError {
        tracing::warn!(account.app_id = %self.account.app_id, error = %error, "a plugin's read failed");
        self.database_away.store(true, Ordering::Relaxed);
        KvError::Unavailable
    }
}

#[async_trait]
impl Capabilities for CallCapabilities {
    fn account(&self) -> AccountInfo {
        self.account.info.clone()
    }

    fn config(&self) -> &str {
        &self.deployment.config
    }

    fn secret(&self, name: &str) -> Option<String> {
        let known = self.deployment.secrets.contains_key(name);
        known.then(|| format!("{{{{secret:{name}}}}}"))
    }

    async fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        let read = kv::get(&self.db, self.account.app_id.as_str(), key);
        let entry = patiently(read).await.map_err(|error| self.away(&error))?;
        let version = entry.as_ref().map(|entry| entry.version);
        self.reads.lock().values.push((key.to_owned(), version));
        Ok(entry.map(entry_of))
    }

    async fn kv_list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<KvPage, KvError> {
        let app_id = self.account.app_id.as_str();
        let page = match patiently(kv::list(&self.db, app_id, prefix, cursor, limit)).await {
            Ok(page) => page,
            Err(kv::ListError::InvalidCursor) => return Err(KvError::InvalidCursor),
            Err(kv::ListError::Database(error)) => return Err(self.away(&error)),
        };
        let after = cursor
            .and_then(|cursor| kv::key_of(cursor, prefix).ok())
            .map(|key| String::from_utf8_lossy(&key).into_owned());
        let found = page.items.iter();
        self.reads.lock().listings.push(Listing {
            prefix: prefix.to_owned(),
            after,
            more: page.next.is_some(),
            found: found
                .map(|(key, entry)| (key.clone(), entry.version))
                .collect(),
        });
        let items = page.items.into_iter().map(|(key, entry)| KvItem {
            key,
            entry: entry_of(entry),
        });
        Ok(KvPage {
            items: items.collect(),
            next: page.next,
        })
    }

    async fn cache_get(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        let found = self
            .store
            .cache_get(self.account.app_id.as_str(), key)
            .await;
        found.map_err(|_| CacheError::Unavailable)
    }

    async fn cache_set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> Result<(), CacheError> {
        let app_id = self.account.app_id.as_str();
        let kept = self.store.cache_set(app_id, key, value, ttl_seconds).await;
        kept.map_err(|_| CacheError::Unavailable)
    }

    async fn cache_delete(&self, key: &str) -> Result<(), CacheError> {
        let forgotten = self
            .store
            .cache_delete(self.account.app_id.as_str(), key)
            .await;
        forgotten.map_err(|_| CacheError::Unavailable)
    }

    async fn contact(&self, _: &str) -> Result<Option<contacts::Contact>, contacts::Error> {
        Err(contacts::Error::Unavailable)
    }

    async fn user_info(&self, _: &str) -> Result<wechat_api::User, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn menu(&self) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn quota(&self, _: &str) -> Result<wechat_api::Quota, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn api_call(&self, request: wechat_api::Request) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::NotGranted(request.path))
    }

    async fn fetch(&self, request: egress::Request) -> Result<egress::Response, egress::Error> {
        Err(egress::Error::NotGranted(request.url))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now_ms()).unwrap_or_default()
    }

    fn random(&self, bytes: &mut [u8]) {
        crate::random::fill(bytes);
    }
}

/// Versions are 63 bits and never negative (see `random::version`).
fn entry_of(entry: kv::Entry) -> KvEntry {
    KvEntry {
        value: entry.value,
        version: entry.version.unsigned_abs(),
    }
}
