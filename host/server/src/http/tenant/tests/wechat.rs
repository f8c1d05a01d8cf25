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
use tokio::net::TcpListener;

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
        "/quota" => Json(json!({"errcode": 45009, "errmsg": "quota"})).into_response(),
        _ => (
            [("content-type", "application/json; encoding=utf-8")],
            r#"{"errcode":0,"errmsg":"ok","msgid":9007199254740993}"#,
        )
            .into_response(),
    }
}

fn is_refused(memory: &Memory, query: &str) -> bool {
    let refused = memory.refused.load(Ordering::SeqCst);
    let number = query
        .split("access_token=real-token-")
        .nth(1)
        .and_then(|rest| rest.split('&').next()?.parse::<u32>().ok());
    number.is_none_or(|number| number <= refused)
}
