//! The child's side of `compile`: limits itself, does one job, and the form in which both sides talk.

use std::io::{self, Read, Write};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounds::MAX_UPLOAD_BYTES;
use crate::job;
use crate::refusal::{CompileError, MAX_SCHEMA_BYTES};
use crate::schema;

/// How far the child steps back behind traffic.
const NICENESS: i32 = 10;

/// What the child writes as soon as it knows that settings do not fit, before it lists why.
pub(crate) const CONFIG_UNFIT: &[u8] = b"!";

/// What a child is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Read an upload.
    Inspect,
    /// Compile a component.
    Compile,
    /// Check settings against a schema.
    CheckConfig,
}

impl Job {
    const ALL: [Self; 3] = [Self::Inspect, Self::Compile, Self::CheckConfig];
}

/// What the child reads first.
pub(crate) fn header(memory_bytes: u64, cpu: Duration, job: Job) -> Vec<u8> {
    [memory_bytes, cpu.as_secs().max(1), job as u64]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// Takes an answer apart: its JSON, and the bytes behind.
pub(crate) fn unpack<T: DeserializeOwned>(
    mut output: Vec<u8>,
) -> Result<(T, Vec<u8>), CompileError> {
    let failed = |error: &dyn std::fmt::Display| {
        CompileError::Failed(format!("the child's answer cannot be read: {error}"))
    };
    let length = read_u64(&mut output.as_slice()).map_err(|error| failed(&error))?;
    let end = usize::try_from(length)
        .ok()
        .and_then(|json| json.checked_add(8));
    let json = end.and_then(|end| output.get(8..end));
    let json = json.ok_or_else(|| failed(&"it is cut off"))?;
    let head = serde_json::from_slice(json).map_err(|error| failed(&error))?;
    output.drain(..8 + json.len());
    Ok((head, output))
}

fn pack(head: &impl Serialize, tail: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let mut output = io::stdout().lock();
    output.write_all(&(head.len() as u64).to_le_bytes())?;
    output.write_all(&head)?;
    output.write_all(tail)?;
    output.flush()
}

/// Does what standard input says.
pub(crate) fn work() -> io::Result<()> {
    // A host that is killed takes its compilers with it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut input = io::stdin().lock();
    let (memory_bytes, cpu_seconds, job) = (
        read_u64(&mut input)?,
        read_u64(&mut input)?,
        read_u64(&mut input)?,
    );
    limit(Resource::As, memory_bytes)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    nice(NICENESS)?;
    let mut bytes = Vec::new();
    // Encoding a core module adds a little to an upload of the largest size.
    input
        .take(2 * MAX_UPLOAD_BYTES as u64)
        .read_to_end(&mut bytes)?;
    match Job::ALL.into_iter().find(|known| *known as u64 == job) {
        Some(Job::Inspect) => {
            let inspected = job::inspect(&bytes);
            let encoded = inspected
                .as_ref()
                .ok()
                .and_then(|one| one.encoded.as_deref());
            pack(&inspected, encoded.unwrap_or_default())
        }
        Some(Job::Compile) => {
            let compiled = job::compile(&bytes);
            let artifact = compiled.as_ref().map_or(&[][..], |made| made.as_bytes());
            pack(&compiled.as_ref().map(|_| ()), artifact)
        }
        Some(Job::CheckConfig) => check_config(&bytes),
        None => Err(io::Error::other("no such job")),
    }
}

fn check_config(mut input: &[u8]) -> io::Result<()> {
    let length = usize::try_from(read_u64(&mut input)?).unwrap_or(usize::MAX);
    let text = |bytes| std::str::from_utf8(bytes).map_err(io::Error::other);
    let (schema, config) = input
        .split_at_checked(length)
        .filter(|(schema, _)| schema.len() <= MAX_SCHEMA_BYTES)
        .ok_or_else(|| io::Error::other("the schema is cut off or too long"))?;
    let unfit = || {
        let mut output = io::stdout().lock();
        // If it cannot be written now, neither can the end.
        let _ = output.write_all(CONFIG_UNFIT).and_then(|()| output.flush());
    };
    let told = schema::check(text(schema)?, text(config)?, unfit);
    let mut output = io::stdout().lock();
    output.write_all(&serde_json::to_vec(&told)?)?;
    output.flush()
}

fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
