//! Who answers a request: what a listener serves, put together from what each lane offers.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use axum::{BoxError, Router};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, Map};
use tower::Service;

/// Answers a request whose path has been read: the text is what follows the prefix.
type Answer = dyn Fn(String, Request<Body>) -> BoxFuture<'static, Response> + Send + Sync;

/// Who is at the other end of a request's connection: a client, or the proxy before it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// All addresses of a listener, with a short way for what nearly all requests are: a `POST` to one prefix
/// goes straight to its handler. Whatever looks odd goes through the router.
#[derive(Clone)]
pub struct Routes {
    direct: Option<Direct>,
    router: Router,
    /// Of a listener's connection.
    peer: Option<Peer>,
}

/// The short way.
#[derive(Clone)]
struct Direct {
    prefix: &'static str,
    answer: Arc<Answer>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("direct", &self.direct.as_ref().map(|direct| direct.prefix))
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        Self {
            direct: None,
            router,
            peer: None,
        }
    }
}

impl Routes {
    /// With a short way to what a `POST` below `prefix` is answered by. The router knows these addresses
    /// too: it takes those in which something is escaped.
    #[must_use]
    pub fn direct(
        mut self,
        prefix: &'static str,
        answer: impl Fn(String, Request<Body>) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    ) -> Self {
        self.direct = Some(Direct {
            prefix,
            answer: Arc::new(answer),
        });
        self
    }

    /// The same for the requests of one connection.
    #[must_use]
    pub(super) fn of_connection(&self, peer: IpAddr) -> Self {
        Self {
            peer: Some(Peer(peer.to_canonical())),
            ..self.clone()
        }
    }

    /// With the addresses of `others` too.
    #[must_use]
    pub fn merge(mut self, others: Router) -> Self {
        self.router = self.router.merge(others);
        self
    }
}

/// What follows the prefix in the path of a request that needs no router: nothing in it is escaped.
fn rest_of<'a, B>(prefix: &str, request: &'a Request<B>) -> Option<&'a str> {
    let rest = request.uri().path().strip_prefix(prefix)?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let plain = !rest.is_empty() && rest.bytes().all(is_word);
    (plain && request.method() == Method::POST).then_some(rest)
}

type Answered = Result<Response, Infallible>;

impl<B> Service<Request<B>> for Routes
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        Map<BoxFuture<'static, Response>, fn(Response) -> Answered>,
        RouteFuture<Infallible>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let direct = self.direct.as_ref();
        let found = direct.and_then(|direct| Some((direct, rest_of(direct.prefix, &request)?)));
        let Some((direct, rest)) = found else {
            if let Some(peer) = self.peer {
                request.extensions_mut().insert(peer);
            }
            return Either::Right(self.router.call(request));
        };
        let rest = rest.to_owned();
        Either::Left(
            (direct.answer)(rest, request.map(Body::new)).map(Ok as fn(Response) -> Answered),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_deliveries_take_the_short_way() {
        for (method, path, expected) in [
            (Method::POST, "/callback/wx01?nonce=1", Some("wx01")),
            (Method::POST, "/callback/gh_a-1", Some("gh_a-1")),
            (Method::GET, "/callback/wx01", None),
            (Method::POST, "/callback/wx%30", None),
            (Method::POST, "/callback/", None),
            (Method::POST, "/callback/wx01/", None),
            (Method::POST, "/api/v1/tenants", None),
        ] {
            let request = Request::builder().method(&method).uri(path);
            let request = request.body(()).unwrap();
            assert_eq!(rest_of("/callback/", &request), expected, "{method} {path}");
        }
    }
}
