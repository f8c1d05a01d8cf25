//! Merchants of WeChat Pay (微信支付商户), always at hand: with what their calls are signed, with what WeChat's words
//! are verified and opened, and which accounts' orders are paid to them.
//!
//! Everything of them is changed while hosts run: a second APIv3 key is tried beside the first, up to three API
//! certificates are kept of which the newest signs, and platform certificates and WeChat Pay's public key are all
//! accepted, each by its serial.

mod change;
mod grants;
mod merchant;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use self::change::{NewBinding, NewCertificate, NewMerchant, V3KeyTurn};
pub use self::grants::PayGrants;
pub use self::merchant::{Binding, Merchant};
use crate::db::{Database, DbError, merchants as rows};
use crate::registry::{Reading, Registry};
use crate::seal::MasterKeys;
use crate::settings::StoredError;

/// The merchants, always at hand.
pub struct Merchants {
    registry: Registry<Known>,
    keys: Arc<MasterKeys>,
}

#[derive(Clone, Default)]
struct Known {
    merchants: HashMap<String, Arc<Merchant>>,
    /// By app id.
    bindings: HashMap<String, Vec<Arc<Binding>>>,
}

impl fmt::Debug for Merchants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merchants")
            .field("known", &self.registry.known().merchants.len())
            .finish_non_exhaustive()
    }
}

/// Why an account's orders go to no merchant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMerchant {
    /// None is bound.
    #[error("no merchant is bound to the account")]
    None,
    /// That one is not.
    #[error("the merchant {0} is not bound to the account")]
    Other(String),
    /// Several are bound, and none was named.
    #[error("several merchants are bound to the account: say which")]
    Several,
    /// It is disabled.
    #[error("the merchant {0} is disabled")]
    Disabled(String),
}

impl Merchants {
    /// Loads all merchants.
    ///
    /// # Errors
    /// The database failed.
    pub async fn load(db: Database, keys: Arc<MasterKeys>) -> Result<Self, DbError> {
        let merchants = Self {
            registry: Registry::new(db),
            keys,
        };
        merchants
            .registry
            .load(|reading| merchants.read_changes(reading))
            .await?;
        Ok(merchants)
    }

    /// The merchant of that number, disabled ones included.
    pub fn get(&self, mch_id: &str) -> Option<Arc<Merchant>> {
        self.registry.known().merchants.get(mch_id).cloned()
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Merchant>> {
        self.registry.known().merchants.values().cloned().collect()
    }

    /// Those to whom WeChat Pay signs with the key of that serial: one, as a rule.
    pub fn of_serial(&self, serial: &str) -> Vec<Arc<Merchant>> {
        let known = self.registry.known();
        let merchants = known.merchants.values();
        merchants
            .filter(|merchant| merchant.platform_key(serial).is_some())
            .cloned()
            .collect()
    }

    /// How an account is bound to a merchant, disabled ones included.
    pub fn binding(&self, app_id: &str, mch_id: &str) -> Option<Arc<Binding>> {
        let known = self.registry.known();
        let bindings = known.bindings.get(app_id)?.iter();
        let mut of_merchant = bindings.filter(|binding| binding.merchant.mch_id.as_str() == mch_id);
        of_merchant.next().cloned()
    }

    /// The merchants that an account is bound to, in no order.
    pub fn of_account(&self, app_id: &str) -> Vec<String> {
        let known = self.registry.known();
        let bindings = known.bindings.get(app_id).into_iter().flatten();
        bindings
            .map(|binding| binding.merchant.mch_id.to_string())
            .collect()
    }

    /// To whom an account's orders are paid: to the merchant that is named, or to the only one.
    ///
    /// # Errors
    /// To nobody: why.
    pub fn payee(&self, app_id: &str, named: Option<&str>) -> Result<Arc<Binding>, NoMerchant> {
        let binding = match named {
            Some(mch_id) => self
                .binding(app_id, mch_id)
                .ok_or_else(|| NoMerchant::Other(mch_id.to_owned()))?,
            None => {
                let known = self.registry.known();
                let bindings = known.bindings.get(app_id).map(Vec::as_slice);
                match bindings.unwrap_or_default() {
                    [] => return Err(NoMerchant::None),
                    [only] => Arc::clone(only),
                    _ => return Err(NoMerchant::Several),
                }
            }
        };
        if binding.merchant.is_active() {
            Ok(binding)
        } else {
            let mch_id = binding.merchant.mch_id.to_string();
            Err(NoMerchant::Disabled(mch_id))
        }
    }

    /// Brings them up to date with the database. One cheap query when nothing has changed.
    ///
    /// # Errors
    /// The database failed; they stay as they are.
    pub async fn refresh(&self) -> Result<(), DbError> {
        let read = |reading| self.read_changes(reading);
        self.registry.refresh(read).await.map(drop)
    }

    fn db(&self) -> &Database {
        self.registry.db()
    }

    async fn read_changes(&self, reading: Reading<Known>) -> Result<(Known, ()), DbError> {
        let mut next = match reading.is_anew() {
            true => Known::default(),
            false => Known::clone(&reading.known),
        };
        for row in rows::changed_after(self.db(), reading.since).await? {
            let mch_id = row.mch_id.clone();
            match self.read_one(row).await? {
                Ok((merchant, bindings)) => {
                    for of_account in next.bindings.values_mut() {
                        of_account.retain(|b| b.merchant.mch_id.as_str() != mch_id);
                    }
                    for (app_id, binding) in bindings {
                        next.bindings.entry(app_id).or_default().push(binding);
                    }
                    next.merchants.insert(mch_id, merchant);
                }
                Err(error) => tracing::error!(
                    merchant.mch_id = mch_id,
                    error = &error as &dyn std::error::Error,
                    "a merchant cannot be used as it is stored; what was known of it stays"
                ),
            }
        }
        Ok((next, ()))
    }

    async fn read_one(
        &self,
        row: rows::MerchantRow,
    ) -> Result<Result<(Arc<Merchant>, Vec<(String, Arc<Binding>)>), StoredError>, DbError> {
        let certificates = rows::certificates(self.db(), &row.mch_id).await?;
        let platform_keys = rows::platform_keys(self.db(), &row.mch_id).await?;
        let bindings = rows::bindings(self.db(), &row.mch_id).await?;
        let made = Merchant::from_rows(&row, (&certificates, &platform_keys), &self.keys);
        Ok(made.and_then(|merchant| {
            let merchant = Arc::new(merchant);
            let bindings = bindings.iter().map(|row| {
                let binding = Binding::from_row(row, &merchant)?;
                Ok((row.app_id.clone(), Arc::new(binding)))
            });
            let bindings = bindings.collect::<Result<_, StoredError>>()?;
            Ok((merchant, bindings))
        }))
    }
}
