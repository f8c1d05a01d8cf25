//! A host from start to end: open what it stands on, serve, stop without losing anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wxhost_runtime::{Compiler, Runtime, RuntimeSettings};

use crate::accounts::Accounts;
use crate::audit;
use crate::callback::{CallbackLane, CallbackSettings};
use crate::client::{Client, Transport};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, HttpSettings};
use crate::contacts;
use crate::contacts::import::Importer;
use crate::db::Database;
use crate::db::allowance::Scenes;
use crate::egress::{Egress, SystemResolver};
use crate::http::admin::AdminState;
use crate::http::callback::CallbackState;
use crate::http::listener::{ConnectionLimits, Listener};
use crate::http::router::{self, Routes};
use crate::http::tenant::TenantState;
use crate::keys::ApiKeys;
use crate::outbox;
use crate::plugins::Plugins;
use crate::quotas::Quotas;
use crate::records;
use crate::seal::{self, MasterKey, MasterKeys};
use crate::services::Services;
use crate::store::redis::send_answers;
use crate::store::{MemoryCache, OLDEST, Redis, Store};
use crate::tasks::{self, Kept};
use crate::telemetry::Metrics;
use crate::tokens::{self, Tokens, TokensParts};

/// How long stopping may take before connections are dropped: longer than a callback waits.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Name of the key file that is made in the data directory where no master key is given.
const KEY_FILE: &str = "master.key";

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
    #[error("wechat.api_base or wechat.api_backups: {0}")]
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

/// A running host.
pub struct App {
    addr: SocketAddr,
    admin_addr: SocketAddr,
    lane: Arc<CallbackLane>,
    services: Arc<Services>,
    /// Stops the listeners.
    closing: CancellationToken,
    servers: Vec<JoinHandle<()>>,
    /// Stops the loops, after the last callback was answered.
    stop: CancellationToken,
    loops: TaskTracker,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Starts a host.
    ///
    /// # Errors
    /// Dangerous settings, a database that can't be opened, an address in use. A Redis that is away
    /// stops no start.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        for warning in config.check()? {
            tracing::warn!("{warning}");
        }
        let stop = CancellationToken::new();
        let loops = TaskTracker::new();
        let services = Arc::new(open(&config, &loops, &stop).await?);
        let lane = CallbackLane::new(Arc::clone(&services), callback_settings(&config));
        let lane = Arc::new(lane);
        lane.spawn(&loops, &stop);
        spawn_loops(&config, &lane, &loops, &stop);
        spawn_calls(&config, &services, &loops, &stop);
        let closing = CancellationToken::new();
        let (public, operator) = routers(&config, &lane);
        let mut servers = Vec::new();
        let http = &config.http;
        let (addr, admin_addr) = match http.admin_listen {
            None => {
                let both = public.merge(operator);
                let addr = serve(http.listen, both, http, (&closing, &mut servers))?;
                (addr, addr)
            }
            Some(inner) => (
                serve(http.listen, public, http, (&closing, &mut servers))?,
                serve(inner, operator, http, (&closing, &mut servers))?,
            ),
        };
        tracing::info!(%addr, %admin_addr, "wxhost is ready");
        Ok(Self {
            addr,
            admin_addr,
            lane,
            services,
            closing,
            servers,
            stop,
            loops,
        })
    }

    /// Where callbacks are served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the admin API is served.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Stops: no new connections, callbacks under way are answered, runs end, records are written.
    pub async fn shutdown(self) {
        self.closing.cancel();
        let answered = async {
            for server in self.servers {
                // A server that panicked has said so already.
                let _ = server.await;
            }
            self.lane.drain().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, answered).await.is_err() {
            tracing::warn!("callbacks were still under way after {STOP_TIMEOUT:?}");
        }
        self.stop.cancel();
        self.loops.close();
        self.loops.wait().await;
        self.services.runtime.shutdown();
        self.services.db.close().await;
    }
}

/// Opens what a host stands on.
async fn open(
    config: &Config,
    loops: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Services, StartError> {
    make_directory(&config.storage.data_dir)?;
    let keys = Arc::new(master_keys(config)?);
    let db = open_database(config, &keys).await?;
    let store = match &config.storage.redis_url {
        None => Store::Memory(Arc::new(MemoryCache::new())),
        Some(url) => {
            let redis = Redis::open(url).map_err(|error| StartError::Redis(error.to_string()))?;
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
    let transport = Transport::open(&config.wechat.api_base, &config.wechat.api_backups)?;
    let transport = Arc::new(transport);
    let tokens = Tokens::new(TokensParts {
        accounts: Arc::clone(&accounts),
        store: store.clone(),
        keys: Arc::clone(&keys),
        transport: Arc::clone(&transport),
        metrics: Arc::clone(&metrics),
        clock: Clock,
        tasks: loops.clone(),
        stop: stop.clone(),
    });
    let client = Client::new(transport, tokens, Arc::clone(&metrics));
    let (records, record_writer) = records::channel(db.background(), &metrics);
    let (audit, audit_writer) = audit::channel(db.background(), &metrics);
    let (sightings, sighting_writer) = contacts::channel(db.background(), &metrics);
    let (receipts, receipt_writer) = outbox::receipts(db.background(), &metrics);
    loops.spawn(record_writer.run(stop.clone()));
    loops.spawn(receipt_writer.run(stop.clone()));
    loops.spawn(sighting_writer.run(stop.clone()));
    loops.spawn(audit_writer.run(stop.clone()));
    Ok(Services {
        db,
        store,
        keys,
        accounts,
        api_keys,
        plugins: Arc::new(plugins),
        runtime,
        client: Arc::new(client),
        egress: Arc::new(egress),
        quotas: Arc::new(quotas),
        records,
        sightings,
        receipts,
        audit,
        outbox: Arc::default(),
        metrics,
        clock: Clock,
    })
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

fn callback_settings(config: &Config) -> CallbackSettings {
    CallbackSettings {
        answer_wait: Duration::from_millis(config.callbacks.answer_wait_ms),
        deliveries: config.callbacks.deliveries,
        call_deadline: Duration::from_millis(config.plugins.call_deadline_ms),
    }
}

fn spawn_loops(
    config: &Config,
    lane: &Arc<CallbackLane>,
    loops: &TaskTracker,
    stop: &CancellationToken,
) {
    let services = lane.services();
    loops.spawn(tasks::refresh(Arc::clone(services), stop.clone()));
    let api_keys = Arc::clone(&services.api_keys);
    loops.spawn(tasks::store_uses(api_keys, stop.clone()));
    loops.spawn(Arc::clone(&services.quotas).run(stop.clone()));
    let tokens = services.client.tokens();
    loops.spawn(tokens::renew_ahead(Arc::clone(tokens), stop.clone()));
    loops.spawn(tokens::confirm(Arc::clone(tokens), stop.clone()));
    let reports = tokens::AddressReports::new(Arc::clone(tokens), services.db.background());
    loops.spawn(reports.run(stop.clone()));
    let days = |days: u32| Duration::from_secs(u64::from(days) * 24 * 3600);
    let kept = Kept {
        calls: days(config.retention.calls_days),
        audit: days(config.retention.audit_days),
        outbox: days(config.retention.outbox_days),
    };
    loops.spawn(tasks::forget_old(
        services.db.background(),
        Arc::clone(&services.plugins),
        kept,
        stop.clone(),
    ));
    if let Some(redis) = services.store.shared() {
        loops.spawn(send_answers(Arc::clone(redis), stop.clone()));
        let hearing = tasks::Hearing {
            redis: Arc::clone(redis),
            lane: Arc::clone(lane),
            accounts: Arc::clone(&services.accounts),
            tokens: Arc::clone(tokens),
        };
        loops.spawn(tasks::listen_to_hosts(hearing, stop.clone()));
    }
}

/// Spawns the loops that call WeChat for accounts.
fn spawn_calls(
    config: &Config,
    services: &Arc<Services>,
    loops: &TaskTracker,
    stop: &CancellationToken,
) {
    let sender = outbox::Sender {
        db: services.db.background(),
        accounts: Arc::clone(&services.accounts),
        client: Arc::clone(&services.client),
        wake: Arc::clone(&services.outbox),
        metrics: Arc::clone(&services.metrics),
        scenes: Scenes::new(config.messages.after_message, config.messages.after_payment),
    };
    loops.spawn(sender.run(stop.clone()));
    let importer = Importer {
        db: services.db.background(),
        accounts: Arc::clone(&services.accounts),
        client: Arc::clone(&services.client),
        clock: services.clock,
    };
    loops.spawn(importer.run(stop.clone()));
}

fn routers(config: &Config, lane: &Arc<CallbackLane>) -> (Routes, Router) {
    let services = lane.services();
    let callbacks = CallbackState::new(Arc::clone(lane));
    let tenants = TenantState::new(Arc::clone(services));
    let token = config.admin.token.clone().unwrap_or_default();
    let admin = AdminState::new(Arc::clone(services), token);
    (
        router::public(callbacks, tenants),
        router::operator(admin, Arc::clone(services)),
    )
}

/// Serves until `closing`; returns the address that was bound.
fn serve(
    listen: SocketAddr,
    routes: impl Into<Routes>,
    settings: &HttpSettings,
    (closing, servers): (&CancellationToken, &mut Vec<JoinHandle<()>>),
) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Io {
        what: format!("listen on {listen}"),
        source,
    };
    let limits = ConnectionLimits {
        all: settings.max_connections,
        per_peer: settings.max_connections_per_peer,
    };
    let listener = Listener::bind(listen, limits).map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    servers.push(tokio::spawn(listener.serve(routes.into(), closing.clone())));
    Ok(addr)
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

/// The master key from the settings or its file; made at the first start of an embedded host.
fn master_keys(config: &Config) -> Result<MasterKeys, StartError> {
    let parse = |text: &SecretString| {
        MasterKey::parse(text.expose_secret().trim())
            .map_err(|error| StartError::MasterKey(error.to_string()))
    };
    let current = match &config.seal.master_key {
        Some(text) => parse(text)?,
        None => parse(&key_file(config)?)?,
    };
    let others = [
        &config.seal.previous_master_key,
        &config.seal.next_master_key,
    ];
    let others: Result<Vec<_>, _> = others.into_iter().flatten().map(parse).collect();
    Ok(MasterKeys::new(current, others?))
}

fn key_file(config: &Config) -> Result<SecretString, StartError> {
    let default = config.storage.data_dir.join(KEY_FILE);
    let path: &Path = config.seal.master_key_file.as_deref().unwrap_or(&default);
    let failed = |source| StartError::Io {
        what: format!("master key file {}", path.display()),
        source,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.into()),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && config.seal.master_key_file.is_none() =>
        {
            let text = new_key_file(path).map_err(failed)?;
            tracing::warn!(file = %path.display(), "a master key was made; keep a copy: without it every stored secret is lost");
            Ok(text)
        }
        Err(error) => Err(failed(error)),
    }
}

fn new_key_file(path: &Path) -> std::io::Result<SecretString> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut bytes = [0; 32];
    crate::random::fill(&mut bytes);
    let text = hex::encode(bytes);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(text.into())
}

fn make_directory(path: &PathBuf) -> Result<(), StartError> {
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
