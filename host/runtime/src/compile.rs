//! Works on uploads out of the way of traffic: in a child process of the same binary, under limits on
//! memory, CPU time and wall time. A bug of the compiler, or an upload made to exhaust whoever reads it,
//! takes the child down and nothing else.
//!
//! The child reads a header (three little-endian `u64`: bytes of memory, seconds of CPU time, which job)
//! and then the job's input from standard input. It writes what came of it to standard output: its JSON,
//! and behind that bytes. What it says on standard error is for the host's log.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tracing::warn;

use crate::artifact::Artifact;
use crate::check::Inspected;
use crate::child::{self, CONFIG_UNFIT, Job};
use crate::job;
use crate::refusal::{CompileError, DeployError};
use crate::schema::{self, ConfigError};

/// What native code of the largest upload may come to: it was three times as large for JavaScript.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;
/// What is kept of a child's complaint.
const MAX_COMPLAINT_BYTES: u64 = 4 << 10;
/// The exit code of a program of Rust's that panicked.
const PANICKED: i32 = 101;

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

/// What a compilation may use. Reading an upload and checking settings may use a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child. A JavaScript engine of 12 MiB takes about 1 GiB.
    pub memory_bytes: u64,
    /// CPU time of the child, over all of its threads.
    pub cpu: Duration,
    /// How long it may take.
    pub wall: Duration,
    /// How many children run at once; others wait. One place is kept for plugins that an event waits for,
    /// and no tenant's deployments take more than one.
    pub concurrent: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(120),
            wall: Duration::from_secs(60),
            concurrent: 3,
        }
    }
}

impl CompileLimits {
    /// What a job may use: none needs as much as compiling.
    fn of(&self, job: Job) -> Self {
        let (memory_bytes, cpu, wall) = match job {
            Job::Compile => return *self,
            Job::Inspect => (1 << 30, Duration::from_secs(20), Duration::from_secs(30)),
            Job::CheckConfig => (512 << 20, Duration::from_secs(5), Duration::from_secs(15)),
        };
        Self {
            memory_bytes: self.memory_bytes.min(memory_bytes),
            cpu: self.cpu.min(cpu),
            wall: self.wall.min(wall),
            concurrent: self.concurrent,
        }
    }
}

impl Compiler {
    /// Reads an upload.
    pub(crate) async fn inspect(
        &self,
        upload: Arc<Vec<u8>>,
        limits: &CompileLimits,
    ) -> Result<Inspected, DeployError> {
        let Self::Child { .. } = self else {
            return in_process(move || job::inspect(&upload)).await?;
        };
        let output = self.run(Job::Inspect, &[&upload], limits).await;
        let output = output.map_err(|lost| match lost.error {
            CompileError::Limit(what) => DeployError::TooDemanding(format!(
                "it cannot be read within the host's limits: {what}"
            )),
            error => error.into(),
        })?;
        let (inspected, encoded) = child::unpack::<Result<Inspected, DeployError>>(output)?;
        let mut inspected = inspected?;
        inspected.encoded = (!encoded.is_empty()).then_some(encoded);
        Ok(inspected)
    }

    /// Compiles a component that has been inspected.
    pub(crate) async fn compile(
        &self,
        component: Arc<Vec<u8>>,
        limits: &CompileLimits,
    ) -> Result<Artifact, DeployError> {
        let Self::Child { .. } = self else {
            return in_process(move || job::compile(&component)).await?;
        };
        let output = self.run(Job::Compile, &[&component], limits).await;
        let output = output.map_err(|lost| lost.error)?;
        let (compiled, artifact) = child::unpack::<Result<(), DeployError>>(output)?;
        compiled?;
        let nothing = || CompileError::Failed("the child wrote no native code".into());
        Artifact::from_bytes(artifact).ok_or_else(|| nothing().into())
    }

    /// Checks settings against a schema.
    pub(crate) async fn check_config(
        &self,
        schema: String,
        config: String,
        limits: &CompileLimits,
    ) -> Result<(), ConfigError> {
        let Self::Child { .. } = self else {
            let checking = in_process(move || schema::check(&schema, &config, || {})).await;
            return checking.unwrap_or_else(|error| Err(ConfigError::Failed(error.to_string())));
        };
        let length = (schema.len() as u64).to_le_bytes();
        let input = [&length, schema.as_bytes(), config.as_bytes()];
        match self.run(Job::CheckConfig, &input, limits).await {
            Ok(output) => {
                let told = output.strip_prefix(CONFIG_UNFIT).unwrap_or(&output);
                serde_json::from_slice(told)
                    .unwrap_or_else(|error| Err(ConfigError::Failed(error.to_string())))
            }
            Err(lost) if lost.output == CONFIG_UNFIT => Err(schema::unlisted()),
            Err(lost) => Err(match lost.error {
                CompileError::Limit(what) => ConfigError::TooDemanding(what),
                CompileError::Crashed => ConfigError::Schema("the validator fails on it".into()),
                error => ConfigError::Failed(error.to_string()),
            }),
        }
    }

    /// Has a child do a job; gives what it wrote.
    async fn run(
        &self,
        job: Job,
        input: &[&[u8]],
        limits: &CompileLimits,
    ) -> Result<Vec<u8>, Lost> {
        let limits = limits.of(job);
        let child = self.spawn().map_err(|error| Lost::failed(&error))?;
        let conversation = converse(child, job, input, &limits);
        match tokio::time::timeout(limits.wall, conversation).await {
            Ok(result) => result,
            // The child is killed when it is dropped.
            Err(_elapsed) => Err(Lost::limit("it took too long")),
        }
    }

    /// Starts the child with an empty environment: it needs none of the host's secrets.
    fn spawn(&self) -> std::io::Result<Child> {
        let Self::Child { program, args } = self else {
            return Err(std::io::Error::other("there is no child"));
        };
        Command::new(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

/// Does a job on a thread of this process.
async fn in_process<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CompileError> {
    let done = tokio::task::spawn_blocking(job).await;
    done.map_err(|error| {
        if error.is_panic() {
            CompileError::Crashed
        } else {
            CompileError::Failed(error.to_string())
        }
    })
}

/// A child that did not come to its end: why, and what it had written.
struct Lost {
    error: CompileError,
    output: Vec<u8>,
}

impl Lost {
    fn failed(error: &std::io::Error) -> Self {
        CompileError::Failed(error.to_string()).into()
    }

    fn limit(what: &str) -> Self {
        CompileError::Limit(what.into()).into()
    }
}

impl From<CompileError> for Lost {
    fn from(error: CompileError) -> Self {
        Self {
            error,
            output: Vec::new(),
        }
    }
}

async fn converse(
    mut child: Child,
    job: Job,
    input: &[&[u8]],
    limits: &CompileLimits,
) -> Result<Vec<u8>, Lost> {
    let failed = |error: std::io::Error| Lost::failed(&error);
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileError::Failed("the child has no pipes".into()).into());
    };
    let header = child::header(limits.memory_bytes, limits.cpu, job);
    let mut output = Vec::new();
    let mut complaint = Vec::new();
    let mut written = stdout.take(MAX_OUTPUT_BYTES + 1);
    let mut errors = stderr.take(MAX_COMPLAINT_BYTES);
    let feed = async {
        // A child that died early says so by its status; a broken pipe adds nothing.
        let _ = stdin.write_all(&header).await;
        for part in input {
            let _ = stdin.write_all(part).await;
        }
        drop(stdin);
    };
    let ((), read, complained) = tokio::join!(
        feed,
        written.read_to_end(&mut output),
        errors.read_to_end(&mut complaint)
    );
    read.map_err(failed)?;
    complained.map_err(failed)?;
    if output.len() as u64 > MAX_OUTPUT_BYTES {
        return Err(Lost::limit("its native code is too large"));
    }
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(output);
    }
    let error = death(status, &String::from_utf8_lossy(&complaint));
    Err(Lost { error, output })
}

/// Why a child died.
fn death(status: ExitStatus, complaint: &str) -> CompileError {
    let limit = |what: &str| CompileError::Limit(what.into());
    let by = |signals: &[Signal]| {
        let signal = status.signal();
        signals.iter().any(|given| Some(given.as_raw()) == signal)
    };
    if by(&[Signal::XCPU, Signal::KILL]) {
        return limit("it took too much CPU time");
    }
    if by(&[Signal::SEGV, Signal::BUS]) || complaint.contains("overflowed its stack") {
        return limit("it nests too deep");
    }
    if by(&[Signal::ABORT]) {
        return limit("it took too much memory");
    }
    let complaint = complaint.trim();
    if status.code() == Some(PANICKED) {
        // Where it was built is nothing for a tenant.
        warn!(complaint, "the compiler crashed on an upload");
        return CompileError::Crashed;
    }
    CompileError::Failed(format!("{status}: {complaint}"))
}

/// The child's side: the whole of the binary's hidden command `compile-plugin`.
pub fn child_main() -> ExitCode {
    match child::work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died(status: i32, complaint: &str) -> String {
        death(ExitStatus::from_raw(status), complaint).to_string()
    }

    #[test]
    fn each_death_has_its_word() {
        for (signal, word) in [
            (Signal::XCPU, "too much CPU time"),
            (Signal::ABORT, "too much memory"),
            (Signal::SEGV, "nests too deep"),
        ] {
            assert!(died(signal.as_raw(), "").contains(word), "{word}");
        }
        let overflow = "thread 'main' has overflowed its stack";
        assert!(died(Signal::ABORT.as_raw(), overflow).contains("nests too deep"));
        assert!(died(1 << 8, "no such job").contains("no such job"));
    }

    #[test]
    fn a_panic_is_a_refusal_that_shows_no_path_of_the_build() {
        let panic = "thread 'main' panicked at /root/.cargo/registry/cranelift/src/lib.rs:1:2: oh";
        let error = death(ExitStatus::from_raw(PANICKED << 8), panic);
        assert_eq!(error.code(), "compiler-crashed");
        assert!(!error.to_string().contains(".cargo"), "{error}");
        assert!(!DeployError::from(error).is_internal());
    }
}
