//! The program as a user meets it in a shell.

use std::process::{Command, Output};

fn wxhost(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wxhost"))
        .args(arguments)
        .env_clear()
        .output()
        .expect("the program starts")
}

#[track_caller]
fn refused(arguments: &[&str], part: &str) {
    let output = wxhost(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(complaint.contains(part), "{arguments:?}: {complaint}");
}

#[test]
fn a_host_without_an_admin_token_does_not_start() {
    refused(&["serve"], "WXHOST_ADMIN_TOKEN");
}

#[test]
fn a_verb_that_needs_a_host_says_where_it_looked() {
    refused(
        &[
            "--server",
            "http://127.0.0.1:1",
            "--admin-token",
            "0123456789abcdef",
            "tenant",
            "list",
        ],
        "127.0.0.1:1",
    );
}

#[test]
fn the_default_settings_can_be_printed_and_used() {
    let printed = wxhost(&["serve", "--print-config"]);
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).expect("UTF-8");
    assert!(text.contains("#: listen = \"127.0.0.1:8080\""), "{text}");
}

#[test]
fn what_is_no_component_is_not_compiled() {
    let output = wxhost(&["compile-plugin"]);
    assert!(!output.status.success(), "empty input was compiled");
    assert!(output.stdout.is_empty());
}
