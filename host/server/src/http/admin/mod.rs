//! The admin API, `/api/v1`: what an operator's programs and the command line call.
//!
//! Every handler takes a permission (`permission`), which only a request with the right can become, and
//! with it what the request is about. Bodies are bounded, unknown fields are refused, and every refusal
//! names the field.

mod accounts;
mod addresses;
mod audit;
mod authorizers;
mod calls;
mod clear_quota;
mod contacts;
mod deployments;
mod events;
mod invitations;
mod keys;
mod kv;
mod merchants;
mod money;
mod open_accounts;
mod outbox;
mod permission;
mod platforms;
mod quotas;
mod tenants;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use axum::{Json, Router, http::StatusCode, middleware};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::permission::{AdminState, Look, Operator, Read, Write};
use super::{
    error::{self, ApiError},
    extract::{JsonBody, Path, Query, max_body, read_budget},
    openapi::Document,
    page::PageSize,
    tenant,
};
use crate::services::Services;

/// Bytes of a deployment's body: a large component (a script engine has 18 MB) in Base64.
const MAX_DEPLOYMENT_BYTES: usize = 64 << 20;

/// Bytes of a table of authorisers.
const MAX_TABLE_BYTES: usize = 32 << 20;

/// Bytes that the large ones of all requests under way may have together, while they are read.
const BODIES_BYTES: usize = 128 << 20;

/// The routes of the admin API, for whoever brings the token.
pub fn routes(services: Arc<Services>, token: SecretString) -> Router {
    let (router, _) = described().split_for_parts();
    let document = Arc::new(document());
    read_budget(router, BODIES_BYTES)
        .route(
            "/api/v1/openapi.json",
            axum::routing::get(move || async move { Json(Arc::clone(&document)) }),
        )
        .route("/api/{*rest}", axum::routing::any(no_such_route))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(error::identify))
        .with_state(AdminState::new(services, token))
}

/// The description of these routes, and of those for tenants' systems, which are served elsewhere.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = described().split_for_parts().1;
    document.merge(tenant::document());
    document
}

/// The routes with their descriptions.
fn described() -> OpenApiRouter<AdminState> {
    let imports = OpenApiRouter::new().routes(routes!(platforms::show_import, platforms::import));
    let deployments = OpenApiRouter::new().routes(routes!(deployments::list, deployments::deploy));
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tenants::list, tenants::add))
        .routes(routes!(tenants::show, tenants::change))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::show, accounts::change))
        .routes(routes!(accounts::rotate_key))
        .routes(routes!(tokens::refresh))
        .routes(routes!(tokens::clear_attention))
        .routes(routes!(addresses::lift))
        .routes(routes!(addresses::probe))
        .routes(routes!(clear_quota::clear))
        .routes(routes!(clear_quota::trace))
        .routes(routes!(quotas::of_account, quotas::change_of_account))
        .routes(routes!(quotas::of_tenant, quotas::change_of_tenant))
        .routes(routes!(events::list))
        .routes(routes!(events::resume))
        .routes(routes!(events::discard))
        .routes(routes!(deployments::activate))
        .routes(routes!(deployments::rollback))
        .routes(routes!(calls::list))
        .routes(routes!(calls::show))
        .routes(routes!(contacts::list))
        .routes(routes!(contacts::show_import, contacts::start_import))
        .routes(routes!(contacts::show))
        .routes(routes!(outbox::list))
        .routes(routes!(outbox::pauses, outbox::lift))
        .routes(routes!(kv::list))
        .routes(routes!(kv::get))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(platforms::list, platforms::add))
        .routes(routes!(platforms::show, platforms::change))
        .routes(routes!(platforms::rotate_key))
        .routes(routes!(platforms::clear_attention))
        .routes(routes!(platforms::start_tickets))
        .routes(routes!(platforms::clear_quota))
        .routes(routes!(platforms::events))
        .routes(routes!(invitations::list, invitations::make))
        .routes(routes!(invitations::revoke))
        .routes(routes!(authorizers::list))
        .routes(routes!(authorizers::show))
        .routes(routes!(authorizers::claim))
        .routes(routes!(
            open_accounts::show,
            open_accounts::bind,
            open_accounts::unbind
        ))
        .routes(routes!(merchants::list, merchants::add))
        .routes(routes!(merchants::show, merchants::change))
        .routes(routes!(merchants::stage_v3_key, merchants::settle_v3_key))
        .routes(routes!(merchants::add_certificate))
        .routes(routes!(merchants::remove_certificate))
        .routes(routes!(merchants::add_platform_key))
        .routes(routes!(merchants::remove_platform_key))
        .routes(routes!(merchants::bind, merchants::unbind))
        .routes(routes!(money::list_refunds))
        .routes(routes!(money::decide_refund))
        .routes(routes!(money::list_events))
        .routes(routes!(money::resume_event))
        .routes(routes!(money::flagged_notices))
        .routes(routes!(money::books))
        .routes(routes!(money::history))
        .merge(max_body(imports, MAX_TABLE_BYTES))
        .merge(max_body(deployments, MAX_DEPLOYMENT_BYTES))
}

async fn no_such_route(_: Operator) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        "there is nothing at this address; see /api/v1/openapi.json",
    )
}

async fn wrong_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        "this address does not take that method; see /api/v1/openapi.json",
    )
}

/// Text that is a secret: not in `Debug`, wiped when it is dropped.
#[derive(Clone, Debug)]
struct SecretText(SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl SecretText {
    fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}
