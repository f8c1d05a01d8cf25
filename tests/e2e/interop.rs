//! WeChat libraries of other languages, by other people, talk to the host and understand it; and talk
//! through the host with WeChat, which they understand as before. Each is set up as README.md says.
//!
//! Python and Node are tested here; `toolchains` has those that need more than a package.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wxhost_simulator::{SimulatedAccount, SimulatedComponent, SystemEnvironment};
use wxhost_tests::account::new_user;
use wxhost_tests::api::WechatApi;
use wxhost_tests::plugin::{self, Plugin};
use wxhost_tests::{port, wait};
use wxhost_wechat::envelope::Mode;

use crate::agency::Agency;
use crate::office::{Office, admit};
use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::{Terms, Till};
use crate::webshop::login_key;

scenarios! {
    BOTH: python_library_encrypts_a_callback_and_reads_the_reply,
        python_library_calls_wechat_through_the_host,
        python_library_seals_for_a_third_party_platform, python_library_logs_users_in_through_the_host,
        python_library_sells_as_the_host_does,
        node_libraries_call_wechat_through_the_host;
    ALONE: python_library_plays_a_third_party_platform;
}

/// The libraries that `forward.mjs` knows.
const NODE_LIBRARIES: [&str; 3] = ["co-wechat-api", "wechat-api", "node-easywechat"];

/// A program that reads a task and prints what it was told.
pub(crate) struct Talker {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

async fn python_library_encrypts_a_callback_and_reads_the_reply(stage: Stage) -> Result<()> {
    let python = Talker {
        program: stage.python(&prepare).await?,
        arguments: vec![interop("talk.py").into()],
    };
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

async fn python_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let python = Talker {
        program: stage.python(&prepare).await?,
        arguments: vec![interop("forward.py").into()],
    };
    expect_wechat_understood(&stage, &[python]).await
}

/// A system that logs its users in by itself keeps its library, and needs no AppSecret.
async fn python_library_logs_users_in_through_the_host(stage: Stage) -> Result<()> {
    let python = Talker {
        program: stage.python(&prepare).await?,
        arguments: vec![interop("oauth.py").into()],
    };
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let tenant = host.admin().add_tenant().await?;
    let settings = (&json!({"oauth_domain": "shop.example"}), &json!({}));
    let account = admit(&stage, &host, &api, &tenant, settings).await?;
    let key = login_key(&host, &tenant).await?;
    let user = new_user()?;
    let task = json!({
        "base": host.base(),
        "open_base": api.url(),
        "app_id": account.app_id(),
        "key": key,
        "user": user.as_str(),
        "back": "https://shop.example/back",
    });
    let told = talk(&python, &task).await?;
    let nickname = &told["nickname"];
    let expected = json!({
        "user": user.as_str(),
        "nickname": nickname,
        "is_good": true,
        "renewed": user.as_str(),
        "again": nickname,
        "refusal": 40163,
    });
    ensure!(nickname.is_string() && told == expected, "{told}");
    Ok(())
}

/// A library for WeChat Pay that is not ours understands what is signed and sealed, by either kind of key.
async fn python_library_sells_as_the_host_does(stage: Stage) -> Result<()> {
    let python = Talker {
        program: stage.python(&prepare).await?,
        arguments: vec![interop("pay.py").into()],
    };
    for signs_by in ["public-key", "certificate"] {
        let terms = Terms {
            signs_by,
            ..Terms::default()
        };
        let (till, host) = Till::open_on(&stage, terms).await?;
        let placed = till.order(&host, "order-000001", 1990).await?;
        let user = new_user()?;
        let task = json!({
            "wechat": till.api.url(),
            "merchant": till.console,
            "app_id": till.account.app_id(),
            "user": user.as_str(),
            "invocation": placed["invocation"],
        });
        let told = talk(&python, &task).await?;
        let expected = json!({
            "invoked": "get_brand_wcpay_request:ok",
            "paid": ["SUCCESS", 800, user.as_str()],
            "query": "SUCCESS",
            "refund": ["PROCESSING", 300],
            "refunded": "SUCCESS",
            "again": "SUCCESS",
            "unpaid": 200,
            "closed": 204,
            "wrong": 400,
            "signs_alike": true,
        });
        ensure!(told == expected, "{signs_by}: {told}");
    }
    Ok(())
}

/// The pretend WeChat is one for other people's platforms, too.
async fn python_library_plays_a_third_party_platform(stage: Stage) -> Result<()> {
    let python = Talker {
        program: stage.python(&prepare).await?,
        arguments: vec![interop("component.py").into()],
    };
    let api = WechatApi::start().await?;
    let port = port::free()?;
    let component = SimulatedComponent::register("", &SystemEnvironment);
    let component = SimulatedComponent {
        event_url: format!("http://127.0.0.1:{port}/events"),
        ..component
    };
    api.put_component(&component)?;
    let account = SimulatedAccount::register("", Mode::Safe, &SystemEnvironment);
    let app_id = &account.app_id;
    let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
    api.ask(Method::POST, "/apps", &app)?;
    let user = new_user()?;
    let follower = json!({"open_ids": [user.as_str()]});
    api.ask(
        Method::POST,
        &format!("/apps/{app_id}/followers"),
        &follower,
    )?;
    let task = json!({
        "app_id": component.app_id,
        "secret": component.secret.expose(),
        "token": component.token.expose(),
        "aes_key": component.aes_key.expose(),
        "base": api.url(),
        "port": port,
    });
    let wechat = async {
        let tell = async |what: &str, body: Value| {
            let told = api.tell(&component.app_id, what, &body).await?;
            anyhow::Ok(told["push"]["ok"] == true)
        };
        wait::until("a platform that takes a ticket", wait::SOON, async || {
            Ok(tell("ticket", json!({})).await?.then_some(()))
        })
        .await?;
        let agreement =
            json!({"app_id": app_id, "original_id": account.original_id, "nick_name": "茶馆"});
        ensure!(tell("authorize", agreement).await?, "the authorisation");
        ensure!(
            tell("unauthorize", json!({"app_id": app_id})).await?,
            "its end"
        );
        Ok(())
    };
    let (told, wechat) = tokio::join!(talk(&python, &task), wechat);
    wechat?;
    let expected = json!([
        {"app_id": app_id, "name": "茶馆", "followers": [user.as_str()], "option": "1", "listed": 1},
        {"withdrawn": app_id},
    ]);
    let told = told?;
    ensure!(told["told"] == expected, "{told}");
    Ok(())
}

/// What a library seals for a platform is opened by the host, and the host's replies by the library.
async fn python_library_seals_for_a_third_party_platform(stage: Stage) -> Result<()> {
    let program = stage.python(&prepare).await?;
    let talker = |script: &str| Talker {
        program: program.clone(),
        arguments: vec![interop(script).into()],
    };
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, original_id) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let base = format!("{}/component/{}", host.base(), agency.id());
    let mut task = json!({
        "app_id": agency.id(),
        "token": agency.component.token.expose(),
        "aes_key": agency.component.aes_key.expose(),
        "tell": format!("{base}/events"),
    });
    let told = talk(&talker("component.py"), &task).await?;
    ensure!(
        told == json!({"status": 200, "answer": "success"}),
        "{told}"
    );
    task["url"] = format!("{base}/callback/{app_id}").into();
    task["original_id"] = original_id.as_str().into();
    task["user"] = new_user()?.as_str().into();
    task["text"] = "你好，平台".into();
    let told = talk(&talker("talk.py"), &task).await?;
    ensure!(told["text"] == samples::hello("你好，平台"), "{told}");
    Ok(())
}

async fn node_libraries_call_wechat_through_the_host(stage: Stage) -> Result<()> {
    let script = stage.node(&prepare_node).await?;
    let talkers = NODE_LIBRARIES.map(|library| Talker {
        program: "node".into(),
        arguments: vec![script.clone().into(), library.into()],
    });
    expect_wechat_understood(&stage, &talkers).await
}

/// Libraries that ask WeChat through a host are answered as WeChat answers, each for an account of its
/// own.
pub(crate) async fn expect_wechat_understood(stage: &Stage, talkers: &[Talker]) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = stage.site_with(&api).await?;
    let host = site.host().await?;
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(stage, &host, &api, talkers.len(), nothing).await?;
    for (talker, account) in talkers.iter().zip(&office.accounts) {
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
        let told = talk(talker, &task).await?;
        let expected = json!({
            "followers": [user.as_str()],
            "user": user.as_str(),
            "sent": 0,
            "menu": 0,
            "button": "今日茶单",
            "picture": PICTURE,
            "refusal": 40003,
        });
        ensure!(told == expected, "{:?}: {told}", talker.arguments);
        // The words have reached WeChat as they are.
        let sent = api.requests(account, "/cgi-bin/message/custom/send")?;
        let body: Value = serde_json::from_str(sent[0]["body"].as_str().context("a body")?)?;
        let words = &body["text"]["content"];
        ensure!(sent.len() == 1 && words == text, "{sent:?}");
        ensure!(api.app(account)?.stable_fetches() == 1, "one token for all");
    }
    Ok(())
}

/// The smallest PNG, in hex: one transparent pixel.
const PICTURE: &str = "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082";

pub(crate) async fn talk(talker: &Talker, task: &Value) -> Result<Value> {
    let mut child = Command::new(&talker.program)
        .args(&talker.arguments)
        // The library is to talk to the host, not to a proxy of the machine.
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {:?}", talker.program))?;
    let mut input = child.stdin.take().context("an input")?;
    input.write_all(task.to_string().as_bytes()).await?;
    drop(input);
    let done = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "{:?} ended with {}: {said}{}",
        talker.arguments,
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    // A build tool may have its own word before.
    let told = said
        .lines()
        .find_map(|line| line.find('{').map(|begin| &line[begin..]));
    Ok(serde_json::from_str(
        told.with_context(|| said.clone().into_owned())?,
    )?)
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

/// The Node libraries with the script that talks to them, installed once and kept in the target directory.
pub(crate) async fn prepare_node() -> Result<PathBuf> {
    let place = plugin::target_directory()?.join("interop-node");
    std::fs::create_dir_all(&place)?;
    let wanted = std::fs::read_to_string(interop("node/package-lock.json"))?;
    let installed = place.join("installed.json");
    let script = place.join("forward.mjs");
    for script in [
        "forward.mjs",
        "browser.mjs",
        "scan.mjs",
        "login.mjs",
        "pay.mjs",
    ] {
        std::fs::copy(interop("node").join(script), place.join(script))?;
    }
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(script);
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(interop("node").join(file), place.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&place)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(&mut npm).await?;
    std::fs::write(installed, wanted)?;
    Ok(script)
}

pub(crate) async fn run(command: &mut Command) -> Result<()> {
    let done = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let done = done.with_context(|| {
        format!(
            "cannot run {:?}: `cargo xtask setup` installs what is missing",
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

pub(crate) fn interop(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(file)
}
