//! A connection whose other end must take what it is sent: one that does not, or takes it by the drop,
//! is cut, and with it ends whatever it held.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a client may let the host wait with something to send, before any of it is taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How fast a client must take what it is sent, beyond that: the slowest phone line does.
const LEAST_BYTES_PER_SECOND: u32 = 4 << 10;

/// A client's connection.
pub(super) struct Connection {
    stream: TcpStream,
    credit: Credit,
    /// While the client lets the host wait: since when, and the end of its credit.
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

/// How long a client may let the host wait. Time in which it takes nothing is taken from its credit, what
/// it takes fills the credit up again. So a client that stops is cut when its patience is over, and one
/// that takes less than [`LEAST_BYTES_PER_SECOND`] a little later, however it spreads its reading.
struct Credit {
    most: Duration,
    left: Duration,
}

impl Credit {
    fn new(most: Duration) -> Self {
        Self { most, left: most }
    }

    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    fn taken(&mut self, bytes: usize) {
        if self.left < self.most {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let earned = Duration::from_secs(bytes.into()) / LEAST_BYTES_PER_SECOND;
            self.left = self.most.min(self.left + earned);
        }
    }
}

impl Connection {
    /// With so much patience for its client.
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Self {
            stream,
            credit: Credit::new(patience),
            waiting: None,
        }
    }

    /// What a write has come to: counted, or cut off when the client's credit is used up.
    fn counted(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Some(waiting) = self.waiting.take() {
                self.credit.waited(waiting.since.elapsed());
            }
            if let Ok(bytes) = written {
                self.credit.taken(bytes);
            }
            return Poll::Ready(written);
        }
        let credit = self.credit.left;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            end: Box::pin(tokio::time::sleep(credit)),
        });
        ready!(waiting.end.as_mut().poll(context));
        // What still lies in the system's buffers would keep the socket for minutes more.
        let _ = self.stream.set_zero_linger();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.counted(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.counted(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A connection whose buffers are small, and its other end.
    async fn pair(patience: Duration) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let client = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Connection::new(stream, patience), client)
    }

    /// More than all buffers between the two hold.
    const MUCH: usize = 16 << 20;

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_cut() {
        let (mut connection, _client) = pair(Duration::from_millis(20)).await;
        let error = connection.write_all(&vec![0; MUCH]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_client_that_reads_by_the_drop_uses_up_its_credit() {
        let second = Duration::from_secs(1);
        let rounds = |bytes: usize| {
            let mut credit = Credit::new(PATIENCE);
            let mut rounds = 0;
            // Less is left than it lets the host wait: it is cut.
            while credit.left > second && rounds < 1000 {
                credit.waited(second);
                credit.taken(bytes);
                rounds += 1;
            }
            rounds
        };
        let least = LEAST_BYTES_PER_SECOND as usize;
        for (bytes, expected) in [(0, 9), (1, 10), (least / 2, 18), (least, 1000)] {
            assert_eq!(rounds(bytes), expected, "{bytes} bytes a second");
        }
        // To read much at once buys no more patience than there was.
        let mut credit = Credit::new(PATIENCE);
        credit.waited(Duration::from_secs(1));
        credit.taken(usize::MAX);
        assert_eq!(credit.left, PATIENCE);
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_all_of_it() {
        let (mut connection, mut client) = pair(PATIENCE).await;
        let writing = tokio::spawn(async move {
            connection.write_all(&vec![7; MUCH]).await.unwrap();
            connection.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), MUCH);
        writing.await.unwrap();
    }
}
