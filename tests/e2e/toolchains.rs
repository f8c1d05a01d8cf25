//! WeChat libraries in Java and Go call WeChat through the host, and a browser walks through its pages. Not
//! every machine has what that needs, so these run by `cargo xtask interop` only.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use tokio::process::Command;
use wxhost_tests::plugin;

use crate::agency::Agency;
use crate::interop::{Talker, expect_wechat_understood, interop, prepare_node, run, talk};
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    EMBEDDED: java_library_calls_wechat_through_the_host,
        go_library_calls_wechat_through_the_host,
        a_browser_walks_through_an_invitation;
}

/// Where Debian puts the browser.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Says that these are to run.
pub(crate) const WANTED: &str = "WXHOST_INTEROP";

async fn java_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let place = plugin::target_directory()?.join("interop-java");
    let source = PathBuf::from("src/main/java/Forward.java");
    std::fs::create_dir_all(place.join("src/main/java"))?;
    for file in [PathBuf::from("pom.xml"), source] {
        std::fs::copy(interop("java").join(&file), place.join(&file))?;
    }
    let project = ["--quiet", "--batch-mode", "--file"].map(Into::into);
    let project = project.into_iter().chain([place.join("pom.xml").into()]);
    let project: Vec<std::ffi::OsString> = project.collect();
    run(Command::new("mvn").args(&project).arg("compile")).await?;
    let mut arguments = project;
    arguments.push("exec:java".into());
    let java = Talker {
        program: "mvn".into(),
        arguments,
    };
    expect_wechat_understood(&stage, &[java]).await
}

async fn go_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let program = plugin::target_directory()?.join("interop-go/forward");
    let mut build = Command::new("go");
    build.current_dir(interop("go")).args(["build", "-o"]);
    run(build.arg(&program).arg(".")).await?;
    let go = Talker {
        program,
        arguments: Vec::new(),
    };
    expect_wechat_understood(&stage, &[go]).await
}

/// The pictures are left in the target directory, to be looked at.
async fn a_browser_walks_through_an_invitation(stage: Stage) -> Result<()> {
    let script = stage.node(&prepare_node).await?;
    let script = script.with_file_name("scan.mjs");
    let browser = Talker {
        program: "node".into(),
        arguments: vec![script.into()],
    };
    let pictures = plugin::target_directory()?.join("pictures");
    std::fs::create_dir_all(&pictures)?;
    let (agency, host) = Agency::open(&stage).await?;
    for form in ["pc", "h5"] {
        let (app_id, original_id) = agency.newcomer()?;
        let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
        agency.api.ask(Method::POST, "/apps", &app)?;
        let task = json!({
            "link": agency.invite(&host, &json!({})).await?,
            "form": form,
            "app_id": app_id,
            "pictures": pictures,
            "chromium": CHROMIUM,
        });
        let told = talk(&browser, &task).await?;
        for page in ["said", "again"] {
            let text = told[page].as_str().context("a page")?;
            ensure!(text.contains("授权成功"), "{told}");
        }
        ensure!(
            told["qr_code"] == true && told["complaints"] == json!([]),
            "{told}"
        );
        let reply = agency.ask(&host, (&app_id, &original_id), "hi").await?;
        ensure!(reply == "You wrote: hi", "{reply}");
    }
    Ok(())
}
