//! Bad input on the callback address: each has its status, none reaches a plugin.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wxhost_simulator::{Envelope, Forgery, HttpAnswer, Stamp, SystemEnvironment, UserAction};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_wechat::envelope::{Format, Mode};

use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: forgeries_get_their_status_and_run_nothing, replayed_nonce_with_another_body_is_refused,
        unknown_and_disabled_accounts_are_not_found, unreadable_bodies_are_acknowledged_and_told,
        refusals_of_unknown_accounts_take_as_long, window_is_the_accounts_own, large_bodies_are_refused_unread,
        forged_queries_are_refused_before_their_body, strange_requests_do_no_harm;
}

/// What is refused with which code.
const CODES: [(Forgery, &str); 10] = [
    (Forgery::BadSignature, "bad-signature"),
    (Forgery::NoSignature, "missing-parameter"),
    (Forgery::StaleTimestamp, "stale-timestamp"),
    (Forgery::EarlyTimestamp, "stale-timestamp"),
    (Forgery::Plaintext, "plaintext-refused"),
    // Whatever is wrong inside looks alike from outside.
    (Forgery::ForeignAppId, "bad-envelope"),
    (Forgery::ForeignReceiver, "wrong-receiver"),
    (Forgery::BadPadding, "bad-envelope"),
    (Forgery::BadBase64, "bad-base64"),
    (Forgery::Doctype, "doctype-refused"),
];

async fn forgeries_get_their_status_and_run_nothing(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for (mode, format) in [
        (Mode::Plain, Format::Xml),
        (Mode::Compatible, Format::Xml),
        (Mode::Safe, Format::Xml),
        (Mode::Safe, Format::Json),
    ] {
        let mut account = stage.account(host, mode, Plugin::Hello).await?;
        account.known_mut().format = format;
        let user = new_user()?;
        for (forgery, code) in CODES {
            let pointless = forgery == Forgery::Doctype && format == Format::Json;
            if !forgery.applies_to(mode) || pointless {
                continue;
            }
            let callback = account.callback(&user, &UserAction::text("forged"));
            let answer = stage
                .wechat()
                .forge(&account.at(host), &callback, forgery)
                .await?;
            expect(&answer, forgery.deserved_status(), code)?;
        }
        expect_only_genuine_calls(host, &account).await?;
    }
    Ok(())
}

async fn replayed_nonce_with_another_body_is_refused(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    let seen = account.envelope(&account.callback(&user, &UserAction::text("pay 1")));
    ensure!(account.post(host, &seen).await?.status == 200);
    // The very same request is a re-send like any other.
    ensure!(account.post(host, &seen).await?.status == 200);

    let other = account.callback(&user, &UserAction::text("pay 1000"));
    let replay = seen.replayed_with(account.known(), &other, &SystemEnvironment);
    expect(&account.post(host, &replay).await?, 403, "replayed-nonce")?;
    let calls = host.admin().calls_once_written(&account, 1).await?;
    ensure!(calls.len() == 1, "{calls:?}");
    Ok(())
}

async fn unknown_and_disabled_accounts_are_not_found(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let user = new_user()?;
    account.ask(host, &user, "enabled").await?;

    host.admin()
        .change(&account, &json!({"status": "disabled"}))
        .await?;
    let envelope = account.envelope(&account.callback(&user, &UserAction::text("disabled")));
    let disabled = account.post(host, &envelope).await?;
    let unknown = stage
        .wechat()
        .post(&format!("{}/callback/wxnobody", host.base()), &envelope)
        .await?;
    ensure!(
        disabled.status == 404 && unknown.status == 404,
        "{disabled:?} {unknown:?}"
    );
    ensure!(
        code(&disabled) == code(&unknown),
        "they can be told apart: {disabled:?} {unknown:?}"
    );

    host.admin()
        .change(&account, &json!({"status": "active"}))
        .await?;
    account.ask(host, &user, "enabled again").await?;
    Ok(())
}

async fn refusals_of_unknown_accounts_take_as_long(stage: Stage) -> Result<()> {
    const PAIRS: usize = 31;
    let host = stage.host().await?;
    let account = stage.bare_account(host, Mode::Safe).await?;
    // A large body, so that checking a signature over it would show.
    let callback = account.callback(&new_user()?, &UserAction::text(&"x".repeat(600_000)));
    let forged = Forgery::BadSignature.craft(account.known(), &callback, &SystemEnvironment);
    let time = async |url: String, status: u16| -> Result<Duration> {
        let started = Instant::now();
        let answer = stage.wechat().post(&url, &forged).await?;
        ensure!(answer.status == status, "{answer:?}");
        Ok(started.elapsed())
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        known.push(time(account.url(host), 403).await?);
        unknown.push(time(format!("{}/callback/wx0123456789abcdef", host.base()), 404).await?);
    }
    // The shortest of each: what else the machine does only makes them longer.
    let shortest = |times: Vec<Duration>| times.into_iter().min().context("a time");
    let (known, unknown) = (shortest(known)?, shortest(unknown)?);
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    ensure!(
        (0.6..1.7).contains(&ratio),
        "403 takes {known:?}, 404 takes {unknown:?}"
    );
    Ok(())
}

async fn unreadable_bodies_are_acknowledged_and_told(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let deep = format!("{}{}", "<a>".repeat(64), "</a>".repeat(64));
    let broad = format!("<xml>{}</xml>", "<a>1</a>".repeat(10_000));
    let entity = "<xml><Content>&nbsp;</Content></xml>";
    // A repetition would not help, so each is acknowledged, and the operator is told.
    let bodies = [
        ("", "malformed-xml"),
        ("<xml>", "malformed-xml"),
        ("<xml><Content>a</Contents></xml>", "malformed-message"),
        (entity, "entity-refused"),
        ("{\"MsgType\": ", "malformed-json"),
        (deep.as_str(), "too-deep"),
        (broad.as_str(), "too-many-elements"),
    ];
    for (body, _) in bodies {
        let answer = post_clear(&stage, host, &account, body.as_bytes()).await?;
        expect(&answer, 200, "success")?;
    }
    account.ask(host, &new_user()?, "genuine").await?;
    let calls = host
        .admin()
        .calls_once_written(&account, 1 + bodies.len())
        .await?;
    for (body, code) in bodies {
        let told = |call: &&serde_json::Value| {
            let error = call["error"].as_str().unwrap_or_default();
            call["outcome"] == "unreadable" && error.starts_with(code)
        };
        ensure!(
            calls.iter().any(|call| told(&call)),
            "{body:.40} is not told of: {calls:?}"
        );
    }
    let ran = calls.iter().filter(|call| call["runs"] != 0).count();
    ensure!(ran == 1, "nonsense ran a plugin: {calls:?}");
    Ok(())
}

async fn window_is_the_accounts_own(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Plain, Plugin::Hello).await?;
    let user = new_user()?;
    let callback = account.callback(&user, &UserAction::text("an hour late"));
    let forge = async || {
        stage
            .wechat()
            .forge(&account.at(host), &callback, Forgery::StaleTimestamp)
            .await
    };
    ensure!(forge().await?.status == 403);
    host.admin()
        .change(&account, &json!({"window_seconds": 7_200}))
        .await?;
    let answer = forge().await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

async fn large_bodies_are_refused_unread(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.bare_account(host, Mode::Plain).await?;
    let callback = account.callback(&new_user()?, &UserAction::text("much"));
    let sent = Forgery::TooLarge.craft(account.known(), &callback, &SystemEnvironment);
    for (what, body) in [
        ("sent", std::str::from_utf8(&sent.body)?),
        ("announced", "<xml>"),
    ] {
        let query: Vec<_> = sent
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = format!(
            "POST /callback/{}?{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            account.app_id(),
            query.join("&"),
            sent.body.len(),
        );
        let answer = tokio::time::timeout(Duration::from_secs(5), exchange(host, &request)).await;
        let answer = answer.with_context(|| format!("a large body was {what}"))??;
        ensure!(
            answer == *b"HTTP/1.1 413",
            "{what}: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    let (status, _) = host.get("/healthz").await?;
    ensure!(status == 200);
    Ok(())
}

async fn forged_queries_are_refused_before_their_body(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let account = stage.bare_account(host, mode).await?;
        let callback = account.callback(&new_user()?, &UserAction::text("much"));
        let forged = Forgery::BadSignature.craft(account.known(), &callback, &SystemEnvironment);
        let query: Vec<_> = forged
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        for (app_id, status) in [(account.app_id(), "403"), ("wx0123456789abcdef", "404")] {
            // The body is announced and never sent.
            let request = format!(
                "POST /callback/{app_id}?{} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
                query.join("&"),
            );
            let answer = exchange(host, &request).await?;
            let answer = String::from_utf8_lossy(&answer);
            ensure!(answer == format!("HTTP/1.1 {status}"), "{mode:?}: {answer}");
        }
    }
    Ok(())
}

async fn strange_requests_do_no_harm(stage: Stage) -> Result<()> {
    let host = stage.host().await?;
    let account = stage.account(host, Mode::Safe, Plugin::Hello).await?;
    let id = account.app_id();
    let long = "x".repeat(5_000);
    for path in [
        "/callback/".to_owned(),
        "/callback/%00".to_owned(),
        "/callback/..%2f..%2fetc".to_owned(),
        format!("/callback/{long}"),
        format!("/callback/{id}?signature=%ff%fe&timestamp=-1&nonce=%00&echostr=%F0%9F"),
        format!(
            "/callback/{id}?signature=1&signature=2&timestamp=99999999999999999999&nonce=1&echostr=a"
        ),
        format!("/callback/{id}?{}", "a=b&".repeat(1_000)),
    ] {
        let (status, body) = host.get(&path).await?;
        ensure!(
            (400..500).contains(&status),
            "{path:.60} was answered {status} {body}"
        );
    }
    let delete = host.http().delete(account.url(host)).send().await?;
    ensure!(delete.status() == 405, "{}", delete.status());
    account.ask(host, &new_user()?, "still there?").await?;
    Ok(())
}

/// Sends a request and reads the beginning of the answer, which may come before all is sent.
async fn exchange(host: &Host, request: &str) -> Result<[u8; 12]> {
    let mut stream = TcpStream::connect(("127.0.0.1", host.port())).await?;
    // Fails when the host has read enough; the answer is there all the same.
    drop(stream.write_all(request.as_bytes()).await);
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Posts any bytes under a right plain signature.
async fn post_clear(
    stage: &Stage,
    host: &Host,
    account: &Account,
    body: &[u8],
) -> Result<HttpAnswer> {
    let stamp = Stamp::fresh(&SystemEnvironment);
    let token = &account.known().token;
    let signature =
        wxhost_wechat::signature::callback_signature(token, &stamp.timestamp, &stamp.nonce);
    let envelope = Envelope {
        query: vec![
            ("signature", signature),
            ("timestamp", stamp.timestamp),
            ("nonce", stamp.nonce),
        ],
        body: body.to_owned(),
    };
    Ok(stage.wechat().post(&account.url(host), &envelope).await?)
}

/// The account still answers, and that is all that it ever did.
async fn expect_only_genuine_calls(host: &Host, account: &Account) -> Result<()> {
    account.ask(host, &new_user()?, "genuine").await?;
    let calls = host.admin().calls_once_written(account, 1).await?;
    ensure!(calls.len() == 1, "forgeries ran a plugin: {calls:?}");
    Ok(())
}

fn expect(answer: &HttpAnswer, status: u16, wanted: &str) -> Result<()> {
    let found = code(answer);
    ensure!(
        answer.status == status && found == wanted,
        "{status} {wanted} was deserved, not {} {found}",
        answer.status
    );
    Ok(())
}

/// A refusal's body is its code, for the operator who reads WeChat's error page.
fn code(answer: &HttpAnswer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}
