//! One program that is run, told to the person who waits.

use anyhow::{Context, bail};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a step with a time limit is looked at.
const POLL: Duration = Duration::from_millis(100);

/// A program with its arguments.
pub(crate) struct Step {
    command: Command,
    /// What a person would type for the program.
    name: OsString,
}

impl Step {
    /// A step that runs `program`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: Command::new(&program),
            name: program.as_ref().to_owned(),
        }
    }

    /// Shown under another name than the program's path.
    pub(crate) fn named(mut self, name: impl Into<OsString>) -> Self {
        self.name = name.into();
        self
    }

    /// In this directory.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// With these arguments more.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// With this variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without this variable.
    pub(crate) fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs the step; an error if it fails.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        println!("$ {self}");
        let status = self
            .command
            .status()
            .with_context(|| format!("cannot start `{self}`"))?;
        if !status.success() {
            bail!("`{self}` failed ({status})");
        }
        Ok(())
    }

    /// Runs the step for `limit` at most, and kills it then; whether it succeeded.
    #[expect(
        clippy::disallowed_methods,
        reason = "std can wait for a child only without a limit"
    )]
    pub(crate) fn run_for(mut self, limit: Duration) -> anyhow::Result<bool> {
        println!("$ {self}");
        let Ok(mut child) = self.command.stdin(Stdio::null()).spawn() else {
            return Ok(false);
        };
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            thread::sleep(POLL);
        }
        println!("`{self}` took longer than {} s", limit.as_secs());
        child.kill()?;
        child.wait()?;
        Ok(false)
    }

    /// What the step prints to its standard output, without the last line feed; nothing if it fails.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim_end().to_owned())
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name.display())?;
        for argument in self.command.get_args() {
            let argument = argument.to_string_lossy();
            if argument.contains([' ', '"', '[']) {
                write!(f, " '{argument}'")?;
            } else {
                write!(f, " {argument}")?;
            }
        }
        Ok(())
    }
}
