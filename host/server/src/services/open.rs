//! Opening what a host stands on, as its settings say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_runtime::{Compiler, Runtime, RuntimeSettings};

use super::{Services, master_key};
use crate::accounts::Accounts;
use crate::audit;
use crate::checkout::Checkout;
use crate::client::{Client, Transport};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
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
use crate::seal::{self, MasterKeys};
use crate::store::{MemoryCache, OLDEST, Redis, Store};
use crate::telemetry::Metrics;
use crate::templates::Templates;
use crate::tokens::{Tokens, TokensParts};

/// Why a host could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The master key can't be had.
    #[error("master key: {0}")]
    MasterKey(String),
    /// The database can't be opened.
    #[error("database: {0}")]
    Database(String),
    /// The Redis URL doesn't parse.
    #[error("redis: {0}")]
    Redis(String),
    /// WeChat's address is none.
    #[error("wechat.api_base, wechat.pay_base or their backups: {0}")]
    Wechat(#[from] crate::client::OpenError),
    /// Plugins can't be run here.
    #[error("plugin runtime: {0}")]
    Runtime(String),
    /// Requests can't be sent outward.
    #[error("outward requests: {0}")]
    Outward(String),
    /// An address can't be listened on, or a directory not be made.
    #[error("{what}: {source}")]
    Io {
        /// Which one.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Services {
    /// Opens what a host stands on, and spawns what writes behind.
    ///
    /// # Errors
    /// Settings that can't be used, a database that can't be opened. A Redis that is away stops no start.
    pub async fn open(
        config: &Config,
        loops: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        make_directory(&config.storage.data_dir)?;
        let keys = Arc::new(master_key::read(config)?);
        let db = open_database(config, &keys).await?;
        let store = match &config.storage.redis_url {
            None => Store::Memory(Arc::new(MemoryCache::new())),
            Some(url) => {
                let redis =
                    Redis::open(url).map_err(|error| StartError::Redis(error.to_string()))?;
                expect_new_enough(&redis).await?;
                Store::Redis(Arc::new(redis))
            }
        };
        let unreadable = |error: &dyn std::error::Error| StartError::Database(whole(error));
        let runtime = Runtime::new(runtime_settings(config, &keys))
            .map_err(|error| StartError::Runtime(whole(&error)))?;
        let accounts = Accounts::load(db.clone(), Arc::clone(&keys)).await;
        let accounts = Arc::new(accounts.map_err(|error| unreadable(&error))?);
        let api_keys = ApiKeys::load(db.clone()).await;
        let api_keys = Arc::new(api_keys.map_err(|error| unreadable(&error))?);
        let plugins = Plugins::new(
            db.clone(),
            Arc::clone(&runtime),
            Arc::clone(&keys),
            config.ceilings,
        );
        let egress = Egress::new(
            config.egress_networks()?,
            Arc::new(SystemResolver::default()),
        )
        .map_err(|error| StartError::Outward(whole(&error)))?;
        let quotas = Quotas::new(db.clone(), config.quotas.limits());
        let metrics = Arc::new(Metrics::new());
        let merchants = Merchants::load(db.clone(), Arc::clone(&keys)).await;
        let merchants = Arc::new(merchants.map_err(|error| unreadable(&error))?);
        let pay = Transport::open(&config.wechat.pay_base, &config.wechat.pay_backups)?;
        let checkout = Checkout::new(db.clone(), MerchantClient::new(pay, merchants));
        let transport = Transport::open(&config.wechat.api_base, &config.wechat.api_backups)?;
        let transport = Arc::new(transport);
        let tokens = Tokens::new(TokensParts {
            accounts: Arc::clone(&accounts),
            store: store.clone(),
            keys: Arc::clone(&keys),
            transport: Arc::clone(&transport),
            metrics: Arc::clone(&metrics),
            clock: db.clock(),
            tasks: loops.clone(),
            stop: stop.clone(),
        });
        let client = Client::new(transport, tokens, Arc::clone(&metrics));
        let (records, record_writer) = records::channel(db.background(), &metrics);
        let (audit, audit_writer) = audit::channel(db.background(), &metrics);
        let (contact_updates, update_writer) = contacts::channel(db.background(), &metrics);
        let (receipts, receipt_writer) = outbox::receipts(db.background(), &metrics);
        loops.spawn(record_writer.run(stop.clone()));
        loops.spawn(receipt_writer.run(stop.clone()));
        loops.spawn(update_writer.run(stop.clone()));
        loops.spawn(audit_writer.run(stop.clone()));
        Ok(Self {
            db,
            store,
            keys,
            accounts,
            api_keys,
            plugins: Arc::new(plugins),
            runtime,
            client: Arc::new(client),
            checkout: Arc::new(checkout),
            scenes: Scenes::new(config.messages.after_message, config.messages.after_payment),
            templates: Templates::default(),
            egress: Arc::new(egress),
            quotas: Arc::new(quotas),
            records,
            contact_updates,
            receipts,
            audit,
            outbox: Arc::default(),
            push: Arc::default(),
            metrics,
            clock: Clock,
        })
    }
}

/// Opens the database, and seals with the present master key what another one has sealed.
async fn open_database(config: &Config, keys: &MasterKeys) -> Result<Database, StartError> {
    let db = Database::open(config.database_url().expose_secret())
        .await
        .map_err(|error| StartError::Database(whole(&error)))?;
    let resealed = seal::reseal(&db, keys)
        .await
        .map_err(|error| StartError::MasterKey(whole(&error)))?;
    if resealed > 0 {
        tracing::info!(
            boxes = resealed,
            "secrets were sealed anew under the present master key"
        );
    }
    Ok(db)
}

/// Refuses a Redis whose scripts fail. One that is away stops no start.
async fn expect_new_enough(redis: &Redis) -> Result<(), StartError> {
    match redis.version().await {
        Ok(Some(version)) if version < OLDEST => Err(StartError::Redis(format!(
            "it is Redis {version}; the oldest that works is {OLDEST}"
        ))),
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            tracing::warn!("redis does not tell its version; {OLDEST} is the oldest that works");
            Ok(())
        }
        Err(_) => {
            tracing::warn!("redis is away; this host starts without it");
            Ok(())
        }
    }
}

fn runtime_settings(config: &Config, keys: &MasterKeys) -> RuntimeSettings {
    let compiler = match &config.compiler {
        Some(program) => Compiler::Child {
            program: program.clone(),
            args: vec!["compile-plugin".into()],
        },
        None => Compiler::InProcess,
    };
    let native_dir = config.storage.data_dir.join("native");
    let mut settings = RuntimeSettings::new(native_dir, keys.derive("native-code"), compiler);
    settings.max_concurrent_calls = config.plugins.max_concurrent_calls;
    settings.queue_length = config.plugins.max_queued_calls;
    settings.queue_wait = Duration::from_millis(config.plugins.queue_wait_ms);
    settings.loaded_bytes = config.plugins.loaded_mib as usize * 1024 * 1024;
    settings
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::Io {
            what: format!("data directory {}", path.display()),
            source,
        })
}

/// An error with all its causes, each said once.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
