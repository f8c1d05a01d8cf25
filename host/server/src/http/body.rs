//! Reading bodies that strangers send: bounded in bytes and time, and, where one is refused, so that
//! its sender hears why.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, header};
use futures::StreamExt;

/// How much is read of a body, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a body that is taken.
    pub(super) bytes: usize,
    /// How long it may take to arrive.
    pub(super) time: Duration,
    /// Bytes of a refused body that are read: a connection that is closed with bytes unread takes the
    /// answer with it.
    pub(super) discarded_bytes: usize,
    /// How long those may take.
    pub(super) discard_time: Duration,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// It has more bytes than are taken, or says so.
    #[error("the body is too large")]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The connection broke off.
    #[error("the body broke off")]
    Lost,
}

/// How long a body says that it is.
pub(super) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// The whole body. One that is too large, or says that it will be, is read to its end within reason.
pub(super) async fn read(
    body: Body,
    headers: &HeaderMap,
    limits: Limits,
) -> Result<Bytes, ReadError> {
    let mut chunks = body.into_data_stream();
    let announced = announced_bytes(headers);
    let read = if announced.is_some_and(|bytes| bytes > limits.bytes as u64) {
        Err(ReadError::TooLarge)
    } else {
        let expected = announced.and_then(|bytes| usize::try_from(bytes).ok());
        let collected = collect(&mut chunks, limits.bytes, expected.unwrap_or_default());
        tokio::time::timeout(limits.time, collected)
            .await
            .unwrap_or(Err(ReadError::TooSlow))
    };
    if read == Err(ReadError::TooLarge) {
        let rest = discard(&mut chunks, limits.discarded_bytes);
        // Whether it was in time or not, the answer is the same.
        let _ = tokio::time::timeout(limits.discard_time, rest).await;
    }
    read
}

async fn collect(
    chunks: &mut BodyDataStream,
    most: usize,
    expected: usize,
) -> Result<Bytes, ReadError> {
    // What is announced is not yet there: no more room is made for it than a little.
    let mut whole = Vec::with_capacity(expected.min(64 << 10));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ReadError::Lost)?;
        if whole.len() + chunk.len() > most {
            return Err(ReadError::TooLarge);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

async fn discard(chunks: &mut BodyDataStream, most: usize) {
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

    use futures::stream;

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
