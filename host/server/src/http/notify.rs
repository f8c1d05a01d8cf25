//! `POST /notify/{app_id}/{mch_id}`: where WeChat Pay tells of money; `POST /notify/shared` for merchants whose older
//! system had one address for all.
//!
//! A notice is acknowledged once it is kept with all that follows. What is not WeChat Pay's is refused, and what can't
//! be kept now is answered 503: WeChat Pay tells it again, up to fifteen times.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::body::{self, Limits, ReadBudget, ReadError};
use crate::merchant_client::signed;
use crate::pay::{NoticeAddress, NoticeError, PayLane};

/// Bytes of a notice: WeChat Pay's have some 4 KiB; a combined order of fifty has twenty times that.
const MAX_BYTES: usize = 256 << 10;

/// WeChat Pay waits five seconds.
const BODY_LIMITS: Limits = Limits {
    bytes: MAX_BYTES,
    time: Duration::from_secs(4),
    discarded_bytes: 4 * MAX_BYTES,
    discard_time: Duration::from_secs(1),
};

/// Bytes of all notices that are being read.
const BODIES_BYTES: usize = 64 << 20;

#[derive(Clone)]
struct NotifyState {
    lane: Arc<PayLane>,
    bodies: ReadBudget,
}

/// The routes, on the listener that WeChat Pay reaches.
pub fn routes(lane: Arc<PayLane>) -> Router {
    Router::new()
        .route("/notify/shared", post(take_shared))
        .route("/notify/{app_id}/{mch_id}", post(take_own))
        .with_state(NotifyState {
            lane,
            bodies: ReadBudget::new(BODIES_BYTES),
        })
}

async fn take_own(
    State(state): State<NotifyState>,
    Path((app_id, mch_id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let address = NoticeAddress::Own {
        app_id: &app_id,
        mch_id: &mch_id,
    };
    take(&state, address, request).await
}

async fn take_shared(State(state): State<NotifyState>, request: Request) -> Response {
    take(&state, NoticeAddress::Shared, request).await
}

async fn take(state: &NotifyState, address: NoticeAddress<'_>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let read = body::read_within(&state.bodies, body, &parts.headers, BODY_LIMITS).await;
    let body = match read {
        Ok(body) => body,
        Err(error) => {
            return failed(match error {
                ReadError::TooLarge | ReadError::Lost => {
                    (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large")
                }
                ReadError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
                ReadError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            });
        }
    };
    match state
        .lane
        .take(address, (signed(&parts.headers), &body))
        .await
    {
        Ok(_) => answer(StatusCode::OK, "SUCCESS", "成功"),
        Err(error) => {
            let status = status_of(&error);
            match status.is_server_error() {
                true => tracing::error!(error = %error, "a notice of wechat pay can't be kept now"),
                false => tracing::warn!(error = %error, code = error.code(), "a notice is refused"),
            }
            failed((status, error.code()))
        }
    }
}

fn status_of(error: &NoticeError) -> StatusCode {
    match error {
        NoticeError::Address | NoticeError::Account => StatusCode::NOT_FOUND,
        NoticeError::Signature(_) => StatusCode::UNAUTHORIZED,
        NoticeError::Unreadable(_) => StatusCode::BAD_REQUEST,
        NoticeError::Seal(_) | NoticeError::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn failed((status, code): (StatusCode, &str)) -> Response {
    answer(status, "FAIL", code)
}

/// In the form that WeChat Pay's documents show; it looks at the status only.
fn answer(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "code": code, "message": message });
    let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, json, body.to_string()).into_response()
}
