//! Listening: connections bounded in number, headers in time, and a way to stop that answers what is
//! under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::router::Front;

/// Connections at the same time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take over the headers of a request, or be idle between two: a slow one must
/// not hold a place for ever.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// It is in use, or not ours.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener })
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
    pub async fn serve(self, front: Front, closing: CancellationToken) {
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            // Answers are short: to copy one behind its head is cheaper than a gathered write.
            .writev(false);
        let service = TowerToHyperService::new(front);
        let open = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = async {
            loop {
                // The semaphore is never closed.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let stream = self.accept().await;
                let connection = protocol.serve_connection(TokioIo::new(stream), service.clone());
                let connection = open.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(error = %error, "a connection was lost");
                    }
                    drop(place);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = closing.cancelled() => {}
        }
        drop(self.listener);
        open.shutdown().await;
    }

    async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // An answer is one small write: to wait for a full packet would only delay it.
                    // A socket that does not take the option is slower, not wrong.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
