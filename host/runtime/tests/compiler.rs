//! The compiler's child process, with this very binary as the child: therefore no test harness.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use wxhost_runtime::{Compiler, Runtime, RuntimeSettings};

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
    match runtime.load(&digest, source).await {
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

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == VERB) {
        return wxhost_runtime::compile::child_main();
    }
    checks();
    ExitCode::SUCCESS
}
