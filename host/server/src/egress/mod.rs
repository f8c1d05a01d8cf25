//! HTTP from plugins to their tenants' own systems, and nowhere else.
//!
//! Nothing may be reached by default. A request passes three gates: the [`Sender`]'s grant names its
//! host; the address that is connected to is public, or in a network that the operator names
//! ([`address`]); and every redirect passes both again. Who is granted what is decided by
//! `crate::grants`.
//!
//! Each request has a connection of its own: a pooled one would carry a request to where another
//! tenant's request, or an earlier answer of the name's DNS, had led.

pub mod address;
mod headers;
mod redirect;
mod resolve;
mod secrets;
mod target;
#[cfg(test)]
mod tests;
mod turns;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use thiserror::Error;
use tokio::time::Instant;

use self::address::{AddressPolicy, Network};
use self::redirect::OutboundRequest;
use self::resolve::{CheckedResolver, NoneReachable};
pub use self::resolve::{Resolve, SystemResolver};
use self::secrets::{Filled, SecretFiller};
pub use self::target::Target;
use self::turns::Turns;
use crate::secrets::Secrets;

/// Longest body of a request, secrets filled in, in bytes.
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// Parts of a body.
const MAX_BODY_PARTS: usize = 1024;

/// Longest body of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Longest time from a plugin's request to the end of its answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one tenant under way; one slow back end must not use up the host's.
const MAX_PER_TENANT: usize = 16;

/// Requests under way on this host. Each may hold 1.3 MiB: a request's body and an answer.
const MAX_ON_HOST: usize = 256;

/// What may be done to a resource. `CONNECT` and `TRACE` are about the way there.
const METHODS: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
];

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EgressError {
    /// Holds `name` or `name:port`.
    #[error("{0} is not granted")]
    NotGranted(String),
    /// The name resolves to nothing that may be reached, or the URL holds such an address.
    #[error("the host has no address that may be reached")]
    AddressRefused,
    /// Says which argument, and how it is wrong.
    #[error("{0}")]
    InvalidArgument(String),
    /// The deployment has no secret of this name.
    #[error("there is no secret {0:?}")]
    UnknownSecret(String),
    /// The deployment does not let the secret of this name go there.
    #[error("the secret {0:?} may not go to this host")]
    SecretNotForHost(String),
    /// The answer to a request with a secret is compressed or partial: what it repeats of the secret
    /// could not be taken out.
    #[error("the answer is compressed or partial, and may repeat a secret")]
    AnswerRefused,
    /// No connection, a broken one, or a TLS failure.
    #[error("the host cannot be reached")]
    Unreachable,
    /// No whole answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The answer's body or header is too large.
    #[error("the answer is too large")]
    TooLarge,
    /// Too many redirects, or one to where the plugin may not go.
    #[error("a redirect is refused")]
    RedirectRefused,
}

impl EgressError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotGranted(_) => "not-granted",
            Self::AddressRefused => "address-refused",
            Self::InvalidArgument(_) => "invalid-argument",
            Self::UnknownSecret(_) => "unknown-secret",
            Self::SecretNotForHost(_) => "secret-not-for-host",
            Self::AnswerRefused => "answer-refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too-large",
            Self::RedirectRefused => "redirect-refused",
        }
    }
}

/// On whose behalf a request goes out.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    /// The tenant's id, which concurrency is bounded by.
    pub tenant: &'a str,
    /// Whether manifest and operator grant a target. Asked for every hop.
    pub granted: &'a (dyn Fn(&Target<'_>) -> bool + Sync),
    /// The deployment's secrets.
    pub secrets: &'a Secrets,
    /// When the plugin's call ends.
    pub deadline: Instant,
}

/// A piece of a header's value or of a body. A secret is a piece of its own: no text is ever searched for
/// one.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes, whoever wrote them.
    Bytes(Vec<u8>),
    /// The secret of this name.
    Secret(String),
}

/// Says no more than the log may hold.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Secret(name) => write!(f, "Secret({name:?})"),
        }
    }
}

/// A request as a plugin gives it. Nothing in it has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, Vec<Part>)>,
    /// The body.
    pub body: Vec<Part>,
    /// To the end of the answer; clamped to 1 ms … 10 s.
    pub timeout: Duration,
}

/// Says no more than the log may hold.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// An answer of any status.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Sends plugins' requests.
pub struct Egress {
    http: reqwest::Client,
    policy: Arc<AddressPolicy>,
    turns: Turns,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// Ready to send to public addresses and to `allowed` networks.
    ///
    /// # Errors
    /// TLS can't be set up: the system has no root certificates.
    pub fn new(allowed: Vec<Network>, resolver: Arc<dyn Resolve>) -> Result<Self, reqwest::Error> {
        // Another client of this process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(AddressPolicy::new(allowed));
        let checked = CheckedResolver::new(resolver, Arc::clone(&policy));
        let http = reqwest::Client::builder()
            .user_agent(concat!("wxhost/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(checked)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            http,
            policy,
            turns: Turns::new(MAX_PER_TENANT, MAX_ON_HOST),
        })
    }

    /// Sends a request, follows redirects, and waits for the whole answer.
    ///
    /// # Errors
    /// See [`EgressError`]. After `Timeout` and `Unreachable` the request may have taken effect.
    pub async fn fetch(
        &self,
        sender: Sender<'_>,
        request: Request,
    ) -> Result<Response, EgressError> {
        let started = Instant::now();
        let timeout = request.timeout.clamp(Duration::from_millis(1), MAX_TIMEOUT);
        let end = sender.deadline.min(started + timeout);
        let fetched = tokio::time::timeout_at(end, self.fetch_all(sender, request)).await;
        let fetched = fetched.unwrap_or(Err(EgressError::Timeout));
        tracing::debug!(
            tenant = sender.tenant,
            http.status = fetched.as_ref().ok().map(|response| response.status),
            code = fetched.as_ref().err().map(EgressError::code),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a plugin's request has ended"
        );
        fetched
    }

    async fn fetch_all(
        &self,
        sender: Sender<'_>,
        request: Request,
    ) -> Result<Response, EgressError> {
        let method = method(&request.method)?;
        let url = target::parse(&request.url)?;
        let first = Target::of(&url).ok_or(EgressError::AddressRefused)?;
        self.check(sender, &first)?;
        let mut filler = SecretFiller::new(sender.secrets, first);
        let mut headers = headers::outward(request.headers, &mut filler)?;
        let body = body(request.body, &mut filler)?;
        if filler.has_filled() {
            headers::demand_legible(&mut headers)?;
        }
        let mut outgoing = OutboundRequest {
            method,
            url: url.clone(),
            headers,
            body: Bytes::from(body.bytes),
            secret_body: body.secret,
        };
        let turn = self.turns.wait(sender.tenant).await;
        let _turn = turn.ok_or(EgressError::Unreachable)?;
        let mut answer = self.send(sender.tenant, &outgoing).await?;
        for followed in 0.. {
            let location = answer.headers().get(header::LOCATION);
            let Some(next) = outgoing.redirected(answer.status(), location)? else {
                break;
            };
            if followed == MAX_REDIRECTS {
                return Err(EgressError::RedirectRefused);
            }
            outgoing = next;
            let refused = |error| match error {
                EgressError::NotGranted(_) | EgressError::AddressRefused => {
                    EgressError::RedirectRefused
                }
                other => other,
            };
            self.check(sender, &outgoing.target()?).map_err(refused)?;
            answer = self.send(sender.tenant, &outgoing).await.map_err(refused)?;
        }
        read(answer, &filler).await
    }

    /// Whether a request may go where it would. The addresses of names are checked as they are
    /// connected to; the HTTP client asks no resolver for an address that stands in the URL itself.
    fn check(&self, sender: Sender<'_>, target: &Target<'_>) -> Result<(), EgressError> {
        if !(sender.granted)(target) {
            return Err(EgressError::NotGranted(target.to_string()));
        }
        match target.literal_address() {
            Some(address) if !self.policy.permits(address) => Err(EgressError::AddressRefused),
            _ => Ok(()),
        }
    }

    async fn send(
        &self,
        tenant: &str,
        outgoing: &OutboundRequest,
    ) -> Result<reqwest::Response, EgressError> {
        let request = self
            .http
            .request(outgoing.method.clone(), outgoing.url.clone())
            .headers(outgoing.headers.clone());
        // An empty body would still announce its length where none is expected.
        let request = match outgoing.body.is_empty() && outgoing.method != Method::POST {
            true => request,
            false => request.body(outgoing.body.clone()),
        };
        let sent = resolve::on_behalf_of(tenant, request.send()).await;
        sent.map_err(|error| failure(&error))
    }
}

fn method(given: &str) -> Result<Method, EgressError> {
    let known = METHODS.iter().find(|method| method.as_str() == given);
    known.cloned().ok_or_else(|| {
        let known = "method: not GET, POST, PUT, PATCH, DELETE or HEAD";
        EgressError::InvalidArgument(known.to_owned())
    })
}

fn body(parts: Vec<Part>, filler: &mut SecretFiller<'_>) -> Result<Filled, EgressError> {
    if parts.len() > MAX_BODY_PARTS {
        let reason = format!("body: more than {MAX_BODY_PARTS} parts");
        return Err(EgressError::InvalidArgument(reason));
    }
    filler.fill("body", parts, MAX_REQUEST_BYTES)
}

async fn read(
    mut answer: reqwest::Response,
    filler: &SecretFiller<'_>,
) -> Result<Response, EgressError> {
    if filler.has_filled() && !headers::is_legible(answer.status(), answer.headers()) {
        return Err(EgressError::AnswerRefused);
    }
    let headers = headers::inward(answer.headers(), filler)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(EgressError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let body = filler.mask(body);
    // Names may be longer than the secrets whose place they take.
    if body.len() > MAX_ANSWER_BYTES {
        return Err(EgressError::TooLarge);
    }
    Ok(Response {
        status: answer.status().as_u16(),
        headers,
        body,
    })
}

fn failure(error: &reqwest::Error) -> EgressError {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NoneReachable>() {
            return EgressError::AddressRefused;
        }
        cause = error.source();
    }
    EgressError::Unreachable
}
