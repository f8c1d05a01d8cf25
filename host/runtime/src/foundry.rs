//! Turns components into plugins: from native code on disk where that is there and authentic, by
//! compiling otherwise.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::warn;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::artifact::Artifact;
use crate::bounds::{
    MAX_MEMORY_BYTES, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT,
};
use crate::check::{Inspected, glance};
use crate::compile::{CompileLimits, Compiler};
use crate::contract::Handler;
use crate::manifest::Manifest;
use crate::native::{NativeError, NativeStore};
use crate::plugin::{LinkError, Plugin, Sizes};
use crate::refusal::{CompileError, DeployError};
use crate::schema::{self, ConfigError};
use crate::state::CallState;
use crate::turns::{Errand, Turn, Turns};
use crate::{Digest, imports, wasi};

/// A component that passed the check.
#[derive(Debug, Clone)]
pub struct CheckedPlugin {
    /// The digest of `component`.
    pub digest: Digest,
    /// What is to be stored: the upload itself, or the component made of an uploaded core module.
    pub component: Vec<u8>,
    /// What it handles; never empty.
    pub handlers: Vec<Handler>,
    /// What it imports, such as `wxhost:plugin/kv@0.1.0`.
    pub imports: Vec<String>,
    /// What it says of itself and asks for, if it says anything.
    pub manifest: Option<Manifest>,
    /// The JSON Schema of its configuration, if it carries one: valid JSON, not yet a valid schema.
    pub config_schema: Option<String>,
}

/// Why a plugin cannot be loaded.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The component could not be fetched.
    #[error("the component cannot be fetched: {0}")]
    Source(String),
    /// Something else was fetched.
    #[error("the component that was fetched is {found}, not {wanted}")]
    WrongComponent {
        /// The digest that was asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// It cannot be made into a plugin, though it once could.
    #[error(transparent)]
    Refused(#[from] DeployError),
}

/// Engine, linker, disk and compiler.
pub(crate) struct Foundry {
    engine: Engine,
    linker: Linker<CallState>,
    native: NativeStore,
    compiler: Compiler,
    limits: CompileLimits,
    turns: Arc<Turns>,
}

impl Foundry {
    pub(crate) fn new(
        engine: Engine,
        native: NativeStore,
        compiler: Compiler,
        limits: CompileLimits,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&engine);
        imports::add_to_linker(&mut linker)?;
        wasi::add_to_linker(&mut linker)?;
        Ok(Self {
            engine,
            linker,
            native,
            compiler,
            limits,
            turns: Turns::new(limits.concurrent),
        })
    }

    /// The whole deploy check. Its plugin is linked, so that nothing about it can fail later.
    pub(crate) async fn check(
        self: &Arc<Self>,
        upload: Vec<u8>,
        tenant: &str,
    ) -> Result<(CheckedPlugin, Plugin), DeployError> {
        glance(&upload)?;
        let turn = self.turns.wait(tenant, Errand::Deploy).await?;
        let upload = Arc::new(upload);
        let Inspected {
            handlers,
            imports,
            manifest,
            config_schema,
            encoded,
        } = self
            .compiler
            .inspect(Arc::clone(&upload), &self.limits)
            .await?;
        let component = encoded.map_or(upload, Arc::new);
        let hashed = Arc::clone(&component);
        let digest = blocking(move || Digest::of(&hashed)).await?;
        let work = Arc::clone(self).forge(digest, Arc::clone(&component), turn);
        let plugin = finish(work).await?;
        let checked = CheckedPlugin {
            digest,
            component: Arc::unwrap_or_clone(component),
            handlers,
            imports,
            manifest,
            config_schema,
        };
        Ok((checked, plugin))
    }

    /// Checks settings, or other data, against a plugin's schema: at once where that costs next to nothing,
    /// and else where time and memory are limited.
    pub(crate) async fn check_config(
        &self,
        schema: String,
        config: String,
        tenant: &str,
    ) -> Result<(), ConfigError> {
        if schema::is_harmless(&schema, &config) {
            return schema::check(&schema, &config, || {});
        }
        let turn = self.turns.wait(tenant, Errand::Deploy).await;
        let _turn = turn.map_err(|_| ConfigError::Busy)?;
        self.compiler
            .check_config(schema, config, &self.limits)
            .await
    }

    /// The plugin of native code on disk, if that is there and can be used.
    pub(crate) async fn recall(self: &Arc<Self>, digest: Digest) -> Option<Plugin> {
        let this = Arc::clone(self);
        blocking(move || this.recall_now(&digest)).await.ok()?
    }

    /// Removes old native code from the disk; see [`NativeStore::forget`].
    pub(crate) async fn forget(
        self: &Arc<Self>,
        written_before: SystemTime,
        kept: HashSet<Digest>,
    ) -> io::Result<u64> {
        let this = Arc::clone(self);
        blocking(move || this.native.forget(written_before, &kept))
            .await
            .map_err(io::Error::other)?
    }

    /// Compiles a component that an event waits for, keeps the native code, and links it.
    pub(crate) async fn make(
        self: &Arc<Self>,
        digest: Digest,
        component: Vec<u8>,
        tenant: &str,
    ) -> Result<Plugin, DeployError> {
        let (this, tenant) = (Arc::clone(self), tenant.to_owned());
        finish(async move {
            let turn = this.turns.wait(&tenant, Errand::ColdStart).await?;
            this.forge(digest, Arc::new(component), turn).await
        })
        .await
    }

    async fn forge(
        self: Arc<Self>,
        digest: Digest,
        component: Arc<Vec<u8>>,
        _turn: Turn,
    ) -> Result<Plugin, DeployError> {
        // It may have been compiled for another caller while this one waited.
        if let Some(plugin) = self.recall(digest).await {
            return Ok(plugin);
        }
        let artifact = self.compiler.compile(component, &self.limits).await?;
        let this = Arc::clone(&self);
        blocking(move || {
            let plugin = this.link(digest, &artifact)?;
            if let Err(error) = this.native.write(&digest, artifact.as_bytes()) {
                warn!(plugin.digest = %digest, %error, "native code cannot be kept; it will be compiled again");
            }
            Ok(plugin)
        })
        .await?
    }

    fn recall_now(&self, digest: &Digest) -> Option<Plugin> {
        let unusable = |error: &dyn std::fmt::Display| {
            warn!(plugin.digest = %digest, %error, "native code cannot be used; compiling again");
            self.native.remove(digest);
        };
        let bytes = match self.native.read(digest) {
            Ok(bytes) => bytes,
            Err(NativeError::Absent) => return None,
            Err(error) => {
                unusable(&error);
                return None;
            }
        };
        let artifact = Artifact::from_bytes(bytes)?;
        self.link(*digest, &artifact)
            .inspect_err(|error| unusable(error))
            .ok()
    }

    /// Loads native code that came from our compiler: straight, or from disk and authenticated.
    fn link(&self, digest: Digest, artifact: &Artifact) -> Result<Plugin, DeployError> {
        #[expect(
            unsafe_code,
            reason = "wasmtime cannot tell whose native code it is; we can"
        )]
        // SAFETY: the code was made by `Engine::precompile_component` in this process, in our child
        // process, or in either of them earlier, as the HMAC proves that `NativeStore::read` has checked
        // over these very bytes. Wasmtime itself refuses code of another version or other settings.
        let component = unsafe { Component::deserialize(&self.engine, artifact.native()) }
            .map_err(|error| DeployError::TooDemanding(format!("{error:#}")))?;
        check_fit(&component)?;
        let sizes = Sizes {
            loaded_bytes: artifact.loaded_bytes(),
            instance_bytes: artifact.instance_bytes(),
        };
        Plugin::link(digest, &component, sizes, &self.linker).map_err(|error| match error {
            LinkError::Import(_) | LinkError::Export(_) => {
                DeployError::TypeMismatch(error.to_string()).cut()
            }
        })
    }
}

/// Checks what only compiled code tells: that it fits into a slot of the pool.
fn check_fit(component: &Component) -> Result<(), DeployError> {
    let demanding = |what: String| Err(DeployError::TooDemanding(what));
    let Some(needs) = component.resources_required() else {
        return Err(DeployError::ImportNotOffered(vec!["a core module".into()]));
    };
    if needs.num_memories > MEMORIES_PER_COMPONENT {
        let has = needs.num_memories;
        return demanding(format!("{has} memories; {MEMORIES_PER_COMPONENT} at most"));
    }
    if needs.num_tables > TABLES_PER_COMPONENT {
        let has = needs.num_tables;
        return demanding(format!("{has} tables; {TABLES_PER_COMPONENT} at most"));
    }
    // Wasmtime documents pages; multiply late, so that neither reading can wrap.
    let memory_bytes = u128::from(needs.max_initial_memory_size.unwrap_or(0)) * (64 << 10);
    if memory_bytes > MAX_MEMORY_BYTES as u128 {
        return demanding(format!(
            "{memory_bytes} bytes of memory to begin with; {MAX_MEMORY_BYTES} at most"
        ));
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > TABLE_ELEMENTS as u64 {
        return demanding(format!(
            "{elements} table elements; {TABLE_ELEMENTS} at most"
        ));
    }
    Ok(())
}

/// Runs to its end even if the caller leaves: the next one finds the native code on disk.
async fn finish(
    work: impl Future<Output = Result<Plugin, DeployError>> + Send + 'static,
) -> Result<Plugin, DeployError> {
    tokio::spawn(work)
        .await
        .map_err(|error| CompileError::Failed(error.to_string()))?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CompileError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests;
