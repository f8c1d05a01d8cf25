//! Every address of the host, in one place. The admin API's are listed in [`super::admin`].

use axum::Router;
use axum::routing::get;

use super::admin::{self, AdminState};
use super::callback::{self, CallbackState};
use super::health::{self, HealthState};

/// What WeChat's servers call.
pub fn public(state: CallbackState) -> Router {
    Router::new()
        .route(
            "/callback/{app_id}",
            get(callback::verify).post(callback::receive),
        )
        .route("/healthz", get(health::healthz))
        .with_state(state)
}

/// What the operator calls.
pub fn operator(admin: AdminState, health: HealthState) -> Router {
    Router::new()
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(health)
        .merge(admin::routes(admin))
}
