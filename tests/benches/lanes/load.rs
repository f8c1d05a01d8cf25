//! The load generator: requests are built, signed and encrypted before the clock starts; then so many
//! kept connections send them as fast as they are answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wxhost_simulator::{
    Callback, Envelope, SimulatedAccount, Stamp, SystemEnvironment, UserAction,
};
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::OpenId;

use crate::settings::size;

/// Connections that WeChat keeps, so to speak, where a table does not say.
pub(crate) const CONNECTIONS: usize = 64;

/// People who write.
const PEOPLE: usize = 100_000;
/// What users' texts begin with: what most callbacks are. Each goes on in another way.
const TEXTS: [&str; 4] = [
    "请问今天几点开门？",
    "订单",
    "I would like to book a table for",
    "好的",
];
/// What a text goes on with, for as long as it takes.
const MORE: &str = "谢谢，我想知道更多一些，please，";

/// A round of load, ready to be sent.
pub(crate) struct Load {
    /// For each connection, its requests one after another, and where each ends.
    connections: Vec<(Vec<u8>, Vec<usize>)>,
    marker: &'static [u8],
}

/// How a round went.
pub(crate) struct Round {
    /// From the first byte to the last answer.
    pub(crate) took: Duration,
    /// Of each request, in order of length.
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    /// `count` texts with message ids of their own, spread over accounts, people and `connections`.
    pub(crate) fn build(
        accounts: &[SimulatedAccount],
        count: usize,
        connections: usize,
    ) -> Result<Self> {
        let mode = accounts.first().context("an account")?.mode;
        let people = size("BENCH_PEOPLE", PEOPLE);
        let mut connections: Vec<_> = (0..connections).map(|_| (Vec::new(), Vec::new())).collect();
        let lines = connections.len();
        for number in 0..count {
            let account = &accounts[number % accounts.len()];
            // A step that shares no divisor with the number of people: all of them write in turn.
            let person = number * 7_919 % people;
            let user = OpenId::parse(&format!("oBench{person:022}"))?;
            let action = UserAction::text(&text(number));
            let callback = Callback::compose(account, &user, &action, &SystemEnvironment);
            let envelope = Envelope::seal(account, &callback, &stamp(), &SystemEnvironment);
            let (bytes, ends) = &mut connections[number % lines];
            write_request(bytes, account, &envelope);
            ends.push(bytes.len());
        }
        let marker: &[u8] = if mode == Mode::Plain {
            b"<Content>"
        } else {
            b"<Encrypt>"
        };
        Ok(Self {
            connections,
            marker,
        })
    }

    /// Sends everything and checks every answer.
    pub(crate) async fn send(self, port: u16) -> Result<Round> {
        let mut streams = Vec::new();
        for _ in 0..self.connections.len() {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let started = Instant::now();
        let mut senders = JoinSet::new();
        for ((bytes, ends), stream) in self.connections.into_iter().zip(streams) {
            senders.spawn(send_all(stream, bytes, ends, self.marker));
        }
        let mut latencies = Vec::new();
        while let Some(sent) = senders.join_next().await {
            latencies.append(&mut sent??);
        }
        let took = started.elapsed();
        latencies.sort_unstable();
        Ok(Round { took, latencies })
    }
}

/// What the sender of a callback writes: short mostly, and now and then long.
fn text(number: usize) -> String {
    let more = number % 97 / 8;
    format!(
        "{} {number}{}",
        TEXTS[number % TEXTS.len()],
        MORE.repeat(more)
    )
}

/// Signed now, with a nonce that nobody has used: by chance two of so many would be alike, and the host
/// would take the second for a replay.
fn stamp() -> Stamp {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000_000);
    Stamp {
        nonce: NEXT.fetch_add(1, Ordering::Relaxed).to_string(),
        ..Stamp::fresh(&SystemEnvironment)
    }
}

fn write_request(bytes: &mut Vec<u8>, account: &SimulatedAccount, envelope: &Envelope) {
    // Every value is letters and digits: nothing to percent-encode.
    let query: Vec<String> = envelope
        .query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let path = match &account.component {
        None => format!("/callback/{}", account.app_id),
        Some(platform) => format!("/component/{platform}/callback/{}", account.app_id),
    };
    let head = format!(
        "POST {path}?{} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Mozilla/4.0\r\nAccept: */*\r\n\
         Content-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
        query.join("&"),
        envelope.body.len()
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&envelope.body);
}

async fn send_all(
    mut stream: TcpStream,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    marker: &[u8],
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(ends.len());
    let mut answer = vec![0; 16 << 10];
    let mut start = 0;
    for end in ends {
        let sent = Instant::now();
        stream.write_all(&bytes[start..end]).await?;
        start = end;
        let length = read_answer(&mut stream, &mut answer).await?;
        latencies.push(sent.elapsed());
        check(&answer[..length], marker)?;
    }
    Ok(latencies)
}

/// Reads one answer; gives its length.
async fn read_answer(stream: &mut TcpStream, answer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    loop {
        let read = stream.read(&mut answer[length..]).await?;
        ensure!(read > 0, "the connection was closed");
        length += read;
        if complete(&answer[..length])? {
            return Ok(length);
        }
    }
}

fn complete(answer: &[u8]) -> Result<bool> {
    let Some(head) = find(answer, b"\r\n\r\n") else {
        return Ok(false);
    };
    let name = b"content-length: ";
    let at = answer[..head]
        .windows(name.len())
        .position(|bytes| bytes.eq_ignore_ascii_case(name));
    let digits = at.context("no content-length")? + name.len();
    let length: usize = answer[digits..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    Ok(answer.len() >= head + 4 + length)
}

fn check(answer: &[u8], marker: &[u8]) -> Result<()> {
    if answer.starts_with(b"HTTP/1.1 200") && find(answer, marker).is_some() {
        return Ok(());
    }
    bail!("a text was answered {:?}", String::from_utf8_lossy(answer))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|bytes| bytes == part)
}
