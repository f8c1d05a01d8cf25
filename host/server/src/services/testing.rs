//! Services for tests: a real database and a real sandbox, no other host, and a WeChat of the test's own.

use std::ops::Deref;
use std::sync::Arc;

use tempfile::TempDir;
use wxhost_runtime::{CallLimits, Compiler, Runtime, RuntimeSettings};

use super::Services;
use crate::accounts::Accounts;
use crate::audit::{self, AuditWriter};
use crate::checkout::Checkout;
use crate::client::Transport;
use crate::clock::Clock;
use crate::config::Config;
use crate::contacts;
use crate::db::Database;
use crate::db::allowance::Scenes;
use crate::egress::{Egress, SystemResolver};
use crate::keys::ApiKeys;
use crate::merchant_client::MerchantClient;
use crate::merchants::Merchants;
use crate::outbox;
use crate::plugins::Plugins;
use crate::quotas::Quotas;
use crate::records;
use crate::seal::{MasterKey, MasterKeys};
use crate::store::{MemoryCache, Store};
use crate::telemetry::Metrics;
use crate::templates::Templates;
use crate::tokens::testing::client_of;

/// A WeChat that nobody reaches: nobody listens on port 1.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// Services that end with the test.
pub(crate) struct TestServices {
    services: Arc<Services>,
    /// Where native code is kept.
    pub(crate) native: TempDir,
}

impl Deref for TestServices {
    type Target = Arc<Services>;

    fn deref(&self) -> &Arc<Services> {
        &self.services
    }
}

impl Drop for TestServices {
    fn drop(&mut self) {
        self.services.runtime.shutdown();
    }
}

/// Services over a database, whose WeChat is at `base`, and what writes their audit. Nothing else is
/// written behind.
pub(crate) async fn services(db: &Database, base: &str) -> (TestServices, AuditWriter) {
    let native = tempfile::tempdir().unwrap();
    let settings = RuntimeSettings::new(native.path().to_owned(), [7; 32], Compiler::InProcess);
    let runtime = Runtime::new(RuntimeSettings {
        max_concurrent_calls: 1,
        ..settings
    })
    .unwrap();
    let keys = Arc::new(MasterKeys::new(MasterKey::from_bytes(&[1; 32]), None));
    let accounts = Accounts::load(db.clone(), Arc::clone(&keys)).await.unwrap();
    let accounts = Arc::new(accounts);
    let api_keys = ApiKeys::load(db.clone()).await.unwrap();
    let plugins = Plugins::new(
        db.clone(),
        Arc::clone(&runtime),
        Arc::clone(&keys),
        CallLimits::MOST,
    );
    let quotas = Quotas::new(db.clone(), Config::default().quotas.limits());
    let egress = Egress::new(Vec::new(), Arc::new(SystemResolver::default())).unwrap();
    let store = Store::Memory(Arc::new(MemoryCache::new()));
    let metrics = Arc::new(Metrics::new());
    let (audit, audit_writer) = audit::channel(db.clone(), &metrics);
    let merchants = Merchants::load(db.clone(), Arc::clone(&keys))
        .await
        .unwrap();
    let pay = Transport::open(base, &[]).unwrap();
    let pay = MerchantClient::new(pay, Arc::new(merchants));
    let services = Services {
        checkout: Arc::new(Checkout::new(db.clone(), pay)),
        scenes: Scenes::new(5, 20),
        templates: Templates::default(),
        client: client_of(base, &accounts, &keys, store.clone()),
        records: records::channel(db.clone(), &metrics).0,
        contact_updates: contacts::channel(db.clone(), &metrics).0,
        receipts: outbox::receipts(db.clone(), &metrics).0,
        db: db.clone(),
        store,
        keys,
        accounts,
        api_keys: Arc::new(api_keys),
        plugins: Arc::new(plugins),
        runtime,
        egress: Arc::new(egress),
        quotas: Arc::new(quotas),
        audit,
        outbox: Arc::default(),
        push: Arc::default(),
        metrics,
        clock: Clock,
    };
    let services = TestServices {
        services: Arc::new(services),
        native,
    };
    (services, audit_writer)
}
