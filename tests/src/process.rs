//! A child process that cannot outlive the tests: it is ended when its owner goes, and by the kernel
//! when the test process itself dies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a process may take to end after it was asked to.
const ENDING: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// For messages and for the name of its log.
    pub name: &'a str,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment; of ours it gets `PATH` and nothing else.
    pub environment: Vec<(String, String)>,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// The user that it runs as; absent for ours.
    pub user: Option<&'a str>,
    /// The signal that asks it to end.
    pub ending: Signal,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ending: Signal,
}

impl Process {
    /// Starts it.
    pub fn start(launch: &Launch<'_>) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = launch.user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command
            .arg("--")
            .arg(launch.program)
            .args(&launch.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn_from_lasting_thread(command).with_context(|| {
            format!(
                "cannot start {} ({})",
                launch.name,
                launch.program.display()
            )
        })?;
        Ok(Self {
            name: launch.name.to_owned(),
            child,
            log: launch.log.clone(),
            ending: launch.ending,
        })
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, within, async || self.ended()).await
    }

    /// Ends it without giving it a chance, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// All that it has printed, also in earlier lives with the same log.
    pub fn printed(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Fails with the last of its output if it has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        let Some(status) = self.ended()? else {
            return Ok(());
        };
        let printed = self.printed()?;
        let start = printed.floor_char_boundary(printed.len().saturating_sub(2_000));
        bail!(
            "{} ended with {status}; it printed:\n{}",
            self.name,
            &printed[start..]
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = self.signal(self.ending);
        for _ in 0..ENDING.as_millis() / LOOK_EVERY.as_millis() {
            if asked.is_err() || matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "drop cannot await; this is the look of a bounded wait"
            )]
            thread::sleep(LOOK_EVERY);
        }
        // Whether or not it listened: an error means that it is gone already.
        drop(self.kill());
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends a child its death signal when the *thread* that started it ends. Test threads
/// end with their test, so one thread that never ends starts all children.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in taken {
                // Nobody waits for the answer only when the asking test has panicked meanwhile.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, answered) = mpsc::channel();
    SPAWNER
        .send((command, answer))
        .ok()
        .context("the spawning thread is gone")?;
    Ok(answered.recv()??)
}
