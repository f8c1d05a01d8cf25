//! Listening: connections bounded in number, in all and for each peer, and in time; a way to stop that
//! answers what is under way.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, PATIENCE};
use super::peers::{PeerPlace, Peers};
use super::router::Routes;
use crate::egress::address::AddressPolicy;

/// How long a client may take over the headers of a request, or be idle between two: a slow one must
/// not hold a place for ever.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How old a connection may grow: the next answer is its last one. A proxy opens another.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How long that last answer may take; then the connection is cut. No request takes so long.
const LAST_ANSWER: Duration = Duration::from_secs(300);
/// Bytes of a connection's buffer in the host, each way: the head of a request has to fit in.
const BUFFER_BYTES: usize = 32 << 10;
/// Bytes that the system may hold of what a client has not taken yet; it takes twice as much.
const SEND_BUFFER_BYTES: u32 = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after a connection could not be accepted (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections there may be at the same time.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// In all; more wait to be accepted.
    pub all: usize,
    /// Of one public address; more are closed at once. Other addresses (loopback, private) are the
    /// operator's own proxies, which call for many.
    pub per_peer: usize,
}

/// How long a connection may take over what.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// To take what it is sent.
    patience: Duration,
    lifetime: Duration,
    last_answer: Duration,
}

const TIMES: Times = Times {
    patience: PATIENCE,
    lifetime: LIFETIME,
    last_answer: LAST_ANSWER,
};

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    limits: ConnectionLimits,
    times: Times,
}

/// What a connection holds while it is open.
struct Places {
    _of_peer: Option<PeerPlace>,
    _of_all: OwnedSemaphorePermit,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// It is in use, or not ours.
    pub fn bind(address: SocketAddr, limits: ConnectionLimits) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        // What is accepted takes it over.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        Ok(Self {
            listener,
            limits,
            times: TIMES,
        })
    }

    /// The address, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `closing`; then accepts no more, and returns when what is under way has
    /// been answered.
    pub async fn serve(self, routes: Routes, closing: CancellationToken) {
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(BUFFER_BYTES)
            // Answers are short: to copy one behind its head is cheaper than a gathered write.
            .writev(false);
        let open = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits.all));
        let peers = Peers::new(self.limits.per_peer);
        let shared = Serving {
            protocol,
            routes,
            closing: closing.clone(),
            times: self.times,
        };
        let accepting = async {
            loop {
                // The semaphore is never closed.
                let Ok(of_all) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let (stream, address) = self.accept().await;
                let Some(of_peer) = peer_place(&peers, address.ip()) else {
                    tracing::debug!(peer = %address.ip(), "a peer has too many connections: one was closed");
                    continue;
                };
                let places = Places {
                    _of_peer: of_peer,
                    _of_all: of_all,
                };
                let serving = shared.to(address.ip()).serve(stream);
                open.spawn(async move {
                    serving.await;
                    drop(places);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = closing.cancelled() => {}
        }
        drop(self.listener);
        open.close();
        open.wait().await;
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // An answer is one small write: to wait for a full packet would only delay it.
                    // A socket that does not take the option is slower, not wrong.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A place among those of a peer, where it has a share; nothing where its share is used up.
fn peer_place(peers: &Peers, address: IpAddr) -> Option<Option<PeerPlace>> {
    if AddressPolicy::default().permits(address) {
        peers.place(address).map(Some)
    } else {
        Some(None)
    }
}

/// What the connections of a listener have in common.
#[derive(Clone)]
struct Serving {
    protocol: http1::Builder,
    routes: Routes,
    closing: CancellationToken,
    times: Times,
}

impl Serving {
    /// For one connection.
    fn to(&self, peer: IpAddr) -> Self {
        Self {
            routes: self.routes.of_connection(peer),
            ..self.clone()
        }
    }

    /// Serves one connection to its end.
    async fn serve(self, stream: TcpStream) {
        let io = TokioIo::new(Connection::new(stream, self.times.patience));
        let service = TowerToHyperService::new(self.routes);
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = ends(self.closing, self.times.lifetime) => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(self.times.last_answer, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "a connection was lost");
        }
    }
}

/// When a connection has to give its last answer: the host stops, or it is old.
async fn ends(closing: CancellationToken, lifetime: Duration) {
    // Either way.
    let _ = tokio::time::timeout(lifetime, closing.cancelled()).await;
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        all: 64,
        per_peer: 64,
    };

    /// Serves an address with a small answer and one with an endless one.
    fn serve(times: Times, closing: &CancellationToken) -> (SocketAddr, JoinHandle<()>) {
        let endless = || async {
            let zeros = axum::body::Bytes::from_static(&[0; 64 << 10]);
            let pieces =
                futures::stream::repeat_with(move || Ok::<_, std::io::Error>(zeros.clone()));
            axum::body::Body::from_stream(pieces)
        };
        let router = Router::new()
            .route("/small", get(|| async { "small" }))
            .route("/endless", get(endless));
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), LIMITS).unwrap();
        listener.times = times;
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(listener.serve(router.into(), closing.clone()));
        (address, serving)
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_socket_that_reads_nothing_does_not_stay() {
        let closing = CancellationToken::new();
        let times = Times {
            patience: Duration::from_millis(20),
            ..TIMES
        };
        let (address, serving) = serve(times, &closing);
        let _unread = ask(address, "/endless").await;
        let mut answered = ask(address, "/small").await;
        answered.read_u8().await.unwrap();
        closing.cancel();
        // Nobody waits for the one that reads nothing.
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_old_connection_is_cut_however_much_it_reads() {
        let closing = CancellationToken::new();
        let times = Times {
            lifetime: Duration::from_millis(20),
            last_answer: Duration::from_millis(20),
            ..TIMES
        };
        let (address, _serving) = serve(times, &closing);
        let mut stream = ask(address, "/endless").await;
        let mut piece = vec![0; 64 << 10];
        while stream.read(&mut piece).await.is_ok_and(|bytes| bytes > 0) {}
    }

    #[tokio::test]
    async fn stopping_answers_what_is_under_way_and_waits_for_nobody_idle() {
        let closing = CancellationToken::new();
        let (address, serving) = serve(TIMES, &closing);
        let mut idle = ask(address, "/small").await;
        let mut answer = vec![0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
        closing.cancel();
        serving.await.unwrap();
        idle.read_to_end(&mut answer).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn operators_own_proxies_have_no_share() {
        let peers = Peers::new(0);
        for (address, place) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("100.64.0.1", true),
            ("fd00::1", true),
            ("1.1.1.1", false),
            ("2606:4700::1111", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(peer_place(&peers, address).is_some(), place, "{address}");
        }
    }
}
