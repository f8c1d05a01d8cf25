//! What serves an account: its active deployment, and what the operator lets it reach.

use std::{fmt, sync::Arc};

use wxhost_runtime::{CallLimits, Digest, Handler, Manifest, PushKind, Wanted};

use crate::{
    db::{deployments::DeploymentRow, plugin_settings::PluginSettingsRow},
    grants::{Grants, OperatorGrants},
    seal::{MasterKeys, Place},
    secrets::Secrets,
    settings::{ChangeError, StoredError, column},
};

/// What serves an account, ready for use.
#[derive(Debug)]
pub struct PluginSettings {
    /// The plugin with its settings; nothing before the first deployment.
    pub deployment: Option<Arc<Deployment>>,
    /// What the operator lets it reach.
    pub grants: Grants,
}

impl PluginSettings {
    pub(crate) fn from_rows(
        row: &PluginSettingsRow,
        deployment: Option<&DeploymentRow>,
        keys: &MasterKeys,
    ) -> Result<Self, StoredError> {
        Ok(Self {
            deployment: deployment
                .map(|row| Deployment::from_row(row, keys).map(Arc::new))
                .transpose()?,
            grants: Grants::from_stored(&row.grants).map_err(column("grants"))?,
        })
    }
}

impl Default for PluginSettingsRow {
    /// Those of an account without a plugin.
    fn default() -> Self {
        Self {
            active_version: None,
            grants: String::from("{}"),
        }
    }
}

impl PluginSettingsRow {
    pub(crate) fn set_grants(&mut self, grants: &OperatorGrants) -> Result<(), ChangeError> {
        grants
            .check()
            .map_err(|reason| ChangeError::invalid("grants", reason))?;
        let json = serde_json::to_string(grants);
        self.grants = json.map_err(|error| ChangeError::invalid("grants", error))?;
        Ok(())
    }
}

/// A plugin with its settings, as it serves one account.
pub struct Deployment {
    /// 1, 2, 3 … per account.
    pub version: i64,
    /// The component.
    pub digest: Digest,
    /// The plugin's settings, a JSON document.
    pub config: Arc<str>,
    /// For the host's edge, never for the plugin.
    pub secrets: Secrets,
    /// What a call may use.
    pub limits: CallLimits,
    /// What the component handles.
    pub handlers: Vec<Handler>,
    /// What the plugin asks for; a call gets of it what the operator grants.
    pub wanted: Wanted,
    /// The kinds of pushes that it composes.
    pub push_kinds: Vec<PushKind>,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("version", &self.version)
            .field("digest", &self.digest)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

impl Deployment {
    fn from_row(row: &DeploymentRow, keys: &MasterKeys) -> Result<Self, StoredError> {
        let version = row.version.to_string();
        let secrets = keys.open(Place::secrets(&row.app_id, &version), &row.secrets_sealed)?;
        let manifest = manifest_of(row.manifest.as_deref()).map_err(column("manifest"))?;
        let (wanted, push_kinds) = manifest
            .map(|manifest| (manifest.grants, manifest.push))
            .unwrap_or_default();
        let limits: CallLimits = serde_json::from_str(&row.limits).map_err(column("limits"))?;
        Ok(Self {
            version: row.version,
            digest: row.digest.parse().map_err(column("digest"))?,
            config: row.config.as_str().into(),
            secrets: Secrets::from_stored(&secrets, &wanted).map_err(column("secrets_sealed"))?,
            limits,
            handlers: handlers_of(&row.handlers).map_err(column("handlers"))?,
            wanted,
            push_kinds,
        })
    }
}

/// What a stored manifest asks for.
pub(crate) fn wanted_of(stored: Option<&str>) -> Result<Wanted, serde_json::Error> {
    let manifest = manifest_of(stored)?;
    Ok(manifest.map(|manifest| manifest.grants).unwrap_or_default())
}

fn manifest_of(stored: Option<&str>) -> Result<Option<Manifest>, serde_json::Error> {
    stored.map(serde_json::from_str).transpose()
}

/// The handlers in a stored list. A newer host may have stored kinds that this one does not know.
pub(crate) fn handlers_of(stored: &str) -> Result<Vec<Handler>, serde_json::Error> {
    let names: Vec<String> = serde_json::from_str(stored)?;
    let known = |name: &String| Handler::ALL.into_iter().find(|h| h.as_str() == name);
    Ok(names.iter().filter_map(known).collect())
}
