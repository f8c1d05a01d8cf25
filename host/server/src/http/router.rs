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

/// Answers a request that goes the short way.
type Answer = dyn Fn(Request<Body>) -> BoxFuture<'static, Response> + Send + Sync;

/// Who is at the other end of a request's connection: a client, or the proxy before it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// All addresses of a listener, with a short way for what nearly all requests are: a `POST` to a path of a
/// certain form goes straight to its handler. Whatever looks odd goes through the router.
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
    takes: fn(&str) -> bool,
    answer: Arc<Answer>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("direct", &self.direct.is_some())
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
    /// With a short way to what a `POST` to a path that is taken is answered by. The router knows these
    /// addresses too: it takes those in which something is escaped.
    #[must_use]
    pub fn direct(
        mut self,
        takes: fn(&str) -> bool,
        answer: impl Fn(Request<Body>) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    ) -> Self {
        self.direct = Some(Direct {
            takes,
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
        let is_direct = |direct: &&Direct| {
            request.method() == Method::POST && (direct.takes)(request.uri().path())
        };
        let Some(direct) = self.direct.as_ref().filter(is_direct) else {
            if let Some(peer) = self.peer {
                request.extensions_mut().insert(peer);
            }
            return Either::Right(self.router.call(request));
        };
        Either::Left((direct.answer)(request.map(Body::new)).map(Ok as fn(Response) -> Answered))
    }
}
