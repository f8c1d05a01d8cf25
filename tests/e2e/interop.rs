//! A WeChat library of another language, by other people, talks to the host and understands it; and
//! talks through the host with WeChat, which it understands as before.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wxhost_tests::account::new_user;
use wxhost_tests::api::WechatApi;
use wxhost_tests::plugin::{self, Plugin};
use wxhost_wechat::envelope::Mode;

use crate::office::Office;
use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: python_library_encrypts_a_callback_and_reads_the_reply,
        python_library_calls_wechat_through_the_host;
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
            let told = talk(&python, "talk.py", &task).await?;
            ensure!(told["text"] == samples::hello(text), "{mode:?}: {told}");
        }
    }
    Ok(())
}

async fn python_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let python = stage.python(&prepare).await?;
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(&stage, &host, &api, 1, nothing).await?;
    let account = &office.accounts[0];
    let user = new_user()?;
    let app = format!("/apps/{}", account.app_id());
    let followers = json!({"open_ids": [user.as_str()]});
    api.ask(Method::POST, &format!("{app}/followers"), &followers)?;
    let interaction = json!({"open_id": user.as_str(), "kind": "message"});
    api.ask(Method::POST, &format!("{app}/interactions"), &interaction)?;
    let text = "您的茶已经泡好了 😀";
    let task = json!({
        "base": host.base(),
        "app_id": account.app_id(),
        "key": office.key,
        "user": user.as_str(),
        "text": text,
        "picture": PICTURE,
    });
    let told = talk(&python, "forward.py", &task).await?;
    let expected = json!({
        "followers": [user.as_str()],
        "user": user.as_str(),
        "sent": 0,
        "menu": 0,
        "button": "今日茶单",
        "picture": PICTURE,
        "refusal": 40003,
    });
    ensure!(told == expected, "{told}");
    // The words have reached WeChat as they are.
    let sent = api.requests(account, "/cgi-bin/message/custom/send")?;
    let body = sent[0]["body"].as_str().context("a body")?;
    ensure!(sent.len() == 1 && body.contains(text), "{sent:?}");
    ensure!(api.app(account)?.stable_fetches() == 1, "one token for all");
    Ok(())
}

/// The smallest PNG, in hex: one transparent pixel.
const PICTURE: &str = "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082";

async fn talk(python: &Path, script: &str, task: &Value) -> Result<Value> {
    let mut child = Command::new(python)
        .arg(interop(script))
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
        "{script} ended with {}: {error}",
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
