//! WeChat libraries in Java and Go call WeChat through the host. Not every machine has their toolchains, so
//! these run by `cargo xtask interop` only.

use std::path::PathBuf;

use anyhow::Result;
use tokio::process::Command;
use wxhost_tests::plugin;

use crate::interop::{Talker, expect_wechat_understood, interop, run};
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    EMBEDDED: java_library_calls_wechat_through_the_host,
        go_library_calls_wechat_through_the_host;
}

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
