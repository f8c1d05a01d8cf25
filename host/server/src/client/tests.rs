//! Calls against the pretend WeChat, and against a server that answers what no WeChat would.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request as Received;
use axum::routing::any;
use futures::stream;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use wxhost_wechat::api::{self, generic, media};

use super::*;
use crate::credentials::TokenLine;
use crate::tokens::testing::{Bed, Host, until};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn question() -> Request {
    generic(
        api::Method::Get,
        "/cgi-bin/getcallbackip",
        Vec::new(),
        String::new(),
    )
    .unwrap()
}

async fn ask(host: &Host, request: &Request) -> Result<Bytes, CallError> {
    host.client.send(&host.account(), request, soon()).await
}

fn received(bed: &Bed, path: &str) -> usize {
    let path = format!("/requests?path={path}");
    let shown = bed.wechat.control().ask(Method::GET, &path, &Value::Null);
    shown.unwrap().as_array().unwrap().len()
}

#[tokio::test]
async fn a_question_is_repeated_while_wechat_is_busy_and_an_order_is_not() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.alone().await;
    for kind in ["busy", "html-502", "drop"] {
        bed.fault(json!({"kind": kind, "path_prefix": "/cgi-bin/getcallbackip", "count": 2}));
        ask(&host, &question()).await.unwrap();
    }
    bed.fault(json!({"kind": "busy", "path_prefix": "/cgi-bin/tags", "count": 1}));
    let body = r#"{"tag":{"name":"茶"}}"#.to_owned();
    let order = generic(api::Method::Post, "/cgi-bin/tags/create", Vec::new(), body).unwrap();
    match ask(&host, &order).await {
        Err(CallError::Refused(refusal)) => assert_eq!(refusal.errcode.0, -1),
        other => panic!("{other:?}"),
    }
    assert_eq!(received(&bed, "/cgi-bin/tags/create"), 1);
}

#[tokio::test]
async fn a_call_that_stays_refused_is_repeated_with_the_same_token_and_with_another() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.alone().await;
    bed.fault(
        json!({"kind": "errcode", "errcode": 40001, "path_prefix": "/cgi-bin/getcallbackip"}),
    );
    match ask(&host, &question()).await {
        Err(CallError::Refused(refusal)) => assert_eq!(refusal.errcode.0, 40001),
        other => panic!("{other:?}"),
    }
    assert_eq!(received(&bed, "/cgi-bin/getcallbackip"), 3);
    assert_eq!(bed.count("forced"), 1);
}

#[tokio::test]
async fn a_deadline_ends_a_call() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.alone().await;
    ask(&host, &question()).await.unwrap();
    bed.fault(json!({"kind": "slow", "ms": 5000, "path_prefix": "/cgi-bin/getcallbackip"}));
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(100);
    let late = host
        .client
        .send(&host.account(), &question(), deadline)
        .await;
    assert!(matches!(late, Err(CallError::Timeout)), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

fn raw(body: Payload) -> RawRequest {
    RawRequest {
        method: Method::GET,
        path: "/cgi-bin/getcallbackip".into(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body,
    }
}

#[tokio::test]
async fn what_passes_through_is_repeated_for_a_bad_token_only_if_it_was_whole() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.alone().await;
    let pass = async |body: Payload| {
        let answer = host.client.raw(&host.account(), raw(body), soon()).await;
        let body = axum::body::Body::new(answer.unwrap().body);
        let body = axum::body::to_bytes(body, 4096).await.unwrap();
        errcode::read(&body).map_err(|refusal| refusal.errcode.0)
    };
    host.token().await.unwrap();
    bed.neighbour_fetches(TokenLine::Stable).await;
    assert_eq!(pass(Payload::Whole(Bytes::new())).await, Ok(()));
    bed.wechat.control().advance(Duration::from_secs(31));
    bed.neighbour_fetches(TokenLine::Stable).await;
    // The caller sees WeChat's own refusal; the next call has a fresh token all the same.
    let refused = pass(Payload::Stream(reqwest::Body::from(""))).await;
    assert_eq!(refused, Err(40001));
    assert_eq!(pass(Payload::Whole(Bytes::new())).await, Ok(()));
}

#[tokio::test]
async fn an_account_whose_calls_are_left_unanswered_rests_and_no_other_does() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.alone().await;
    ask(&host, &question()).await.unwrap();
    bed.fault(json!({"kind": "drop", "path_prefix": "/cgi-bin/tags"}));
    let body = r#"{"tag":{"name":"茶"}}"#.to_owned();
    let order = generic(api::Method::Post, "/cgi-bin/tags/create", Vec::new(), body).unwrap();
    let mut made = 0;
    let wait = loop {
        match ask(&host, &order).await {
            Err(CallError::Unreachable | CallError::Broken) => made += 1,
            Err(CallError::Resting { wait }) => break wait,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(received(&bed, "/cgi-bin/tags/create"), made);
    assert!(made < 10, "{made}");
    let account = host.account();
    assert!(wait > Duration::ZERO && host.client.rest_of(&account).is_some());
    let raw = host
        .client
        .raw(&account, raw(Payload::Whole(Bytes::new())), soon());
    assert!(matches!(raw.await, Err(CallError::Resting { .. })));

    // When the rest is over, one call tells that it is well.
    bed.wechat
        .control()
        .ask(Method::DELETE, "/faults", &Value::Null)
        .unwrap();
    until("the end of the rest", || {
        host.client.rest_of(&account).is_none().then_some(())
    })
    .await;
    ask(&host, &order).await.unwrap();
    assert_eq!(host.client.rest_of(&account), None);
}

#[tokio::test]
async fn an_answer_that_repeats_the_token_reaches_nobody() {
    let base = format!("http://{}/wechat", server(br#"{"seen":"t0123"}"#).await);
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.elsewhere(&base, &[]).await;
    let answer = ask(&host, &question()).await;
    assert!(
        matches!(answer, Err(CallError::TokenInAnswer)),
        "{answer:?}"
    );
    let account = host.account();
    let raw = host
        .client
        .raw(&account, raw(Payload::Whole(Bytes::new())), soon());
    assert!(matches!(raw.await, Err(CallError::TokenInAnswer)));
}

/// A server that answers every call but those for tokens with `answer`.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answers = any(move |request: Received| async move {
        if request.uri().path() == "/wechat/cgi-bin/stable_token" {
            return Bytes::from_static(br#"{"access_token":"t0123","expires_in":7200}"#);
        }
        Bytes::from_static(answer)
    });
    let app = Router::new().fallback(answers);
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

#[tokio::test]
async fn numbers_come_back_as_wechat_wrote_them() {
    let answer = br#"{"msg_id":9223372036854775807,"text":"\u8336 ok"}"#;
    let base = format!("http://{}/wechat", server(answer).await);
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.elsewhere(&base, &[]).await;
    assert_eq!(ask(&host, &question()).await.unwrap().as_ref(), answer);
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    static HUGE: [u8; MAX_ANSWER_BYTES + 1] = [b' '; MAX_ANSWER_BYTES + 1];
    let base = format!("http://{}/wechat/", server(&HUGE).await);
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.elsewhere(&base, &[]).await;
    let answer = ask(&host, &question()).await;
    assert!(matches!(answer, Err(CallError::TooLarge)), "{answer:?}");
}

#[tokio::test]
async fn a_backup_takes_over_where_the_base_takes_no_connections() {
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    // Nobody listens there.
    let base = "http://127.0.0.1:1";
    let host = bed.elsewhere(base, &[bed.wechat.url()]).await;
    ask(&host, &question()).await.unwrap();
    let host = bed.elsewhere(base, &[]).await;
    let answer = ask(&host, &question()).await;
    assert!(matches!(answer, Err(CallError::Unreachable)), "{answer:?}");
}

#[tokio::test]
async fn a_file_passes_through_in_a_form_of_known_length() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let answers = any(async |request: Received| {
        if request.uri().path() == "/cgi-bin/stable_token" {
            return String::from(r#"{"access_token":"t0123","expires_in":7200}"#);
        }
        let length: usize = request.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let body = axum::body::to_bytes(request.into_body(), 4096)
            .await
            .unwrap();
        assert_eq!(body.len(), length);
        let text = String::from_utf8_lossy(&body);
        let (_, rest) = text.split_once("\r\n\r\n").unwrap();
        let (file, _) = rest.split_once("\r\n--wxhost-").unwrap();
        assert!(
            text.contains(r#"name="media"; filename="cat.jpg""#),
            "{text}"
        );
        assert!(text.ends_with("--\r\n"), "{text}");
        json!({"type": "image", "media_id": file, "created_at": 1}).to_string()
    });
    let app = Router::new().fallback(answers);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let bed = Bed::new(TokenLine::Stable, 7200).await;
    let host = bed.elsewhere(&base, &[]).await;
    let call = media::Upload {
        kind: media::Kind::Image,
        file: media::File {
            name: "cat.jpg".into(),
            content_type: "image/jpeg".into(),
        },
    };
    let file = |bytes: u64| Upload {
        bytes,
        pieces: stream::iter(["mi", "aow"].map(|piece| io::Result::Ok(Bytes::from(piece)))),
    };
    let send = async |bytes| {
        let account = host.account();
        host.client
            .upload(&account, &call, file(bytes), soon())
            .await
    };
    assert_eq!(send(5).await.unwrap().media_id, "miaow");
    let error = send(11 << 20).await.unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
    // A file of another length than was said does not go out as if it were whole.
    assert!(send(6).await.is_err());
}

#[test]
fn addresses_that_are_none_are_refused() {
    for base in [
        "",
        "api.weixin.qq.com",
        "ftp://a",
        "https://a?b",
        "https://u:p@a",
        "https://",
    ] {
        assert!(Transport::open(base, &[]).is_err(), "{base}");
    }
}
