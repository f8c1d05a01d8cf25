//! `/healthz`, `/readyz`, `/metrics`: for load balancers and monitoring.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::services::Services;

/// What monitoring asks, on the operator's listener.
pub fn routes(services: Arc<Services>) -> Router {
    Router::new()
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(services)
}

/// What load balancers ask where WeChat calls.
pub fn liveness() -> Router {
    Router::new().route("/healthz", get(healthz))
}

/// The state of what the host stands on.
#[derive(Debug, Serialize)]
struct Readiness {
    database: &'static str,
    store: &'static str,
}

/// The process is alive.
async fn healthz() -> &'static str {
    "ok"
}

/// The host can do its work. Callbacks of known accounts are answered even when it is not ready.
async fn readyz(State(services): State<Arc<Services>>) -> impl IntoResponse {
    let database = services.db.ping().await.is_ok();
    let store = match services.store.shared() {
        None => true,
        Some(redis) => redis.answers().await,
    };
    let word = |there: bool| if there { "ok" } else { "away" };
    let readiness = Readiness {
        database: word(database),
        store: word(store),
    };
    let status = if database && store {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

/// Metrics in Prometheus' text format.
async fn metrics(State(services): State<Arc<Services>>) -> impl IntoResponse {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    services
        .metrics
        .accounts
        .set(number(services.accounts.len()));
    let loaded = number(services.runtime.loaded_count());
    services.metrics.loaded_plugins.set(loaded);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        services.metrics.to_text(),
    )
}
