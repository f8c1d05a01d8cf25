//! `GET /api/v1/accounts/{app_id}/jssdk-signature?url=`: what `wx.config` wants, for pages of the
//! account's own sites.
//!
//! As a rule a tenant's back end asks and renders the answer into its page. A page may also ask by
//! itself, from another origin than the host's, but only with a key that can do nothing else: that key
//! stands in the page for everybody to read. So the answer lets a browser read it
//! (`Access-Control-Allow-Origin`) if the page's origin is one of the account's and `jssdk-signature`
//! is all that the key is granted; what such a key gives away is what any visitor of the site gets.
//! The answer to a browser's question beforehand (preflight) is the same for every account, there or
//! not.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};
use utoipa::{IntoParams, ToSchema};
use wxhost_wechat::jssdk::{self, PageUrl};

use super::{Caller, TenantState, access_token::NO_STORE};
use crate::{
    accounts::Account,
    audit::Action,
    http::{
        error::{ApiError, ErrorBody},
        extract::{Path, Query},
    },
    keys::Grant,
    random,
    tokens::Credential,
};

/// How long a caller waits for a ticket that has to be fetched first.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a browser remembers the answer to its question beforehand, in seconds.
const PREFLIGHT_KEPT: &str = "600";

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `location.href` of the page; what follows `#` is left aside.
    url: String,
}

/// The members of `wx.config` that a page can't know by itself, under WeChat's names.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signature {
    /// The account.
    app_id: String,
    /// Unix seconds.
    timestamp: u64,
    /// Fresh for each signature.
    nonce_str: String,
    /// Over the ticket, which stays here, and the rest.
    #[schema(example = "0f9de62fce790f9a083d5c99e95740ceb90c27ed")]
    signature: String,
}

/// Signs the address of a page on one of the account's `jssdk_origins`.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/jssdk-signature", tag = "for tenants' systems", params(("app_id" = String, Path), PageQuery), security(("api_key" = [])), responses(
    (status = 200, body = Signature),
    (status = "4XX", body = ErrorBody),
    (status = "5XX", body = ErrorBody),
))]
pub(super) async fn sign(
    caller: Caller,
    State(state): State<TenantState>,
    Path(app_id): Path<String>,
    Query(query): Query<PageQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let signed = signature(&state, &caller, &app_id, &query.url).await;
    // The page's path is the tenant's business; its origin tells enough.
    let origin = jssdk::page_url(&query.url).map(|page| page.origin());
    let act = (
        Action::JssdkSignature,
        &*app_id,
        &*origin.unwrap_or_default(),
    );
    caller.note(&state, act, signed.as_ref().map(|_| "ok"));
    let (account, signature) = signed?;
    let mut response = (NO_STORE, Json(signature)).into_response();
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("origin"));
    if caller.key.grants.is_only(&Grant::JssdkSignature)
        && let Some(origin) = headers.get(header::ORIGIN)
        && allows(&account, origin.to_str().unwrap_or_default())
    {
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    Ok(response)
}

async fn signature(
    state: &TenantState,
    caller: &Caller,
    app_id: &str,
    url: &str,
) -> Result<(std::sync::Arc<Account>, Signature), ApiError> {
    let account = caller.account(state, app_id)?;
    caller.expect(&Grant::JssdkSignature)?;
    let page = jssdk::page_url(url).map_err(|error| ApiError::invalid("url", error))?;
    expect_origin(&account, &page)?;
    let tokens = state.services.client.tokens();
    let deadline = Instant::now() + PATIENCE;
    let ticket = tokens
        .get(&account, Credential::JsapiTicket, deadline)
        .await?;
    let timestamp = state.services.clock.now_seconds().unsigned_abs();
    let nonce_str = hex::encode(random::sixteen());
    let signature = jssdk::signature(ticket.expose(), &nonce_str, timestamp, &page);
    let app_id = app_id.to_owned();
    let signature = Signature {
        app_id,
        timestamp,
        nonce_str,
        signature,
    };
    Ok((account, signature))
}

fn expect_origin(account: &Account, page: &PageUrl<'_>) -> Result<(), ApiError> {
    let origin = page.origin();
    if allows(account, &origin) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "origin-not-allowed",
        format!("{origin} is not one of the account's jssdk_origins"),
    ))
}

/// Whole origins only: scheme, host and port are all that a browser keeps sites apart by.
fn allows(account: &Account, origin: &str) -> bool {
    account
        .credentials
        .jssdk_origins
        .iter()
        .any(|allowed| allowed == origin)
}

/// A browser's question beforehand. It brings no key, so it is answered alike for every account.
pub(super) async fn preflight() -> impl IntoResponse {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, x-wxhost-key",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_KEPT),
    ];
    (StatusCode::NO_CONTENT, HEADERS)
}
