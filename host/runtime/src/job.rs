//! All that is done with what a stranger uploaded: reading it, compiling it, checking settings against its
//! schema. Each is a function of bytes. It runs in the compiler's child process, where time and memory are
//! limited, or in this process, for tests and tools (`compile` decides).

use wasmtime::Engine;

use crate::artifact::Artifact;
use crate::check::{self, Inspected};
use crate::demands::Demands;
use crate::engine::code_config;
use crate::refusal::{CompileError, DeployError};

/// Reads an upload.
pub(crate) fn inspect(upload: &[u8]) -> Result<Inspected, DeployError> {
    check::inspect(engine()?.get_wasm_features(), upload).map_err(DeployError::cut)
}

/// Makes native code of a component that has been inspected, now or earlier.
pub(crate) fn compile(component: &[u8]) -> Result<Artifact, DeployError> {
    let refused = |error: wasmtime::Error| CompileError::Refused(format!("{error:#}"));
    let native = engine()?.precompile_component(component);
    let native = native.map_err(|error| DeployError::from(refused(error)).cut())?;
    // Again, since what this host allows may be less than what another version allowed once.
    let demands = Demands::of(component)?;
    demands.check()?;
    Ok(Artifact::new(&demands, &native))
}

/// An engine without a pool, which would not fit into the child's memory.
fn engine() -> Result<Engine, CompileError> {
    Engine::new(&code_config()).map_err(|error| CompileError::Failed(format!("{error:#}")))
}
