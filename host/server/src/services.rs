//! What the lanes of a host share: one value, made once by `app`.

mod master_key;
mod open;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use tokio::sync::Notify;
use wxhost_runtime::Runtime;

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::checkout::Checkout;
use crate::client::Client;
use crate::clock::Clock;
use crate::contacts::ContactUpdates;
use crate::db::Database;
use crate::db::allowance::Scenes;
use crate::egress::Egress;
use crate::keys::ApiKeys;
use crate::outbox;
use crate::plugins::Plugins;
use crate::quotas::Quotas;
use crate::records::Records;
use crate::seal::MasterKeys;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::templates::Templates;

pub use self::open::StartError;

/// What the lanes of a host share. It is handed out as one `Arc`: one count goes up and down with each
/// event, not one for each part, which cores would take from each other all the time.
pub struct Services {
    /// What lasts.
    pub db: Database,
    /// What may be lost: events under way, answers, the plugins' cache.
    pub store: Store,
    /// Seals what is kept.
    pub keys: Arc<MasterKeys>,
    /// The accounts, as they are now.
    pub accounts: Arc<Accounts>,
    /// Tenants' API keys, as they are now.
    pub api_keys: Arc<ApiKeys>,
    /// Where plugins come from.
    pub plugins: Arc<Plugins>,
    /// Where they run.
    pub runtime: Arc<Runtime>,
    /// Calls WeChat.
    pub client: Arc<Client>,
    /// Makes orders that people pay, and asks WeChat Pay about them.
    pub checkout: Arc<Checkout>,
    /// How many customer-service messages WeChat takes.
    pub scenes: Scenes,
    /// The templates of accounts, as WeChat lists them.
    pub templates: Templates,
    /// Sends requests to tenants' own systems.
    pub egress: Arc<Egress>,
    /// How much of what is shared is still to be had.
    pub quotas: Arc<Quotas>,
    /// Takes call records.
    pub records: Records,
    /// Takes what events tell of contacts.
    pub contact_updates: ContactUpdates,
    /// Takes what events tell of messages that were sent.
    pub receipts: outbox::Receipts,
    /// Takes what tenants' systems ask for.
    pub audit: Audit,
    /// Woken when there is something to send.
    pub outbox: Arc<outbox::Wake>,
    /// Woken when there is something to push.
    pub push: Arc<Notify>,
    /// What an operator watches.
    pub metrics: Arc<Metrics>,
    /// Tells the host's own time.
    pub clock: Clock,
}

impl Services {
    /// Takes over a change that is stored, and tells the other hosts. They see it in a second even if this
    /// fails, so a failure is nobody's.
    pub async fn announce_change(&self) {
        if let Err(error) = self
            .accounts
            .refresh()
            .await
            .and(self.api_keys.refresh().await)
            .and(self.checkout.merchants().refresh().await)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a change is stored, but will be seen later"
            );
        }
        if let Some(redis) = self.store.shared() {
            // Redis logs its own absence.
            let _ = redis.publish_change().await;
        }
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
