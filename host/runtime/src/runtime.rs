//! The crate's front: settings, and what can be done with a plugin.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use wasmtime::Engine;

use crate::call::{self, Call, CallReport};
use crate::compile::{CompileLimits, Compiler};
use crate::engine::{Ticker, engine_config};
use crate::foundry::{CheckedPlugin, Foundry, LoadError};
use crate::loaded::Loaded;
use crate::native::NativeStore;
use crate::outcome;
use crate::places::Places;
use crate::plugin::Plugin;
use crate::refusal::DeployError;
use crate::schema::ConfigError;
use crate::{Digest, Outcome, callback, login, payment, push};

/// Settings of a [`Runtime`].
#[derive(Clone)]
pub struct RuntimeSettings {
    /// How many calls run at once; the pool is made for as many. Each costs about 16 GiB of address space
    /// (of 128 TiB that a process has), and memory only as it is used.
    pub max_concurrent_calls: u32,
    /// How many more may wait for their turn.
    pub queue_length: u32,
    /// How long one may wait.
    pub queue_wait: Duration,
    /// What the code of loaded plugins may take of memory, in bytes.
    pub loaded_bytes: usize,
    /// Where native code is kept.
    pub native_dir: PathBuf,
    /// What native code may take of the disk, in bytes.
    pub native_bytes: u64,
    /// The key that authenticates native code. Whoever has it can run anything in the host.
    pub native_key: [u8; 32],
    /// Where components are compiled.
    pub compiler: Compiler,
    /// What a compilation may use.
    pub compile_limits: CompileLimits,
}

impl RuntimeSettings {
    /// The usual settings.
    pub fn new(native_dir: PathBuf, native_key: [u8; 32], compiler: Compiler) -> Self {
        Self {
            max_concurrent_calls: 256,
            queue_length: 4096,
            queue_wait: Duration::from_secs(2),
            loaded_bytes: 1 << 30,
            native_dir,
            native_bytes: 8 << 30,
            native_key,
            compiler,
            compile_limits: CompileLimits::default(),
        }
    }
}

impl fmt::Debug for RuntimeSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeSettings")
            .field("max_concurrent_calls", &self.max_concurrent_calls)
            .field("queue_length", &self.queue_length)
            .field("queue_wait", &self.queue_wait)
            .field("loaded_bytes", &self.loaded_bytes)
            .field("native_dir", &self.native_dir)
            .field("native_bytes", &self.native_bytes)
            .field("native_key", &"…")
            .field("compiler", &self.compiler)
            .field("compile_limits", &self.compile_limits)
            .finish()
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The sandbox cannot be set up. Most often the address space is too small for the pool: fewer
    /// concurrent calls need less.
    #[error("the sandbox cannot be set up for {calls} concurrent calls: {reason}")]
    Engine {
        /// The calls that were asked for.
        calls: u32,
        /// What wasmtime says.
        reason: String,
    },
    /// The directory of native code cannot be used.
    #[error("the directory {path} for native code cannot be used")]
    NativeDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The clock's thread cannot be started.
    #[error("the thread that interrupts plugins cannot be started")]
    Ticker(#[source] std::io::Error),
}

/// Runs plugins. One for the process.
pub struct Runtime {
    foundry: Arc<Foundry>,
    loaded: Loaded<Plugin, LoadError>,
    places: Places,
    queue_wait: Duration,
    engine: Engine,
    ticker: Mutex<Option<Ticker>>,
}

impl Runtime {
    /// Sets the sandbox up and starts its clock.
    pub fn new(settings: RuntimeSettings) -> Result<Arc<Self>, RuntimeError> {
        let calls = settings.max_concurrent_calls;
        let engine_error = |error: wasmtime::Error| RuntimeError::Engine {
            calls,
            reason: format!("{error:#}"),
        };
        let engine = Engine::new(&engine_config(calls)).map_err(engine_error)?;
        let native = NativeStore::open(
            &settings.native_dir,
            settings.native_bytes,
            &settings.native_key,
            &engine,
        )
        .map_err(|source| RuntimeError::NativeDir {
            path: settings.native_dir.clone(),
            source,
        })?;
        let foundry = Foundry::new(
            engine.clone(),
            native,
            settings.compiler,
            settings.compile_limits,
        )
        .map_err(engine_error)?;
        let ticker = Ticker::start(&engine).map_err(RuntimeError::Ticker)?;
        Ok(Arc::new(Self {
            foundry: Arc::new(foundry),
            loaded: Loaded::new(settings.loaded_bytes),
            places: Places::new(calls, settings.queue_length),
            queue_wait: settings.queue_wait,
            engine,
            ticker: Mutex::new(Some(ticker)),
        }))
    }

    /// Decides whether an upload may become a plugin: checks it, compiles it, links it, and keeps its
    /// native code on disk and in memory. Nothing of it is run. Uploads of one `tenant` wait for each
    /// other.
    pub async fn check(&self, upload: Vec<u8>, tenant: &str) -> Result<CheckedPlugin, DeployError> {
        let (checked, plugin) = self.foundry.check(upload, tenant).await?;
        let bytes = plugin.bytes();
        self.loaded.insert(checked.digest, Arc::new(plugin), bytes);
        Ok(checked)
    }

    /// Checks settings against the schema that a plugin carries.
    pub async fn check_config(
        &self,
        schema: String,
        config: String,
        tenant: &str,
    ) -> Result<(), ConfigError> {
        self.foundry.check_config(schema, config, tenant).await
    }

    /// A plugin that is loaded. The way of nearly every call: no waiting, no input or output.
    pub fn loaded(&self, digest: &Digest) -> Option<Arc<Plugin>> {
        self.loaded.get(digest)
    }

    /// How many plugins are loaded.
    pub fn loaded_count(&self) -> usize {
        self.loaded.count()
    }

    /// A plugin, from memory, from disk, or compiled from the component that `source` fetches. Of several
    /// callers at once one does the work, as the `tenant` of the first.
    pub async fn load<F, Fut, E>(
        &self,
        digest: &Digest,
        tenant: &str,
        source: F,
    ) -> Result<Arc<Plugin>, LoadError>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Vec<u8>, E>>,
        E: fmt::Display,
    {
        let wanted = *digest;
        self.loaded
            .get_or_load(digest, Plugin::bytes, async || {
                if let Some(plugin) = self.foundry.recall(wanted).await {
                    return Ok(plugin);
                }
                let component = source()
                    .await
                    .map_err(|error| LoadError::Source(error.to_string()))?;
                let found = Digest::of(&component);
                if found != wanted {
                    return Err(LoadError::WrongComponent { wanted, found });
                }
                Ok(self.foundry.make(wanted, component, tenant).await?)
            })
            .await
    }

    /// Removes native code that was written to the disk before that time, but for the components in
    /// `kept`. Tells how many files it removed. What is loaded stays loaded, and what is wanted again is
    /// compiled again.
    pub async fn forget_native(
        &self,
        written_before: SystemTime,
        kept: HashSet<Digest>,
    ) -> io::Result<u64> {
        self.foundry.forget(written_before, kept).await
    }

    /// Lets a plugin handle a callback, in a fresh instance, as soon as it is this call's turn.
    pub async fn call_callback(
        &self,
        plugin: &Plugin,
        call: Call,
        event: &callback::Event,
    ) -> CallReport<Outcome> {
        let host = (&self.places, self.queue_wait);
        let judge = |(result,): (_,), limits: &_| outcome::judge(result, limits);
        call::call(host, plugin.callback(), (call, (event,)), judge).await
    }

    /// Lets a plugin compose what a push sends to some recipients, in a fresh instance, as soon as it is
    /// this call's turn.
    pub async fn call_push(
        &self,
        plugin: &Plugin,
        call: Call,
        push: &push::Push,
        recipients: &[push::Recipient],
    ) -> CallReport<Vec<push::Composition>> {
        let host = (&self.places, self.queue_wait);
        let judge = |(result,): (_,), limits: &_| outcome::judge_compositions(result, limits);
        call::call(host, plugin.push(), (call, (push, recipients)), judge).await
    }

    /// Lets a plugin decide on a login, in a fresh instance, as soon as it is this call's turn.
    pub async fn call_login(
        &self,
        plugin: &Plugin,
        call: Call,
        login: &login::Login,
    ) -> CallReport<login::Verdict> {
        let host = (&self.places, self.queue_wait);
        let judge = |(result,): (_,), limits: &_| outcome::judge_verdict(result, limits);
        call::call(host, plugin.login(), (call, (login,)), judge).await
    }

    /// Lets a plugin handle a fact about money, in a fresh instance, as soon as it is this call's turn.
    pub async fn call_payment(
        &self,
        plugin: &Plugin,
        call: Call,
        event: &payment::Event,
    ) -> CallReport<payment::Outcome> {
        let host = (&self.places, self.queue_wait);
        let judge = |(result,): (_,), limits: &_| outcome::judge_payment(result, limits);
        call::call(host, plugin.payment(), (call, (event,)), judge).await
    }

    /// The engine, for its metrics.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops the clock. Call it when no call runs any more: without the clock none is interrupted.
    pub fn shutdown(&self) {
        let ticker = self.ticker.lock().take();
        drop(ticker);
    }
}
