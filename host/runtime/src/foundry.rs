//! Turns components into plugins: from native code on disk where that is there and authentic, by
//! compiling otherwise.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tracing::warn;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::check::{CheckedPlugin, DeployError, check_demands, inspect};
use crate::compile::{CompileError, CompileLimits, Compiler};
use crate::native::{NativeError, NativeStore};
use crate::plugin::{LinkError, Plugin};
use crate::state::CallState;
use crate::{Digest, imports, wasi};

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

impl From<CompileError> for LoadError {
    fn from(error: CompileError) -> Self {
        Self::Refused(error.into())
    }
}

/// Engine, linker, disk and compiler.
pub(crate) struct Foundry {
    engine: Engine,
    linker: Linker<CallState>,
    native: NativeStore,
    compiler: Compiler,
    limits: CompileLimits,
    compilations: Semaphore,
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
            compilations: Semaphore::new(limits.concurrent.max(1) as usize),
        })
    }

    /// The whole deploy check. Its plugin is linked, so that nothing about it can fail later.
    pub(crate) async fn check(
        self: &Arc<Self>,
        upload: Vec<u8>,
    ) -> Result<(CheckedPlugin, Plugin), DeployError> {
        let this = Arc::clone(self);
        let checked = blocking(move || inspect(&this.engine, upload)).await??;
        let plugin = self.make(checked.digest, checked.component.clone()).await?;
        Ok((checked, plugin))
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

    /// Compiles a component, keeps the native code, and links it. Runs to its end even if the caller
    /// leaves: the next one finds the native code on disk.
    pub(crate) async fn make(
        self: &Arc<Self>,
        digest: Digest,
        component: Vec<u8>,
    ) -> Result<Plugin, DeployError> {
        let this = Arc::clone(self);
        tokio::spawn(async move { this.make_here(digest, component).await })
            .await
            .map_err(|error| CompileError::Failed(error.to_string()))?
    }

    async fn make_here(
        self: Arc<Self>,
        digest: Digest,
        component: Vec<u8>,
    ) -> Result<Plugin, DeployError> {
        if let Some(plugin) = self.recall(digest).await {
            return Ok(plugin);
        }
        let _turn = self.compilations.acquire().await;
        // It may have been compiled for another caller while this one waited.
        if let Some(plugin) = self.recall(digest).await {
            return Ok(plugin);
        }
        let native = self
            .compiler
            .compile(&self.engine, component, &self.limits)
            .await?;
        let this = Arc::clone(&self);
        blocking(move || {
            let plugin = this.link(digest, &native)?;
            if let Err(error) = this.native.write(&digest, &native) {
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
        let native = match self.native.read(digest) {
            Ok(native) => native,
            Err(NativeError::Absent) => return None,
            Err(error) => {
                unusable(&error);
                return None;
            }
        };
        self.link(*digest, &native)
            .inspect_err(|error| unusable(error))
            .ok()
    }

    /// Loads native code that came from our compiler: straight, or from disk and authenticated.
    fn link(&self, digest: Digest, native: &[u8]) -> Result<Plugin, DeployError> {
        #[expect(
            unsafe_code,
            reason = "wasmtime cannot tell whose native code it is; we can"
        )]
        // SAFETY: `native` was made by `Engine::precompile_component` in this process, in our child
        // process, or in either of them earlier, as the HMAC proves that `NativeStore::read` has checked
        // over these very bytes. Wasmtime itself refuses code of another version or other settings.
        let component = unsafe { Component::deserialize(&self.engine, native) }
            .map_err(|error| DeployError::TooDemanding(format!("{error:#}")))?;
        check_demands(&component)?;
        Plugin::link(digest, &component, &self.linker).map_err(|error| match error {
            LinkError::Import(_) | LinkError::Export(_) => {
                DeployError::TypeMismatch(error.to_string())
            }
        })
    }
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
