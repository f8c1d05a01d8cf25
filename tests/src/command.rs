//! The command line as an operator uses it, with a host's address and admin token in the environment.

use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::host::{self, Host};
use crate::secrets;

/// Runs the binary; gives what it prints, or fails with it.
pub async fn command(host: &Host, arguments: &[&str]) -> Result<String> {
    let done = Command::new(host::binary()?)
        .args(arguments)
        .env("WXHOST_SERVER", host.base())
        .env("WXHOST_ADMIN_TOKEN", host.admin().token())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    let error = String::from_utf8_lossy(&done.stderr).into_owned();
    let name = format!("`wxhost {}`", arguments[..2].join(" "));
    secrets::expect_none(&name, &(printed.clone() + &error))?;
    let status = done.status;
    ensure!(
        status.success(),
        "{name} ended with {status}: {printed}{error}"
    );
    Ok(printed)
}
