//! A server that speaks TLS only, with an authority of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::port;
use crate::process::{Launch, Process};

/// The server and what vouches for it.
#[derive(Debug)]
pub struct Sealed {
    port: u16,
    authority: PathBuf,
    _process: Process,
}

impl Sealed {
    /// Starts it.
    pub fn start(directory: &Path) -> Result<Self> {
        let file = |name: &str| directory.join(name).display().to_string();
        let (authority, authority_key) = (file("authority.pem"), file("authority.key"));
        let (certificate, key) = (file("server.pem"), file("server.key"));
        let (request, names) = (file("server.csr"), file("names"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "7",
            "-subj",
            "/CN=wxhost tests",
            "-keyout",
            &authority_key,
            "-out",
            &authority,
        ])?;
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &key,
            "-out",
            &request,
        ])?;
        std::fs::write(
            &names,
            "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )?;
        openssl(&[
            "x509",
            "-req",
            "-days",
            "7",
            "-in",
            &request,
            "-CA",
            &authority,
            "-CAkey",
            &authority_key,
            "-CAcreateserial",
            "-extfile",
            &names,
            "-out",
            &certificate,
        ])?;
        let port = port::free()?;
        let arguments = [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &authority,
            "--tls-auth-clients",
            "no",
            "--appendonly",
            "no",
            "--dir",
            &directory.display().to_string(),
            "--save",
            "",
        ];
        let process = Process::start(&Launch {
            name: "redis-server with TLS",
            program: Path::new("redis-server"),
            arguments: arguments.map(str::to_owned).into(),
            environment: Vec::new(),
            log: directory.join("redis-tls.log"),
            user: None,
            ending: Signal::TERM,
        })?;
        Ok(Self {
            port,
            authority: authority.into(),
            _process: process,
        })
    }

    /// What hosts are told.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rediss://localhost:{}", self.port)
    }

    /// The certificate that hosts must trust.
    #[must_use]
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

fn openssl(arguments: &[&str]) -> Result<()> {
    let done = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run openssl")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "openssl {arguments:?}: {said}");
    Ok(())
}
