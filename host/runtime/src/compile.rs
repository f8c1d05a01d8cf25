//! Compiles components to native code, out of the way of traffic: in a child process of the same binary,
//! under limits on memory, CPU time and wall time. A compiler bug or a component made to exhaust a compiler
//! takes the child down and nothing else.
//!
//! The child reads a header (two little-endian `u64`: bytes of memory, seconds of CPU time) and then the
//! component from standard input, and writes native code to standard output, or one line about what is
//! wrong to standard error.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use wasmtime::Engine;

use crate::check::MAX_UPLOAD_BYTES;
use crate::engine::code_config;

/// What native code of the largest upload may come to: it was three times as large for JavaScript.
const MAX_NATIVE_BYTES: u64 = 256 << 20;
/// What is kept of a child's complaint.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;
/// How far the child steps back behind traffic.
const NICENESS: i32 = 10;

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// In this process, without limits: for tests and tools.
    InProcess,
    /// In a child process that runs [`child_main`].
    Child {
        /// The program; usually this very binary.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
    },
}

/// What a compilation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child. A JavaScript engine of 12 MiB takes about 1 GiB.
    pub memory_bytes: u64,
    /// CPU time of the child, over all of its threads.
    pub cpu: Duration,
    /// How long it may take.
    pub wall: Duration,
    /// How many compilations run at once; others wait.
    pub concurrent: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(120),
            wall: Duration::from_secs(60),
            concurrent: 1,
        }
    }
}

/// Why there is no native code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompileError {
    /// The component is at fault.
    #[error("the plugin cannot be compiled: {0}")]
    Refused(String),
    /// The component asks too much of the compiler.
    #[error("the plugin cannot be compiled within the host's limits: {0}")]
    Limit(&'static str),
    /// The host is at fault.
    #[error("the host could not compile the plugin: {0}")]
    Failed(String),
}

impl CompileError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "plugin-invalid",
            Self::Limit(_) => "plugin-too-demanding",
            Self::Failed(_) => "compiler-failed",
        }
    }
}

impl Compiler {
    /// Compiles a component that has been checked.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        component: Vec<u8>,
        limits: &CompileLimits,
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => {
                let engine = engine.clone();
                tokio::task::spawn_blocking(move || engine.precompile_component(&component))
                    .await
                    .map_err(|error| CompileError::Failed(error.to_string()))?
                    .map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
            Self::Child { program, args } => {
                let child = spawn(program, args)
                    .map_err(|error| CompileError::Failed(error.to_string()))?;
                match tokio::time::timeout(limits.wall, converse(child, &component, limits)).await {
                    Ok(result) => result,
                    // The child is killed when it is dropped.
                    Err(_elapsed) => Err(CompileError::Limit("it took too long")),
                }
            }
        }
    }
}

/// Starts the child with an empty environment: it needs none of the host's secrets.
fn spawn(program: &PathBuf, args: &[OsString]) -> std::io::Result<Child> {
    Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn converse(
    mut child: Child,
    component: &[u8],
    limits: &CompileLimits,
) -> Result<Vec<u8>, CompileError> {
    let failed = |error: std::io::Error| CompileError::Failed(error.to_string());
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileError::Failed("the child has no pipes".into()));
    };
    let mut header = limits.memory_bytes.to_le_bytes().to_vec();
    header.extend(limits.cpu.as_secs().max(1).to_le_bytes());
    let mut native = Vec::new();
    let mut complaint = Vec::new();
    let mut output = stdout.take(MAX_NATIVE_BYTES + 1);
    let mut errors = stderr.take(MAX_COMPLAINT_BYTES);
    let feed = async {
        // A child that died early says so by its status; a broken pipe adds nothing.
        let _ = stdin.write_all(&header).await;
        let _ = stdin.write_all(component).await;
        drop(stdin);
    };
    let ((), read, complained) = tokio::join!(
        feed,
        output.read_to_end(&mut native),
        errors.read_to_end(&mut complaint)
    );
    read.map_err(failed)?;
    complained.map_err(failed)?;
    if native.len() as u64 > MAX_NATIVE_BYTES {
        return Err(CompileError::Limit("its native code is too large"));
    }
    let status = child.wait().await.map_err(failed)?;
    verdict(status, native, &complaint)
}

fn verdict(status: ExitStatus, native: Vec<u8>, complaint: &[u8]) -> Result<Vec<u8>, CompileError> {
    if status.success() && !native.is_empty() {
        return Ok(native);
    }
    let signal = status.signal();
    if [Signal::XCPU, Signal::KILL]
        .map(|s| Some(s.as_raw()))
        .contains(&signal)
    {
        return Err(CompileError::Limit("it took too much CPU time"));
    }
    if signal == Some(Signal::ABORT.as_raw()) {
        return Err(CompileError::Limit("it took too much memory"));
    }
    let complaint = String::from_utf8_lossy(complaint).trim().to_owned();
    match status.code() {
        Some(REFUSED) => Err(CompileError::Refused(complaint)),
        _ => Err(CompileError::Failed(format!("{status}: {complaint}"))),
    }
}

/// The child's exit code when the component is at fault.
const REFUSED: i32 = 3;

/// The child's side: the whole of the binary's hidden command `compile-plugin`.
pub fn child_main() -> ExitCode {
    match compile_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(ChildError::Refused(error)) => {
            eprintln!("{error:#}");
            ExitCode::from(REFUSED as u8)
        }
        Err(ChildError::Failed(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

enum ChildError {
    Refused(wasmtime::Error),
    Failed(std::io::Error),
}

impl From<std::io::Error> for ChildError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

fn compile_stdin() -> Result<(), ChildError> {
    // A host that is killed takes its compilers with it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    let mut input = std::io::stdin().lock();
    let (memory_bytes, cpu_seconds) = (read_u64(&mut input)?, read_u64(&mut input)?);
    limit(Resource::As, memory_bytes)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    nice(NICENESS).map_err(std::io::Error::from)?;
    let mut component = Vec::new();
    // Encoding a core module adds a little to an upload of the largest size.
    input
        .take(2 * MAX_UPLOAD_BYTES as u64)
        .read_to_end(&mut component)?;
    let native = Engine::new(&code_config())
        .and_then(|engine| engine.precompile_component(&component))
        .map_err(ChildError::Refused)?;
    std::io::stdout().lock().write_all(&native)?;
    Ok(())
}

fn read_u64(input: &mut impl Read) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn limit(resource: Resource, most: u64) -> std::io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
