//! Keys and the audit, as an operator uses them; and uploads that are too large.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::listener::Listener;

fn new_key() -> Value {
    json!({
        "tenant_id": "acme",
        "name": "CRM",
        "app_ids": ["wx01"],
        "grants": ["access-token", "forward:/cgi-bin/user/"],
    })
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_itself_and_revoked() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (status, made) = api.post("/api/v1/keys", &new_key()).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = made["key"].as_str().unwrap();
        assert_eq!(
            made["grants"],
            json!(["access-token", "forward:/cgi-bin/user"])
        );
        assert_eq!(made["rate_per_minute"], 600);
        // In effect at once on this host.
        assert!(api.state.api_keys.find(text).is_some());
        let stored = crate::db::keys::changed_after(&api.state.db, -1)
            .await
            .unwrap();
        assert!(!format!("{stored:?}").contains(text));

        let (_, page) = api.get("/api/v1/keys?tenant=acme").await;
        assert_eq!(page["keys"][0]["id"], made["id"]);
        assert!(!page.to_string().contains(text), "{page}");
        assert_eq!(
            api.get("/api/v1/keys?tenant=other").await.1["keys"],
            json!([])
        );

        let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
        let (status, revoked) = api.call(Method::DELETE, &path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        assert!(revoked["revoked_at"].is_i64(), "{revoked}");
        assert!(api.state.api_keys.find(text).is_none());
    }
}

#[tokio::test]
async fn changes_are_in_the_audit_with_their_request_and_without_secrets() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (_, made) = api.post("/api/v1/keys", &new_key()).await;
        let (_, page) = api.get("/api/v1/audit?actor=admin&limit=1").await;
        let entry = &page["entries"][0];
        assert_eq!(entry["action"], "key.add");
        assert_eq!(entry["object"], made["id"]);
        assert_eq!(entry["result"], "ok");
        assert_eq!(entry["request_id"].as_str().unwrap().len(), 32);
        assert_eq!(page["next"], entry["id"]);
        let (_, all) = api.get("/api/v1/audit").await;
        assert!(!all.to_string().contains(made["key"].as_str().unwrap()));
        let none = api.get("/api/v1/audit?actor=key-1").await;
        assert_eq!(none.1["entries"], json!([]));
    }
}

#[tokio::test]
async fn a_key_that_would_be_wrong_is_refused_by_its_field() {
    let api = Api::with_account(sqlite().await).await;
    for (field, value, status, code, part) in [
        (
            "grants",
            json!(["everything"]),
            400,
            "invalid-field",
            "grants: `everything`",
        ),
        (
            "grants",
            json!(["forward:/a/../b"]),
            400,
            "invalid-field",
            "grants: ",
        ),
        ("grants", json!([]), 400, "invalid-field", "grants: "),
        (
            "grants",
            json!("access-token"),
            422,
            "invalid-body",
            "grants: ",
        ),
        ("app_ids", json!(["wx09"]), 400, "invalid-field", "wx09"),
        (
            "tenant_id",
            json!("nobody"),
            400,
            "invalid-field",
            "tenant_id: ",
        ),
        (
            "rate_per_minute",
            json!(0),
            400,
            "invalid-field",
            "rate_per_minute: ",
        ),
        ("surprise", json!(1), 422, "invalid-body", "`surprise`"),
    ] {
        let mut body = new_key();
        body[field] = value;
        Api::expect(&api.post("/api/v1/keys", &body).await, status, code, part);
    }
    let none = api
        .call(Method::DELETE, "/api/v1/keys/key-none", &Value::Null)
        .await;
    Api::expect(&none, 404, "not-found", "key key-none");
}

/// An oversized upload over a real connection: a host that closed it with bytes unread would take the
/// answer with it.
#[tokio::test]
async fn the_sender_of_an_oversized_upload_hears_that_it_is_too_large() {
    let api = Api::with_account(sqlite().await).await;
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let closing = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(api.router.clone(), closing.clone()));
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
