//! The accounts that this host serves, in memory.
//!
//! A callback finds its account without a lock and without the database ([`Accounts::get`]). Changes
//! are made in the database (`change`) and come back from there, on this host at once and on every
//! other one when it is woken or, at the latest, when it looks again. While the database is away, the
//! accounts stay as they were last seen.

mod account;
mod change;
mod login;
mod onboarding;
mod platform;
mod platform_change;
mod quiet_hours;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::Notify;
use wxhost_wechat::{envelope::Receiver, id::AppId};

pub(crate) use self::platform::Holder;
pub use self::{
    account::{Account, Status, Tenant, Unserved},
    change::{AccountChange, NewAccount, NewTenant},
    login::LoginSettings,
    onboarding::{Newcomer, OnboardingError},
    platform::{Authorisation, Platform},
    platform_change::{NewPlatform, PlatformChange, PlatformKeys},
    quiet_hours::QuietHours,
};
use crate::{
    credentials::Credential,
    db::{self, Database, DbError},
    inbox,
    quotas::Limits,
    registry::{Reading, Registry},
    seal::{MasterKeys, SealError},
    settings::{StoredError, column},
};

/// Why the accounts could not be loaded at start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database failed.
    #[error("cannot load the accounts")]
    Database(#[from] DbError),
    /// The decoy could not be made: a fault of ours.
    #[error("cannot make a decoy account")]
    Decoy(#[from] StoredError),
    /// The master key is not the one that the accounts were sealed under.
    #[error(
        "account {app_id} is sealed under another master key ({key_id}): start with that key, or give \
         it as the previous one to change to a new key"
    )]
    MasterKey {
        /// The first such account.
        app_id: String,
        /// The fingerprint of the key that is needed.
        key_id: String,
    },
}

/// The accounts, always at hand.
pub struct Accounts {
    registry: Registry<Known>,
    keys: Arc<MasterKeys>,
    wake: Notify,
    decoy: Receiver,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("known", &self.registry.known().accounts.len())
            .finish_non_exhaustive()
    }
}

/// What was last seen in the database.
#[derive(Clone, Default)]
struct Known {
    tenants: HashMap<Arc<str>, Arc<Tenant>>,
    platforms: HashMap<AppId, Arc<Platform>>,
    accounts: HashMap<AppId, Arc<Account>>,
}

impl Accounts {
    /// Loads all accounts.
    pub async fn load(db: Database, keys: Arc<MasterKeys>) -> Result<Self, LoadError> {
        let accounts = Self {
            registry: Registry::new(db),
            keys,
            wake: Notify::new(),
            decoy: inbox::decoy()?,
        };
        let broken = accounts
            .registry
            .load(|reading| accounts.read_changes(reading))
            .await?;
        for (app_id, error) in broken.into_iter().flatten() {
            if let StoredError::Seal(SealError::UnknownKey { key_id }) = error {
                return Err(LoadError::MasterKey { app_id, key_id });
            }
        }
        Ok(accounts)
    }

    /// The account of that app id, disabled ones included.
    pub fn get(&self, app_id: &str) -> Option<Arc<Account>> {
        self.registry.known().accounts.get(app_id).cloned()
    }

    /// The platform of that app id, disabled ones included.
    pub fn platform(&self, app_id: &str) -> Option<Arc<Platform>> {
        self.registry.known().platforms.get(app_id).cloned()
    }

    /// All platforms, in no order.
    pub fn platforms(&self) -> Vec<Arc<Platform>> {
        let known = self.registry.known();
        known.platforms.values().cloned().collect()
    }

    /// The accounts that `wanted` picks, in no order.
    pub fn pick(&self, wanted: impl Fn(&Account) -> bool) -> Vec<Arc<Account>> {
        let known = self.registry.known();
        let accounts = known.accounts.values();
        accounts
            .filter(|account| wanted(account))
            .cloned()
            .collect()
    }

    /// Who has that app id and credentials of this kind.
    pub(crate) fn holder(&self, app_id: &str, credential: Credential) -> Option<Holder> {
        match credential {
            Credential::ComponentToken => self.platform(app_id).map(Holder::Platform),
            Credential::AccessToken | Credential::JsapiTicket | Credential::CardTicket => {
                self.get(app_id).map(Holder::Account)
            }
        }
    }

    /// Those who have credentials of this kind and are picked, in no order.
    pub(crate) fn holders(
        &self,
        credential: Credential,
        account: impl Fn(&Account) -> bool,
        platform: impl Fn(&Platform) -> bool,
    ) -> Vec<Holder> {
        match credential {
            Credential::ComponentToken => {
                let all = self.platforms().into_iter();
                all.filter(|this| platform(this))
                    .map(Holder::Platform)
                    .collect()
            }
            Credential::AccessToken | Credential::JsapiTicket | Credential::CardTicket => {
                let picked = self.pick(account).into_iter();
                picked.map(Holder::Account).collect()
            }
        }
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.registry.known().accounts.len()
    }

    /// Tells whether there is no account.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings the accounts up to date with the database. One cheap query when nothing has changed.
    pub async fn refresh(&self) -> Result<(), DbError> {
        let read = |reading| self.read_changes(reading);
        self.registry.refresh(read).await.map(drop)
    }

    /// Makes the loop that waits for [`woken`](Self::woken) look now: another host has told of a change.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody calls [`wake`](Self::wake); at once if somebody has since the last wait.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// A receiver that nobody has the keys of: to spend on a callback of an unknown account the time
    /// that a known one would take.
    pub fn decoy(&self) -> &Receiver {
        &self.decoy
    }

    /// Where changes are made.
    pub(crate) fn db(&self) -> &Database {
        self.registry.db()
    }

    /// Reads what has changed; tells of the accounts that could not be used, for which what was known stays.
    async fn read_changes(
        &self,
        mut reading: Reading<Known>,
    ) -> Result<(Known, Vec<(String, StoredError)>), DbError> {
        let tenants = db::tenants::changed_after(self.db(), reading.since).await?;
        let limits = db::quotas::of_tenants_changed_after(self.db(), reading.since).await?;
        let mut limits = limits_of(limits);
        let mut next = Known::clone(&reading.known);
        for row in &tenants {
            // Its accounts hold on to the tenant as it was: make them anew.
            if next.tenants.contains_key(row.id.as_str()) {
                reading.begin_anew();
            }
            let limits = limits.remove(&row.id).unwrap_or_default();
            let before = reading.known.tenants.get(row.id.as_str());
            let tenant = Arc::new(Tenant::from_row(row, limits, before));
            next.tenants.insert(Arc::clone(&tenant.id), tenant);
        }
        let mut broken = self.read_platforms(&mut reading, &mut next).await?;
        if reading.is_anew() {
            next.accounts.clear();
        }
        broken.extend(self.read_accounts(&reading, &mut next).await?);
        Ok((next, broken))
    }

    async fn read_platforms(
        &self,
        reading: &mut Reading<Known>,
        next: &mut Known,
    ) -> Result<Vec<(String, StoredError)>, DbError> {
        let rows = db::platforms::changed_after(self.db(), reading.since).await?;
        let mut broken = Vec::new();
        for row in rows {
            let before = reading.known.platforms.get(&*row.app_id);
            match Platform::from_row(&row, &self.keys, before) {
                Ok(platform) => {
                    // Its accounts hold on to the platform as it was: make them anew.
                    if before.is_some() {
                        reading.begin_anew();
                    }
                    let platform = Arc::new(platform);
                    next.platforms.insert(platform.app_id.clone(), platform);
                }
                Err(error) => {
                    tracing::error!(
                        platform.app_id = row.app_id,
                        error = &error as &dyn std::error::Error,
                        "a platform cannot be used as it is stored; what was known of it stays"
                    );
                    broken.push((row.app_id, error));
                }
            }
        }
        Ok(broken)
    }

    async fn read_accounts(
        &self,
        reading: &Reading<Known>,
        next: &mut Known,
    ) -> Result<Vec<(String, StoredError)>, DbError> {
        let rows = db::accounts::changed_after(self.db(), reading.since).await?;
        let deployments = db::deployments::active_changed_after(self.db(), reading.since).await?;
        let mut deployments: HashMap<_, _> = deployments
            .into_iter()
            .map(|row| (row.app_id.clone(), row))
            .collect();
        let authorisations =
            db::authorisations::of_accounts_changed_after(self.db(), reading.since).await?;
        let mut authorisations: HashMap<_, _> = authorisations
            .into_iter()
            .map(|row| (row.app_id.clone(), row))
            .collect();
        let limits = db::quotas::of_accounts_changed_after(self.db(), reading.since).await?;
        let mut limits = limits_of(limits);
        let known = &reading.known;
        let mut broken = Vec::new();
        for row in rows {
            let deployment = deployments.remove(&row.app_id);
            let tenant = next.tenants.get(row.tenant_id.as_str());
            let authorisation = match (
                &row.credentials.platform,
                authorisations.remove(&row.app_id),
            ) {
                (None, _) => Ok(None),
                (Some(id), authorisation) => {
                    let platform = next.platforms.get(id.as_str());
                    let own = (&*row.original_id, row.callbacks.window_seconds);
                    let missing = || column("platform")("there is no authorisation of it");
                    authorisation.ok_or_else(missing).and_then(|authorisation| {
                        Authorisation::from_row(&authorisation, platform, own).map(Some)
                    })
                }
            };
            let made = authorisation.and_then(|authorisation| {
                let served_by = (deployment.as_ref(), authorisation);
                Account::from_rows(&row, served_by, tenant, &self.keys)
            });
            match made {
                Ok(account) => {
                    let limits = limits.remove(&row.app_id).unwrap_or_default();
                    let account = account.keep_held(known.accounts.get(&*row.app_id), limits);
                    next.accounts
                        .insert(account.app_id.clone(), Arc::new(account));
                }
                Err(error) => {
                    tracing::error!(
                        account.app_id = row.app_id,
                        error = &error as &dyn std::error::Error,
                        "an account cannot be used as it is stored; what was known of it stays"
                    );
                    if let Some((app_id, account)) = known.accounts.get_key_value(&*row.app_id) {
                        next.accounts.insert(app_id.clone(), Arc::clone(account));
                    }
                    broken.push((row.app_id, error));
                }
            }
        }
        Ok(broken)
    }
}

/// What operators have set, by whose it is.
fn limits_of(rows: Vec<(String, String, i64)>) -> HashMap<String, Limits> {
    let mut amounts: HashMap<String, Vec<(String, i64)>> = HashMap::new();
    for (owner, quota, most) in rows {
        amounts.entry(owner).or_default().push((quota, most));
    }
    let limits = |amounts: Vec<(String, i64)>| {
        Limits::of(amounts.iter().map(|(quota, most)| (quota.as_str(), *most)))
    };
    let owners = amounts.into_iter();
    owners
        .map(|(owner, amounts)| (owner, limits(amounts)))
        .collect()
}
