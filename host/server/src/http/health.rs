//! `/healthz`, `/readyz`, `/metrics`: for load balancers and monitoring.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use wxhost_runtime::Runtime;

use crate::accounts::Accounts;
use crate::db::Database;
use crate::store::Store;
use crate::telemetry::Metrics;

/// What the health routes look at.
#[derive(Clone)]
pub struct HealthState {
    /// Is it there?
    pub db: Database,
    /// Is it there?
    pub store: Store,
    /// How many are known?
    pub accounts: Arc<Accounts>,
    /// Where plugins are loaded.
    pub runtime: Arc<Runtime>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for HealthState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthState").finish_non_exhaustive()
    }
}

/// The state of what the host stands on.
#[derive(Debug, Serialize)]
struct Readiness {
    database: &'static str,
    store: &'static str,
}

/// The process is alive.
pub async fn healthz() -> &'static str {
    "ok"
}

/// The host can do its work. Callbacks of known accounts are answered even when it is not ready.
pub async fn readyz(State(state): State<HealthState>) -> impl IntoResponse {
    let database = state.db.ping().await.is_ok();
    let store = match state.store.shared() {
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
pub async fn metrics(State(state): State<HealthState>) -> impl IntoResponse {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    state.metrics.accounts.set(number(state.accounts.len()));
    let loaded = number(state.runtime.loaded_count());
    state.metrics.loaded_plugins.set(loaded);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        state.metrics.to_text(),
    )
}
