//! Paths, queries and JSON bodies of the host's own APIs, with refusals that name the field.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;

use super::{
    body::{self, Limits, ReadBudget, ReadError},
    error::ApiError,
};
use crate::digest::sha256_hex;

/// Bytes of a body, where a route does not say.
const MAX_BODY_BYTES: usize = 64 << 10;

/// How long a body may take to arrive: a large component over a slow line.
const BODY_TIME: Duration = Duration::from_secs(120);

/// How long the rest of a refused body may take, and how much of it is read beside what would have been
/// taken. Who sends it is known by then.
const DISCARD_TIME: Duration = Duration::from_secs(30);
const DISCARDED_BYTES: usize = 256 << 20;

/// Bytes of a JSON body that a route takes.
#[derive(Clone, Copy, Debug)]
struct MaxBody(usize);

/// Lets the routes of a router take JSON bodies of so many bytes.
pub(super) fn max_body<S: Clone + Send + Sync + 'static>(
    router: OpenApiRouter<S>,
    bytes: usize,
) -> OpenApiRouter<S> {
    router
        .layer(Extension(MaxBody(bytes)))
        .layer(DefaultBodyLimit::max(bytes))
}

/// Lets the JSON bodies of a router's routes have so many bytes together while they are read.
pub(super) fn read_budget<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    bytes: usize,
) -> Router<S> {
    router.layer(Extension(ReadBudget::new(bytes)))
}

/// SHA-256 of nothing, in hex.
pub(super) const EMPTY_DIGEST: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// SHA-256 that the body of a request must have, in hex: it was signed.
#[derive(Clone, Debug)]
pub(super) struct BodyDigest(pub(super) String);

/// A JSON body.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let most = parts.extensions.get::<MaxBody>();
        let limits = Limits {
            bytes: most.map_or(MAX_BODY_BYTES, |most| most.0),
            time: BODY_TIME,
            discarded_bytes: DISCARDED_BYTES,
            discard_time: DISCARD_TIME,
        };
        let headers = &parts.headers;
        let whole = match parts.extensions.get::<ReadBudget>() {
            Some(budget) => body::read_within(budget, body, headers, limits).await,
            None => body::read(body, headers, limits).await.map(Into::into),
        };
        let whole = whole.map_err(|error| refusal(error, limits.bytes))?;
        let bytes = whole.share();
        if let Some(BodyDigest(signed)) = parts.extensions.get()
            && !signed.eq_ignore_ascii_case(&sha256_hex(&bytes))
        {
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "signature-refused",
                "the body's SHA-256 is not the one that was signed",
            ));
        }
        // Its room is kept while it is read as JSON.
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(body) = Json::<T>::from_request(request, state).await?;
        drop(whole);
        Ok(Self(body))
    }
}

fn refusal(error: ReadError, most: usize) -> ApiError {
    match error {
        ReadError::TooLarge => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body has more than {most} bytes"),
        ),
        ReadError::TooSlow => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            error.to_string(),
        ),
        ReadError::Busy => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            error.to_string(),
        )
        .retry_after(1),
        ReadError::Lost => {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid-body", error.to_string())
        }
    }
}

/// The path's parameters.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(ApiError::invalid("path", rejection.body_text())),
        }
    }
}

/// The query's parameters.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(ApiError::invalid("query", rejection.body_text())),
        }
    }
}
