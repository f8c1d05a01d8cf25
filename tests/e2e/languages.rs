//! Plugins in other languages, as their own tools make them.
//!
//! Plugins in C and in Rust without the SDK are kept beside their sources: they have 14 and 80 KB. A
//! JavaScript one has its engine with it, 12 MB, and a Python one 18 MB, too much to keep here;
//! `tests/languages/build.sh` builds them, and the Go one, where the tools are (`cargo xtask interop`). What
//! it has built is deployed too.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use wxhost_tests::account::new_user;
use wxhost_tests::admin::Bundle;
use wxhost_tests::plugin;
use wxhost_wechat::envelope::Mode;

use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::toolchains;

scenarios! {
    BOTH: plugins_of_other_languages_answer;
}

async fn plugins_of_other_languages_answer(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let built = match std::env::var_os("WXHOST_LANGUAGES") {
        Some(directory) => PathBuf::from(directory),
        None => plugin::target_directory()?.join("languages"),
    };
    let built = match is_of_this_contract(&built)? {
        true => built,
        false => built.join("of-another-contract"),
    };
    let kept = |language: &str| source().join(language).join("plugin.wasm");
    for (language, file) in [
        ("C", kept("c")),
        ("Rust", kept("rust")),
        ("C", built.join("c.wasm")),
        ("Rust", built.join("rust.wasm")),
        ("Go", built.join("go.wasm")),
        ("JavaScript", built.join("javascript.wasm")),
        ("Python", built.join("python.wasm")),
    ] {
        let Ok(upload) = std::fs::read(&file) else {
            let is_wanted = std::env::var_os(toolchains::WANTED).is_some();
            let may_be_missing = ["C", "Rust"].contains(&language) || !is_wanted;
            ensure!(
                file.starts_with(&built) && may_be_missing,
                "{file:?} is missing"
            );
            eprintln!("no plugin in {language}: tests/languages/build.sh builds it");
            continue;
        };
        let component = match wasmparser::Parser::is_component(&upload) {
            true => upload,
            false => of_core_module(&upload).with_context(|| format!("the one in {language}"))?,
        };
        let bundle = Bundle::of(component);
        let account = stage.account_with(host, Mode::Safe, bundle).await?;
        let answer = account.ask(host, &new_user()?, "hello").await;
        if answer.as_ref().ok() != Some(&format!("hello from {language}")) {
            let calls = host.admin().calls_once_written(&account, 1).await?;
            let id = calls[0]["id"].as_str().context("an id")?;
            let call = host.admin().get(&format!("/api/v1/calls/{id}")).await?;
            anyhow::bail!("{language} answered {answer:?}: {call}");
        }
    }
    Ok(())
}

/// Whether what lies there was built against the contract as it stands.
fn is_of_this_contract(built: &Path) -> Result<bool> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(source().join("../../wit"))? {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wit"));
    files.sort();
    let contract: Vec<Vec<u8>> = files
        .iter()
        .map(std::fs::read)
        .collect::<std::io::Result<_>>()?;
    let against = std::fs::read(built.join("contract.wit"));
    Ok(against.is_ok_and(|against| against == contract.concat()))
}

/// What `wasm-tools component embed` and `component new --adapt … --realloc-via-memory-grow` make: the
/// adapter wants memory before Go's runtime is up.
fn of_core_module(module: &[u8]) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(source().join("../../wit"))?;
    let world = resolve.select_world(&[package], Some("callback-plugin"))?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let adapter = std::fs::read(source().join("wasi_snapshot_preview1.reactor.wasm"))?;
    ComponentEncoder::default()
        .module(&module)?
        .adapter("wasi_snapshot_preview1", &adapter)?
        .realloc_via_memory_grow(true)
        .encode()
}

fn source() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("languages")
}
