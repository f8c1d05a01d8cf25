//! What the lane is measured against: the same verify, parse and answer in a plain axum handler. No
//! plugin, no dedupe, no records, no database. A process of its own, as the host is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use wxhost_wechat::envelope::{self, CallbackQuery, Receiver};
use wxhost_wechat::message::Content;
use wxhost_wechat::reply::{Addressing, NO_REPLY, Reply};

use crate::settings;

type Accounts = Arc<HashMap<String, Receiver>>;

/// Serves until the process is ended.
pub(crate) fn serve(port: u16, accounts: &Path) -> Result<()> {
    let accounts: HashMap<String, Receiver> = settings::read_receivers(accounts)?
        .into_iter()
        .map(|receiver| (receiver.app_id().to_string(), receiver))
        .collect();
    let router = Router::new()
        .route("/callback/{app_id}", post(answer))
        .with_state(Arc::new(accounts));
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(listener, router).await?)
    })
}

async fn answer(
    State(accounts): State<Accounts>,
    extract::Path(app_id): extract::Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    let query = CallbackQuery::parse(&query);
    let now = now_unix();
    let Some(receiver) = accounts.get(&app_id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(opened) = envelope::open(receiver, &query, &body, now) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let message = &opened.message;
    let Content::Text(text) = &message.content else {
        return NO_REPLY.into_response();
    };
    let reply = Reply::Text(settings::answer(&text.content));
    let addressing = Addressing {
        to: &message.from_user,
        from: &message.to_user,
        create_time: now.unsigned_abs(),
    };
    let Ok(reply) = reply.to_xml(&addressing, Some(&message.content)) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let reply = match opened.sealing {
        None => reply,
        Some(slot) => {
            let mut random = [0; 16];
            if getrandom::fill(&mut random).is_err() {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            let nonce = query.nonce.as_deref().unwrap_or_default();
            envelope::seal(
                receiver,
                slot,
                opened.format,
                &reply,
                &now.to_string(),
                nonce,
                random,
            )
        }
    };
    ([(CONTENT_TYPE, "text/xml; charset=utf-8")], reply).into_response()
}

fn now_unix() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "it stands for a program that is not ours"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed())
}
