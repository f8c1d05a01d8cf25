//! What a plugin may read during one call, and the memory of what it did read.
//!
//! One value of [`CallCapabilities`] serves one run of a handler: account, settings and store are
//! inside it, so a guest can't name another account's. Every durable read is noted with its version;
//! `db::commit` checks the notes before it writes anything. What leaves the host is in `api` and
//! `fetch`.

mod api;
mod fetch;
mod money;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use wxhost_runtime::{
    AccountInfo, CacheError, Capabilities, KvEntry, KvError, KvItem, KvPage, contacts as wit,
    egress, money as wit_money, orders, pay, wechat_api,
};
use wxhost_wechat::id::OpenId;

use self::api::Api;
use self::money::{Money, Unread};
pub use self::money::{order_of, refund_of};
use crate::accounts::Account;
use crate::contacts;
use crate::db::commit::{Listing, ReadSet};
use crate::db::{DbError, kv, patiently};
use crate::egress::{Sender, Target};
use crate::plugins::Deployment;
use crate::services::Services;

/// What the capabilities of one run are made of.
pub struct CapabilityParts {
    /// Whom the run is for.
    pub account: Arc<Account>,
    /// What runs.
    pub deployment: Arc<Deployment>,
    /// What they share.
    pub services: Arc<Services>,
    /// When the run ends.
    pub deadline: Instant,
}

/// What one run of a handler may read.
pub struct CallCapabilities {
    parts: CapabilityParts,
    reads: Mutex<ReadSet>,
    database_away: AtomicBool,
    /// Microseconds that reads have taken: time that is the host's.
    waited_us: AtomicU64,
}

impl CallCapabilities {
    /// Capabilities for one run, with nothing read yet.
    pub fn new(parts: CapabilityParts) -> Self {
        Self {
            parts,
            reads: Mutex::default(),
            database_away: AtomicBool::new(false),
            waited_us: AtomicU64::new(0),
        }
    }

    fn api(&self) -> Api<'_> {
        Api {
            client: &self.parts.services.client,
            account: &self.parts.account,
            wanted: &self.parts.deployment.wanted,
            deadline: self.parts.deadline,
        }
    }

    fn money(&self) -> Money<'_> {
        Money {
            services: &self.parts.services,
            account: &self.parts.account,
            wanted: &self.parts.deployment.wanted,
            deadline: self.parts.deadline,
        }
    }

    fn unread(&self, error: Unread) -> orders::Error {
        match error {
            Unread::NotGranted(why) => orders::Error::NotGranted(why),
            Unread::Database(error) => {
                self.away(&error);
                orders::Error::Unavailable
            }
        }
    }

    fn app_id(&self) -> &str {
        self.parts.account.app_id.as_str()
    }

    /// What was read; taken out.
    pub fn take_reads(&self) -> ReadSet {
        std::mem::take(&mut self.reads.lock())
    }

    /// Whether a read failed because the database was away.
    pub fn database_was_away(&self) -> bool {
        self.database_away.load(Ordering::Relaxed)
    }

    /// How long the call has waited for what the host reads for it.
    pub fn waited_for_host(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Ordering::Relaxed))
    }

    /// A read of what lasts: not longer than an event can wait, and counted as the host's time, also
    /// where the call ends before it does.
    async fn reading<T, E: From<DbError>>(
        &self,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let _counted = HostTime {
            since: Instant::now(),
            waited_us: &self.waited_us,
        };
        patiently(read).await
    }

    fn away(&self, error: &dyn std::error::Error) -> KvError {
        tracing::warn!(account.app_id = %self.parts.account.app_id, error = %error, "a plugin's read failed");
        self.database_away.store(true, Ordering::Relaxed);
        KvError::Unavailable
    }
}

/// Counts the time from its making to its end.
struct HostTime<'a> {
    since: Instant,
    waited_us: &'a AtomicU64,
}

impl Drop for HostTime<'_> {
    fn drop(&mut self) {
        let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(us, Ordering::Relaxed);
    }
}

#[async_trait]
impl Capabilities for CallCapabilities {
    fn account(&self) -> AccountInfo {
        self.parts.account.info.clone()
    }

    fn config(&self) -> &str {
        &self.parts.deployment.config
    }

    fn has_secret(&self, name: &str) -> bool {
        self.parts.deployment.secrets.contains(name)
    }

    async fn kv_get(&self, key: &str) -> Result<Option<KvEntry>, KvError> {
        let read = kv::get(&self.parts.services.db, self.app_id(), key);
        let entry = self
            .reading(read)
            .await
            .map_err(|error| self.away(&error))?;
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
        let app_id = self.app_id();
        let listing = kv::list(&self.parts.services.db, app_id, prefix, cursor, limit);
        let page = match self.reading(listing).await {
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
            .parts
            .services
            .store
            .cache_get(self.app_id(), key)
            .await;
        found.map_err(|_| CacheError::Unavailable)
    }

    async fn cache_set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl_seconds: u32,
    ) -> Result<(), CacheError> {
        let app_id = self.app_id();
        let kept = self
            .parts
            .services
            .store
            .cache_set(app_id, key, value, ttl_seconds)
            .await;
        kept.map_err(|_| CacheError::Unavailable)
    }

    async fn cache_delete(&self, key: &str) -> Result<(), CacheError> {
        let forgotten = self
            .parts
            .services
            .store
            .cache_delete(self.app_id(), key)
            .await;
        forgotten.map_err(|_| CacheError::Unavailable)
    }

    async fn contact(&self, open_id: &str) -> Result<Option<wit::Contact>, wit::Error> {
        let open_id = OpenId::parse(open_id).map_err(|_| wit::Error::InvalidOpenId)?;
        let read = contacts::get(&self.parts.services.db, self.app_id(), &open_id);
        match self.reading(read).await {
            Ok(contact) => {
                let version = contact.as_ref().map(|contact| contact.version);
                let read = (open_id.as_str().to_owned(), version.unwrap_or_default());
                self.reads.lock().contacts.push(read);
                Ok(contact.map(contact_of))
            }
            Err(error) => {
                self.away(&error);
                Err(wit::Error::Unavailable)
            }
        }
    }

    async fn user_info(&self, open_id: &str) -> Result<wechat_api::User, wechat_api::Error> {
        self.api().user(open_id).await
    }

    async fn menu(&self) -> Result<String, wechat_api::Error> {
        self.api().menu().await
    }

    async fn quota(&self, cgi_path: &str) -> Result<wechat_api::Quota, wechat_api::Error> {
        self.api().quota(cgi_path).await
    }

    async fn api_call(&self, request: wechat_api::Request) -> Result<String, wechat_api::Error> {
        self.api().call(request).await
    }

    async fn fetch(&self, request: egress::Request) -> Result<egress::Response, egress::Error> {
        let CapabilityParts {
            account,
            deployment,
            ..
        } = &self.parts;
        let granted = |target: &Target<'_>| {
            account
                .plugin
                .grants
                .allows_egress(&deployment.wanted, target)
        };
        let sender = Sender {
            tenant: &account.tenant.id,
            granted: &granted,
            secrets: &deployment.secrets,
            deadline: self.parts.deadline,
        };
        let answer = self
            .parts
            .services
            .egress
            .fetch(sender, fetch::request_of(request));
        answer
            .await
            .map(fetch::response_of)
            .map_err(fetch::error_of)
    }

    async fn create_order(&self, request: pay::OrderRequest) -> Result<pay::Placed, pay::Error> {
        self.money().create(request).await
    }

    async fn query_order(&self, out_trade_no: &str) -> Result<wit_money::Order, pay::Error> {
        self.money().query(out_trade_no).await
    }

    async fn order(&self, out_trade_no: &str) -> Result<Option<wit_money::Order>, orders::Error> {
        self.reading(self.money().order(out_trade_no))
            .await
            .map_err(|error| self.unread(error))
    }

    async fn orders(
        &self,
        open_id: &str,
        limit: u32,
    ) -> Result<Vec<wit_money::Order>, orders::Error> {
        let money = self.money();
        self.reading(money.orders(open_id, limit))
            .await
            .map_err(|error| self.unread(error))
    }

    async fn order_refunds(
        &self,
        out_trade_no: &str,
    ) -> Result<Vec<wit_money::Refund>, orders::Error> {
        let money = self.money();
        self.reading(money.refunds(out_trade_no))
            .await
            .map_err(|error| self.unread(error))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.parts.services.clock.now_ms()).unwrap_or_default()
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

/// A contact as plugins see it.
pub fn contact_of(contact: contacts::Contact) -> wit::Contact {
    // Times before 1970 are nobody's.
    let ms = |at: i64| u64::try_from(at).unwrap_or_default();
    let last = contact.last;
    wit::Contact {
        open_id: contact.open_id,
        union_id: contact.union_id,
        following: contact.following,
        first_seen_ms: ms(contact.first_seen_at),
        followed_ms: contact.followed_at.map(ms),
        unfollowed_ms: contact.unfollowed_at.map(ms),
        qr_scene: contact.qr_scene,
        last: wit::Interactions {
            message: last.message.map(ms),
            menu: last.menu.map(ms),
            scan: last.scan.map(ms),
            follow: last.follow.map(ms),
            payment: last.payment.map(ms),
        },
        tags: contact.tags,
        remark: contact.remark,
        attributes: contact.attributes,
        opted_out: contact.opted_out_at.is_some(),
    }
}
