//! Every address of the host, in one place. The admin API's are listed in [`super::admin`], those for
//! tenants' own systems in [`super::tenant`].

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request};
use axum::response::Response;
use axum::routing::future::RouteFuture;
use axum::routing::get;
use axum::{BoxError, Router};
use futures::future::Either;
use tower::Service;

use super::admin::{self, AdminState};
use super::callback::{self, CallbackState};
use super::health;
use super::tenant::{self, TenantState};
use crate::services::Services;

/// Where a callback is delivered, but for the account's id.
const CALLBACK: &str = "/callback/";

/// Who is at the other end of a request's connection: a client, or the proxy before it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// All addresses of a listener, with a short way for what nearly all requests are: a delivery of a
/// callback goes straight to its handler. Whatever looks odd goes through the router.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Of a listener that WeChat calls.
    callbacks: Option<Arc<CallbackState>>,
    router: Router,
    /// Of a listener's connection.
    peer: Option<Peer>,
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        Self {
            callbacks: None,
            router,
            peer: None,
        }
    }
}

/// What WeChat's servers and tenants' own systems call.
pub fn public(callbacks: CallbackState, tenants: TenantState) -> Routes {
    let callbacks = Arc::new(callbacks);
    let router = Router::new()
        .route(
            &format!("{CALLBACK}{{app_id}}"),
            get(callback::verify).post(callback::receive),
        )
        .with_state(Arc::clone(&callbacks))
        .merge(health::liveness())
        .merge(tenant::routes(tenants));
    Routes {
        callbacks: Some(callbacks),
        router,
        peer: None,
    }
}

impl Routes {
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

/// The account's id in the path of a delivery that needs no router: nothing in it is escaped.
fn delivered_to<B>(request: &Request<B>) -> Option<&str> {
    let app_id = request.uri().path().strip_prefix(CALLBACK)?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let plain = !app_id.is_empty() && app_id.bytes().all(is_word);
    (plain && request.method() == Method::POST).then_some(app_id)
}

impl<B> Service<Request<B>> for Routes
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>,
        RouteFuture<Infallible>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (Some(callbacks), Some(app_id)) = (&self.callbacks, delivered_to(&request)) else {
            if let Some(peer) = self.peer {
                request.extensions_mut().insert(peer);
            }
            return Either::Right(self.router.call(request));
        };
        let (callbacks, app_id) = (Arc::clone(callbacks), app_id.to_owned());
        let request = request.map(Body::new);
        Either::Left(Box::pin(async move {
            Ok(callback::deliver(&callbacks, &app_id, request).await)
        }))
    }
}

/// What the operator calls.
pub fn operator(admin: AdminState, services: Arc<Services>) -> Router {
    health::routes(services).merge(admin::routes(admin))
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
            assert_eq!(delivered_to(&request), expected, "{method} {path}");
        }
    }
}
