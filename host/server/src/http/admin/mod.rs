//! The admin API, `/api/v1`: what an operator's programs and the command line call.
//!
//! Every handler takes an `Operator`, which only a request with the admin token can be. Bodies are
//! bounded, unknown fields are refused, and every refusal names the field.

mod accounts;
mod addresses;
mod audit;
mod calls;
mod contacts;
mod deployments;
mod keys;
mod kv;
mod outbox;
mod quota;
mod tenants;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::FromRequestParts,
    http::{StatusCode, header, request::Parts},
    middleware,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error::{self, ApiError, RequestId},
    extract::{JsonBody, Path, Query, max_body},
    openapi::Document,
    tenant,
};
use crate::{
    accounts::Accounts, audit::Author, client::Client, clock::Clock, db::Database, keys::ApiKeys,
    plugins::Plugins, seal::MasterKeys, store::Store, tokens::Tokens,
};

/// Bytes of a deployment's body: a large component (a script engine has 18 MB) in Base64.
const MAX_DEPLOYMENT_BYTES: usize = 64 << 20;

/// Items of a page, where the caller does not say.
const PAGE_ITEMS: u32 = 50;

/// Items of a page at most.
const MAX_PAGE_ITEMS: u32 = 200;

/// What the admin routes work with.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// What is read.
    pub db: Database,
    /// How other hosts hear of a change.
    pub store: Store,
    /// Seals what must stay secret.
    pub keys: Arc<MasterKeys>,
    /// What is changed.
    pub accounts: Arc<Accounts>,
    /// By what right tenants' systems call.
    pub api_keys: Arc<ApiKeys>,
    /// What is deployed.
    pub plugins: Arc<Plugins>,
    /// Calls WeChat.
    pub client: Arc<Client>,
    /// What WeChat is called with.
    pub tokens: Arc<Tokens>,
    /// Tells the time.
    pub clock: Clock,
    /// What a request must bring.
    pub token: SecretString,
}

impl AdminState {
    /// Takes over a change that is stored, and tells the other hosts. They see it in a second even if
    /// this fails, so a failure is not the caller's.
    async fn announce(&self) {
        if let Err(error) = self
            .accounts
            .refresh()
            .await
            .and(self.api_keys.refresh().await)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a change is stored, but will be seen later"
            );
        }
        if let Some(redis) = self.store.shared() {
            // Redis logs its own absence.
            let _ = redis.publish_change().await;
        }
    }
}

/// The routes of the admin API.
pub fn routes(state: AdminState) -> Router {
    let (router, _) = described().split_for_parts();
    let document = Arc::new(document());
    router
        .route(
            "/api/v1/openapi.json",
            axum::routing::get(move || async move { Json(Arc::clone(&document)) }),
        )
        .route("/api/{*rest}", axum::routing::any(no_such_route))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(error::identify))
        .with_state(state)
}

/// The description of these routes, and of those for tenants' systems, which are served elsewhere.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = described().split_for_parts().1;
    document.merge(tenant::document());
    document
}

/// The routes with their descriptions.
fn described() -> OpenApiRouter<AdminState> {
    let deployments = OpenApiRouter::new().routes(routes!(deployments::list, deployments::deploy));
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tenants::list, tenants::add))
        .routes(routes!(tenants::show))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::show, accounts::change))
        .routes(routes!(accounts::rotate_key))
        .routes(routes!(tokens::refresh))
        .routes(routes!(tokens::clear_attention))
        .routes(routes!(addresses::lift))
        .routes(routes!(addresses::probe))
        .routes(routes!(quota::clear))
        .routes(routes!(quota::trace))
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

/// Whoever has the admin token. A handler that takes it cannot be reached without.
struct Operator {
    request_id: Arc<str>,
}

impl Operator {
    /// Who it is, for the audit.
    fn author(&self) -> Author {
        Author::admin(&*self.request_id)
    }
}

impl FromRequestParts<AdminState> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AdminState,
    ) -> Result<Self, Self::Rejection> {
        let given = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(ApiError::unauthorized)?;
        let wanted = state.token.expose_secret();
        // Equal lengths are compared without a hint at the first difference; no token at all fits
        // nothing.
        if !wanted.is_empty() && bool::from(given.as_bytes().ct_eq(wanted.as_bytes())) {
            let id = parts.extensions.get::<RequestId>();
            Ok(Self {
                request_id: id.map_or_else(Arc::default, |id| Arc::clone(&id.0)),
            })
        } else {
            Err(ApiError::unauthorized())
        }
    }
}

/// How many items a page has.
fn page_items(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit.unwrap_or(PAGE_ITEMS) {
        limit @ 1..=MAX_PAGE_ITEMS => Ok(limit),
        _ => Err(ApiError::invalid(
            "limit",
            format_args!("must be 1 to {MAX_PAGE_ITEMS}"),
        )),
    }
}

/// Refuses an account that is not there.
async fn expect_account(state: &AdminState, app_id: &str) -> Result<(), ApiError> {
    match crate::db::accounts::find(&state.db, app_id).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found("account", app_id)),
    }
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
