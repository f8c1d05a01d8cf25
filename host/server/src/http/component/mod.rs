//! `/component/{component_app_id}/…`: where WeChat tells a third-party platform what happens (`events`), and
//! where a tenant's customer lets it serve their account (`invitations`, `back`). Callbacks of accounts that a
//! platform serves come to the callback lane.

mod events;
mod pages;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::http::body::ReadBudget;
use crate::platform::PlatformLane;

/// Bytes of events that are read at the same time; each is small.
const BODIES_BYTES: usize = 8 << 20;

/// What the routes work with.
#[derive(Clone)]
struct ComponentState {
    lane: Arc<PlatformLane>,
    bodies: Arc<ReadBudget>,
}

/// The routes, on the listener that WeChat reaches.
pub fn routes(lane: Arc<PlatformLane>) -> Router {
    let state = ComponentState {
        lane,
        bodies: Arc::new(ReadBudget::new(BODIES_BYTES)),
    };
    Router::new()
        .route("/component/{platform}/events", post(events::receive))
        .route(
            "/component/{platform}/invitations/{secret}",
            get(pages::invitation),
        )
        .route(
            "/component/{platform}/invitations/{secret}/qr.svg",
            get(pages::qr_code),
        )
        .route(
            "/component/{platform}/invitations/{secret}/{form}",
            get(pages::begin),
        )
        .route("/component/{platform}/back/{state}", get(pages::back))
        .with_state(state)
}
