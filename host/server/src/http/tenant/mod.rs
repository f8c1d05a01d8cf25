//! What tenants' own systems call, each with an API key: the access token, signatures for pages, and
//! WeChat's API itself, passed on with the token added.
//!
//! | address | grant |
//! |---|---|
//! | `GET /api/v1/accounts/{app_id}/access-token` | `access-token` |
//! | `GET /api/v1/accounts/{app_id}/jssdk-signature?url=` | `jssdk-signature` |
//! | `POST /api/v1/accounts/{app_id}/session`, `GET …/users/{open_id}/profile` | `login` |
//! | `POST /api/v1/accounts/{app_id}/push/{kind}`, `…/pushes` and below | `push` |
//! | `POST`, `GET /api/v1/accounts/{app_id}/pay/orders` and below | `pay`; to give money back `refund`, too |
//! | `GET` or `POST /wechat/{app_id}/{path}` | `forward`, or `forward:` and a prefix of the path |
//!
//! In the place of bearing its key, a request below `/api/v1/` may be signed (`signed`).
//!
//! They are served where WeChat's callbacks are (`listen`), not with the admin API: a tenant's systems
//! have no business on the operator's network, and the admin token no use here. Every handler takes a
//! `Caller`, which only a request with a good key can be, within its rate.

mod access_token;
mod caller;
mod forward;
mod jssdk;
mod login;
pub(super) mod pay;
mod push;
mod signed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{Router, middleware, routing};
use tokio::sync::Semaphore;
use utoipa::{OpenApi, openapi};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::caller::Caller;
use super::{error, extract::max_body};
use crate::{audit::Audit, inbox::Nonces, keys::RateLimits, login::LoginLane, services::Services};

/// Requests of tenants' systems at the same time on one host. Each may hold 512 KiB of a body.
const CONCURRENT: usize = 512;

/// What the routes work with.
#[derive(Clone, Debug)]
struct TenantState {
    services: Arc<Services>,
    logins: Arc<LoginLane>,
    /// How often a key may ask.
    rates: RateLimits,
    /// Where failed sign-ins at this door are noted.
    failures: Audit,
    /// Nonces that came with signed requests.
    nonces: Arc<Nonces>,
    /// Requests under way.
    places: Arc<Semaphore>,
}

impl TenantState {
    fn new(logins: Arc<LoginLane>) -> Self {
        let services = Arc::clone(logins.services());
        Self {
            rates: RateLimits::new(services.store.clone(), services.clock),
            failures: services.audit.of_another_door(),
            services,
            logins,
            nonces: Arc::default(),
            places: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }
}

/// The routes.
pub fn routes(logins: Arc<LoginLane>) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .route(
            "/api/v1/accounts/{app_id}/jssdk-signature",
            routing::options(jssdk::preflight),
        )
        .route("/wechat/{app_id}/{*path}", routing::any(forward::forward))
        .layer(middleware::from_fn(error::identify))
        .with_state(TenantState::new(logins))
}

/// Their part of the API's description. What WeChat describes is left to WeChat.
pub(super) fn document() -> openapi::OpenApi {
    described().split_for_parts().1
}

#[derive(OpenApi)]
struct Document;

fn described() -> OpenApiRouter<TenantState> {
    let pushes = OpenApiRouter::new()
        .routes(routes!(push::make))
        .routes(routes!(push::forecast))
        .routes(routes!(push::schedule));
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(access_token::give))
        .routes(routes!(jssdk::sign))
        .routes(routes!(login::session))
        .routes(routes!(login::profile))
        .routes(routes!(pay::list_orders, pay::make_order))
        .routes(routes!(pay::show_order))
        .routes(routes!(pay::query_order))
        .routes(routes!(pay::close_order))
        .routes(routes!(pay::refund_order))
        .routes(routes!(pay::show_refund))
        .routes(routes!(push::list))
        .routes(routes!(push::show))
        .routes(routes!(push::recipients_of))
        .routes(routes!(push::table_of))
        .routes(routes!(push::recall))
        .routes(routes!(push::schedules_of))
        .routes(routes!(push::pause_schedule))
        .routes(routes!(push::resume_schedule))
        .routes(routes!(push::unschedule))
        .routes(routes!(push::pause))
        .routes(routes!(push::resume))
        .routes(routes!(push::cancel))
        .merge(max_body(pushes, push::MAX_BODY_BYTES))
}
