//! The platform against a small host over real HTTP.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::{HeaderMap, Method, Version};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::Reply;
use wxhost_wechat::xml;

use super::*;
use crate::{Flaw, SeededEnvironment, SystemEnvironment};

/// How long a test lets a host hang: long enough for a loopback answer on a busy machine.
const SHORT: Duration = Duration::from_millis(300);

/// What the host was asked.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    version: Version,
    headers: HeaderMap,
    query: HashMap<String, String>,
    body: String,
}

/// What the host does about it.
enum Act {
    Say(u16, String),
    Redirect(String),
    Hang,
}

/// A host that does what it is told and remembers what it was asked.
struct Host {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Host {
    /// `act` gets the number of the request, from 0, and the request.
    async fn start(act: impl Fn(usize, &Asked) -> Act + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let memory = asked.clone();
        let count = Arc::new(AtomicUsize::new(0));
        let handler = async move |method: Method,
                                  version: Version,
                                  headers: HeaderMap,
                                  Query(query): Query<HashMap<String, String>>,
                                  body: Bytes|
                    -> Response {
            let asked = Asked {
                method,
                version,
                headers,
                query,
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            memory.lock().push(asked.clone());
            match act(count.fetch_add(1, Ordering::Relaxed), &asked) {
                Act::Say(status, body) => {
                    (StatusCode::from_u16(status).unwrap(), body).into_response()
                }
                Act::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
                Act::Hang => pending().await,
            }
        };
        let router = axum::Router::new().fallback(handler);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }
}

fn settings() -> PushSettings {
    PushSettings {
        deadline: SHORT,
        ..PushSettings::default()
    }
}

fn wechat() -> WechatPlatform {
    WechatPlatform::new(settings(), Arc::new(SystemEnvironment)).unwrap()
}

fn user() -> OpenId {
    OpenId::parse("oUser-1_a").unwrap()
}

fn say(body: &str) -> Act {
    Act::Say(200, body.to_owned())
}

fn text_reply(clear: &[u8], content: &str) -> String {
    let tree = xml::parse(clear).unwrap();
    format!(
        "<xml><ToUserName><![CDATA[{}]]></ToUserName>\
         <FromUserName><![CDATA[{}]]></FromUserName><CreateTime>1</CreateTime>\
         <MsgType>text</MsgType><Content><![CDATA[{content}]]></Content></xml>",
        tree.text("FromUserName").unwrap(),
        tree.text("ToUserName").unwrap(),
    )
}

fn decrypt(account: &SimulatedAccount, asked: &Asked) -> Vec<u8> {
    let tree = xml::parse(asked.body.as_bytes()).unwrap();
    MessageCipher::new(&account.aes_key)
        .decrypt(tree.text("Encrypt").unwrap(), account.app_id.as_str())
        .unwrap()
}

fn shown_text(content: &str) -> Shown {
    Shown::Reply(Reply::Text(content.to_owned()))
}

#[tokio::test]
async fn a_callback_looks_like_wechats() {
    let host = Host::start(|_, _| say("success")).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let before = SystemEnvironment.now().as_secs();
    wechat()
        .user_does(&account, &user(), &UserAction::text("你好"))
        .await;
    let asked = &host.asked()[0];
    assert_eq!(
        (&asked.method, asked.version),
        (&Method::POST, Version::HTTP_11)
    );
    assert_eq!(asked.headers["user-agent"], "Mozilla/4.0");
    assert_eq!(asked.headers["content-type"], "text/xml");
    assert_eq!(asked.query["openid"], "oUser-1_a");
    let timestamp: u64 = asked.query["timestamp"].parse().unwrap();
    assert!((before..=before + 5).contains(&timestamp));
    let signature = signature::callback_signature(
        &account.token,
        &asked.query["timestamp"],
        &asked.query["nonce"],
    );
    assert_eq!(asked.query["signature"], signature);
    assert!(!asked.query.contains_key("encrypt_type"));
    assert!(asked.body.contains("<Content><![CDATA[你好]]></Content>"));
}

#[tokio::test]
async fn the_user_sees_the_reply() {
    let host = Host::start(|_, asked| say(&text_reply(asked.body.as_bytes(), "早"))).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("你好"))
        .await;
    assert_eq!(delivery.shown, shown_text("早"));
    assert_eq!(delivery.attempts.len(), 1);
    assert_eq!(delivery.attempts[0].status, Some(StatusCode::OK));
}

#[tokio::test]
async fn nobody_sees_a_reply_to_a_farewell() {
    let host = Host::start(|_, asked| say(&text_reply(asked.body.as_bytes(), "stay!"))).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::unsubscribe())
        .await;
    assert_eq!(delivery.shown, Shown::Nothing);
    assert!(matches!(delivery.attempts[0].outcome, Outcome::Replied(_)));
}

#[tokio::test]
async fn a_resend_carries_the_same_message_in_a_new_envelope() {
    let host = Host::start(|number, _| Act::Say([500, 502, 200][number], String::new())).await;
    let account = SimulatedAccount::register(&host.url, Mode::Safe, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("你好"))
        .await;
    let statuses: Vec<_> = delivery
        .attempts
        .iter()
        .map(|attempt| attempt.status.unwrap().as_u16())
        .collect();
    assert_eq!(statuses, [500, 502, 200]);
    assert_eq!(delivery.shown, Shown::Nothing);
    let asked = host.asked();
    let clear: Vec<_> = asked.iter().map(|asked| decrypt(&account, asked)).collect();
    assert!(clear[0] == clear[1] && clear[1] == clear[2]);
    for (left, right) in [(0, 1), (1, 2), (0, 2)] {
        assert_ne!(asked[left].query["nonce"], asked[right].query["nonce"]);
        assert_ne!(asked[left].body, asked[right].body);
    }
}

#[tokio::test]
async fn a_host_that_hangs_gets_three_deliveries_and_the_user_a_fault() {
    let host = Host::start(|_, _| Act::Hang).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    assert_eq!(delivery.shown, Shown::ServiceFault);
    assert_eq!(delivery.attempts.len(), 3);
    for attempt in &delivery.attempts {
        assert_eq!(
            (attempt.status, &attempt.outcome),
            (None, &Outcome::TimedOut)
        );
        assert!(attempt.elapsed >= SHORT);
    }
    assert_eq!(host.asked().len(), 3);
}

#[tokio::test]
async fn the_third_delivery_may_still_be_answered() {
    let host = Host::start(|number, asked| match number {
        2 => say(&text_reply(asked.body.as_bytes(), "at last")),
        _ => Act::Hang,
    })
    .await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    assert_eq!(delivery.shown, shown_text("at last"));
    assert_eq!(delivery.attempts.len(), 3);
}

#[tokio::test]
async fn nobody_at_home_counts_as_a_failed_delivery() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let account = SimulatedAccount::register(&url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    assert_eq!(delivery.shown, Shown::ServiceFault);
    let unreachable = |attempt: &Attempt| matches!(attempt.outcome, Outcome::Unreachable(_));
    assert_eq!(delivery.attempts.len(), 3);
    assert!(delivery.attempts.iter().all(unreachable));
}

#[tokio::test]
async fn any_200_ends_it_even_a_bad_one() {
    let host = Host::start(|_, _| say("{\"errcode\":0}")).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    assert_eq!(delivery.attempts.len(), 1);
    assert_eq!(delivery.shown, Shown::ServiceFault);
    assert!(matches!(
        delivery.attempts[0].outcome,
        Outcome::Flawed(Flaw::NotAReply(_))
    ));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let host = Host::start(|_, _| Act::Redirect("/elsewhere".to_owned())).await;
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let delivery = wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    assert_eq!(host.asked().len(), 3);
    assert_eq!(delivery.shown, Shown::ServiceFault);
}

#[test]
fn the_defaults_are_wechats() {
    let settings = PushSettings::default();
    assert_eq!(settings.deadline, Duration::from_secs(5));
    assert_eq!(settings.deliveries, 3);
}

#[tokio::test]
async fn a_host_that_keeps_failing_is_left_alone_for_a_minute() {
    let host = Host::start(|_, _| Act::Say(503, String::new())).await;
    let stage = Arc::new(SeededEnvironment::new(
        Duration::from_secs(1_700_000_000),
        1,
    ));
    let settings = PushSettings {
        deliveries: 1,
        mute_after: 2,
        ..settings()
    };
    let wechat = WechatPlatform::new(settings, stage.clone()).unwrap();
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &*stage);
    let neighbour = SimulatedAccount::register(&host.url, Mode::Plain, &*stage);
    let attempts = async |account: &SimulatedAccount| {
        let delivery = wechat
            .user_does(account, &user(), &UserAction::text("a"))
            .await;
        assert_eq!(delivery.shown, Shown::ServiceFault);
        delivery.attempts.len()
    };
    assert_eq!(attempts(&account).await, 1);
    assert_eq!(attempts(&account).await, 1);
    assert_eq!(attempts(&account).await, 0, "muted");
    assert_eq!(attempts(&neighbour).await, 1, "only that account");
    stage.advance(Duration::from_secs(59));
    assert_eq!(attempts(&account).await, 0, "still muted");
    stage.advance(Duration::from_secs(1));
    assert_eq!(attempts(&account).await, 1, "the minute is over");
}

#[tokio::test]
async fn overlapping_deliveries_all_arrive_before_any_is_answered() {
    // Each request waits for the third one: this only ends because they overlap.
    let all_here = Arc::new(tokio::sync::Barrier::new(3));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async move || {
        all_here.wait().await;
        "success"
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    let wechat = WechatPlatform::new(PushSettings::default(), Arc::new(SystemEnvironment)).unwrap();
    let account = SimulatedAccount::register(&url, Mode::Plain, &SystemEnvironment);
    let callback = wechat.compose(&account, &user(), &UserAction::text("a"));
    let delivery = wechat.push_overlapping(&account, &callback).await;
    let outcomes: Vec<_> = delivery.attempts.iter().map(|a| &a.outcome).collect();
    assert_eq!(outcomes, [&Outcome::Silent; 3]);
    assert_eq!(delivery.shown, Shown::Nothing);
}

#[tokio::test]
async fn what_a_user_sent_or_the_owner_uploaded_may_be_shown() {
    let host = Host::start(|_, asked| {
        let text = text_reply(asked.body.as_bytes(), "");
        let media_id = if asked.body.contains("Content") {
            "owners"
        } else {
            "users"
        };
        say(&text.replace(
            "<MsgType>text</MsgType><Content><![CDATA[]]></Content>",
            &format!("<MsgType>image</MsgType><Image><MediaId>{media_id}</MediaId></Image>"),
        ))
    })
    .await;
    let wechat = wechat();
    let account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    let shown = async |action: UserAction| wechat.user_does(&account, &user(), &action).await.shown;
    let image = |id: &str| Shown::Reply(Reply::Image(id.to_owned()));
    assert_eq!(shown(UserAction::image("users")).await, image("users"));
    assert_eq!(
        shown(UserAction::text("a")).await,
        Shown::Nothing,
        "unknown yet"
    );
    wechat.add_media(&account, "owners");
    assert_eq!(shown(UserAction::text("a")).await, image("owners"));
}

#[tokio::test]
async fn a_url_is_accepted_when_it_echoes_byte_for_byte() {
    let echo = |asked: &Asked| asked.query["echostr"].clone();
    let host = Host::start(move |number, asked| match number {
        0 => Act::Say(200, echo(asked)),
        1 => Act::Say(200, echo(asked) + "\n"),
        2 => Act::Say(200, format!("\"{}\"", echo(asked))),
        3 => Act::Say(403, echo(asked)),
        _ => Act::Hang,
    })
    .await;
    let wechat = wechat();
    let account = SimulatedAccount::register(&host.url, Mode::Safe, &SystemEnvironment);
    assert!(wechat.verify_url(&account).await.is_ok());
    for _ in 0..2 {
        let refused = wechat.verify_url(&account).await;
        assert!(matches!(refused, Err(UrlRefused::WrongEcho { .. })));
    }
    let refused = wechat.verify_url(&account).await;
    assert_eq!(refused, Err(UrlRefused::Status(StatusCode::FORBIDDEN)));
    let refused = wechat.verify_url(&account).await;
    assert_eq!(refused, Err(UrlRefused::NoAnswer(PostError::TimedOut)));
    let asked = &host.asked()[0];
    assert_eq!(asked.method, Method::GET);
    let signature = signature::callback_signature(
        &account.token,
        &asked.query["timestamp"],
        &asked.query["nonce"],
    );
    assert_eq!(asked.query["signature"], signature);
}

#[tokio::test]
async fn a_url_with_its_own_query_keeps_it() {
    let host = Host::start(|_, _| say("success")).await;
    let mut account = SimulatedAccount::register(&host.url, Mode::Plain, &SystemEnvironment);
    account.callback_url += "?tenant=a%26b";
    wechat()
        .user_does(&account, &user(), &UserAction::text("a"))
        .await;
    let query = &host.asked()[0].query;
    assert_eq!(query["tenant"], "a&b");
    assert!(query.contains_key("signature"));
}

#[tokio::test]
async fn a_forgery_is_posted_once_and_answered_as_it_is() {
    let host = Host::start(|_, _| Act::Say(403, "no".to_owned())).await;
    let wechat = wechat();
    let account = SimulatedAccount::register(&host.url, Mode::Safe, &SystemEnvironment);
    let callback = wechat.compose(&account, &user(), &UserAction::text("a"));
    let answer = wechat
        .forge(&account, &callback, Forgery::BadSignature)
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.body, b"no");
    assert_eq!(host.asked().len(), 1);
}
