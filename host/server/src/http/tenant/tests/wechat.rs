//! A WeChat on a real port that answers as the tests want and keeps what it was sent.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A WeChat of which the first token is refused with these very bytes, head and body.
pub(super) async fn refusing_with(refusal: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut tokens = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = head(&mut stream).await;
            let answer = if head.starts_with("POST /cgi-bin/stable_token") {
                tokens += 1;
                json_over_http(&format!(
                    r#"{{"access_token":"real-token-{tokens}","expires_in":7200}}"#
                ))
            } else if head.contains("access_token=real-token-1") {
                refusal.to_vec()
            } else {
                json_over_http(r#"{"errcode":0,"errmsg":"ok"}"#)
            };
            // The client may have gone away.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    base
}

/// The head of a request; its body is read and dropped.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    // A request that breaks off has no body.
    let _ = stream.read_exact(&mut body).await;
    text
}

fn json_over_http(json: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{json}",
        json.len()
    )
    .into_bytes()
}

/// A request that it was sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

#[derive(Default)]
struct Memory {
    seen: Mutex<Vec<Seen>>,
    /// The number of the newest token.
    tokens: AtomicU32,
    /// Tokens up to this number are refused.
    refused: AtomicU32,
}

pub(super) struct WeChat {
    pub(super) base: String,
    memory: Arc<Memory>,
}

impl WeChat {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let memory = Arc::new(Memory::default());
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&memory));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, memory }
    }

    /// What it was sent, but for the fetching of tokens and tickets.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let mut seen = self.memory.seen.lock().clone();
        seen.retain(|seen| {
            !seen.uri.path().ends_with("token") && !seen.uri.path().contains("getticket")
        });
        seen
    }

    /// Refuses every token that it has given out so far.
    pub(super) fn refuse_tokens(&self) {
        let newest = self.memory.tokens.load(Ordering::SeqCst);
        self.memory.refused.store(newest, Ordering::SeqCst);
    }
}

async fn answer(State(memory): State<Arc<Memory>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 27).await.unwrap();
    let seen = Seen {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body: body.clone(),
    };
    memory.seen.lock().push(seen.clone());
    let query = seen.uri.query().unwrap_or_default();
    match seen.uri.path() {
        "/cgi-bin/stable_token" => {
            let number = memory.tokens.fetch_add(1, Ordering::SeqCst) + 1;
            let token = format!("real-token-{number}");
            Json(json!({"access_token": token, "expires_in": 7200})).into_response()
        }
        _ if is_refused(&memory, query) => Json(json!({
            "errcode": 40001,
            "errmsg": "invalid credential, access_token is invalid or not latest rid: 1-2-3",
        }))
        .into_response(),
        "/cgi-bin/ticket/getticket" => Json(json!({
            "errcode": 0, "errmsg": "ok", "ticket": "real-ticket-1", "expires_in": 7200,
        }))
        .into_response(),
        "/odd" => (
            StatusCode::IM_A_TEAPOT,
            [
                ("x-odd", "1"),
                ("x-wxhost-error", "forged"),
                ("keep-alive", "timeout=9"),
                ("content-type", "image/jpeg"),
            ],
            Body::from(vec![0xff; 100_000]),
        )
            .into_response(),
        "/redirect" => (
            StatusCode::FOUND,
            [("location", format!("https://elsewhere.example/?{query}"))],
        )
            .into_response(),
        "/echo" => (
            [
                ("content-type", "text/html"),
                ("x-debug", "1"),
                ("cache-control", &*format!("no-cache, {query}")),
            ],
            pieces(&seen.uri.to_string()),
        )
            .into_response(),
        "/gzip" => ([("content-encoding", "gzip")], "no gzip at all").into_response(),
        "/quota" => Json(json!({"errcode": 45009, "errmsg": "quota"})).into_response(),
        _ => (
            [("content-type", "application/json; encoding=utf-8")],
            r#"{"errcode":0,"errmsg":"ok","msgid":9007199254740993}"#,
        )
            .into_response(),
    }
}

/// A long page that comes in pieces of seven bytes and repeats `text` at its end.
fn pieces(text: &str) -> Body {
    let page = format!("<html>{}{text}</html>", "x".repeat(8000));
    let pieces: Vec<_> = page
        .as_bytes()
        .chunks(7)
        .map(|piece| std::io::Result::Ok(Bytes::copy_from_slice(piece)))
        .collect();
    Body::from_stream(futures::stream::iter(pieces))
}

fn is_refused(memory: &Memory, query: &str) -> bool {
    let refused = memory.refused.load(Ordering::SeqCst);
    let number = query
        .split("access_token=real-token-")
        .nth(1)
        .and_then(|rest| rest.split('&').next()?.parse::<u32>().ok());
    number.is_none_or(|number| number <= refused)
}
