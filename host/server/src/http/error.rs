//! How the host's own APIs say no: a stable code, a sentence that says what to do, the request's id.
//! The cause goes to the log under the same id, once.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wxhost_runtime::ConfigError;

use crate::{
    client::{CallError, UnfinishedBody},
    db::DbError,
    platform::CsvError,
    plugins::DeployError,
    random,
    seal::SealError,
    settings::ChangeError,
    tokens::TokenError,
};

const REQUEST_ID: &str = "x-request-id";

/// Faults of a table that are shown.
const MAX_FAULTS: usize = 50;

/// When to deploy again while too many uploads wait.
const BUSY_SECONDS: u32 = 10;

/// Holds the code of an error of the host's own: where WeChat's answers are passed on, what has it is
/// not WeChat's.
pub const ERROR_CODE: &str = "x-wxhost-error";

/// A refusal or a failure of the host's own.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Each thing that is wrong with a document.
    faults: Vec<String>,
    /// When it makes sense to ask again.
    retry_after_seconds: Option<u32>,
    /// For the log only.
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable, in kebab-case.
    #[schema(example = "invalid-field")]
    pub code: String,
    /// A sentence that says what to do.
    pub message: String,
    /// Each thing that is wrong with a document: its place and what is wrong there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["/order: is required"]))]
    pub faults: Vec<String>,
    /// Names the request in the host's log.
    pub request_id: String,
}

impl ApiError {
    /// An error without a cause that would be worth logging.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            faults: Vec::new(),
            retry_after_seconds: None,
            cause: None,
        }
    }

    /// Its code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The same, with each thing that is wrong with a document.
    pub fn with_faults(self, faults: Vec<String>) -> Self {
        Self { faults, ..self }
    }

    /// The same, with when it makes sense to ask again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// A field that does not hold what it should.
    pub fn invalid(field: &str, reason: impl std::fmt::Display) -> Self {
        let message = format!("{field}: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "invalid-field", message)
    }

    /// Something that is not there.
    pub fn not_found(what: &str, id: &str) -> Self {
        let message = format!("there is no {what} {id}");
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// No bearer token, or a wrong one.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "give the admin token in the header: Authorization: Bearer <token>",
        )
    }

    fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the host's database cannot be reached now; try again later",
        )
        .caused_by(cause)
    }

    pub(super) fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the host failed; its log tells more under this request id",
        )
        .caused_by(cause)
    }

    fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    fn log(&self, request_id: &str) {
        let code = self.code;
        match &self.cause {
            Some(cause) => tracing::error!(
                request_id,
                code,
                error = &**cause as &dyn std::error::Error,
                "an API request failed"
            ),
            None => tracing::info!(
                request_id,
                code,
                reason = self.message,
                "an API request was refused"
            ),
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) | DbError::Conflict(_) => Self::unavailable(error),
            DbError::InvalidText(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid-text",
                "a text holds a zero character, which cannot be stored",
            ),
            DbError::Duplicate(_) | DbError::MissingReference(_) | DbError::Failed(_) => {
                Self::internal(error)
            }
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        Self::internal(error)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid { field, reason } => Self::invalid(field, reason),
            ChangeError::Exists { .. } => {
                Self::new(StatusCode::CONFLICT, "exists", error.to_string())
            }
            ChangeError::NotFound { what, id } => Self::not_found(what, &id),
            ChangeError::Seal(error) => error.into(),
            ChangeError::Database(error) => error.into(),
        }
    }
}

impl From<CsvError> for ApiError {
    fn from(error: CsvError) -> Self {
        match error {
            CsvError::Change(error) => error.into(),
            CsvError::Faults(faults) => {
                let message = format!(
                    "{} lines of the table can't be taken, so nothing of it was",
                    faults.len()
                );
                let shown = faults.iter().take(MAX_FAULTS);
                let shown = shown.map(|fault| format!("line {}: {}", fault.line, fault.reason));
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-table", message)
                    .with_faults(shown.collect())
            }
        }
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let refused = |code| Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string());
        let busy = |code| {
            let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string());
            busy.retry_after(BUSY_SECONDS)
        };
        match error {
            DeployError::Component(error) if error.is_internal() => Self::internal(error),
            DeployError::Component(ref refusal) if refusal.is_busy() => busy(refusal.code()),
            DeployError::Component(ref refusal) => refused(refusal.code()),
            DeployError::Config(ConfigError::Busy) => busy("compiler-busy"),
            DeployError::Config(ConfigError::Failed(_)) => Self::internal(error),
            DeployError::Config(_) => refused("config-refused"),
            DeployError::Load(error) => Self::internal(error),
            DeployError::Change(error) => error.into(),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let status = match error {
            TokenError::NoSecret
            | TokenError::NoTicket
            | TokenError::AccountBlocked { .. }
            | TokenError::AddressRefused { .. } => StatusCode::CONFLICT,
            TokenError::Refused(_) | TokenError::Unreachable => StatusCode::BAD_GATEWAY,
            TokenError::Deadline => StatusCode::GATEWAY_TIMEOUT,
            TokenError::ForcedLately { .. } => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let status = match error {
            CallError::NoSecret
            | CallError::AccountBlocked { .. }
            | CallError::AddressRefused { .. } => StatusCode::CONFLICT,
            CallError::Timeout | CallError::TokenTimeout => StatusCode::GATEWAY_TIMEOUT,
            CallError::Refused(_)
            | CallError::Unreachable
            | CallError::Broken
            | CallError::TooLarge
            | CallError::TokenInAnswer
            | CallError::Answer(_) => StatusCode::BAD_GATEWAY,
            CallError::Body(UnfinishedBody::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            CallError::Body(UnfinishedBody::Lost) | CallError::Invalid(_) => {
                StatusCode::BAD_REQUEST
            }
            CallError::Resting { wait } => {
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Self::new(status, error.code(), error.to_string())
                    .retry_after(seconds.saturating_add(1));
            }
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "body-too-large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "not-json",
            _ => "invalid-body",
        };
        Self::new(rejection.status(), code, rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    /// Leaves the body to [`identify`], which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after_seconds {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
            .headers_mut()
            .insert(ERROR_CODE, HeaderValue::from_static(self.code));
        response.extensions_mut().insert(self);
        response
    }
}

/// The id of a request, as it is in the log and in the answer's `x-request-id`.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Middleware: gives every request an id, and every error its body and its line in the log.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let request_id: Arc<str> = random::unique_name().into();
    let id = RequestId(Arc::clone(&request_id));
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        error.log(&request_id);
        let body = ErrorBody {
            error: ErrorDetail {
                code: error.code.to_owned(),
                message: error.message,
                faults: error.faults,
                request_id: request_id.to_string(),
            },
        };
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let (json, body) = Json(body).into_response().into_parts();
        parts.headers.extend(json.headers);
        response = Response::from_parts(parts, body);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
