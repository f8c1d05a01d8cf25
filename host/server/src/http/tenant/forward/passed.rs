//! What passes between a tenant's system and WeChat, and how much of it.
//!
//! A body of up to 512 KiB is read first and can be sent again when WeChat refuses the token; a larger
//! one passes as it comes, once. WeChat takes no body of unknown length, so a larger one must say its
//! own, and each of its pieces has to come in time. Of headers only those pass, either way, that are on a list: nothing of the tenant's network and
//! none of its keys goes out, nothing of WeChat's that could show the token comes back.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use http_body_util::{Limited, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::{
    client::{Payload, RawResponse, UnfinishedBody},
    http::{
        body::{self, Limits, PIECE_TIME, ReadError, announced_bytes},
        error::ApiError,
        tenant::caller::Places,
    },
};

/// Bytes of a request's body, and of an answer's: the largest media have 10 MiB, news with pictures and
/// exports some more.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A body that is read before it is passed on.
const WHOLE: Limits = Limits {
    bytes: 512 << 10,
    time: Duration::from_secs(15),
    discarded_bytes: 2 * MAX_BODY_BYTES,
    discard_time: Duration::from_secs(15),
};

/// How long WeChat's answer to a whole body is waited for, and how long a stream may take either way.
const ANSWER_TIME: Duration = Duration::from_secs(10);
const STREAM_TIME: Duration = Duration::from_secs(120);

/// Headers of a request that pass. No `Range`: in pieces, the token could not be found in an answer.
const REQUEST_HEADERS: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::USER_AGENT,
];

/// Headers of an answer that pass.
const ANSWER_HEADERS: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
];

/// Leaves of a request's headers those that pass to WeChat.
pub(super) fn keep_request_headers(headers: &mut HeaderMap) {
    *headers = kept(headers, &REQUEST_HEADERS);
}

fn kept(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    names
        .iter()
        .filter_map(|name| Some((name.clone(), headers.get(name)?.clone())))
        .collect()
}

/// The body to be passed on, and its length among the headers where it comes piece by piece.
pub(super) async fn payload(headers: &mut HeaderMap, body: Body) -> Result<Payload, ApiError> {
    let announced = announced_bytes(headers);
    let passes = |bytes: &u64| *bytes > WHOLE.bytes as u64 && *bytes <= MAX_BODY_BYTES as u64;
    if announced.as_ref().is_some_and(passes) {
        let pieces = Pieces(Mutex::new(body::pieces(body, PIECE_TIME).boxed()));
        let frames = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
        return Ok(Payload::Stream(reqwest::Body::wrap(frames)));
    }
    let whole = body::read(body, headers, WHOLE)
        .await
        .map_err(|error| refusal(error, announced))?;
    headers.remove(header::CONTENT_LENGTH);
    Ok(Payload::Whole(whole))
}

fn refusal(error: ReadError, announced: Option<u64>) -> ApiError {
    let (status, code) = match (error, announced) {
        (ReadError::TooLarge, None) => {
            return ApiError::new(
                StatusCode::LENGTH_REQUIRED,
                "length-required",
                format!(
                    "a body of more than {} bytes needs a Content-Length: WeChat takes none of \
                     unknown length",
                    WHOLE.bytes
                ),
            );
        }
        (ReadError::TooLarge, Some(_)) => {
            return ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body-too-large",
                format!("the body has more than {MAX_BODY_BYTES} bytes"),
            );
        }
        (ReadError::TooSlow, _) => (StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
        (ReadError::Busy, _) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        (ReadError::Lost, _) => (StatusCode::BAD_REQUEST, "invalid-body"),
    };
    ApiError::new(status, code, error.to_string())
}

/// Until when WeChat's answer must begin.
pub(super) fn deadline(body: &Payload) -> Instant {
    Instant::now()
        + match body {
            Payload::Whole(_) => ANSWER_TIME,
            Payload::Stream(_) => STREAM_TIME,
        }
}

/// A body's pieces, for several threads in turn.
struct Pieces(Mutex<BoxStream<'static, Piece>>);

type Piece = Result<Bytes, UnfinishedBody>;

impl Stream for Pieces {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.get_mut().poll_next_unpin(context)
    }
}

/// WeChat's answer, as it comes. `places` are kept until its end.
pub(super) fn response(answer: RawResponse, places: Arc<Places>) -> Response {
    let headers = kept(&answer.headers, &ANSWER_HEADERS);
    let pieces = Body::new(Limited::new(answer.body, MAX_BODY_BYTES)).into_data_stream();
    let end = Instant::now() + STREAM_TIME;
    let bounded = stream::unfold((pieces, places), move |(mut pieces, places)| async move {
        let until = end.min(Instant::now() + PIECE_TIME);
        let piece = match timeout_at(until, pieces.next()).await {
            Ok(piece) => piece?.map_err(io::Error::other),
            Err(elapsed) => Err(elapsed.into()),
        };
        Some((piece, (pieces, places)))
    });
    let mut response = Response::new(Body::from_stream(bounded));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn only_headers_on_the_list_pass() {
        let mut given = headers(&[
            ("connection", "close, X-Odd, content-length"),
            ("x-odd", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "wxhost.example"),
            ("authorization", "Bearer wxk_1"),
            ("x-wxhost-key", "wxk_1"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "10.0.0.1"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
            ("content-length", "3"),
            ("range", "bytes=0-1"),
            ("x-new", "1"),
            ("user-agent", "WxJava"),
        ]);
        keep_request_headers(&mut given);
        let mut names: Vec<_> = given.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type", "user-agent"]);
    }

    #[tokio::test]
    async fn a_body_is_taken_whole_piece_by_piece_or_not() {
        let length = |bytes: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_LENGTH, bytes.into());
            headers
        };
        let body = || Body::from("abc");
        let mut small = length(3);
        let whole = payload(&mut small, body()).await.unwrap();
        assert!(matches!(whole, Payload::Whole(bytes) if bytes == "abc"));
        assert!(small.is_empty());
        let mut large = length(MAX_BODY_BYTES);
        let stream = payload(&mut large, body()).await.unwrap();
        assert!(matches!(stream, Payload::Stream(_)));
        assert_eq!(large.len(), 1);
        let refused = payload(&mut length(MAX_BODY_BYTES + 1), body()).await;
        assert_eq!(refused.unwrap_err().code(), "body-too-large");
        let endless = Body::from(vec![b' '; WHOLE.bytes + 1]);
        let refused = payload(&mut HeaderMap::new(), endless).await;
        assert_eq!(refused.unwrap_err().code(), "length-required");
    }
}
