//! HTTP to WeChat: one pool of connections, the base addresses, limits on time and bytes. Knows
//! nothing of accounts and tokens.
//!
//! Addresses hold tokens and secrets in their queries, so no error here repeats one, redirects are not
//! followed, and the environment's proxies are left aside: what an operator wants between goes into
//! `wechat.api_base`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Body, Response, Url};
use wxhost_wechat::api::{self, Request};

/// How long a connection may take to come about; then the next address is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call may take at most, whatever its caller would wait. WeChat's own clients wait 5 s.
pub const CALL_CEILING: Duration = Duration::from_secs(10);
/// Idle connections kept per address: as many calls as a busy host makes at once.
const IDLE_CONNECTIONS: usize = 64;
/// How long an idle connection is kept. WeChat closes at 60 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How long an address that could not be connected to is left alone while there are others.
const ADDRESS_REST: Duration = Duration::from_secs(10);
/// Bytes of an answer that is read whole: the longest (lists of materials, ten thousand open ids) have
/// about 1 MiB.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Why a body that comes piece by piece came to no end. A type of its own, so that it can be found in what
/// the HTTP client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfinishedBody {
    /// A piece did not come in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// Its sender's connection broke off.
    #[error("the body broke off")]
    Lost,
}

/// Why there is no answer of WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No address takes connections: nothing was sent.
    #[error("wechat cannot be reached")]
    Unreachable,
    /// The connection broke off; whether WeChat has done what it was asked is unknown.
    #[error("the connection to wechat broke off")]
    Broken,
    /// There was no answer in time; whether WeChat has done what it was asked is unknown.
    #[error("wechat does not answer in time")]
    Timeout,
    /// The answer is larger than the host reads.
    #[error("the answer of wechat is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// The body that was to be sent came to no end: WeChat can't have done anything with it.
    #[error(transparent)]
    Body(UnfinishedBody),
    /// Something between answers for WeChat (502 and the like).
    #[error("the answer has http status {0}")]
    Status(u16),
}

/// Why the transport could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A base address is not one.
    #[error("{0:?} is not an http:// or https:// address without a query")]
    Address(String),
    /// The HTTP client could not be made.
    #[error("the http client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// A request to be sent as it is, but for the base address.
#[derive(Debug)]
pub(crate) struct ApiRequest<'a> {
    pub(crate) method: http::Method,
    /// With a leading slash, as it stands in the request line; of a signed request with its query.
    pub(crate) path: &'a str,
    /// What is added to the query, not yet URL-encoded.
    pub(crate) query: Vec<(&'a str, &'a str)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
}

/// What is sent.
#[derive(Debug)]
pub enum Payload {
    /// It can be sent again.
    Whole(Bytes),
    /// It comes piece by piece and can be sent only once.
    Stream(Body),
}

/// The connections to WeChat.
#[derive(Debug)]
pub struct Transport {
    http: reqwest::Client,
    addresses: Vec<Address>,
    started: Instant,
}

#[derive(Debug)]
struct Address {
    base: Url,
    /// Milliseconds after `started` until which it is left alone.
    resting_until_ms: AtomicU64,
}

impl Transport {
    /// Prepares connections to `base`, and to `backups` where `base` takes none.
    ///
    /// # Errors
    /// An address that is none.
    pub fn open(base: &str, backups: &[String]) -> Result<Self, OpenError> {
        // Somebody else in this process may have said so already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(OpenError::Client)?;
        let addresses = std::iter::once(base)
            .chain(backups.iter().map(String::as_str))
            .map(Address::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            http,
            addresses,
            started: Instant::now(),
        })
    }

    /// Makes a typed call and reads the answer whole. `token` goes into the query first.
    pub(crate) async fn exchange(
        &self,
        request: &Request,
        token: Option<&str>,
        deadline: tokio::time::Instant,
    ) -> Result<Bytes, TransportError> {
        let mut query: Vec<_> = token
            .map(|token| (request.token_name, token))
            .into_iter()
            .collect();
        query.extend(
            request
                .query
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let mut headers = HeaderMap::new();
        let body = request.json().map(str::to_owned).unwrap_or_default();
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, json);
        }
        let outgoing = ApiRequest {
            method: method(request.method),
            path: &request.path,
            query,
            headers,
            body: Payload::Whole(body.into()),
        };
        let deadline = deadline.min(tokio::time::Instant::now() + CALL_CEILING);
        let answer = async {
            let response = self.send(outgoing).await?;
            whole(response).await
        };
        let timeout = tokio::time::timeout_at(deadline, answer);
        timeout.await.unwrap_or(Err(TransportError::Timeout))
    }

    /// Sends a request to the first address that takes connections; the answer's body is still to come.
    pub(crate) async fn send(&self, outgoing: ApiRequest<'_>) -> Result<Response, TransportError> {
        let mut body = Some(outgoing.body);
        for address in self.in_order() {
            let this = match body.take() {
                Some(Payload::Whole(bytes)) => {
                    body = Some(Payload::Whole(bytes.clone()));
                    Body::from(bytes)
                }
                Some(Payload::Stream(stream)) => stream,
                None => break,
            };
            let sending = self
                .http
                .request(outgoing.method.clone(), address.url(outgoing.path))
                .query(&outgoing.query)
                .headers(outgoing.headers.clone())
                .body(this)
                .send();
            // In a box: the compiler cannot lay out what all of HTTP and all of a caller would nest to.
            match Box::pin(sending).await {
                Ok(response) => return Ok(response),
                Err(error) if let Some(why) = unfinished(&error) => {
                    return Err(TransportError::Body(why));
                }
                Err(error) if error.is_connect() => self.rest(address),
                Err(error) if error.is_timeout() => return Err(TransportError::Timeout),
                Err(_) => return Err(TransportError::Broken),
            }
        }
        Err(TransportError::Unreachable)
    }

    /// Addresses that took connections lately, then the others: one of them may do again.
    fn in_order(&self) -> impl Iterator<Item = &Address> {
        let now = self.elapsed_ms();
        let rests =
            move |address: &&Address| address.resting_until_ms.load(Ordering::Relaxed) > now;
        let ready = self.addresses.iter().filter(move |address| !rests(address));
        ready.chain(self.addresses.iter().filter(rests))
    }

    fn rest(&self, address: &Address) {
        let now = self.elapsed_ms();
        let until = now + u64::try_from(ADDRESS_REST.as_millis()).unwrap_or(u64::MAX);
        // One line for each rest, not for each call.
        if address.resting_until_ms.swap(until, Ordering::Relaxed) <= now {
            tracing::warn!(wechat.address = %address.base, "an address of wechat takes no connections");
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Address {
    fn parse(text: &str) -> Result<Self, OpenError> {
        let refused = || OpenError::Address(text.to_owned());
        let base: Url = text.parse().map_err(|_| refused())?;
        let plain = matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.query().is_none()
            && base.fragment().is_none()
            && base.username().is_empty()
            && base.password().is_none();
        if !plain {
            return Err(refused());
        }
        Ok(Self {
            base,
            resting_until_ms: AtomicU64::new(0),
        })
    }

    /// A path under the base address, which may have one itself.
    fn url(&self, path_and_query: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = match path_and_query.split_once('?') {
            None => (path_and_query, None),
            Some((path, query)) => (path, Some(query)),
        };
        url.set_query(query);
        match self.base.path() {
            "/" => url.set_path(path),
            prefix => url.set_path(&format!("{}{path}", prefix.trim_end_matches('/'))),
        }
        url
    }
}

/// Whether a request failed because its own body did.
fn unfinished(error: &reqwest::Error) -> Option<UnfinishedBody> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(why) = error.downcast_ref() {
            return Some(*why);
        }
        cause = error.source();
    }
    None
}

fn method(method: api::Method) -> http::Method {
    match method {
        api::Method::Get => http::Method::GET,
        api::Method::Post => http::Method::POST,
    }
}

/// An answer's body, if it is WeChat's and not too large.
async fn whole(mut response: Response) -> Result<Bytes, TransportError> {
    // WeChat answers 200 to everything.
    if response.status() != StatusCode::OK {
        return Err(TransportError::Status(response.status().as_u16()));
    }
    let announced = response.content_length().unwrap_or(0);
    if announced > MAX_ANSWER_BYTES as u64 {
        return Err(TransportError::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|_| TransportError::Broken)? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(TransportError::TooLarge);
        }
        if body.is_empty() && piece.len() as u64 == announced {
            return Ok(piece);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
