//! A PostgreSQL and a Redis of our own, for the unit tests.
//!
//! A small shell, the keeper, starts both and holds the reading end of a pipe whose writing end is ours.
//! When the pipe closes, it ends both by their ids and removes what they wrote. The kernel closes the pipe
//! however we end; so neither failing tests nor Ctrl-C, which does not reach the keeper's process group,
//! leave anything behind.

use anyhow::{Context, bail, ensure};
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where Debian keeps PostgreSQL's programs, by version; they are not in `PATH`.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// How long the servers may take to answer. Making a cluster is most of it.
const START: Duration = Duration::from_secs(60);

/// How often they are asked.
const POLL: Duration = Duration::from_millis(50);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Below the range from which Linux serves outgoing connections, so that none of those takes a port
/// between our look at it and the server's bind.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// Arguments: PostgreSQL's programs, its port, Redis's port. Should the keeper itself be killed, the kernel
/// ends the servers. PostgreSQL refuses to run as root. Each test makes a database, so nothing waits for
/// the disk and the log of changes is kept short. What a server said is shown if it did not end well.
const KEEPER: &str = r#"
    umask 077
    directory=$(mktemp -d) && cd "$directory" || exit
    trap 'rm -rf -- "$directory"' EXIT
    start="setpriv --pdeathsig KILL"
    as=$start
    if [ "$(id -u)" = 0 ]; then
        as="$start --reuid postgres --regid postgres --init-groups"
        chown postgres "$directory" || exit
    fi
    $as -- "$1/initdb" -D "$directory/data" -U wxhost -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
        >initdb.log || exit
    $as -- "$1/postgres" -D "$directory/data" -p "$2" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=1000 \
        -c fsync=off -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=64MB \
        >postgres.log 2>&1 &
    postgres=$!
    $start -- redis-server --port "$3" --bind 127.0.0.1 --save "" --appendonly no \
        >redis.log 2>&1 &
    redis=$!
    # Nothing is ever written: this ends with the pipe.
    read -r _
    # Again and again: PostgreSQL may only just have started, and not listen to signals yet.
    while kill -INT "$postgres"; do sleep 0.1; done 2>/dev/null
    kill -TERM "$redis"
    wait "$postgres" || cat postgres.log >&2 2>/dev/null
    wait "$redis" || cat redis.log >&2 2>/dev/null
"#;

/// Two running servers, until it is dropped.
pub(crate) struct Servers {
    keeper: Child,
    postgres_port: u16,
    redis_port: u16,
}

impl Servers {
    /// Starts both and waits until they answer.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (postgres_port, redis_port) = free_ports()?;
        println!("$ postgres -p {postgres_port} & redis-server --port {redis_port} &");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "servers"])
            .arg(postgres_programs()?)
            .args([postgres_port.to_string(), redis_port.to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start `sh`")?;
        let mut servers = Self {
            keeper,
            postgres_port,
            redis_port,
        };
        servers.wait()?;
        Ok(servers)
    }

    /// On which databases may be made.
    pub(crate) fn postgres_url(&self) -> String {
        format!(
            "postgres://wxhost@127.0.0.1:{}/postgres",
            self.postgres_port
        )
    }

    /// Which is empty.
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis_port)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "std can wait for an answer only by asking again"
    )]
    fn wait(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while !(postgres_answers(self.postgres_port) && redis_answers(self.redis_port)) {
            if let Some(status) = self.keeper.try_wait()? {
                bail!("PostgreSQL or Redis cannot be started ({status})");
            }
            ensure!(
                started.elapsed() < START,
                "PostgreSQL and Redis did not answer within {} s",
                START.as_secs()
            );
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            println!("the servers of the unit tests may still run: {error}");
        }
    }
}

/// Logs in. While it starts, PostgreSQL refuses that already.
fn postgres_answers(port: u16) -> bool {
    const VERSION_3: u32 = 3 << 16;
    const WHO: &[u8] = b"user\0wxhost\0database\0postgres\0\0";
    let length = (2 * size_of::<u32>() + WHO.len()) as u32;
    let login = [&length.to_be_bytes(), &VERSION_3.to_be_bytes(), WHO].concat();
    says(port, &login, b"R")
}

fn redis_answers(port: u16) -> bool {
    says(port, b"PING\r\n", b"+PONG\r\n")
}

fn says<const N: usize>(port: u16, question: &[u8], expected: &[u8; N]) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(question)?;
        let mut answer = [0; N];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer == *expected)
}

/// Two ports on which nobody listens. Two processes on one machine start to look at different places.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let start = std::process::id() as usize % PORTS.len();
    let mut free = PORTS
        .cycle()
        .skip(start)
        .take(PORTS.len())
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next()
        .zip(free.next())
        .with_context(|| format!("no two free ports in {PORTS:?}"))
}

/// The newest installed version's programs; elsewhere than on Debian, those in `PATH`.
fn postgres_programs() -> anyhow::Result<PathBuf> {
    let installed = fs::read_dir(POSTGRES_VERSIONS).into_iter().flatten();
    let newest = installed
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, programs)| has_server(programs))
        .max();
    if let Some((_, programs)) = newest {
        return Ok(programs);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .find(|programs| has_server(programs))
        .context("PostgreSQL's server is not installed: cargo xtask setup")
}

fn has_server(programs: &Path) -> bool {
    programs.join("initdb").exists() && programs.join("postgres").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_answer_and_are_gone_afterwards() {
        let servers = Servers::start().unwrap();
        let (postgres, redis) = (servers.postgres_port, servers.redis_port);
        drop(servers);
        for port in [postgres, redis] {
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
        }
    }
}
