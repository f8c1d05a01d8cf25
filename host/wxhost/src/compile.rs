//! `wxhost compile-plugin`: the child process in which a host compiles what a tenant uploads.

use std::path::PathBuf;
use std::process::ExitCode;

/// Reads a component from standard input, writes native code to standard output.
pub(crate) fn run() -> ExitCode {
    wxhost_runtime::compile::child_main()
}

/// The program to start for it: the running one, even where its file was replaced meanwhile.
pub(crate) fn program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
