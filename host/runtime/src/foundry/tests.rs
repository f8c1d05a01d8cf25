//! What is refused at deploy, and what becomes of native code that was tampered with.

use std::fs;

use super::*;
use crate::Handler;
use crate::guests::{Bench, TENANT, bench, guest, of_this_contract, settings};
use crate::runtime::Runtime;

async fn refusal(upload: impl Into<Vec<u8>>) -> DeployError {
    bench()
        .runtime
        .check(upload.into(), TENANT)
        .await
        .unwrap_err()
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(of_this_contract(text)).unwrap()
}

#[tokio::test]
async fn a_core_module_with_its_contract_becomes_a_component() {
    let checked = bench()
        .runtime
        .check(guest("(i32.const 1024)"), TENANT)
        .await
        .unwrap();
    assert_eq!(checked.handlers, [Handler::Callback]);
    assert!(wasmparser::Parser::is_component(&checked.component));
    assert_eq!(checked.digest, Digest::of(&checked.component));
    assert!(
        checked
            .imports
            .contains(&of_this_contract("wxhost:plugin/kv@CONTRACT"))
    );
}

#[tokio::test]
async fn a_component_that_was_made_by_check_passes_it_again() {
    let bench = bench();
    let first = bench
        .runtime
        .check(guest("(i32.const 1024)"), TENANT)
        .await
        .unwrap();
    let second = bench.runtime.check(first.component, TENANT).await.unwrap();
    assert_eq!(first.digest, second.digest);
}

#[tokio::test]
async fn what_is_no_plugin_is_refused() {
    let cases: [(&str, Vec<u8>); 9] = [
        ("plugin-not-wasm", b"PK\x03\x04".to_vec()),
        ("plugin-not-wasm", Vec::new()),
        (
            "plugin-needs-adapter",
            component(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#),
        ),
        (
            "plugin-not-a-component",
            component(r#"(module (import "env" "puts" (func)))"#),
        ),
        ("no-handler", component("(module)")),
        ("no-handler", component("(component)")),
        (
            "import-not-offered",
            component(r#"(component (import "wasi:http/types@0.2.0" (instance)))"#),
        ),
        (
            "contract-version",
            component(r#"(component (import "wxhost:plugin/kv@0.9.0" (instance)))"#),
        ),
        ("plugin-too-large", vec![0; crate::MAX_UPLOAD_BYTES + 1]),
    ];
    for (code, upload) in cases {
        assert_eq!(refusal(upload).await.code(), code);
    }
}

#[tokio::test]
async fn a_refused_import_is_named() {
    let upload = component(r#"(component (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#);
    let refusal = refusal(upload).await.to_string();
    let named =
        "the plugin imports what this host does not offer: wasi:http/outgoing-handler@0.2.0; ";
    assert!(refusal.starts_with(named), "{refusal}");
    assert!(refusal.contains("disableFeatures"), "{refusal}");
}

#[tokio::test]
async fn native_code_is_refused() {
    let bench = bench();
    let native = bench
        .runtime
        .engine()
        .precompile_component(&component("(component)"));
    let error = bench
        .runtime
        .check(native.unwrap(), TENANT)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "plugin-precompiled");
}

#[tokio::test]
async fn a_cut_off_component_is_refused() {
    let whole = bench()
        .runtime
        .check(guest("(i32.const 1024)"), TENANT)
        .await
        .unwrap();
    let half = &whole.component[..whole.component.len() / 2];
    assert_eq!(refusal(half).await.code(), "plugin-invalid");
}

#[tokio::test]
async fn a_handler_of_another_type_is_refused() {
    let upload = component(
        r#"(component
          (core module $m (func (export "f")))
          (core instance $i (instantiate $m))
          (func $f (canon lift (core func $i "f")))
          (instance $h (export "handle" (func $f)))
          (export "wxhost:plugin/callback-handler@CONTRACT" (instance $h)))"#,
    );
    assert_eq!(refusal(upload).await.code(), "contract-mismatch");
}

#[tokio::test]
async fn an_import_of_another_type_is_refused() {
    let upload = component(
        r#"(component
          (import "wxhost:plugin/time@CONTRACT" (instance (export "now-ms" (func (result string)))))
          (instance $h)
          (export "wxhost:plugin/callback-handler@CONTRACT" (instance $h)))"#,
    );
    assert_eq!(refusal(upload).await.code(), "contract-mismatch");
}

/// Two components, of which one hands a text to the other: between them the compiler makes an adapter that
/// sees both memories.
const COMPOSED: &str = r#"
    (component $callee
      (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "take") (param i32 i32)))
      (core instance $i (instantiate $m))
      (func (export "take") (param "text" string)
        (canon lift (core func $i "take") (memory $i "memory") (realloc (func $i "realloc")))))
    (component $caller
      (import "take" (func $take (param "text" string)))
      (core module $libc (memory (export "memory") 1))
      (core instance $libc (instantiate $libc))
      (core func $lowered (canon lower (func $take) (memory $libc "memory")))
      (core module $m (import "" "take" (func (param i32 i32))))
      (core instance (instantiate $m (with "" (instance (export "take" (func $lowered)))))))
    (instance $callee (instantiate $callee))
    (instance (instantiate $caller (with "take" (func $callee "take"))))"#;

#[tokio::test]
async fn a_composed_component_compiles() {
    let upload = component(&format!(
        r#"(component {COMPOSED}
          (instance $h)
          (export "wxhost:plugin/callback-handler@CONTRACT" (instance $h)))"#
    ));
    // It is compiled and fits into the pool; what it lacks is the function of a handler.
    assert_eq!(refusal(upload).await.code(), "contract-mismatch");
}

#[tokio::test]
async fn each_part_of_a_plugin_is_weighed() {
    let weigh = async |fields: &str| {
        let bench = bench();
        let module = crate::guests::guest_with(fields, "(i32.const 1024)");
        let checked = bench.runtime.check(module, TENANT).await.unwrap();
        bench.runtime.loaded(&checked.digest).unwrap().bytes()
    };
    let small = weigh("").await;
    assert!(small > 24 << 10, "{small}");
    let types: String = (0..20_000).map(|_| "(type (func (param i64)))").collect();
    let large = weigh(&types).await;
    assert!(large > small + (2 << 20), "{large} after {small}");
}

/// A component with five instances of a core module, and a handler's name.
fn demanding(modules: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $m))".repeat(5);
    component(&format!(
        r#"(component {modules}
          {instances}
          (instance $h)
          (export "wxhost:plugin/callback-handler@CONTRACT" (instance $h)))"#
    ))
}

#[tokio::test]
async fn one_that_does_not_fit_into_the_pool_is_refused() {
    for module in [
        "(core module $m (memory 1))",
        "(core module $m (table 1 funcref) (table 1 funcref))",
        "(core module $m (table 100000 funcref))",
        "(core module $m (memory 60000))",
    ] {
        let error = refusal(demanding(module)).await;
        assert_eq!(error.code(), "plugin-too-demanding", "{module}: {error}");
    }
}

/// A good guest with a custom section; its text must be short enough for one byte of length.
fn with_section(mut wasm: Vec<u8>, name: &str, text: &str) -> Vec<u8> {
    let length = 1 + name.len() + text.len();
    assert!(length < 128, "{length}");
    wasm.extend([0, length as u8, name.len() as u8]);
    wasm.extend(name.bytes().chain(text.bytes()));
    wasm
}

fn with_manifest(text: &str) -> Vec<u8> {
    with_section(guest("(i32.const 1024)"), "wxhost:plugin", text)
}

#[tokio::test]
async fn a_manifest_comes_with_its_component() {
    let text = "name='a'\nversion='1'\nhandlers=['callback']\n[grants]\napi=['/cgi-bin/tags/']";
    let bench = bench();
    let checked = bench
        .runtime
        .check(with_manifest(text), TENANT)
        .await
        .unwrap();
    let manifest = checked.manifest.unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.grants.api.len()),
        ("a", 1)
    );
    // Around the component, it counts before the one inside.
    let outer = with_section(checked.component, "wxhost:plugin", "name='b'\nversion='2'");
    let checked = bench.runtime.check(outer, TENANT).await.unwrap();
    assert_eq!(checked.manifest.unwrap().name, "b");
    let plain = bench.runtime.check(guest("(i32.const 1024)"), TENANT).await;
    assert_eq!(plain.unwrap().manifest, None);
}

#[tokio::test]
async fn a_manifest_that_is_wrong_is_refused_and_named() {
    for (text, named) in [
        ("{}", "section wxhost:plugin"),
        ("name='a'\nversion='1'\ngrant=1", "unknown field `grant`"),
        (
            "name='a'\nversion='1'\nhandlers=[]",
            "the component exports {\"callback\"}",
        ),
        (
            "name='a'\nversion='1'\nconfig_schema='s.json'",
            "config_schema is \"s.json\"",
        ),
        (
            "name='a'\nversion='1'\n[grants]\negress=['ftp://a']",
            "\"ftp://a\" is not an origin",
        ),
    ] {
        let error = refusal(with_manifest(text)).await;
        assert_eq!(error.code(), "bad-manifest", "{text}: {error}");
        assert!(error.to_string().contains(named), "{text}: {error}");
    }
}

#[tokio::test]
async fn an_empty_instance_that_is_not_offered_is_refused() {
    for name in [
        "wasi:sockets/tcp@0.3.0",
        "wasi:http/types@0.2.0",
        "wxhost:plugin/shell@CONTRACT",
        "wxhost:plugin/callback-handler@CONTRACT",
        "a:b/c",
        "a:b/c@1.0.0",
        "evil",
    ] {
        let text = format!(r#"(component (import "{name}" (instance)))"#);
        let error = refusal(component(&text)).await;
        assert_eq!(error.code(), "import-not-offered", "{name}: {error}");
    }
}

#[tokio::test]
async fn a_schema_that_is_not_json_is_refused() {
    let with_schema =
        |schema: &str| with_section(guest("(i32.const 1024)"), "wxhost:config-schema", schema);
    let good = bench()
        .runtime
        .check(with_schema(r#"{"type":"object"}"#), TENANT)
        .await;
    assert_eq!(
        good.unwrap().config_schema.as_deref(),
        Some(r#"{"type":"object"}"#)
    );
    assert_eq!(refusal(with_schema("{")).await.code(), "bad-config-schema");
}

/// A bench whose disk holds a plugin, and a new runtime on that disk that has never seen it.
async fn restarted() -> (Bench, Arc<Runtime>, CheckedPlugin) {
    let bench = bench();
    let checked = bench
        .runtime
        .check(guest("(i32.const 1024)"), TENANT)
        .await
        .unwrap();
    let runtime = Runtime::new(settings(&bench.directory)).unwrap();
    assert!(runtime.loaded(&checked.digest).is_none());
    (bench, runtime, checked)
}

async fn no_source() -> Result<Vec<u8>, &'static str> {
    Err("the component was asked for")
}

#[tokio::test]
async fn after_a_restart_native_code_comes_from_disk() {
    let (_bench, runtime, checked) = restarted().await;
    let plugin = runtime
        .load(&checked.digest, TENANT, no_source)
        .await
        .unwrap();
    assert_eq!(plugin.digest(), &checked.digest);
    assert!(runtime.loaded(&checked.digest).is_some());
}

#[tokio::test]
async fn native_code_that_was_tampered_with_is_compiled_again() {
    let (bench, runtime, checked) = restarted().await;
    let file = fs::read_dir(bench.directory.path().join("native"))
        .unwrap()
        .next();
    let file = file.unwrap().unwrap().path();
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&file, bad).unwrap();

    let error = runtime
        .load(&checked.digest, TENANT, no_source)
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "the component cannot be fetched: the component was asked for"
    );
    assert!(!file.exists(), "the bad file must go");

    let component = checked.component.clone();
    let source = async || Ok::<_, &str>(component);
    runtime.load(&checked.digest, TENANT, source).await.unwrap();
    assert_eq!(fs::read(&file).unwrap().len(), good.len());
}

#[tokio::test]
async fn native_code_of_another_key_is_compiled_again() {
    let (bench, _runtime, checked) = restarted().await;
    let mut settings = settings(&bench.directory);
    settings.native_key = [8; 32];
    let runtime = Runtime::new(settings).unwrap();
    assert!(
        runtime
            .load(&checked.digest, TENANT, no_source)
            .await
            .is_err()
    );
    let component = checked.component.clone();
    let source = async || Ok::<_, &str>(component);
    assert!(runtime.load(&checked.digest, TENANT, source).await.is_ok());
}

#[tokio::test]
async fn a_source_that_gives_another_component_is_refused() {
    let bench = bench();
    let wanted = Digest::of(b"wanted");
    let source = async || Ok::<_, &str>(b"other".to_vec());
    let error = bench
        .runtime
        .load(&wanted, TENANT, source)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, LoadError::WrongComponent { .. }), "{error}");
}
