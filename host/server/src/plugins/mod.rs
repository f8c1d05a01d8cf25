//! Plugins: deploying them to accounts, going back, and handing them to the runtime.
//!
//! A deployment is checked from end to end before anything of it is stored, and becomes active in the
//! same transaction that stores it; so whatever goes wrong, what ran before keeps running.

mod settings;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::Future,
    io,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::value::RawValue;
use wxhost_runtime::{
    CallLimits, CheckedPlugin, ConfigError, Digest, LoadError, Plugin, Runtime, Wanted,
};

use crate::{
    audit::{Action, Author},
    clock::Clock,
    db::{
        self, Change, Database, DbError,
        deployments::{DeploymentRow, NewDeployment},
        plugin_settings::PluginSettingsRow,
        plugins::PluginRow,
    },
    grants::check_wanted,
    seal::{MasterKeys, Place},
    secrets::{self, GivenSecret, Secrets},
    settings::ChangeError,
};

pub use self::settings::{Deployment, PluginSettings};
pub(crate) use self::settings::{handlers_of, wanted_of};

/// Bytes of a plugin's settings.
pub const MAX_CONFIG_BYTES: usize = 64 << 10;

/// Deployments of an account that are kept, beside the one that was active before the newest. Somebody
/// who deploys ten times a day can go back for a week, and each takes up to a few hundred KiB of settings
/// and secrets and keeps its component in the database.
const DEPLOYMENTS_KEPT: u32 = 50;

/// How long a component that no deployment uses is kept, and native code of a component that is not
/// stored: a deployment compiles before it stores anything.
const UNUSED_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Why a deployment was not made.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The component is not one that this host runs.
    #[error(transparent)]
    Component(#[from] wxhost_runtime::DeployError),
    /// The settings break the plugin's schema.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The component was stored but could not be made ready to run.
    #[error("the plugin could not be loaded")]
    Load(#[from] LoadError),
    /// Anything else.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<DbError> for DeployError {
    fn from(error: DbError) -> Self {
        Self::Change(error.into())
    }
}

/// Why a stored component could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// It is not in the database.
    #[error("component {0} is not in the database")]
    Missing(Digest),
}

/// Why what is not used any more could not be cleared away.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The directory of native code failed.
    #[error("old native code can't be removed")]
    Native(#[from] io::Error),
}

/// What a tenant uploads.
#[derive(Debug)]
pub struct Upload {
    /// A component, or a core module that carries its component type.
    pub component: Vec<u8>,
    /// The plugin's settings; `{}` if absent.
    pub config: Option<Box<RawValue>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, GivenSecret>,
    /// What a call may use.
    pub limits: CallLimits,
}

/// Deploys plugins and hands them to the runtime.
pub struct Plugins {
    db: Database,
    runtime: Arc<Runtime>,
    keys: Arc<MasterKeys>,
    ceilings: CallLimits,
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").finish_non_exhaustive()
    }
}

impl Plugins {
    /// Deploys into `db` what `runtime` accepts. No call gets more than `ceilings`.
    pub fn new(
        db: Database,
        runtime: Arc<Runtime>,
        keys: Arc<MasterKeys>,
        ceilings: CallLimits,
    ) -> Self {
        Self {
            db,
            runtime,
            keys,
            ceilings,
        }
    }

    /// What a call of a deployment may use: the ceilings may have come down since it was deployed.
    pub fn limits(&self, deployment: &Deployment) -> CallLimits {
        deployment.limits.within(&self.ceilings)
    }

    /// The plugin of a deployment if it is loaded. No waiting.
    pub fn loaded(&self, deployment: &Deployment) -> Option<Arc<Plugin>> {
        self.runtime.loaded(&deployment.digest)
    }

    /// The plugin of a deployment of a tenant's, loaded or, if need be, compiled from the stored component.
    pub async fn load(
        &self,
        deployment: &Deployment,
        tenant: &str,
    ) -> Result<Arc<Plugin>, LoadError> {
        let digest = deployment.digest;
        self.runtime
            .load(&digest, tenant, || self.fetch(digest))
            .await
    }

    fn fetch(&self, digest: Digest) -> impl Future<Output = Result<Vec<u8>, FetchError>> + use<> {
        let db = self.db.clone();
        async move {
            db::plugins::component(&db, &digest.to_string())
                .await?
                .ok_or(FetchError::Missing(digest))
        }
    }

    /// Deploys a plugin to an account and makes it the active one.
    pub async fn deploy(
        &self,
        app_id: &str,
        upload: Upload,
        by: &Author,
    ) -> Result<DeploymentRow, DeployError> {
        // Compiling takes a while; an unknown account is told at once.
        let account = db::accounts::find(&self.db, app_id).await?;
        let tenant = account
            .ok_or_else(|| ChangeError::no_account(app_id))?
            .tenant_id;
        let config = config_text(upload.config.as_deref())?;
        if let Some((name, asked, ceiling)) = upload.limits.beyond(&self.ceilings) {
            let reason =
                format!("{name}: {asked} is beyond the ceiling of {ceiling} (ceilings.{name})");
            return Err(ChangeError::invalid("limits", reason).into());
        }
        secrets::check(&upload.secrets)
            .map_err(|reason| ChangeError::invalid("secrets", reason))?;
        let checked = self.runtime.check(upload.component, &tenant).await?;
        if let Some(manifest) = &checked.manifest {
            check_wanted(&manifest.grants).map_err(wxhost_runtime::DeployError::BadManifest)?;
        }
        let wanted = checked.manifest.as_ref();
        let wanted = wanted.map_or_else(Wanted::default, |manifest| manifest.grants.clone());
        let secrets = Secrets::of(upload.secrets, &wanted)
            .map_err(|reason| ChangeError::invalid("secrets", reason))?;
        if let Some(schema) = checked.config_schema.clone() {
            self.runtime
                .check_config(schema, config.clone(), &tenant)
                .await?;
        }
        // Warm before the first event, and the last thing that can go wrong with the component.
        let component = checked.component.clone();
        self.runtime
            .load(&checked.digest, &tenant, || async {
                Ok::<_, FetchError>(component)
            })
            .await?;
        let settings = Settings {
            config,
            secrets,
            limits: upload.limits,
        };
        let row = self.store((app_id, by), &checked, &settings).await?;
        tracing::info!(
            account.app_id = app_id,
            plugin.digest = row.digest,
            plugin.version = row.version,
            "deployed a plugin"
        );
        Ok(row)
    }

    /// Makes an earlier or later deployment the active one.
    pub async fn activate(
        &self,
        app_id: &str,
        version: i64,
        by: &Author,
    ) -> Result<DeploymentRow, ChangeError> {
        let mut change = self.db.change().await?;
        let settings = settings_of(&mut change, app_id).await?;
        if !db::deployments::exists(&mut change, app_id, version).await? {
            return Err(ChangeError::NotFound {
                what: "deployment",
                id: format!("{version} of account {app_id}"),
            });
        }
        self.switch(change, (app_id, settings), (version, by)).await
    }

    /// Makes the highest version below the active one the active one.
    pub async fn rollback(&self, app_id: &str, by: &Author) -> Result<DeploymentRow, ChangeError> {
        let mut change = self.db.change().await?;
        let settings = settings_of(&mut change, app_id).await?;
        let nothing_below = || ChangeError::NotFound {
            what: "earlier deployment",
            id: format!("of account {app_id}"),
        };
        let active = settings.active_version.ok_or_else(nothing_below)?;
        let version = db::deployments::version_below(&mut change, app_id, active)
            .await?
            .ok_or_else(nothing_below)?;
        self.switch(change, (app_id, settings), (version, by)).await
    }

    /// Deletes components that no deployment uses, and this host's native code of components that are
    /// not stored, a while after they came.
    pub async fn forget_unused(&self, now_ms: i64) -> Result<(), ForgetError> {
        let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
        let before = now.saturating_sub(UNUSED_KEPT);
        let before_ms = i64::try_from(before.as_millis()).unwrap_or(i64::MAX);
        let components = db::plugins::delete_unused(&self.db, before_ms).await?;
        let stored: HashSet<Digest> = db::plugins::digests(&self.db)
            .await?
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect();
        let files = self
            .runtime
            .forget_native(UNIX_EPOCH + before, stored)
            .await?;
        if components > 0 || files > 0 {
            tracing::info!(
                components,
                files,
                "components and native code that nobody uses are deleted"
            );
        }
        Ok(())
    }

    async fn switch(
        &self,
        mut change: Change,
        (app_id, mut settings): (&str, PluginSettingsRow),
        (version, by): (i64, &Author),
    ) -> Result<DeploymentRow, ChangeError> {
        settings.active_version = Some(version);
        db::plugin_settings::update(&mut change, app_id, &settings).await?;
        db::accounts::touch(&mut change, app_id, Clock.now_ms()).await?;
        let object = version.to_string();
        by.note(&mut change, Action::PluginActivate, Some(app_id), &object)
            .await?;
        change.commit().await?;
        tracing::info!(
            account.app_id = app_id,
            plugin.version = version,
            "activated a deployment"
        );
        self.stored(app_id, version).await
    }

    /// Stores component, deployment and activation in one transaction.
    async fn store(
        &self,
        (app_id, by): (&str, &Author),
        checked: &CheckedPlugin,
        settings: &Settings,
    ) -> Result<DeploymentRow, ChangeError> {
        let digest = checked.digest.to_string();
        let now = Clock.now_ms();
        let handlers: Vec<&str> = checked.handlers.iter().map(|h| h.as_str()).collect();
        let manifest = checked.manifest.as_ref().map(to_json);
        let plugin = PluginRow {
            digest: &digest,
            component: &checked.component,
            handlers: &to_json(&handlers),
            imports: &to_json(&checked.imports),
            config_schema: checked.config_schema.as_deref(),
            manifest: manifest.as_deref(),
            created_at: now,
        };
        let mut change = self.db.change().await?;
        let mut active = settings_of(&mut change, app_id).await?;
        db::plugins::insert(&mut change, &plugin).await?;
        let version = db::deployments::next_version(&mut change, app_id).await?;
        let version_text = version.to_string();
        let place = Place::secrets(app_id, &version_text);
        let stored_secrets = settings
            .secrets
            .to_stored()
            .map_err(|error| ChangeError::invalid("secrets", error))?;
        let deployment = NewDeployment {
            app_id,
            version,
            digest: &digest,
            config: &settings.config,
            secrets_sealed: &self.keys.seal(place, &stored_secrets)?,
            limits: &to_json(&settings.limits),
            created_at: now,
        };
        db::deployments::insert(&mut change, &deployment).await?;
        // What ran before is what somebody goes back to, however old it is.
        let before = active.active_version.replace(version);
        db::deployments::delete_old(&mut change, app_id, DEPLOYMENTS_KEPT, before).await?;
        db::plugin_settings::update(&mut change, app_id, &active).await?;
        db::accounts::touch(&mut change, app_id, now).await?;
        let object = format!("{version} {digest}");
        by.note(&mut change, Action::PluginDeploy, Some(app_id), &object)
            .await?;
        change.commit().await?;
        self.stored(app_id, version).await
    }

    async fn stored(&self, app_id: &str, version: i64) -> Result<DeploymentRow, ChangeError> {
        db::deployments::find(&self.db, app_id, version)
            .await?
            .ok_or_else(|| ChangeError::NotFound {
                what: "deployment",
                id: format!("{version} of account {app_id}"),
            })
    }
}

/// What a deployment adds to its component.
struct Settings {
    config: String,
    secrets: Secrets,
    limits: CallLimits,
}

/// JSON of values that always have one: lists, maps and structs of text and numbers.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| String::from("null"))
}

async fn settings_of(change: &mut Change, app_id: &str) -> Result<PluginSettingsRow, ChangeError> {
    db::plugin_settings::find_for_change(change, app_id)
        .await?
        .ok_or_else(|| ChangeError::no_account(app_id))
}

fn config_text(config: Option<&RawValue>) -> Result<String, ChangeError> {
    let text = config.map_or("{}", RawValue::get);
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ChangeError::invalid(
            "config",
            format_args!("must have at most {MAX_CONFIG_BYTES} bytes"),
        ));
    }
    Ok(text.to_owned())
}
