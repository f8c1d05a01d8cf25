//! Bodies that are too large, or not what they should be.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::listener::{ConnectionLimits, Listener};

#[tokio::test]
async fn a_body_that_is_not_json_is_told() {
    let api = Api::on(sqlite().await).await;
    for (content_type, body, status, code) in [
        ("text/plain", "{}", 415, "not-json"),
        ("application/json", "{", 400, "invalid-body"),
    ] {
        let request = Request::post("/api/v1/tenants")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .unwrap();
        Api::expect(&api.send(request).await, status, code, "");
    }
}

#[tokio::test]
async fn a_zero_character_is_no_failure_of_the_host() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        for path in [
            "/api/v1/accounts/wx%00",
            "/api/v1/accounts?tenant=%00",
            "/api/v1/calls/%00",
        ] {
            let (status, answer) = api.get(path).await;
            assert!(status.as_u16() < 500, "{path}: {answer}");
        }
        let change = json!({"fallback_text": "a\0b"});
        let (status, answer) = api
            .call(Method::PATCH, "/api/v1/accounts/wx01", &change)
            .await;
        assert!(status.as_u16() < 500, "{answer}");
    }
}

/// An oversized upload over a real connection: a host that closed it with bytes unread would take the
/// answer with it.
#[tokio::test]
async fn the_sender_of_an_oversized_upload_hears_that_it_is_too_large() {
    let api = Api::with_account(sqlite().await).await;
    let limits = ConnectionLimits {
        all: 8,
        per_peer: 8,
    };
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), limits).unwrap();
    let address = listener.local_addr().unwrap();
    let closing = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(api.router.clone().into(), closing.clone()));
    for announced in [true, false] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = MAX_DEPLOYMENT_BYTES + (1 << 20);
        let framing = if announced {
            format!("Content-Length: {length}")
        } else {
            "Transfer-Encoding: chunked".to_owned()
        };
        let head = format!(
            "POST /api/v1/accounts/wx01/deployments HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {TOKEN}\r\n{framing}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let block = vec![b' '; 1 << 20];
        for _ in 0..length / block.len() {
            if !announced {
                stream.write_all(b"100000\r\n").await.unwrap();
            }
            stream.write_all(&block).await.unwrap();
            if !announced {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !announced {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("body-too-large"), "{answer}");
    }
    closing.cancel();
    serving.await.unwrap();
}
