//! Plugins come, change and go while their accounts answer.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wasm_encoder::{
    ComponentImportSection, ComponentSection as _, ComponentTypeRef, ComponentTypeSection,
    InstanceType,
};
use wasmparser::{Parser, ValidPayload, Validator};
use wxhost_simulator::{Outcome, UserAction};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::{self, Plugin};
use wxhost_tests::wait;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::Reply;

use crate::office;
use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: broken_components_are_refused_and_named, config_that_breaks_the_schema_is_refused,
        new_version_answers_at_once_and_rollback_brings_the_old_one_back,
        desk_greets_routes_and_remembers, admin_api_needs_its_token, bad_admin_input_is_explained,
        equal_components_of_two_tenants_stay_apart, everything_survives_a_restart;
    SHARED: change_on_one_host_is_seen_on_the_other;
}

/// A component that is no component, in many ways, and a word that the refusal must hold.
fn broken_components() -> Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let hello = Plugin::Hello.component()?;
    let mut damaged = hello.clone();
    let middle = damaged.len() / 2;
    damaged.truncate(middle);
    Ok(vec![
        ("nothing", Vec::new(), ""),
        ("text", b"hello".to_vec(), ""),
        ("half a component", damaged, ""),
        (
            "an empty component",
            b"\0asm\x0d\0\x01\0".to_vec(),
            "handler",
        ),
        ("a bare module", b"\0asm\x01\0\0\0".to_vec(), ""),
        (
            "an import of files",
            importing("wasi:filesystem/types@0.2.0", &hello)?,
            "wasi:filesystem/types@0.2.0",
        ),
        (
            "an import of HTTP",
            importing("wasi:http/types@0.2.0", &hello)?,
            "wasi:http/types@0.2.0",
        ),
        (
            "an import of nobody's",
            importing("acme:money/mint@1.0.0", &hello)?,
            "acme:money/mint@1.0.0",
        ),
        (
            "32 MiB of nothing",
            plugin::padded(&hello, 32 << 20),
            "33554432",
        ),
    ])
}

async fn broken_components_are_refused_and_named(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    for (what, component, word) in broken_components()? {
        let (status, answer) = host
            .admin()
            .try_deploy(&account, &Bundle::of(component))
            .await?;
        ensure!(
            (400..500).contains(&status),
            "{what} was answered {status} {answer}"
        );
        let error = answer["error"].to_string();
        ensure!(
            error.contains(word),
            "the refusal of {what} does not name {word:?}: {error}"
        );
        let reply = account.ask(host, &user, what).await?;
        ensure!(
            reply == samples::hello(what),
            "after {what} the old version answers {reply:?}"
        );
    }
    let (deployments, _) = deployments(host, &account).await?;
    ensure!(deployments == 1, "{deployments} deployments");
    Ok(())
}

async fn config_that_breaks_the_schema_is_refused(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let bundle = Bundle::of(Plugin::Desk.component()?).config(json!({"topics": 7}));
    let (status, answer) = host.admin().try_deploy(&account, &bundle).await?;
    ensure!((400..500).contains(&status), "{status} {answer}");
    let error = answer["error"]["message"].as_str().context("a message")?;
    ensure!(
        error.contains("topics"),
        "the refusal does not name the setting: {error}"
    );
    let reply = account.ask(host, &new_user()?, "still hello").await?;
    ensure!(reply == samples::hello("still hello"), "{reply:?}");
    Ok(())
}

async fn new_version_answers_at_once_and_rollback_brings_the_old_one_back(
    stage: Stage,
) -> Result<()> {
    let host = stage.host().await?;
    let admin = host.admin();
    let account = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let user = new_user()?;
    ensure!(account.ask(host, &user, "1").await? == samples::hello("1"));

    let second = admin
        .deploy(&account, &Bundle::of(Plugin::Rogue.component()?))
        .await?;
    ensure!(account.ask(host, &user, "2").await? == samples::echo("2"));

    let base = format!("/api/v1/accounts/{}", account.app_id());
    admin
        .post(&format!("{base}/deployments/{second}/activate"), &json!({}))
        .await?;
    ensure!(account.ask(host, &user, "3").await? == samples::echo("3"));

    admin.post(&format!("{base}/rollback"), &json!({})).await?;
    ensure!(account.ask(host, &user, "4").await? == samples::hello("4"));
    let (status, answer) = admin
        .try_call(Method::POST, &format!("{base}/rollback"), Some(&json!({})))
        .await?;
    ensure!(
        (400..500).contains(&status),
        "a rollback past the first version: {status} {answer}"
    );
    ensure!(account.ask(host, &user, "5").await? == samples::hello("5"));

    admin
        .post(&format!("{base}/deployments/{second}/activate"), &json!({}))
        .await?;
    ensure!(account.ask(host, &user, "6").await? == samples::echo("6"));
    Ok(())
}

async fn desk_greets_routes_and_remembers(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let bundle = Bundle::of(Plugin::Desk.component()?).config(samples::desk_config()?);
    let account = stage.account_with(host, Mode::Safe, bundle).await?;
    let user = new_user()?;
    for (action, expected) in samples::desk_story() {
        let outcome = account
            .deliver(host, &account.callback(&user, &action))
            .await?;
        ensure!(
            outcome == Outcome::Replied(expected.clone()),
            "{action:?}: {outcome:?}, not {expected:?}"
        );
    }
    Ok(())
}

async fn admin_api_needs_its_token(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.bare_account(host, Mode::Safe).await?;
    for token in ["", "wrong", &"x".repeat(40)] {
        let stranger = host.admin().clone().with_token(token);
        for (method, path) in [
            (Method::GET, "/api/v1/tenants".to_owned()),
            (Method::GET, "/api/v1/accounts".to_owned()),
            (
                Method::GET,
                format!("/api/v1/accounts/{}", account.app_id()),
            ),
            (
                Method::GET,
                format!("/api/v1/accounts/{}/calls", account.app_id()),
            ),
            (
                Method::GET,
                format!("/api/v1/accounts/{}/kv", account.app_id()),
            ),
            (
                Method::POST,
                format!("/api/v1/accounts/{}/rollback", account.app_id()),
            ),
        ] {
            let (status, answer) = stranger.try_call(method.clone(), &path, None).await?;
            ensure!(
                status == 401,
                "{method} {path} with token {token:?}: {status} {answer}"
            );
        }
    }
    // Every route that is described, with what is good elsewhere too: a key of a tenant for the operator's,
    // the admin token for tenants' systems'.
    let tenant = host.admin().add_tenant().await?;
    let key = office::key(host, &tenant).await?;
    let document = host.admin().get("/api/v1/openapi.json").await?;
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().context("paths")? {
        let path = path.replace("{app_id}", account.app_id());
        for (method, operation) in operations.as_object().context("operations")? {
            let for_tenants = operation["security"].to_string().contains("api_key");
            let elsewhere = match for_tenants {
                true => host.admin().token(),
                false => &key,
            };
            for token in ["", "wrong", elsewhere] {
                let stranger = host.admin().clone().with_token(token);
                let method: Method = method.to_uppercase().parse()?;
                let (status, answer) = stranger.try_call(method.clone(), &path, None).await?;
                ensure!(status == 401, "{method} {path}: {status} {answer}");
            }
            routes += 1;
        }
    }
    ensure!(routes >= 29, "only {routes} routes are described");
    Ok(())
}

async fn bad_admin_input_is_explained(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let admin = host.admin();
    let account = stage.bare_account(host, Mode::Safe).await?;
    let tenant = admin.add_tenant().await?;
    let good = Account::fresh(Mode::Safe, stage.wechat()).registration(&tenant);
    let with = |name: &str, value: Value| {
        let mut document = good.clone();
        document[name] = value;
        document
    };
    let bad = [
        with("app_id", account.app_id().into()),
        with("app_id", "../etc".into()),
        with("tenant_id", "nobody".into()),
        with("mode", "secret".into()),
        with("token", "x".into()),
        with("encoding_aes_key", "too short".into()),
        with("encoding_aes_key", Value::Null),
        with("original_id", "".into()),
        with("window_seconds", (-1).into()),
    ];
    for document in bad {
        let (status, answer) = admin
            .try_call(Method::POST, "/api/v1/accounts", Some(&document))
            .await?;
        ensure!(
            (400..500).contains(&status),
            "{document} was answered {status} {answer}"
        );
        for part in ["code", "message", "request_id"] {
            ensure!(answer["error"][part].is_string(), "no {part} in {answer}");
        }
    }
    admin.post("/api/v1/accounts", &good).await?;
    for path in [
        "/api/v1/accounts/wxnobody",
        "/api/v1/calls/nothing",
        "/api/v1/nothing",
    ] {
        let (status, answer) = admin.try_call(Method::GET, path, None).await?;
        ensure!(
            status == 404 && answer["error"]["code"].is_string(),
            "{path}: {status} {answer}"
        );
    }
    Ok(())
}

async fn equal_components_of_two_tenants_stay_apart(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let one = stage.account(host, Mode::Plain, Plugin::Rogue).await?;
    let other = stage.account(host, Mode::Plain, Plugin::Rogue).await?;
    let user = new_user()?;
    for (account, expected) in [(&one, 1), (&one, 2), (&other, 1), (&one, 3), (&other, 2)] {
        let answer = account.ask(host, &user, "count").await?;
        ensure!(
            answer == samples::count(expected),
            "{answer} where {expected} was due"
        );
    }
    Ok(())
}

async fn everything_survives_a_restart(stage: Stage) -> Result<()> {
    let site = stage.site().await?;
    let host = site.host().await?;
    let account = stage.account(&host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    account.ask(&host, &user, "count").await?;
    let callback = account.callback(&user, &UserAction::text("count"));
    let before = account.deliver(&host, &callback).await?;
    host.stop().await?;

    let host = site.host().await?;
    let after = account.deliver(&host, &callback).await?;
    ensure!(
        before == after,
        "an answered message was answered {before:?}, after a restart {after:?}"
    );
    ensure!(account.ask(&host, &user, "count").await? == samples::count(3));
    Ok(())
}

async fn change_on_one_host_is_seen_on_the_other(stage: Stage) -> Result<()> {
    let one = stage.host().await?;
    let other = stage.second_host().await?;
    let account = stage.account(one, Mode::Safe, Plugin::Hello).await?;
    let user = new_user()?;
    let replies = async |expected: &str| {
        wait::until("the other host's new answer", wait::SOON, async || {
            let outcome = account.say(&other, &user, "x").await?;
            Ok((outcome == Outcome::Replied(Reply::Text(expected.to_owned()))).then_some(()))
        })
        .await
    };
    replies(&samples::hello("x")).await?;
    one.admin()
        .deploy(&account, &Bundle::of(Plugin::Rogue.component()?))
        .await?;
    replies(&samples::echo("x")).await?;

    one.admin()
        .change(&account, &json!({"status": "disabled"}))
        .await?;
    wait::until("the other host's refusal", wait::SOON, async || {
        let outcome = account.say(&other, &user, "x").await?;
        Ok(matches!(outcome, Outcome::Refused(status) if status == 404).then_some(()))
    })
    .await
}

async fn deployments(host: &Host, account: &Account) -> Result<(usize, Value)> {
    let path = format!("/api/v1/accounts/{}/deployments", account.app_id());
    let answer = host.admin().get(&path).await?;
    let list = answer
        .as_array()
        .or(answer["deployments"].as_array())
        .or(answer["items"].as_array());
    Ok((list.context("a list")?.len(), answer.clone()))
}

/// `component` with one import more: an instance by this name that has a function.
fn importing(name: &str, component: &[u8]) -> Result<Vec<u8>> {
    let mut types = Validator::new();
    let mut count = 0;
    for part in Parser::new(0).parse_all(component) {
        // The last end is that of the component itself.
        if let ValidPayload::End(seen) = types.payload(&part?)? {
            count = seen.as_ref().component_type_count();
        }
    }
    let mut kinds = ComponentTypeSection::new();
    let mut instance = InstanceType::new();
    instance
        .ty()
        .function()
        .params::<_, wasm_encoder::ComponentValType>([])
        .result(None);
    instance.export("ask", ComponentTypeRef::Func(0));
    kinds.instance(&instance);
    let mut imports = ComponentImportSection::new();
    imports.import(name, ComponentTypeRef::Instance(count));
    let mut more = component.to_vec();
    kinds.append_to_component(&mut more);
    imports.append_to_component(&mut more);
    Ok(more)
}
