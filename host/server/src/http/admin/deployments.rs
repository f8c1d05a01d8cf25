//! `/api/v1/accounts/{app_id}/deployments` and what belongs to it.

use std::collections::BTreeMap;
use std::fmt;

use axum::{Json, http::StatusCode};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use wxhost_runtime::{CallLimits, Wanted};

use super::{JsonBody, PageSize, Path, Query, Read, SecretText, Write};
use crate::{
    db::{
        accounts::{self, AccountRow},
        deployments::{self, DeploymentRow},
    },
    grants::Grants,
    http::error::{ApiError, ErrorBody},
    plugins::{Upload, handlers_of, wanted_of},
    seal::{MasterKeys, Place},
    secrets::{GivenSecret, Secrets},
    services::Services,
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
    /// Secrets by name; at most 32 of 4 KiB. Each is a text, or an object of the text (`value`) and the
    /// origins that it may go to (`origins`). A text alone may go to every host that the plugin's manifest
    /// names; one that asks for any host (`https://*`) names none.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Object>, example = json!({"erp-key": {"value": "…", "origins": ["https://erp.example"]}}))]
    secrets: BTreeMap<String, SecretToGive>,
    /// What a call may use; defaults where absent. Beyond the operator's ceilings it is refused.
    #[serde(default)]
    #[schema(value_type = Object)]
    limits: CallLimits,
}

/// A secret of a plugin.
#[derive(Debug)]
struct SecretToGive(GivenSecret);

/// A secret with what is said of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundSecret {
    value: SecretText,
    origins: Vec<String>,
}

impl<'de> Deserialize<'de> for SecretToGive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Reads both forms without a copy of the secret on the way.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = SecretToGive;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret, or an object of its value and its origins")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretToGive, E> {
        Ok(SecretToGive(GivenSecret {
            value: text.into(),
            origins: None,
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretToGive, A::Error> {
        let bound = BoundSecret::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SecretToGive(GivenSecret {
            value: bound.value.0,
            origins: Some(bound.origins),
        }))
    }
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
    /// Where each secret may go; only in the answer to its deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_origins: Option<BTreeMap<String, Vec<String>>>,
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
    write: Write<AccountRow>,
    JsonBody(body): JsonBody<PluginToDeploy>,
) -> Result<(StatusCode, Json<Deployment>), ApiError> {
    let secrets = body.secrets.into_iter();
    let upload = Upload {
        component: component(&body.component_base64)?,
        config: body.config,
        secrets: secrets.map(|(name, secret)| (name, secret.0)).collect(),
        limits: body.limits,
    };
    let (services, app_id) = (write.services(), &write.object.app_id);
    let row = services
        .plugins
        .deploy(app_id, upload, &write.author())
        .await?;
    write.announce().await;
    let secret_origins = secret_origins(&services.keys, &row)?;
    let deployment = Deployment {
        secret_origins: Some(secret_origins),
        ..active(services, row).await?
    };
    Ok((StatusCode::CREATED, Json(deployment)))
}

/// Lists an account's deployments.
#[utoipa::path(get, path = "/api/v1/accounts/{app_id}/deployments", tag = "plugins", params(("app_id" = String, Path), DeploymentQuery), responses(
    (status = 200, body = Deployments),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(
    read: Read<AccountRow>,
    Query(query): Query<DeploymentQuery>,
) -> Result<Json<Deployments>, ApiError> {
    let size = PageSize::of(query.limit)?;
    let account = &read.object;
    let before = query.before.unwrap_or(i64::MAX);
    let db = &read.services().db;
    let rows = deployments::list(db, &account.app_id, before, size.rows()).await?;
    let page = size.page(rows, |row| row.version);
    let grants = Grants::from_stored(&account.plugin.grants).map_err(ApiError::internal)?;
    let deployments = page.items.into_iter().map(|row| {
        let active = account.plugin.active_version == Some(row.version);
        view(row, active, &grants)
    });
    Ok(Json(Deployments {
        deployments: deployments.collect::<Result<_, _>>()?,
        next: page.next,
    }))
}

/// Makes a deployment the active one.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/deployments/{version}/activate", tag = "plugins", params(("app_id" = String, Path), ("version" = i64, Path)), responses(
    (status = 200, body = Deployment),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn activate(
    write: Write<AccountRow>,
    Path((_app_id, version)): Path<(String, i64)>,
) -> Result<Json<Deployment>, ApiError> {
    let (services, app_id) = (write.services(), &write.object.app_id);
    let row = services
        .plugins
        .activate(app_id, version, &write.author())
        .await?;
    write.announce().await;
    Ok(Json(active(services, row).await?))
}

/// Goes back to the highest version below the active one.
#[utoipa::path(post, path = "/api/v1/accounts/{app_id}/rollback", tag = "plugins", params(("app_id" = String, Path)), responses(
    (status = 200, body = Deployment),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn rollback(write: Write<AccountRow>) -> Result<Json<Deployment>, ApiError> {
    let (services, app_id) = (write.services(), &write.object.app_id);
    let row = services.plugins.rollback(app_id, &write.author()).await?;
    write.announce().await;
    Ok(Json(active(services, row).await?))
}

fn component(base64: &str) -> Result<Vec<u8>, ApiError> {
    BASE64_STANDARD
        .decode(base64)
        .map_err(|error| ApiError::invalid("component_base64", error))
}

/// Where the secrets of a deployment may go, as they are stored.
fn secret_origins(
    keys: &MasterKeys,
    row: &DeploymentRow,
) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
    let wanted = wanted_of(row.manifest.as_deref()).map_err(ApiError::internal)?;
    let version = row.version.to_string();
    let place = Place::secrets(&row.app_id, &version);
    let stored = keys.open(place, &row.secrets_sealed)?;
    let secrets = Secrets::from_stored(&stored, &wanted).map_err(ApiError::internal)?;
    let secrets = secrets.origins().map(|(name, origins)| {
        let origins = origins.iter().map(ToString::to_string);
        (name.to_owned(), origins.collect())
    });
    Ok(secrets.collect())
}

/// The deployment that serves an account since just now, beside what the operator grants by now.
async fn active(services: &Services, row: DeploymentRow) -> Result<Deployment, ApiError> {
    let account = accounts::find(&services.db, &row.app_id).await?;
    let account = account.ok_or_else(|| ApiError::not_found("account", &row.app_id))?;
    let grants = Grants::from_stored(&account.plugin.grants).map_err(ApiError::internal)?;
    view(row, true, &grants)
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
        secret_origins: None,
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
