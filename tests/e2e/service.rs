//! The host as an operator meets it: health, metrics, its API's description, settings, logs, commands.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;
use wxhost_simulator::{Forgery, Outcome, UserAction};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::command::command;
use wxhost_tests::host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::envelope::Mode;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: host_is_alive_and_ready, metrics_count_what_happens, api_describes_itself,
        calls_tell_what_happened, secrets_never_show, wrong_master_key_is_refused_at_start,
        commands_onboard_an_account;
    SHARED: master_key_changes_in_two_steps, dangerous_settings_are_refused;
    ALONE: demo_comes_out_right;
}

async fn host_is_alive_and_ready(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for path in ["/healthz", "/readyz"] {
        let (status, body) = host.get(path).await?;
        ensure!(status == 200, "{path}: {status} {body}");
    }
    Ok(())
}

async fn metrics_count_what_happens(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    let callback = account.callback(&user, &UserAction::text("counted"));
    account.deliver(&host, &callback).await?;
    account.deliver(&host, &callback).await?;
    stage
        .wechat()
        .forge(&account.at(&host), &callback, Forgery::BadSignature)
        .await?;
    for (name, value) in [
        ("wxhost_callbacks_total", 3.0),
        ("wxhost_calls_total", 1.0),
        ("wxhost_joined_total", 1.0),
        ("wxhost_callback_duration_seconds_count", 3.0),
        ("wxhost_under_way", 0.0),
        ("wxhost_accounts", 1.0),
        ("wxhost_loaded_plugins", 1.0),
        ("wxhost_call_records_dropped_total", 0.0),
    ] {
        let found = host.metric(name).await?;
        ensure!(
            (found - value).abs() < 0.5,
            "{name} is {found}, not {value}"
        );
    }
    let (_, text) = host.get("/metrics").await?;
    ensure!(
        text.contains("# HELP") && text.trim_end().ends_with("# EOF"),
        "{text}"
    );
    ensure!(!text.contains(account.app_id()), "a label per account");
    Ok(())
}

async fn api_describes_itself(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let description = host.admin().get("/api/v1/openapi.json").await?;
    let version = description["openapi"]
        .as_str()
        .context("an OpenAPI version")?;
    ensure!(version.starts_with("3."), "{version}");
    let paths = description["paths"].as_object().context("paths")?;
    for (path, methods) in [
        ("/api/v1/tenants", &["get", "post"][..]),
        ("/api/v1/tenants/{id}", &["get"]),
        ("/api/v1/accounts", &["get", "post"]),
        ("/api/v1/accounts/{app_id}", &["get", "patch"]),
        ("/api/v1/accounts/{app_id}/rotate-key", &["post"]),
        ("/api/v1/accounts/{app_id}/deployments", &["get", "post"]),
        (
            "/api/v1/accounts/{app_id}/deployments/{version}/activate",
            &["post"],
        ),
        ("/api/v1/accounts/{app_id}/rollback", &["post"]),
        ("/api/v1/accounts/{app_id}/calls", &["get"]),
        ("/api/v1/calls/{id}", &["get"]),
        ("/api/v1/accounts/{app_id}/kv", &["get"]),
        ("/api/v1/accounts/{app_id}/kv/{key}", &["get"]),
    ] {
        for method in methods {
            ensure!(
                paths.get(path).is_some_and(|item| item[method].is_object()),
                "{method} {path} is not described"
            );
        }
    }
    Ok(())
}

async fn calls_tell_what_happened(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    for text in ["a", "panic", "b", "error"] {
        account.say(host, &user, text).await?;
    }
    let calls = host.admin().calls_once_written(&account, 4).await?;
    let outcomes: Vec<_> = calls
        .iter()
        .map(|call| call["outcome"].as_str().unwrap_or_default())
        .collect();
    ensure!(
        outcomes == ["plugin-error", "replied", "trap", "replied"],
        "newest first: {outcomes:?}"
    );
    for call in &calls {
        for part in ["id", "event_id", "digest", "outcome", "trace_id"] {
            ensure!(
                call[part].as_str().is_some_and(|text| !text.is_empty()),
                "no {part} in {call}"
            );
        }
        ensure!(
            call["duration_us"].as_u64().is_some_and(|took| took > 0),
            "no duration in {call}"
        );
    }

    let base = format!("/api/v1/accounts/{}/calls", account.app_id());
    let traps = host.admin().get(&format!("{base}?outcome=trap")).await?;
    ensure!(
        traps.to_string().matches("\"trap\"").count() == 1,
        "{traps}"
    );
    let two = host.admin().get(&format!("{base}?limit=2")).await?;
    ensure!(two.to_string().matches("event_id").count() == 2, "{two}");

    let trapped = calls[2]["id"].as_str().context("an id")?;
    let detail = host
        .admin()
        .get(&format!("/api/v1/calls/{trapped}"))
        .await?;
    let log = detail["log"].to_string();
    ensure!(
        log.contains("wasm backtrace") || log.contains("wasm!") || log.contains("<unknown>!"),
        "no backtrace in {detail}"
    );
    Ok(())
}

/// Every answer and log of every scenario is looked at; this one sees to it that there is much to look
/// at.
async fn secrets_never_show(stage: Stage) -> Result<()> {
    let site = stage.site().await?.with("LOG_LEVEL", "debug");
    let host = site.host().await?;
    let admin = host.admin();
    let api_key = secrets::fresh(40)?;
    let bundle = Bundle::of(Plugin::Rogue.component()?)
        .secrets(json!({"api-key": api_key}))
        .config(json!({"greeting": "hi"}));
    let account = stage.account_with(&host, Mode::Safe, bundle).await?;
    let user = new_user()?;
    for text in ["a", "panic", "error", "count"] {
        account.say(&host, &user, text).await?;
    }
    let callback = account.callback(&user, &UserAction::text("forged"));
    for forgery in Forgery::ALL {
        stage
            .wechat()
            .forge(&account.at(&host), &callback, forgery)
            .await?;
    }
    admin.calls_once_written(&account, 4).await?;
    let base = format!("/api/v1/accounts/{}", account.app_id());
    for path in ["", "/deployments", "/calls", "/kv"] {
        admin.get(&format!("{base}{path}")).await?;
    }
    // Refusals quote what was wrong; a secret must not be what they quote.
    let secret = secrets::fresh(50)?;
    let bad = json!({"token": secret, "encoding_aes_key": secret});
    let (status, _) = admin
        .try_call(Method::POST, &format!("{base}/rotate-key"), Some(&bad))
        .await?;
    ensure!(status == 400 || status == 422, "{status}");
    let (status, _) = admin
        .clone()
        .with_token(&secret)
        .try_call(Method::GET, &base, None)
        .await?;
    ensure!(status == 401, "{status}");

    secrets::expect_none("the log", &host.printed()?)?;
    let printed = host.printed()?;
    ensure!(!printed.contains(user.as_str()), "the log shows an open id");
    host.stop().await?;
    site.expect_sealed_at_rest().await
}

async fn wrong_master_key_is_refused_at_start(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Safe, Plugin::Hello).await?;
    host.stop().await?;

    let old_key = site.setting("MASTER_KEY").to_owned();
    let site = site.with("MASTER_KEY", secrets::fresh_master_key()?);
    let mut host = site.launch()?;
    let status = host.ended(wait::SOON).await?;
    ensure!(
        !status.success(),
        "a host with another master key ended with {status}"
    );
    ensure!(
        host.printed()?.to_lowercase().contains("master key"),
        "it does not say why: {}",
        host.printed()?
    );

    // With the old key as the previous one, everything is sealed anew …
    let site = site.with("PREVIOUS_MASTER_KEY", old_key);
    let host = site.host().await?;
    account.ask(&host, &new_user()?, "sealed anew").await?;
    host.stop().await?;
    // … and the old key is needed no more.
    let site = site.without("PREVIOUS_MASTER_KEY");
    let host = site.host().await?;
    account.ask(&host, &new_user()?, "only the new key").await?;
    Ok(())
}

async fn master_key_changes_in_two_steps(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let old_key = site.setting("MASTER_KEY").to_owned();
    let new_key = secrets::fresh_master_key()?;
    let site = site.with("NEXT_MASTER_KEY", &new_key);
    let first_step = site.host().await?;
    let site = site
        .without("NEXT_MASTER_KEY")
        .with("MASTER_KEY", new_key)
        .with("PREVIOUS_MASTER_KEY", old_key);
    let second_step = site.host().await?;
    let account = stage
        .account(&second_step, Mode::Safe, Plugin::Hello)
        .await?;
    wait::until(
        "an account that is sealed under the key to come",
        wait::SOON,
        async || Ok(account.ask(&first_step, &new_user()?, "there?").await.ok()),
    )
    .await?;
    Ok(())
}

async fn dangerous_settings_are_refused(stage: Stage) -> Result<()> {
    let url = stage.site().await?.setting("DATABASE_URL").to_owned();
    for (what, name, value, word) in [
        ("no admin token", "ADMIN_TOKEN", "", "WXHOST_ADMIN_TOKEN"),
        ("a short admin token", "ADMIN_TOKEN", "short", "admin token"),
        ("no Redis", "REDIS_URL", "", "redis"),
        ("no master key", "MASTER_KEY", "", "master key"),
        ("half a master key", "MASTER_KEY", "00ff", "master key"),
        (
            "a strange database",
            "DATABASE_URL",
            "mysql://localhost/x",
            "database",
        ),
        (
            "waiting longer than WeChat",
            "ANSWER_WAIT_MS",
            "6000",
            "answer_wait_ms",
        ),
        ("a typo in a number", "DELIVERIES", "three", "deliveries"),
        (
            "its admin API open to everybody",
            "LISTEN",
            "0.0.0.0:0",
            "WXHOST_ADMIN_LISTEN",
        ),
    ] {
        let site = stage.site().await?.with("DATABASE_URL", &url);
        let site = if value.is_empty() {
            site.without(name)
        } else {
            site.with(name, value)
        };
        let mut host = site.launch()?;
        let status = host
            .ended(wait::SOON)
            .await
            .with_context(|| format!("a host with {what}"))?;
        ensure!(!status.success(), "a host with {what} ended with {status}");
        let printed = host.printed()?;
        ensure!(
            printed.to_lowercase().contains(&word.to_lowercase()),
            "{what}: it does not say why: {printed}"
        );
    }
    Ok(())
}

async fn commands_onboard_an_account(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = Account::fresh(Mode::Safe, stage.wechat());
    let known = account.known();
    let (tenant, app_id) = (
        format!("t{}", secrets::letters(8)?.to_lowercase()),
        account.app_id(),
    );
    let directory = tempfile::tempdir()?;
    let (hello, rogue) = (
        directory.path().join("hello.wasm"),
        directory.path().join("rogue.wasm"),
    );
    std::fs::write(&hello, Plugin::Hello.component()?)?;
    std::fs::write(&rogue, Plugin::Rogue.component()?)?;
    let (hello, rogue) = (hello.display().to_string(), rogue.display().to_string());

    command(host, &["tenant", "add", &tenant, "--name", "By hand"]).await?;
    ensure!(command(host, &["tenant", "list"]).await?.contains(&tenant));
    let add = [
        "account",
        "add",
        "--app-id",
        app_id,
        "--tenant",
        &tenant,
        "--mode",
        "safe",
        "--token",
        known.token.expose(),
        "--aes-key",
        known.aes_key.expose(),
        "--original-id",
        known.original_id.as_str(),
    ];
    command(host, &add).await?;
    ensure!(
        command(host, &["account", "show", app_id])
            .await?
            .contains(app_id)
    );
    command(host, &["plugin", "check", &hello]).await?;
    command(host, &["plugin", "deploy", &hello, "--account", app_id]).await?;
    let user = new_user()?;
    ensure!(account.ask(host, &user, "x").await? == samples::hello("x"));

    command(host, &["plugin", "deploy", &rogue, "--account", app_id]).await?;
    ensure!(account.ask(host, &user, "x").await? == samples::echo("x"));
    command(host, &["plugin", "rollback", "--account", app_id]).await?;
    ensure!(account.ask(host, &user, "x").await? == samples::hello("x"));
    host.admin().calls_once_written(&account, 3).await?;
    ensure!(
        command(host, &["calls", "--account", app_id])
            .await?
            .contains("replied")
    );

    command(host, &["account", "disable", app_id]).await?;
    let outcome = account.say(host, &user, "x").await?;
    ensure!(
        matches!(outcome, Outcome::Refused(status) if status == 404),
        "{outcome:?}"
    );
    command(host, &["account", "enable", app_id]).await?;
    account.ask(host, &user, "x").await?;

    // For programs: one JSON document. For mistakes: a sentence and a status.
    let document = command(host, &["--json", "account", "show", app_id]).await?;
    let document: Value = serde_json::from_str(&document).with_context(|| document.clone())?;
    ensure!(document.to_string().contains(app_id), "{document}");
    let error = command(host, &["account", "show", "wxnobody"])
        .await
        .err()
        .context("no account, no success")?;
    ensure!(!error.to_string().contains("panicked"), "{error}");
    Ok(())
}

async fn demo_comes_out_right(stage: Stage) -> Result<()> {
    drop(stage);
    let directory = tempfile::tempdir()?;
    let plugins = wxhost_tests::plugin::directory()?;
    let demo = Command::new(host::binary()?)
        .args(["demo", "--once", "--plugins"])
        .arg(plugins)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_secs(100), demo).await??;
    let printed =
        String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "the demo ended with {}: {printed}",
        done.status
    );
    Ok(())
}
