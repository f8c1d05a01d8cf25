//! `POST /component/{component_app_id}/events`: a platform's event URL (授权事件接收URL).
//!
//! What is not authentic is refused alike, whoever it is for. What is, is durable before it is answered
//! `success`; what can't be kept now is answered 503, and WeChat tells it again.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use wxhost_wechat::body::MAX_BODY_BYTES;
use wxhost_wechat::component::Event;
use wxhost_wechat::envelope::{self, CallbackQuery, OpenError, Refusal};

use super::ComponentState;
use crate::http::body::{self, Limits, ReadError};

/// WeChat waits five seconds.
const BODY_LIMITS: Limits = Limits {
    bytes: MAX_BODY_BYTES,
    time: Duration::from_secs(5),
    discarded_bytes: 4 * MAX_BODY_BYTES,
    discard_time: Duration::from_secs(1),
};

type Ending = (StatusCode, &'static str);

/// Takes what WeChat tells a platform.
pub(super) async fn receive(
    State(state): State<ComponentState>,
    Path(platform): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let (status, text) = match take(&state, (&platform, query), &parts.headers, body).await {
        Ok(()) => (StatusCode::OK, "success"),
        Err(ending) => ending,
    };
    if status != StatusCode::OK {
        tracing::debug!(
            platform.app_id = platform,
            code = text,
            "an event of a platform is refused"
        );
    }
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, plain, text).into_response()
}

async fn take(
    state: &ComponentState,
    (platform, query): (&str, &str),
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Ending> {
    let services = state.lane.services();
    let query = CallbackQuery::parse(query);
    let now = services.clock.now_seconds();
    let known = services.accounts.platform(platform);
    let known = known.filter(|platform| platform.is_active());
    let receiver = match &known {
        Some(platform) => &platform.receiver,
        // As much work as for a platform with a wrong signature, so that the time tells nothing.
        None => services.accounts.decoy(),
    };
    if let Err(error) = envelope::check_query(receiver, &query, now) {
        body::let_go(body, BODY_LIMITS).await;
        return Err(match known {
            Some(_) => ending_of(&error),
            None => unknown(),
        });
    }
    let read = body::read_within(&state.bodies, body, headers, BODY_LIMITS).await;
    let body = read.map_err(|error| match error {
        ReadError::TooLarge | ReadError::Lost => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
        ReadError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
        ReadError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
    })?;
    let opened = envelope::authenticate(receiver, &query, &body, now);
    let platform = known.ok_or_else(unknown)?;
    let opened = opened.map_err(|error| ending_of(&error))?;
    let event = match Event::read(&opened.clear) {
        Ok(event) if event.component_app_id == platform.app_id => event,
        Ok(_) => return Err((StatusCode::FORBIDDEN, "foreign-app-id")),
        Err(error) => {
            // WeChat would only tell the same again.
            tracing::error!(
                platform.app_id = %platform.app_id,
                error = %error,
                "what WeChat tells a platform can't be read; it is acknowledged all the same"
            );
            return Ok(());
        }
    };
    let kept = state.lane.keep(&platform, &event, &opened.clear).await;
    kept.map_err(|error| {
        tracing::error!(
            platform.app_id = %platform.app_id,
            platform.event = event.told.kind(),
            error = &error as &dyn std::error::Error,
            "what WeChat tells a platform can't be kept now"
        );
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    })
}

fn unknown() -> Ending {
    (StatusCode::FORBIDDEN, OpenError::BadSignature.code())
}

fn ending_of(error: &OpenError) -> Ending {
    let status = match error.class() {
        Refusal::Acknowledged | Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    (status, error.code())
}
