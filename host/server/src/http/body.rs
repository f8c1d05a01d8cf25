//! Reading bodies that strangers send: bounded in bytes and time, each and all together, and, where one
//! is refused, so that its sender hears why.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, header};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::client::UnfinishedBody;

/// How much is read of a body, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a body that is taken.
    pub(crate) bytes: usize,
    /// How long it may take to arrive.
    pub(crate) time: Duration,
    /// Bytes of a refused body that are read: a connection that is closed with bytes unread takes the
    /// answer with it.
    pub(crate) discarded_bytes: usize,
    /// How long those may take.
    pub(crate) discard_time: Duration,
}

/// The first bytes of a body, which need no room in a [`ReadBudget`]: nearly all bodies have no more, and
/// must not be kept out by large ones. How many there can be is bounded by the number of connections.
const FREE_BYTES: usize = 16 << 10;

/// How long one piece of a body may take to arrive.
pub(super) const PIECE_TIME: Duration = Duration::from_secs(10);

/// How many bytes of large bodies may be held at the same time, over all requests that share it.
#[derive(Clone, Debug)]
pub(crate) struct ReadBudget(Arc<Semaphore>);

impl ReadBudget {
    /// Of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }
}

/// A body, and its part of the budget until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadBody {
    bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    /// The bytes, for as long as this is kept.
    pub(crate) fn share(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The bytes alone; their part of the budget is given back.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Bytes that no budget counts.
impl From<Bytes> for ReadBody {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, _held: None }
    }
}

impl Deref for ReadBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// It has more bytes than are taken, or says so.
    #[error("the body is too large")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Too many bytes of others are held now.
    #[error("too many large bodies are being read at the same time")]
    Busy,
    /// The connection broke off.
    #[error("the body broke off")]
    Lost,
}

/// How long a body says that it is.
pub(crate) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The whole body. One that is too large, or says that it will be, is read to its end within reason.
pub(crate) async fn read(
    body: Body,
    headers: &HeaderMap,
    limits: Limits,
) -> Result<Bytes, ReadError> {
    let read = read_by(body, headers, limits, None).await;
    read.map(ReadBody::into_bytes)
}

/// The same, with room for it in `budget`.
pub(crate) async fn read_within(
    budget: &ReadBudget,
    body: Body,
    headers: &HeaderMap,
    limits: Limits,
) -> Result<ReadBody, ReadError> {
    read_by(body, headers, limits, Some(budget)).await
}

/// A body as it comes, each piece in so much time: a sender that stops, or breaks off, ends it.
pub(super) fn pieces(
    body: Body,
    piece_time: Duration,
) -> impl Stream<Item = Result<Bytes, UnfinishedBody>> + Send {
    stream::unfold(Some(body.into_data_stream()), move |chunks| async move {
        let mut chunks = chunks?;
        match timeout(piece_time, chunks.next()).await {
            Ok(piece) => match piece? {
                Ok(piece) => Some((Ok(piece), Some(chunks))),
                Err(_) => Some((Err(UnfinishedBody::Lost), None)),
            },
            Err(_) => Some((Err(UnfinishedBody::TooSlow), None)),
        }
    })
}

/// Lets a body go by whose sender was refused before it was read.
pub(crate) async fn let_go(body: Body, limits: Limits) {
    let rest = discard(body.into_data_stream(), limits.discarded_bytes);
    // Whether it was in time or not, the answer is the same.
    let _ = timeout(limits.discard_time, rest).await;
}

async fn read_by(
    body: Body,
    headers: &HeaderMap,
    limits: Limits,
    budget: Option<&ReadBudget>,
) -> Result<ReadBody, ReadError> {
    let mut chunks = body.into_data_stream();
    let announced = announced_bytes(headers);
    let read = if announced.is_some_and(|bytes| bytes > limits.bytes as u64) {
        Err(ReadError::TooLarge)
    } else {
        let collected = collect(&mut chunks, limits.bytes, (budget, PIECE_TIME));
        timeout(limits.time, collected)
            .await
            .unwrap_or(Err(ReadError::TooSlow))
    };
    if matches!(read, Err(ReadError::TooLarge | ReadError::Busy)) {
        let rest = discard(chunks, limits.discarded_bytes);
        let _ = timeout(limits.discard_time, rest).await;
    }
    read
}

/// What a body has brought so far. No room is made for what is announced and not yet there.
enum Collected {
    /// Nearly all bodies come in one piece, which is not copied.
    One(Bytes),
    More(Vec<u8>),
}

async fn collect(
    chunks: &mut BodyDataStream,
    most: usize,
    (budget, piece_time): (Option<&ReadBudget>, Duration),
) -> Result<ReadBody, ReadError> {
    let mut collected = Collected::One(Bytes::new());
    let mut held: Option<OwnedSemaphorePermit> = None;
    let mut length = 0;
    while let Some(chunk) = timeout(piece_time, chunks.next())
        .await
        .map_err(|_| ReadError::TooSlow)?
    {
        let chunk = chunk.map_err(|_| ReadError::Lost)?;
        let before = length;
        length += chunk.len();
        if length > most {
            return Err(ReadError::TooLarge);
        }
        if let Some(budget) = budget
            && length > FREE_BYTES
        {
            let more = length - before.max(FREE_BYTES);
            let more = take(budget, more)?;
            match &mut held {
                None => held = Some(more),
                Some(held) => held.merge(more),
            }
        }
        collected = match collected {
            Collected::One(first) if first.is_empty() => Collected::One(chunk),
            Collected::One(first) => Collected::More([&*first, &*chunk].concat()),
            Collected::More(mut whole) => {
                whole.extend_from_slice(&chunk);
                Collected::More(whole)
            }
        };
    }
    let bytes = match collected {
        Collected::One(bytes) => bytes,
        Collected::More(whole) => whole.into(),
    };
    Ok(ReadBody { bytes, _held: held })
}

fn take(budget: &ReadBudget, bytes: usize) -> Result<OwnedSemaphorePermit, ReadError> {
    let bytes = u32::try_from(bytes).map_err(|_| ReadError::TooLarge)?;
    let semaphore = Arc::clone(&budget.0);
    semaphore
        .try_acquire_many_owned(bytes)
        .map_err(|_| ReadError::Busy)
}

async fn discard(mut chunks: BodyDataStream, most: usize) {
    let mut bytes = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        bytes += chunk.len();
        if bytes > most {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures::FutureExt;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 10,
        time: Duration::from_secs(5),
        discarded_bytes: 100,
        discard_time: Duration::from_secs(5),
    };

    /// So many chunks of 8 bytes, and how many of them were taken.
    fn chunks(count: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&taken);
        let chunks = stream::iter(0..count).map(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"12345678"))
        });
        (Body::from_stream(chunks), taken)
    }

    fn announcing(bytes: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, bytes.parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn a_refused_body_is_read_to_its_end_but_not_without_end() {
        for (headers, count, expected) in [
            (announcing("72"), 9, 9),
            (HeaderMap::new(), 9, 9),
            (announcing("99999999999999999999"), 9, 9),
            (announcing("9000"), 1000, 13),
            (HeaderMap::new(), 1000, 15),
        ] {
            let (body, taken) = chunks(count);
            assert_eq!(read(body, &headers, LIMITS).await, Err(ReadError::TooLarge));
            assert_eq!(taken.load(Ordering::Relaxed), expected);
        }
    }

    /// Pieces of 8 KiB, as many as were let through, and no end.
    fn unfinished(count: usize) -> Body {
        let chunks = stream::iter(0..count)
            .map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8 << 10])));
        Body::from_stream(chunks.chain(stream::pending()))
    }

    #[tokio::test]
    async fn large_bodies_that_never_end_leave_room_for_small_ones() {
        let limits = Limits {
            bytes: 1 << 20,
            discard_time: Duration::ZERO,
            ..LIMITS
        };
        let budget = ReadBudget::new(64 << 10);
        let none = HeaderMap::new();
        // They bring 48 KiB each, 32 of them beyond what is free, and wait.
        let mut waiting: Vec<_> = (0..2)
            .map(|_| Box::pin(read_within(&budget, unfinished(6), &none, limits)))
            .collect();
        for read in &mut waiting {
            assert!(read.as_mut().now_or_never().is_none());
        }
        let third = read_within(&budget, unfinished(6), &none, limits).await;
        assert_eq!(third.unwrap_err(), ReadError::Busy);
        let small = Body::from(vec![b'x'; FREE_BYTES]);
        let small = read_within(&budget, small, &none, limits).await;
        assert_eq!(small.unwrap().len(), FREE_BYTES);
        // Who hangs up gives its room back; what was read keeps it until it is dropped.
        drop(waiting.pop());
        let large = || Body::from(vec![b'x'; 48 << 10]);
        let kept = read_within(&budget, large(), &none, limits).await.unwrap();
        let next = read_within(&budget, large(), &none, limits).await;
        assert_eq!(next.unwrap_err(), ReadError::Busy);
        drop(kept);
        assert!(read_within(&budget, large(), &none, limits).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_given_up() {
        let mut chunks = unfinished(1).into_data_stream();
        let collected = collect(&mut chunks, 1 << 20, (None, Duration::from_millis(10))).await;
        assert_eq!(collected.unwrap_err(), ReadError::TooSlow);
    }

    #[tokio::test]
    async fn a_body_that_passes_as_it_comes_ends_with_a_piece_that_does_not() {
        let passing = pieces(unfinished(2), Duration::from_millis(10));
        let passed: Vec<_> = passing
            .map(|piece| piece.map(|piece| piece.len()))
            .collect()
            .await;
        assert_eq!(
            passed,
            [Ok(8 << 10), Ok(8 << 10), Err(UnfinishedBody::TooSlow)]
        );
        let whole = pieces(Body::from("abc"), PIECE_TIME);
        let whole: Vec<_> = whole.collect().await;
        assert_eq!(whole, [Ok(Bytes::from("abc"))]);
    }

    #[tokio::test]
    async fn a_body_is_taken_whole_or_not() {
        let (body, _) = chunks(1);
        let whole = read(body, &announcing("8"), LIMITS).await;
        assert_eq!(whole.unwrap(), "12345678");
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let hasty = Limits {
            time: Duration::ZERO,
            ..LIMITS
        };
        assert_eq!(
            read(never, &HeaderMap::new(), hasty).await,
            Err(ReadError::TooSlow)
        );
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        let read = read(Body::from_stream(broken), &HeaderMap::new(), LIMITS).await;
        assert_eq!(read, Err(ReadError::Lost));
    }
}
