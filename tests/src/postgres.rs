//! A PostgreSQL server of our own, from the distribution's binaries.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use sqlx::{Connection, Executor, PgConnection};

use crate::process::{Launch, Process};
use crate::{port, wait};

/// What the distribution calls the user that PostgreSQL runs as. It refuses to run as root.
const USER: &str = "postgres";

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It does not: for tests, which end hosts and not the database.
    Fast,
    /// It does, as it comes out of the box: for measurements.
    Full,
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    process: Process,
}

impl Postgres {
    /// Makes a cluster in `directory`, starts it and waits until it answers.
    pub async fn start(directory: &Path, durability: Durability) -> Result<Self> {
        let binaries = binaries()?;
        let user = rustix::process::getuid().is_root().then_some(USER);
        let home = directory.join("postgres");
        std::fs::create_dir(&home)?;
        if user.is_some() {
            chown(&home, Some(id_of_user("-u")?), Some(id_of_user("-g")?))?;
        }
        let data = home.join("data").display().to_string();
        make_cluster(&binaries.join("initdb"), user, &data)?;

        let port = port::free()?;
        let mut arguments = vec!["-D".into(), data, "-p".into(), port.to_string()];
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", home.display()),
            "max_connections=300".to_owned(),
        ];
        if durability == Durability::Fast {
            settings.push("fsync=off".to_owned());
        }
        arguments.extend(
            settings
                .into_iter()
                .flat_map(|setting| ["-c".to_owned(), setting]),
        );
        let process = Process::start(&Launch {
            name: "postgres",
            program: &binaries.join("postgres"),
            arguments,
            environment: Vec::new(),
            log: directory.join("postgres.log"),
            user,
            // The "fast" shutdown: it does not wait for clients.
            ending: Signal::INT,
        })?;
        let mut postgres = Self { port, process };
        let url = postgres.url("postgres");
        wait::until("an answer of postgres", wait::SOON, async || {
            postgres.process.expect_running()?;
            Ok(PgConnection::connect(&url).await.ok())
        })
        .await?;
        Ok(postgres)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://wxhost@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database. The name is ours: lower-case letters and digits.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        Ok(())
    }
}

fn make_cluster(initdb: &Path, user: Option<&str>, data: &str) -> Result<()> {
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
                .arg(initdb);
            command
        }
        None => Command::new(initdb),
    };
    let done = command
        .args([
            "-D",
            data,
            "-U",
            "wxhost",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ])
        .current_dir("/")
        .output()
        .context("cannot run initdb")?;
    ensure!(
        done.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// The newest installed version's binaries, which Debian keeps out of `PATH`.
fn binaries() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let binaries = path.join("bin");
            binaries
                .join("initdb")
                .exists()
                .then_some((version, binaries))
        })
        .collect();
    versions.sort();
    let (_, newest) = versions
        .pop()
        .context("PostgreSQL's server is not installed: apt-get install postgresql")?;
    Ok(newest)
}

fn id_of_user(which: &str) -> Result<u32> {
    let answer = Command::new("id").args([which, USER]).output()?;
    ensure!(answer.status.success(), "there is no user {USER}");
    Ok(String::from_utf8(answer.stdout)?.trim().parse()?)
}
