//! A TCP relay in front of a server, so that a test can take the server away from one host and give
//! it back while everybody else goes on using it.

use std::sync::Arc;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What the relay does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Passes bytes on.
    Open,
    /// Closes every connection and every new one: the server is down.
    Cut,
    /// Keeps connections open and passes nothing: the server, or the way to it, hangs.
    Stalled,
}

/// A relay to one server.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    line: Arc<watch::Sender<Line>>,
    listening: AbortHandle,
}

impl Relay {
    /// A relay to a port of this machine.
    pub async fn to(target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let line = Arc::new(watch::Sender::new(Line::Open));
        let listening = tokio::spawn(listen(listener, target, Arc::clone(&line))).abort_handle();
        Ok(Self {
            port,
            line,
            listening,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does, for connections that are open too.
    pub fn turn(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener, target: u16, line: Arc<watch::Sender<Line>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(carry(stream, target, line.subscribe()));
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection until either side closes it or the line is cut.
async fn carry(mut near: TcpStream, target: u16, mut line: watch::Receiver<Line>) -> Option<()> {
    let state = *line.wait_for(|line| *line != Line::Stalled).await.ok()?;
    if state == Line::Cut {
        return None;
    }
    let mut far = TcpStream::connect(("127.0.0.1", target)).await.ok()?;
    let cut = tokio::select! {
        biased;
        not_open = line.wait_for(|line| *line != Line::Open) => *not_open.ok()? == Line::Cut,
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => true,
    };
    if !cut {
        // Bytes that were under way when the line stalled are lost with the copy. So a stalled
        // connection does not come back to life: it hangs, and breaks when the line is mended.
        line.wait_for(|line| *line != Line::Stalled).await.ok()?;
    }
    Some(())
}
