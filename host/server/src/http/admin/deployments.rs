//! `/api/v1/accounts/{app_id}/deployments` and what belongs to it.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wxhost_runtime::{CallLimits, Wanted};

use super::{AdminState, JsonBody, Operator, Path, Query, SecretText, expect_account, page_items};
use crate::{
    accounts::{grants_of, handlers_of, wanted_of},
    db::{
        accounts,
        deployments::{self, DeploymentRow},
    },
    grants::Grants,
    http::error::{ApiError, ErrorBody},
    plugins::Upload,
};

/// A plugin to be deployed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginToDeploy {
    /// A component, or a core module that carries its component type, in Base64.
    #[schema(format = Byte)]
    component_base64: String,
    /// The plugin's settings; `{}` if absent. At most 64 KiB.
    #[schema(value_type = Option<Object>)]
    config: Option<Box<RawValue>>,
    /// Secrets by name; at most 32 of 4 KiB.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    secrets: BTreeMap<String, SecretText>,
    /// What a call may use; defaults where absent, cut down to the host's maxima.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: CallLimits,
}

/// A deployment, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployment {
    /// The account.
    app_id: String,
    /// 1, 2, 3 … per account.
    version: i64,
    /// SHA-256 of the component.
    digest: String,
    /// What the component handles.
    handlers: Vec<String>,
    /// What the plugin says of itself and asks for; absent when it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    manifest: Option<Box<RawValue>>,
    /// What the manifest asks for and the operator does not grant to the account now, or not in full.
    not_granted: NotGranted,
    /// Bytes of the component.
    size: i64,
    /// The plugin's settings.
    #[schema(value_type = Object)]
    config: Box<RawValue>,
    /// What a call may use.
    #[schema(value_type = Object)]
    limits: Box<RawValue>,
    /// Whether it serves the account now.
    active: bool,
    /// Unix milliseconds.
    created_at: i64,
}

/// What a plugin asks for and does not get.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NotGranted {
    /// Prefixes of paths of WeChat's API.
    api: Vec<String>,
    /// Origins of the tenant's own systems.
    egress: Vec<String>,
}

impl From<Wanted> for NotGranted {
    fn from(missing: Wanted) -> Self {
        Self {
            api: missing.api.into_iter().map(String::from).collect(),
            egress: missing.egress.into_iter().map(String::from).collect(),
        }
    }
}

/// A page of deployments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployments {
    /// Newest first.
    deployments: Vec<Deployment>,
    /// Give it as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Which deployments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeploymentQuery {
    /// Below this version.
    before: Option<i64>,
    /// 1 to 200; 50 if absent.
    limit: Option<u32>,
}

/// Deploys a plugin and makes it the active one.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/deployments", tag = "plugins", params(("app_id" = String, Path)), request_body = PluginToDeploy, responses(
    (status = 201, body = Deployment),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn deploy(
    operator: Operator,
    State(state): State<AdminState>,
    Path(app_id): Path<String>,
    JsonBody(body): JsonBody<PluginToDeploy>,
) -> Result<(StatusCode, Json<Deployment>), ApiError> {
    let secrets = body.secrets.into_iter();
    let upload = Upload {
        component: component(&body.component_base64)?,
        config: body.config,
        secrets: secrets.map(|(name, text)| (name, text.0)).collect(),
        limits: body.limits,
    };
    let row = state
        .plugins
        .deploy(&app_id, upload, &operator.author())
        .await?;
    state.announce().await;
    let grants = grants(&state, &app_id).await?;
    Ok((StatusCode::CREATED, Json(view(row, true, &grants)?)))
}

/// Lists an account's deployments.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/deployments", tag = "plugins", params(("app_id" = String, Path), DeploymentQuery), responses(
    (status = 200, body = Deployments),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    _: Operator,
    State(state): State<AdminState>,
    Path(app_id): Path<String>,
    Query(query): Query<DeploymentQuery>,
) -> Result<Json<Deployments>, ApiError> {
    let limit = page_items(query.limit)?;
    let Some(account) = accounts::find(&state.db, &app_id).await? else {
        return Err(ApiError::not_found("account", &app_id));
    };
    let before = query.before.unwrap_or(i64::MAX);
    let rows = deployments::list(&state.db, &app_id, before, limit).await?;
    let next = rows
        .last()
        .filter(|_| rows.len() == limit as usize)
        .map(|row| row.version);
    let grants = grants_of(&account.grants).map_err(ApiError::internal)?;
    let deployments = rows
        .into_iter()
        .map(|row| {
            let active = account.active_version == Some(row.version);
            view(row, active, &grants)
        })
        .collect::<Result<_, _>>()?;
    Ok(Json(Deployments { deployments, next }))
}

/// Makes a deployment the active one.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/deployments/{version}/activate", tag = "plugins", params(("app_id" = String, Path), ("version" = i64, Path)), responses(
    (status = 200, body = Deployment),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn activate(
    operator: Operator,
    State(state): State<AdminState>,
    Path((app_id, version)): Path<(String, i64)>,
) -> Result<Json<Deployment>, ApiError> {
    let row = state
        .plugins
        .activate(&app_id, version, &operator.author())
        .await?;
    state.announce().await;
    let grants = grants(&state, &app_id).await?;
    Ok(Json(view(row, true, &grants)?))
}

/// Goes back to the highest version below the active one.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/rollback", tag = "plugins", params(("app_id" = String, Path)), responses(
    (status = 200, body = Deployment),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn rollback(
    operator: Operator,
    State(state): State<AdminState>,
    Path(app_id): Path<String>,
) -> Result<Json<Deployment>, ApiError> {
    expect_account(&state, &app_id).await?;
    let row = state.plugins.rollback(&app_id, &operator.author()).await?;
    state.announce().await;
    let grants = grants(&state, &app_id).await?;
    Ok(Json(view(row, true, &grants)?))
}

fn component(base64: &str) -> Result<Vec<u8>, ApiError> {
    BASE64_STANDARD
        .decode(base64)
        .map_err(|error| ApiError::invalid("component_base64", error))
}

/// What the operator grants to the account now.
async fn grants(state: &AdminState, app_id: &str) -> Result<Grants, ApiError> {
    match accounts::find(&state.db, app_id).await? {
        Some(account) => grants_of(&account.grants).map_err(ApiError::internal),
        None => Err(ApiError::not_found("account", app_id)),
    }
}

fn view(row: DeploymentRow, active: bool, grants: &Grants) -> Result<Deployment, ApiError> {
    let wanted = wanted_of(row.manifest.as_deref()).map_err(ApiError::internal)?;
    let handlers = handlers_of(&row.handlers).map_err(ApiError::internal)?;
    Ok(Deployment {
        app_id: row.app_id,
        version: row.version,
        digest: row.digest,
        handlers: handlers.iter().map(|h| h.as_str().to_owned()).collect(),
        not_granted: grants.missing(&wanted).into(),
        manifest: row
            .manifest
            .map(RawValue::from_string)
            .transpose()
            .map_err(ApiError::internal)?,
        size: row.size,
        config: RawValue::from_string(row.config).map_err(ApiError::internal)?,
        limits: RawValue::from_string(row.limits).map_err(ApiError::internal)?,
        active,
        created_at: row.created_at,
    })
}
