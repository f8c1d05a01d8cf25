//! Listening on a real port, and stopping.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::app::AppSettings;
use crate::api::control::Control;
use crate::api::exchange;
use crate::api::world::World;
use crate::{Environment, SystemEnvironment};

/// Connections at the same time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take over the headers of a request, or be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a stop waits for answers that are under way; slow ones may be minutes late.
const STOP_TIME: Duration = Duration::from_secs(1);

/// What there is from the start.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Time and chance. The control surface moves the clock ahead of it.
    pub environment: Arc<dyn Environment>,
    /// The first apps.
    pub apps: Vec<AppSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            environment: Arc::new(SystemEnvironment),
            apps: Vec::new(),
        }
    }
}

/// The API side of a pretend WeChat, listening. It ends when it is dropped.
pub struct ApiServer {
    addr: SocketAddr,
    control: Control,
    closing: DropGuard,
    task: JoinHandle<()>,
}

impl ApiServer {
    /// Listens and serves.
    ///
    /// # Errors
    /// The address is in use or not ours, or an app's settings are out of their range.
    pub async fn start(settings: Settings) -> std::io::Result<Self> {
        let mut world = World::new(settings.environment);
        for app in settings.apps {
            world
                .put_app(app)
                .map_err(|flaw| std::io::Error::new(std::io::ErrorKind::InvalidInput, flaw))?;
        }
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind(settings.listen).await?;
        let addr = listener.local_addr()?;
        let closing = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::clone(&world), closing.clone()));
        Ok(Self {
            addr,
            control: Control::new(world),
            closing: closing.drop_guard(),
            task,
        })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What takes the place of `https://api.weixin.qq.com`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The control surface, without HTTP.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Accepts no more, and returns when what is under way is answered, or cut after a second.
    pub async fn stop(self) {
        drop(self.closing);
        // A panic of the task was reported by its own thread.
        let _ = self.task.await;
    }
}

/// Its address; what it knows is for the control surface.
impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

async fn serve(listener: TcpListener, world: Arc<Mutex<World>>, closing: CancellationToken) {
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let open = GracefulShutdown::new();
    let cut = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, peer) = accept(&listener).await;
            let world = Arc::clone(&world);
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                exchange::answer(Arc::clone(&world), peer, request.map(Body::new))
            });
            let connection = protocol.serve_connection(TokioIo::new(stream), service);
            let connection = open.watch(connection);
            let cut = cut.clone();
            tokio::spawn(async move {
                // A connection that breaks, or is told to, is the client's to notice.
                let _ = cut.run_until_cancelled_owned(connection).await;
                drop(place);
            });
        }
    };
    let _ = closing.run_until_cancelled(accepting).await;
    drop(listener);
    let _ = tokio::time::timeout(STOP_TIME, open.shutdown()).await;
    cut.cancel();
}

async fn accept(listener: &TcpListener) -> (TcpStream, IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // An answer is one small write. A socket without the option is slower, not wrong.
                let _ = stream.set_nodelay(true);
                return (stream, peer.ip());
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
