//! Inputs from the field, over the whole lane: what WeChat really sends, and who gets which answer.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wxhost_simulator::{Callback, Outcome, SystemEnvironment, UserAction};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::OpenId;
use wxhost_wechat::message::Message;
use wxhost_wechat::reply::Reply;

use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: people_with_one_msg_id_get_their_own_answers, debugging_tool_may_repeat_a_msg_id,
        resend_sealed_anew_under_one_nonce_is_no_replay, bodies_that_no_format_allows_are_answered,
        typed_markup_comes_back_as_it_was, articles_too_many_are_cut_and_told;
}

const MODES: [Mode; 3] = [Mode::Plain, Mode::Compatible, Mode::Safe];

/// A case as WeChat sends it to this account.
fn case(account: &Account, name: &str) -> Result<Callback> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../host/wechat/tests/data/cases")
        .join(name);
    let mut body = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let (there, here) = (b"gh_aaaabbbbcccc", account.known().original_id.as_str());
    if let Some(at) = body.windows(there.len()).position(|bytes| bytes == there) {
        body.splice(at..at + there.len(), here.bytes());
    }
    let nobody = OpenId::parse("oNobody")?;
    Ok(Callback::verbatim(account.known(), &nobody, body))
}

/// The text that a case is answered with. The pretend WeChat refuses one to another person.
async fn answer(host: &Host, account: &Account, callback: &Callback) -> Result<String> {
    match account.deliver(host, callback).await? {
        Outcome::Replied(Reply::Text(text)) => Ok(text),
        other => anyhow::bail!("{other:?}"),
    }
}

async fn people_with_one_msg_id_get_their_own_answers(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let account = stage.account(host, mode, Plugin::Rogue).await?;
        let a = case(&account, "01a-same-msgid.xml")?;
        let b = case(&account, "01b-same-msgid.xml")?;
        // At once, and again.
        for _ in 0..2 {
            let (to_a, to_b) = tokio::join!(answer(host, &account, &a), answer(host, &account, &b));
            ensure!(
                to_a? == "private of A" && to_b? == "hello from B",
                "{mode:?}"
            );
        }
        let injected = case(&account, "04-inject-msgid.xml")?;
        let to_b = answer(host, &account, &injected).await?;
        ensure!(to_b.starts_with("x]]></Content>") && !to_b.contains("private"));
        let calls = host.admin().calls_once_written(&account, 3).await?;
        ensure!(calls.len() == 3, "{calls:?}");
    }
    Ok(())
}

async fn debugging_tool_may_repeat_a_msg_id(stage: Stage) -> Result<()> {
    const DEBUG_MSG_ID: u64 = 1_234_567_890_123_456;
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Rogue).await?;
    let later = case(&account, "13-same-msgid-later.xml")?;
    let clear = String::from_utf8(later.to_clear())?;
    let first = clear
        .replace("1700000900", "1700000000")
        .replace("second", "first");
    let first = Callback::verbatim(account.known(), later.from(), first.into_bytes());
    for (callback, text) in [(&first, "first"), (&later, "second"), (&first, "first")] {
        ensure!(answer(host, &account, callback).await? == text);
    }
    let said = UserAction::text("from the tool").with_msg_id(DEBUG_MSG_ID);
    let callback = account.callback(&new_user()?, &said);
    ensure!(answer(host, &account, &callback).await? == "from the tool");
    Ok(())
}

async fn resend_sealed_anew_under_one_nonce_is_no_replay(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in [Mode::Compatible, Mode::Safe] {
        let account = stage.account(host, mode, Plugin::Rogue).await?;
        let callback = account.callback(&new_user()?, &UserAction::text("sealed twice"));
        let first = account.envelope(&callback);
        let again = first.replayed_with(account.known(), &callback, &SystemEnvironment);
        ensure!(first.stamp() == again.stamp() && first.body != again.body);
        for envelope in [&first, &again] {
            let answered = account.post(host, envelope).await?;
            ensure!(answered.status == 200, "{mode:?}: {answered:?}");
            ensure!(answered.body != b"success", "{mode:?}: {answered:?}");
        }
        let calls = host.admin().calls_once_written(&account, 1).await?;
        ensure!(calls.len() == 1, "{mode:?}: {calls:?}");
    }
    Ok(())
}

async fn bodies_that_no_format_allows_are_answered(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let account = stage.account(host, mode, Plugin::Rogue).await?;
        for (name, text) in [
            ("02-nested-cdata.xml", "<status><![CDATA[ok]]></status>"),
            ("03-cdata-end-in-code.xml", "if (a[b[0]]>1) return;"),
            ("07-truncated-utf8.xml", "往后余生，\u{fffd}"),
            ("08-nul.xml", "ab"),
        ] {
            let to_a = answer(host, &account, &case(&account, name)?).await?;
            ensure!(to_a == text, "{mode:?} {name}: {to_a:?}");
        }
        for (name, text) in [
            ("05-json-raw-lf.json", "a\nb"),
            ("19-json-lone-surrogate.json", "a\u{fffd}"),
        ] {
            let mut account = account.clone();
            account.known_mut().format = wxhost_wechat::envelope::Format::Json;
            let callback = case(&account, name)?;
            // Both cases have one MsgId, and one is answered with the other's answer otherwise.
            let clear = String::from_utf8(callback.to_clear())?;
            let clear = clear.replace("1700000000", &format!("17000000{}", text.len()));
            let callback = Callback::verbatim(account.known(), callback.from(), clear.into_bytes());
            let to_a = answer(host, &account, &callback).await?;
            ensure!(to_a == text, "{mode:?} {name}: {to_a:?}");
        }
        let event = case(&account, "17-raw-ampersand.xml")?;
        let outcome = account.deliver(host, &event).await?;
        ensure!(
            outcome.is_final() && !matches!(outcome, Outcome::Flawed(_)),
            "{outcome:?}"
        );
    }
    Ok(())
}

async fn typed_markup_comes_back_as_it_was(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in MODES {
        let account = stage.account(host, mode, Plugin::Rogue).await?;
        let user = new_user()?;
        for text in [
            "]]>",
            "a]]></Content><FromUserName>oOther</FromUserName><Content><![CDATA[b",
            "]]></Content></xml>",
            "<Encrypt>Zm9yZ2Vk</Encrypt>",
            "]]></Content><Encrypt><![CDATA[Zm9yZ2Vk]]></Encrypt><Content><![CDATA[",
            "]]><!DOCTYPE a>",
        ] {
            let callback = account.callback(&user, &UserAction::text(text));
            let read = Message::read(&callback.to_clear())?;
            ensure!(read.from_user == user, "{mode:?} {text:?}");
            let came_back = answer(host, &account, &callback).await?;
            ensure!(
                came_back == text,
                "{mode:?}: {text:?} came back as {came_back:?}"
            );
        }
    }
    Ok(())
}

async fn articles_too_many_are_cut_and_told(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Rogue).await?;
    let outcome = account.say(host, &new_user()?, "articles 3").await?;
    ensure!(
        matches!(&outcome, Outcome::Replied(Reply::News(articles)) if articles.len() == 1),
        "{outcome:?}"
    );
    let calls = host.admin().calls_once_written(&account, 1).await?;
    ensure!(calls[0]["outcome"] == json!("replied"), "{calls:?}");
    let id = calls[0]["id"].as_str().context("an id")?;
    let call = host.admin().get(&format!("/api/v1/calls/{id}")).await?;
    let log = call["log"].as_str().unwrap_or_default();
    ensure!(log.contains("3 articles"), "{call}");
    Ok(())
}
