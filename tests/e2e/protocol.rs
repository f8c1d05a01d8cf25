//! WeChat's protocol as users and WeChat's settings page see it.

use anyhow::{Result, ensure};
use serde_json::json;
use wxhost_simulator::{Field, Outcome, UserAction};
use wxhost_tests::account::new_user;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::{Format, Mode};
use wxhost_wechat::reply::Reply;
use wxhost_wechat::secret::EncodingAesKey;

use crate::samples;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: url_check_echoes, url_check_with_bad_signature_is_refused, text_is_answered_in_every_mode,
        json_is_answered_in_json, both_keys_work_while_the_key_changes, new_token_works_at_once,
        menu_scan_and_image_reach_the_plugin, unknown_kinds_are_acknowledged,
        text_comes_back_as_it_was, first_sight_of_an_account_needs_a_plugin;
}

const MODES: [Mode; 3] = [Mode::Plain, Mode::Compatible, Mode::Safe];

async fn url_check_echoes(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let account = stage.account(host, mode, Plugin::Hello).await?;
        stage.wechat().verify_url(&account.at(host)).await?;
    }
    Ok(())
}

async fn url_check_with_bad_signature_is_refused(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.bare_account(host, Mode::Safe).await?;
    let path = format!("/callback/{}", account.app_id());
    let query = "signature=0123456789012345678901234567890123456789&timestamp=1411525903&nonce=1&echostr=echo";
    let (status, body) = host.get(&format!("{path}?{query}")).await?;
    ensure!(status == 403 && !body.contains("echo\""), "{status} {body}");
    for missing in [
        "",
        "?signature=0&nonce=1&echostr=echo",
        "?timestamp=1411525903",
    ] {
        let (status, body) = host.get(&format!("{path}{missing}")).await?;
        ensure!(status == 400, "{missing:?} was answered {status} {body}");
    }
    Ok(())
}

async fn text_is_answered_in_every_mode(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let account = stage.account(host, mode, Plugin::Hello).await?;
        let user = new_user()?;
        for text in ["hi", "你好，世界", "<b>&amp;]]></b>"] {
            let answer = account.ask(host, &user, text).await?;
            ensure!(
                answer == samples::hello(text),
                "{mode:?}: {text:?} was answered {answer:?}"
            );
        }
    }
    Ok(())
}

async fn json_is_answered_in_json(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let mut account = stage.account(host, mode, Plugin::Hello).await?;
        account.known_mut().format = Format::Json;
        let user = new_user()?;
        // The pretend WeChat reads an answer in the format that it wrote.
        let answer = account.ask(host, &user, "你好 \"json\"").await?;
        ensure!(
            answer == samples::hello("你好 \"json\""),
            "{mode:?}: {answer:?}"
        );
    }
    Ok(())
}

async fn both_keys_work_while_the_key_changes(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let old = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let user = new_user()?;
    old.ask(host, &user, "before").await?;

    let mut new = old.clone();
    new.known_mut().aes_key = EncodingAesKey::parse(&wxhost_tests::secrets::fresh(43)?)?;
    let path = format!("/api/v1/accounts/{}/rotate-key", old.app_id());
    let change = json!({"encoding_aes_key": new.known().aes_key.expose()});
    host.admin().post(&path, &change).await?;

    // An answer is sealed with the key that the message came with: its sender can read it.
    for (account, text) in [(&old, "old key"), (&new, "new key")] {
        let answer = account.ask(host, &user, text).await?;
        ensure!(answer == samples::hello(text), "{text}: {answer:?}");
    }
    // A second change: the first key is forgotten.
    let change = json!({"encoding_aes_key": wxhost_tests::secrets::fresh(43)?});
    host.admin().post(&path, &change).await?;
    let outcome = old.say(host, &user, "key before last").await?;
    ensure!(
        matches!(outcome, Outcome::Refused(status) if status == 400),
        "{outcome:?}"
    );
    new.ask(host, &user, "last key").await?;
    Ok(())
}

async fn new_token_works_at_once(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let old = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let mut new = old.clone();
    let token = wxhost_tests::secrets::fresh(32)?;
    new.known_mut().token = wxhost_wechat::secret::CallbackToken::parse(&token)?;
    let path = format!("/api/v1/accounts/{}/rotate-key", old.app_id());
    host.admin().post(&path, &json!({"token": token})).await?;

    let user = new_user()?;
    new.ask(host, &user, "new token").await?;
    let outcome = old.say(host, &user, "old token").await?;
    ensure!(
        matches!(outcome, Outcome::Refused(status) if status == 403),
        "{outcome:?}"
    );
    Ok(())
}

async fn menu_scan_and_image_reach_the_plugin(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let user = new_user()?;
    for action in [
        UserAction::click("V1001"),
        UserAction::follow_by_qr("42", "TICKET"),
        UserAction::image("media-1"),
    ] {
        let callback = account.callback(&user, &action);
        let outcome = account.deliver(host, &callback).await?;
        ensure!(outcome.is_final(), "{action:?}: {outcome:?}");
    }
    let calls = host.admin().calls_once_written(&account, 3).await?;
    let mut kinds: Vec<_> = calls
        .iter()
        .map(|call| call["event_kind"].as_str().unwrap_or_default())
        .collect();
    kinds.sort_unstable();
    ensure!(kinds == ["click", "image", "subscribe"], "{kinds:?}");
    Ok(())
}

async fn unknown_kinds_are_acknowledged(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    let message = UserAction::raw([
        Field::text("MsgType", "hologram"),
        Field::text("Depth", "3"),
    ]);
    let event = UserAction::raw([
        Field::text("MsgType", "event"),
        Field::text("Event", "teleported"),
    ]);
    for action in [message, event] {
        let outcome = account
            .deliver(host, &account.callback(&user, &action))
            .await?;
        ensure!(
            outcome.is_final() && !matches!(outcome, Outcome::Flawed(_)),
            "{action:?}: {outcome:?}"
        );
    }
    Ok(())
}

async fn text_comes_back_as_it_was(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let user = new_user()?;
    for text in ["]]>", "a\nb", "😀 &lt; <xml> ]]]]>>", "\"'&"] {
        let answer = account.ask(host, &user, text).await?;
        ensure!(
            answer == samples::echo(text),
            "{text:?} came back as {answer:?}"
        );
    }
    Ok(())
}

async fn first_sight_of_an_account_needs_a_plugin(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.bare_account(host, Mode::Plain).await?;
    let user = new_user()?;
    let outcome = account.say(host, &user, "anybody there?").await?;
    ensure!(outcome == Outcome::Silent, "without a plugin: {outcome:?}");

    let fallback = json!({"fallback_text": "请稍后再试"});
    host.admin().change(&account, &fallback).await?;
    let rogue = wxhost_tests::admin::Bundle::of(Plugin::Rogue.component()?);
    host.admin().deploy(&account, &rogue).await?;
    let outcome = account.say(host, &user, "panic").await?;
    ensure!(
        outcome == Outcome::Replied(Reply::Text("请稍后再试".to_owned())),
        "{outcome:?}"
    );
    Ok(())
}
