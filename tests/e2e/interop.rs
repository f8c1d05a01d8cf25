//! A WeChat library of another language, by other people, talks to the host and understands it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wxhost_tests::account::new_user;
use wxhost_tests::plugin::{self, Plugin};
use wxhost_wechat::envelope::Mode;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: python_library_encrypts_a_callback_and_reads_the_reply;
}

async fn python_library_encrypts_a_callback_and_reads_the_reply(stage: Stage) -> Result<()> {
    let python = stage.python(&prepare).await?;
    let host = stage.host().await?;
    for mode in [Mode::Safe, Mode::Compatible] {
        let account = stage.account(host, mode, Plugin::Hello).await?;
        for text in ["hello from Python", "你好，Python 😀"] {
            let known = account.known();
            let task = json!({
                "url": account.url(host),
                "app_id": account.app_id(),
                "token": known.token.expose(),
                "aes_key": known.aes_key.expose(),
                "original_id": known.original_id.as_str(),
                "user": new_user()?.as_str(),
                "text": text,
            });
            let told = talk(&python, &task).await?;
            ensure!(told["text"] == samples::hello(text), "{mode:?}: {told}");
        }
    }
    Ok(())
}

async fn talk(python: &Path, task: &Value) -> Result<Value> {
    let mut child = Command::new(python)
        .arg(interop("talk.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().context("an input")?;
    input.write_all(task.to_string().as_bytes()).await?;
    drop(input);
    let done = child.wait_with_output().await?;
    let error = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "talk.py ended with {}: {error}",
        done.status
    );
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// A virtual environment with the library, made once and kept in the target directory.
async fn prepare() -> Result<PathBuf> {
    let place = plugin::target_directory()?.join("interop-python");
    let python = place.join("bin/python");
    let wanted = std::fs::read_to_string(interop("requirements.txt"))?;
    let installed = place.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place)).await?;
    let requirements = interop("requirements.txt");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(requirements))
    .await?;
    std::fs::write(installed, wanted)?;
    Ok(python)
}

async fn run(command: &mut Command) -> Result<()> {
    let done = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let done = done.with_context(|| {
        format!(
            "cannot run {:?}: apt-get install python3-venv",
            command.as_std()
        )
    })?;
    let said =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "{:?} ended with {}: {said}",
        command.as_std(),
        done.status
    );
    Ok(())
}

fn interop(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(file)
}
