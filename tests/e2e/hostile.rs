//! Components that are made to cost the host more than their tenant may spend: one for each limit that the
//! host names. Each is refused by name, or ends by its limit, and a neighbour is answered all the while.

use anyhow::{Context, Result, ensure};
use futures::future::{join, try_join_all};
use serde_json::{Value, json};
use tokio::sync::watch;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use wxhost_runtime::{CONTRACT_VERSION, Handler, MAX_UPLOAD_BYTES};
use wxhost_simulator::Outcome;
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::Mode;

use crate::rogues::greet_until;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: hostile_uploads_are_refused_by_name, uploads_that_are_no_plugin_are_refused_by_name,
        hostile_settings_are_refused_in_bounds,
        hostile_calls_end_by_their_limit, sleepers_leave_places_to_others;
}

/// A component around some core modules and instances, with a handler's name.
fn component(inside: &str) -> Result<Vec<u8>> {
    let text = format!(
        "(component {inside} (instance $h) (export \"{}\" (instance $h)))",
        Handler::Callback.export_name()
    );
    Ok(wat::parse_str(text)?)
}

/// A module with these fields, so many times instantiated.
fn instances(fields: &str, times: usize) -> Result<Vec<u8>> {
    let instances = "(core instance (instantiate $m))".repeat(times);
    component(&format!("(core module $m (func $f) {fields}) {instances}"))
}

/// A component that is valid and asks too much, by what it asks.
fn greedy_components() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let functions = "$f ".repeat(60_000);
    let mut nested =
        String::from("(component $c (core module $m) (core instance (instantiate $m)))");
    for _ in 0..12 {
        let instances = "(instance (instantiate $c))".repeat(10);
        nested = format!("(component $c {nested} {instances})");
    }
    Ok(vec![
        (
            "elements of passive segments",
            instances(&format!("(elem func {functions})"), 60)?,
        ),
        (
            "elements of active segments",
            instances(
                &format!("(table 60000 funcref) (elem (i32.const 0) func {functions})"),
                6,
            )?,
        ),
        (
            "bytes of active data",
            instances(
                &format!(
                    "(memory 32) (data (i32.const 0) \"{}\")",
                    "x".repeat(2 << 20)
                ),
                40,
            )?,
        ),
        ("segments", instances(&"(elem func)".repeat(20_000), 60)?),
        (
            "globals",
            instances(&"(global i32 (i32.const 1))".repeat(20_000), 60)?,
        ),
        ("functions", instances(&"(func)".repeat(300_000), 1)?),
        (
            "types, imports, exports",
            instances(&"(type (func (param i32)))".repeat(300_000), 1)?,
        ),
        (
            "core instances",
            component(&format!("{nested} (instance (instantiate $c))"))?,
        ),
        ("memories", instances("(memory 1)", 5)?),
        (
            "tables",
            instances("(table 1 funcref) (table 1 funcref)", 5)?,
        ),
        ("element size", instances("(table 100000 funcref)", 1)?),
        ("memory", instances("(memory 60000)", 1)?),
        (
            "from one of its parts to another",
            component("(core module $m) (export \"m\" (core module $m))")?,
        ),
    ])
}

async fn hostile_uploads_are_refused_by_name(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let target = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let neighbour = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let uploads = async {
        for (word, upload) in greedy_components()? {
            refused(
                &stage,
                &target,
                &Bundle::of(upload),
                "plugin-too-demanding",
                word,
            )
            .await?;
        }
        let module = |text: &str| anyhow::Ok(Bundle::of(wat::parse_str(text)?));
        let preview1 = module(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#)?;
        refused(
            &stage,
            &target,
            &preview1,
            "plugin-needs-adapter",
            "--adapt",
        )
        .await?;
        let http = component(r#"(import "wasi:http/types@0.2.0" (instance))"#)?;
        let http = Bundle::of(http);
        refused(
            &stage,
            &target,
            &http,
            "import-not-offered",
            "disableFeatures",
        )
        .await
    };
    beside(host, &neighbour, uploads).await
}

async fn uploads_that_are_no_plugin_are_refused_by_name(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let target = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let neighbour = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let handler = Handler::Callback.export_name();
    let whole = component("")?;
    let with_section =
        |name: &str, text: &str| wasi_plugin(&format!("(@custom \"{name}\" \"{text}\")"), "");
    let uploads = [
        (
            vec![0; MAX_UPLOAD_BYTES + 1],
            "plugin-too-large",
            "33554432",
        ),
        (b"hello".to_vec(), "plugin-not-wasm", "WebAssembly"),
        (
            wat::parse_str(r#"(module (import "env" "puts" (func)))"#)?,
            "plugin-not-a-component",
            "core module",
        ),
        (whole[..whole.len() - 1].to_vec(), "plugin-invalid", "valid"),
        (
            wat::parse_str("(component)")?,
            "no-handler",
            handler.as_str(),
        ),
        (whole, "contract-mismatch", "handle"),
        (
            component(r#"(import "wxhost:plugin/kv@9.0.0" (instance))"#)?,
            "contract-version",
            "9.0.0",
        ),
        (
            with_section("wxhost:config-schema", "no")?,
            "bad-config-schema",
            "65536",
        ),
        (
            with_section("wxhost:plugin", "no")?,
            "bad-manifest",
            "plugin.toml",
        ),
    ];
    let uploads = async {
        for (upload, code, word) in uploads {
            refused(&stage, &target, &Bundle::of(upload), code, word).await?;
        }
        Ok(())
    };
    beside(host, &neighbour, uploads).await
}

async fn refused(
    stage: &Stage,
    account: &Account,
    bundle: &Bundle,
    code: &str,
    word: &str,
) -> Result<()> {
    let admin = stage.host().await?.admin();
    let (status, answer) = admin.try_deploy(account, bundle).await?;
    let error = &answer["error"];
    let named = error["message"]
        .as_str()
        .is_some_and(|text| text.contains(word));
    ensure!(
        status == 422 && error["code"] == code && named,
        "{code} with {word:?} was due: {status} {answer}"
    );
    Ok(())
}

async fn hostile_settings_are_refused_in_bounds(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let neighbour = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let zeros: Value = vec![0; 32_000].into();
    let branches: Value = vec![false; 4_900].into();
    // Each level of the settings may be right in two ways, and none of them is.
    let below = json!({"type": "array", "items": {"$ref": "#"}});
    let deeper = json!({"anyOf": [below, below, {"type": "null"}]});
    let nested = (0..60).fold(json!(1), |inside, _| json!([inside]));
    let settings = async {
        for (schema, config, word) in [
            (json!({"items": {"anyOf": branches}}), zeros, "config"),
            (json!({"$ref": "#"}), json!({}), "refers to itself"),
            (deeper, nested, "config"),
        ] {
            let plugin = answering_nothing(&schema.to_string())?;
            let bundle = Bundle::of(plugin).config(config);
            refused(&stage, &account, &bundle, "config-refused", word).await?;
        }
        Ok(())
    };
    beside(host, &neighbour, settings).await
}

async fn hostile_calls_end_by_their_limit(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let neighbour = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let elements = "$f ".repeat(60_000);
    let passive = format!("(func $f) (elem func {elements})");
    // Of a mangled name of C++ a short text stands for gigabytes.
    let steps: String = (0..16)
        .map(|step| format!("S_IS{step:X}_S{step:X}_E"))
        .collect();
    let name = format!("$_Z1fSt4pairIiiE{steps}");
    let monster = format!("(func {name} unreachable)");
    let meet = format!("(call {name})");
    let random = "(loop $l (call $random (i64.const 65536) (i32.const 2048)) (br $l))";
    let cases = [
        (
            passive.as_str(),
            "",
            json!({"memory_bytes": 1 << 20}),
            "memory-limit",
        ),
        (monster.as_str(), meet.as_str(), json!({}), "trap"),
        (
            "",
            "(call $block (call $timer (i64.const 60000000000)))",
            json!({}),
            "host-limit:sleep-ms",
        ),
        ("", random, json!({"cpu_ms": 500}), "timeout"),
        (
            "",
            "(call $random (i64.const 65537) (i32.const 2048))",
            json!({}),
            "host-limit:random-bytes",
        ),
        (
            "",
            "(loop $l (drop (call $timer (i64.const 1))) (br $l))",
            json!({}),
            "host-limit:handles",
        ),
        // Copies that nobody can interrupt, one after the other.
        (
            "",
            "(drop (memory.grow (i32.const 1000)))
             (loop $l (memory.fill (i32.const 1048576) (i32.const 1) (i32.const 60000000)) (br $l))",
            json!({"cpu_ms": 500}),
            "timeout",
        ),
    ];
    let calls = async {
        for (fields, body, limits, outcome) in cases {
            let bundle = Bundle::of(wasi_plugin(fields, body)?).limits(limits);
            let account = stage.account_with(host, Mode::Plain, bundle).await?;
            account.insist(host, &new_user()?, "now").await?;
            let calls = host.admin().calls_once_written(&account, 1).await?;
            ensure!(
                calls[0]["outcome"] == outcome,
                "{outcome} was due: {}",
                calls[0]
            );
        }
        Ok(())
    };
    beside(host, &neighbour, calls).await
}

async fn sleepers_leave_places_to_others(stage: Stage) -> Result<()> {
    let site = stage.site().await?.with("MAX_CONCURRENT_CALLS", 32);
    let host = site.host().await?;
    let sleeper = wasi_plugin("", "(call $block (call $timer (i64.const 60000000000)))")?;
    let mut sleepers = Vec::new();
    for _ in 0..5 {
        let tenant = host.admin().add_tenant_with(64).await?;
        let account = Account::fresh(Mode::Plain, stage.wechat());
        host.admin().add_account(&account, &tenant).await?;
        host.admin()
            .deploy(&account, &Bundle::of(sleeper.clone()))
            .await?;
        sleepers.push(account);
    }
    let neighbour = stage.account(&host, Mode::Plain, Plugin::Hello).await?;
    let asleep = async {
        let naps = sleepers.iter().flat_map(|account| {
            let users = (0..8).map(|_| new_user());
            users.map(|user| async { account.insist(&host, &user?, "sleep").await })
        });
        for outcome in try_join_all(naps).await? {
            ensure!(!matches!(outcome, Outcome::Replied(_)), "{outcome:?}");
        }
        Ok(())
    };
    beside(&host, &neighbour, asleep).await
}

/// Does something while a neighbour is asked; both must come out right.
async fn beside(
    host: &Host,
    neighbour: &Account,
    misdeeds: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (done, is_done) = watch::channel(false);
    let misdeeds = async {
        let result = misdeeds.await;
        done.send_replace(true);
        result
    };
    let (result, greeted) = join(misdeeds, greet_until(host, neighbour, is_done)).await;
    result?;
    greeted.context("what the neighbour was answered")
}

/// A plugin that answers nothing and carries a schema of its settings.
fn answering_nothing(schema: &str) -> Result<Vec<u8>> {
    let schema = schema.replace('\\', "\\\\").replace('"', "\\\"");
    wasi_plugin(
        &format!("(@custom \"wxhost:config-schema\" \"{schema}\")"),
        "",
    )
}

/// A plugin that was made for WASI, of these fields and this handler's body. Without more it answers
/// nothing.
fn wasi_plugin(fields: &str, body: &str) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit"))?;
    resolve.push_str("wasi.wit", WASI)?;
    let world = format!(
        "package test:sleepy;
        world plugin {{
          include wxhost:plugin/callback-plugin@{CONTRACT_VERSION};
          import wasi:random/random@0.2.0;
          import wasi:clocks/monotonic-clock@0.2.0;
        }}"
    );
    let package = resolve.push_str("world.wit", &world)?;
    let world = resolve.select_world(&[package], None)?;
    let export = Handler::Callback.export_name();
    let mut module = wat::parse_str(format!(
        r#"(module
          (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))
          (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
            (func $timer (param i64) (result i32)))
          (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
          (memory (export "memory") 4)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
          {fields}
          (func (export "{export}#handle") (param i32) (result i32) {body} (i32.const 1024)))"#
    ))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.encode()
}

/// The part of WASI that these plugins use.
const WASI: &str = "
    package wasi:all@0.2.0;
    package wasi:io@0.2.0 {
      interface poll { resource pollable { block: func(); } }
    }
    package wasi:random@0.2.0 {
      interface random { get-random-bytes: func(length: u64) -> list<u8>; }
    }
    package wasi:clocks@0.2.0 {
      interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        subscribe-duration: func(nanoseconds: u64) -> pollable;
      }
    }";
