//! Every address of the host, in one place. The admin API's are listed in [`super::admin`], those for
//! tenants' own systems in [`super::tenant`].

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use super::admin::{self, AdminState};
use super::callback::{self, CallbackState};
use super::health::{self, HealthState};
use super::tenant::{self, TenantState};

/// What WeChat's servers and tenants' own systems call.
pub fn public(callbacks: CallbackState, tenants: TenantState) -> Router {
    Router::new()
        .route(
            "/callback/{app_id}",
            get(callback::verify).post(callback::receive),
        )
        .route("/healthz", get(health::healthz))
        .with_state(Arc::new(callbacks))
        .merge(tenant::routes(tenants))
}

/// What the operator calls.
pub fn operator(admin: AdminState, health: HealthState) -> Router {
    Router::new()
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(health)
        .merge(admin::routes(admin))
}
