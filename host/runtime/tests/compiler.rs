//! The compiler's child process, with this very binary as the child: therefore no test harness.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use wxhost_runtime::{Compiler, Handler, Runtime, RuntimeSettings};

const VERB: &str = "compile-plugin";

/// A component with a handler's name, and `functions` functions that a compiler has to work on.
fn component(functions: usize) -> Vec<u8> {
    let body =
        "(func (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))".repeat(functions);
    let text = format!("(component (core module $m {body}) (core instance (instantiate $m)))");
    wat::parse_str(text).expect("the text is a component")
}

fn settings(directory: &tempfile::TempDir) -> RuntimeSettings {
    let program = std::env::current_exe().expect("this program has a path");
    let compiler = Compiler::Child {
        program,
        args: vec![OsString::from(VERB)],
    };
    let mut settings = RuntimeSettings::new(directory.path().into(), [7; 32], compiler);
    settings.max_concurrent_calls = 2;
    settings
}

async fn compile(
    component: &[u8],
    change: impl FnOnce(&mut RuntimeSettings),
) -> Result<(), String> {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut settings = settings(&directory);
    change(&mut settings);
    let runtime = Runtime::new(settings).expect("a runtime");
    let digest = wxhost_runtime::Digest::of(component);
    let source = async || Ok::<_, String>(component.to_vec());
    match runtime.load(&digest, "tenant", source).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn checks() {
    let small = component(1);
    assert_eq!(compile(&small, |_| {}).await, Ok(()), "a good component");

    let refused = compile(b"\0asm\x0d\0\x01\0\x99", |_| {}).await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|e| e.starts_with("the plugin cannot be compiled: ")),
        "an invalid component: {refused:?}"
    );

    let starved = compile(&small, |s| s.compile_limits.memory_bytes = 16 << 20).await;
    assert!(
        starved.is_err(),
        "16 MiB of address space are not enough for a compiler"
    );

    let large = component(60_000);
    let late = compile(&large, |s| {
        s.compile_limits.wall = Duration::from_millis(100)
    })
    .await;
    assert_eq!(
        late,
        Err("the plugin cannot be compiled within the host's limits: it took too long".into())
    );
    let spent = compile(&large, |s| s.compile_limits.cpu = Duration::from_secs(1)).await;
    assert_eq!(
        spent,
        Err(
            "the plugin cannot be compiled within the host's limits: it took too much CPU time"
                .into()
        )
    );

    let nobody = compile(&small, |s| {
        s.compiler = Compiler::Child {
            program: "/nonexistent/compiler".into(),
            args: Vec::new(),
        };
    })
    .await;
    assert!(
        nobody
            .as_ref()
            .is_err_and(|e| e.starts_with("the host could not compile the plugin: ")),
        "a missing program: {nobody:?}"
    );
}

/// A runtime whose uploads are read, compiled and checked by children.
fn runtime(change: impl FnOnce(&mut RuntimeSettings)) -> (tempfile::TempDir, Arc<Runtime>) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut settings = settings(&directory);
    change(&mut settings);
    let runtime = Runtime::new(settings).expect("a runtime");
    (directory, runtime)
}

/// A module with a chain of subtypes, and a jump with 65,000 ways of 900 values each: each value's type is
/// looked for along the chain. It has 70 KB.
fn subtypes_without_end() -> Vec<u8> {
    let chain: String = (1..62)
        .map(|n| format!("(type $t{n} (sub $t{} (struct)))", n - 1))
        .collect();
    let results = "(ref null $t0) ".repeat(900);
    let values = "(ref.null $t61) ".repeat(900);
    let ways = "0 ".repeat(65_000);
    let drops = "drop ".repeat(900);
    let text = format!(
        r#"(module
          (type $t0 (sub (struct))) {chain}
          (func (block (result {results}) {values} (br_table {ways} (i32.const 0))) {drops})
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          (func (export "{}#handle") (param i32) (result i32) (i32.const 1024)))"#,
        Handler::Callback.export_name(),
    );
    let mut module = wat::parse_str(text).expect("the text is a module");
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).expect("the contract");
    let world = resolve.select_world(&[package], Some("callback-plugin"));
    let world = world.expect("its world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("room for metadata");
    module
}

#[tokio::main(flavor = "current_thread")]
async fn hostile_uploads() {
    let (_directory, limited) = runtime(|s| s.compile_limits.cpu = Duration::from_secs(1));
    let refused = limited.check(subtypes_without_end(), "a").await;
    let refused = refused.expect_err("nobody has so much time");
    assert_eq!(refused.code(), "plugin-too-demanding", "{refused}");

    let (_directory, runtime) = runtime(|_| {});
    let schema = format!(
        r#"{{"items":{{"anyOf":[{}false]}}}}"#,
        "false,".repeat(4_899)
    );
    let zeros = format!("[{}0]", "0,".repeat(31_999));
    let told = runtime.check_config(schema, zeros, "a").await;
    let told = told.expect_err("no zero fits").to_string();
    assert!(
        told.contains("within the host's limits") || told.contains("does not fit"),
        "a schema of which nobody can list the faults: {told}"
    );

    let patterns: String = (0..64)
        .map(|n| format!(r#","\\p{{L}}{{{}}}":true"#, n + 6))
        .collect();
    let schema = format!(r#"{{"patternProperties":{{"a":true{patterns}}}}}"#);
    let told = runtime.check_config(schema, "{}".into(), "a").await;
    assert!(told.is_err(), "more patterns than are allowed");

    let recursive = r##"{"properties":{"below":{"items":{"$ref":"#"}}}}"##;
    let deep = format!("{}{}", r#"{"below":["#.repeat(40), "]}".repeat(40));
    let told = runtime.check_config(recursive.into(), deep, "a").await;
    assert_eq!(told, Ok(()), "a schema that refers to itself");

    let status = std::fs::read_to_string("/proc/self/status").expect("this process has a status");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("it tells its peak");
    assert!(peak < 512 << 10, "{peak} KiB in the host's own memory");
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == VERB) {
        return wxhost_runtime::compile::child_main();
    }
    checks();
    hostile_uploads();
    ExitCode::SUCCESS
}
