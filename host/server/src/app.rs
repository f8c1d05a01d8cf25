//! A host from start to end: what it is made of is put together here, served, and stopped without losing
//! anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callback::{CallbackLane, DeliverySettings};
use crate::config::{Config, HttpSettings};
use crate::contacts::import::Importer;
use crate::http::listener::{ConnectionLimits, Listener};
use crate::http::router::Routes;
use crate::http::{admin, component, health, login, notify, payer, tenant};
use crate::login::LoginLane;
use crate::outbox;
use crate::pay::PayLane;
use crate::platform::PlatformLane;
use crate::push::PushLane;
use crate::services::{Services, StartError};
use crate::store::redis::send_answers;
use crate::tasks::{self, Kept};
use crate::tokens;

/// How long stopping may take before connections are dropped: longer than a callback waits.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

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
        let services = Arc::new(Services::open(&config, &loops, &stop).await?);
        let lane = CallbackLane::new(Arc::clone(&services), delivery_settings(&config));
        let lane = Arc::new(lane);
        lane.spawn(&loops, &stop);
        spawn_loops(&config, &lane, &loops, &stop);
        spawn_calls(&config, &services, &loops, &stop);
        let closing = CancellationToken::new();
        let wechat = &config.wechat;
        let platforms =
            PlatformLane::new(Arc::clone(&services), &wechat.mp_base, &wechat.open_base);
        let platforms = Arc::new(platforms);
        platforms.spawn(&loops, &stop);
        let call_deadline = Duration::from_millis(config.plugins.call_deadline_ms);
        let logins = Arc::new(LoginLane::new(
            Arc::clone(&services),
            &wechat.open_base,
            call_deadline,
        ));
        logins.spawn(&loops, &stop);
        let money = Arc::new(PayLane::new(Arc::clone(&services), call_deadline));
        money.spawn(&loops, &stop);
        let lanes = Lanes {
            callbacks: &lane,
            platforms,
            logins,
            money,
        };
        let (public, operator) = routes(&config, lanes);
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

fn delivery_settings(config: &Config) -> DeliverySettings {
    DeliverySettings {
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
        let subscriber = tasks::Subscriber {
            redis: Arc::clone(redis),
            lane: Arc::clone(lane),
            accounts: Arc::clone(&services.accounts),
            tokens: Arc::clone(tokens),
        };
        loops.spawn(tasks::listen_to_hosts(subscriber, stop.clone()));
    }
}

/// Spawns the loops that call WeChat for accounts.
fn spawn_calls(
    config: &Config,
    services: &Arc<Services>,
    loops: &TaskTracker,
    stop: &CancellationToken,
) {
    let call_deadline = Duration::from_millis(config.plugins.call_deadline_ms);
    let pushes = PushLane::new(Arc::clone(services), call_deadline);
    Arc::new(pushes).spawn(loops, stop);
    let sender = outbox::Sender {
        db: services.db.background(),
        accounts: Arc::clone(&services.accounts),
        client: Arc::clone(&services.client),
        wake: Arc::clone(&services.outbox),
        metrics: Arc::clone(&services.metrics),
        scenes: services.scenes,
    };
    loops.spawn(sender.run(stop.clone()));
    let importer = Importer {
        db: services.db.background(),
        accounts: Arc::clone(&services.accounts),
        client: Arc::clone(&services.client),
    };
    loops.spawn(importer.run(stop.clone()));
}

/// Who answers requests.
struct Lanes<'a> {
    callbacks: &'a Arc<CallbackLane>,
    platforms: Arc<PlatformLane>,
    logins: Arc<LoginLane>,
    money: Arc<PayLane>,
}

/// What WeChat and tenants' own systems call, and what the operator calls.
fn routes(config: &Config, lanes: Lanes<'_>) -> (Routes, Router) {
    let services = || Arc::clone(lanes.callbacks.services());
    let public = lanes
        .callbacks
        .routes()
        .merge(tenant::routes(Arc::clone(&lanes.logins)))
        .merge(payer::routes(Arc::clone(&lanes.logins)))
        .merge(login::routes(lanes.logins))
        .merge(component::routes(lanes.platforms))
        .merge(notify::routes(lanes.money))
        .merge(health::liveness());
    let token = config.admin.token.clone().unwrap_or_default();
    let operator = health::routes(services()).merge(admin::routes(services(), token));
    (public, operator)
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
