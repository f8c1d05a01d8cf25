//! `GET|POST /callback/{app_id}`: where WeChat's servers call.
//!
//! What is not authentic is refused before anything runs, and all refusals look alike from outside but
//! for their code. A failure of a plugin is never a failure here: WeChat gets `success`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use wxhost_wechat::body::MAX_BODY_BYTES;
use wxhost_wechat::envelope::{
    self, Authentic, CallbackQuery, Format, KeySlot, OpenError, Receiver, Refusal,
};
use wxhost_wechat::reply;

use super::strangers::Stranger;
use super::{CallbackLane, Delivery, Reception, Unreadable};
use crate::accounts::Account;
use crate::http::body::{self, Limits, ReadBody, ReadBudget, ReadError};
use crate::http::router::Routes;
use crate::random;
use crate::telemetry::Metrics;

/// A body that takes longer than 5 s would not be answered: WeChat would have hung up by then.
pub(super) const BODY_LIMITS: Limits = Limits {
    bytes: MAX_BODY_BYTES,
    time: Duration::from_secs(5),
    discarded_bytes: 4 * MAX_BODY_BYTES,
    discard_time: Duration::from_secs(1),
};

/// Bytes of large bodies that are held at the same time. Their senders may be anybody: in safe mode the
/// signature that counts is over the body.
const BODIES_BYTES: usize = 64 << 20;

/// Where a callback is delivered, but for the account's id.
const PREFIX: &str = "/callback/";

/// Where callbacks of an account come to that a third-party platform serves.
const PLATFORM_ROUTE: &str = "/component/{platform}/callback/{app_id}";

/// Room for the bodies that are read at the same time.
pub(super) fn read_budget() -> ReadBudget {
    ReadBudget::new(BODIES_BYTES)
}

/// The lane's addresses. A delivery goes straight to its lane, without the router's detours.
pub(super) fn routes(lane: &Arc<CallbackLane>) -> Routes {
    let router = Router::new()
        .route(&format!("{PREFIX}{{app_id}}"), get(verify).post(receive))
        .route(PLATFORM_ROUTE, post(receive_by_platform))
        .with_state(Arc::clone(lane));
    let lane = Arc::clone(lane);
    Routes::from(router).direct(
        |path| Door::of(path).is_some(),
        move |request| {
            let lane = Arc::clone(&lane);
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                match Door::of(&path) {
                    Some(door) => deliver(&lane, door, request).await,
                    None => StatusCode::NOT_FOUND.into_response(),
                }
            })
        },
    )
}

/// The address that a callback comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Door<'a> {
    app_id: &'a str,
    /// The platform whose address it is; the account's own without one.
    platform: Option<&'a str>,
}

impl<'a> Door<'a> {
    /// The door of a path in which nothing is escaped.
    fn of(path: &'a str) -> Option<Self> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(is_letter);
        if let Some(app_id) = path.strip_prefix(PREFIX) {
            return is_word(app_id).then_some(Self::own(app_id));
        }
        let (platform, rest) = path.strip_prefix("/component/")?.split_once('/')?;
        let app_id = rest.strip_prefix("callback/")?;
        (is_word(platform) && is_word(app_id)).then_some(Self {
            app_id,
            platform: Some(platform),
        })
    }

    fn own(app_id: &'a str) -> Self {
        Self {
            app_id,
            platform: None,
        }
    }

    /// What opens the callbacks of an account that come here; nothing if none may.
    fn receiver<'r>(&self, account: &'r Account) -> Option<&'r Receiver> {
        let Some(platform) = self.platform else {
            return Some(&account.callbacks.receiver);
        };
        let authorisation = account.authorisation.as_ref()?;
        let is_its = authorisation.platform.app_id.as_str() == platform;
        is_its.then_some(&authorisation.receiver)
    }
}

/// How a callback ended here.
pub(super) struct Ending {
    status: StatusCode,
    code: &'static str,
    body: String,
    format: Option<Format>,
}

impl Ending {
    pub(super) fn refused(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            code,
            body: code.to_owned(),
            format: None,
        }
    }

    fn replayed() -> Self {
        Self::refused(StatusCode::FORBIDDEN, "replayed-nonce")
    }

    fn unreadable() -> Self {
        Self {
            code: "unreadable",
            ..Self::success()
        }
    }

    pub(super) fn success() -> Self {
        Self {
            status: StatusCode::OK,
            code: "ok",
            body: "success".to_owned(),
            format: None,
        }
    }
}

impl From<OpenError> for Ending {
    fn from(error: OpenError) -> Self {
        let status = match error.class() {
            Refusal::Acknowledged => return Self::unreadable(),
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::Malformed => StatusCode::BAD_REQUEST,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::refused(status, error.code())
    }
}

/// URL verification: WeChat asks when the address is saved.
async fn verify(
    State(lane): State<Arc<CallbackLane>>,
    Path(app_id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let ending = verify_url(&lane, &app_id, query.as_deref().unwrap_or_default());
    respond(&lane, &app_id, ending)
}

/// A message or an event.
async fn receive(
    State(lane): State<Arc<CallbackLane>>,
    Path(app_id): Path<String>,
    request: Request,
) -> Response {
    deliver(&lane, Door::own(&app_id), request).await
}

/// The same, of an account that a platform serves.
async fn receive_by_platform(
    State(lane): State<Arc<CallbackLane>>,
    Path((platform, app_id)): Path<(String, String)>,
    request: Request,
) -> Response {
    let door = Door {
        app_id: &app_id,
        platform: Some(&platform),
    };
    deliver(&lane, door, request).await
}

/// The same, for a request whose path was read before.
async fn deliver(lane: &Arc<CallbackLane>, door: Door<'_>, request: Request) -> Response {
    let _under_way = UnderWay::begin(&lane.services.metrics);
    let started = std::time::Instant::now();
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let ending = match answer(lane, door, query, &parts.headers, body).await {
        Ok(ending) | Err(ending) => ending,
    };
    lane.services
        .metrics
        .callback_seconds
        .observe(started.elapsed().as_secs_f64());
    respond(lane, door.app_id, ending)
}

fn verify_url(lane: &CallbackLane, app_id: &str, query: &str) -> Ending {
    let query = CallbackQuery::parse(query);
    let now = lane.services.clock.now_seconds();
    let account = lane
        .services
        .accounts
        .get(app_id)
        .filter(|account| account.is_active());
    let receiver = match &account {
        Some(account) => &account.callbacks.receiver,
        None => lane.services.accounts.decoy(),
    };
    match envelope::verify_url(receiver, &query, now) {
        _ if account.is_none() => unknown_account(),
        Ok(echostr) => Ending {
            body: echostr.to_owned(),
            ..Ending::success()
        },
        // On a GET, what is missing is a malformed question rather than a forgery.
        Err(error @ OpenError::MissingParameter(_)) => {
            Ending::refused(StatusCode::BAD_REQUEST, error.code())
        }
        Err(error) => error.into(),
    }
}

async fn answer(
    lane: &Arc<CallbackLane>,
    door: Door<'_>,
    query: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Ending, Ending> {
    let query = CallbackQuery::parse(query);
    let now = lane.services.clock.now_seconds();
    let account = lane.services.accounts.get(door.app_id);
    let account = account.filter(|account| account.is_active() && door.receiver(account).is_some());
    let receiver = match (&account, door.platform) {
        (Some(account), _) => door.receiver(account),
        (None, Some(platform)) => {
            let stranger = Stranger {
                platform,
                app_id: door.app_id,
                query: &query,
            };
            return stranger.answer(lane, headers, body).await;
        }
        (None, None) => None,
    };
    // As much work as for an account with a wrong signature, so that the time tells nothing.
    let receiver = receiver.unwrap_or_else(|| lane.services.accounts.decoy());
    if let Err(error) = envelope::check_query(receiver, &query, now) {
        body::let_go(body, BODY_LIMITS).await;
        return Err(match account {
            Some(_) => error.into(),
            None => unknown_account(),
        });
    }
    let body = read(&lane.bodies, body, headers).await?;
    let opened = envelope::authenticate(receiver, &query, &body, now);
    let account = account.as_ref().ok_or_else(unknown_account)?;
    run(lane, account, receiver, (&query, opened?, headers)).await
}

/// Runs what an authentic callback tells, and seals the reply.
pub(super) async fn run(
    lane: &Arc<CallbackLane>,
    account: &Arc<Account>,
    receiver: &Receiver,
    (query, opened, headers): (&CallbackQuery<'_>, Authentic, &HeaderMap),
) -> Result<Ending, Ending> {
    let trace_id = trace_id(headers);
    let message = match opened.read(receiver) {
        Ok(message) => message,
        Err(OpenError::Unreadable(reason)) => {
            let unreadable = Unreadable {
                account: Arc::clone(account),
                query,
                opened,
                reason,
                trace_id,
            };
            return Ok(match lane.note_unreadable(unreadable) {
                Reception::Replayed => Ending::replayed(),
                _ => Ending::unreadable(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let sealing = (opened.format, opened.sealing);
    let sender = message.from_user.clone();
    let delivery = Delivery::new(Arc::clone(account), query, opened, message, trace_id);
    let reception = lane.receive(delivery).await;
    Ok(match reception {
        Reception::Answered(answer) if answer.is_nothing() => Ending::success(),
        Reception::Answered(answer) if !reply::is_for(answer.as_str(), &sender) => {
            misaddressed(account)
        }
        Reception::Answered(answer) => {
            let now = lane.services.clock.now_seconds();
            reply(receiver, query, sealing, answer.as_str(), now)
        }
        Reception::StillRunning => {
            Ending::refused(StatusCode::SERVICE_UNAVAILABLE, "still-running")
        }
        Reception::Unavailable => Ending::refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Reception::Replayed => Ending::replayed(),
    })
}

/// The whole body, unless it is too large (or says that it will be) or too slow.
pub(super) async fn read(
    budget: &ReadBudget,
    body: Body,
    headers: &HeaderMap,
) -> Result<ReadBody, Ending> {
    body::read_within(budget, body, headers, BODY_LIMITS)
        .await
        .map_err(|error| match error {
            ReadError::TooLarge | ReadError::Lost => {
                Ending::refused(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large")
            }
            ReadError::TooSlow => Ending::refused(StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
            ReadError::Busy => Ending::refused(StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        })
}

pub(super) fn reply(
    receiver: &Receiver,
    query: &CallbackQuery<'_>,
    (format, sealing): (Format, Option<KeySlot>),
    answer: &str,
    now: i64,
) -> Ending {
    let body = match sealing {
        None => answer.to_owned(),
        Some(slot) => {
            let nonce = query.nonce.as_deref().unwrap_or_default();
            let timestamp = now.to_string();
            let random = random::sixteen();
            envelope::seal(receiver, slot, format, answer, &timestamp, nonce, random)
        }
    };
    Ending {
        body,
        format: Some(format),
        ..Ending::success()
    }
}

/// What was answered is another contact's: nobody sees it.
fn misaddressed(account: &Account) -> Ending {
    tracing::error!(
        account.app_id = %account.app_id,
        "an answer was kept back: it is addressed to another contact than the one who wrote"
    );
    Ending {
        code: "misaddressed",
        ..Ending::success()
    }
}

pub(super) fn unknown_account() -> Ending {
    Ending::refused(StatusCode::NOT_FOUND, "unknown-account")
}

/// Counts, logs once, answers.
fn respond(lane: &CallbackLane, app_id: &str, ending: Ending) -> Response {
    lane.services
        .metrics
        .count_callback(ending.status.as_u16(), ending.code);
    if ending.status != StatusCode::OK {
        // The id is the caller's text: cut, and printed with escapes.
        let app_id: String = app_id.chars().take(64).collect();
        tracing::info!(
            account.app_id = ?app_id,
            status = ending.status.as_u16(),
            code = ending.code,
            "a callback was refused"
        );
    }
    let content_type = match ending.format {
        None => "text/plain; charset=utf-8",
        Some(Format::Xml) => "text/xml; charset=utf-8",
        Some(Format::Json) => "application/json",
    };
    (
        ending.status,
        [(header::CONTENT_TYPE, content_type)],
        ending.body,
    )
        .into_response()
}

/// The trace of a W3C `traceparent` header (a proxy in front may set one), else a new one.
fn trace_id(headers: &HeaderMap) -> String {
    let given = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split('-').nth(1))
        .filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match given {
        Some(id) => id.to_ascii_lowercase(),
        None => random::unique_name(),
    }
}

/// Counts a callback as under way until it is dropped, also when its connection goes first.
struct UnderWay<'a>(&'a Metrics);

impl<'a> UnderWay<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.under_way.inc();
        Self(metrics)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_take_the_short_way() {
        let door = |app_id, platform| Some(Door { app_id, platform });
        for (path, expected) in [
            ("/callback/wx01", door("wx01", None)),
            ("/callback/gh_a-1", door("gh_a-1", None)),
            ("/callback/wx%30", None),
            ("/callback/", None),
            ("/callback/wx01/", None),
            ("/component/wx0c/callback/wx01", door("wx01", Some("wx0c"))),
            ("/component/wx0c/callback/", None),
            ("/component/wx%30/callback/wx01", None),
            ("/component/wx0c/events", None),
            ("/api/v1/tenants", None),
        ] {
            assert_eq!(Door::of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_proxys_trace_is_followed_and_nonsense_is_not() {
        let check = |value: &str, followed: bool| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().expect("a header"));
            assert_eq!(
                trace_id(&headers) == "4bf92f3577b34da6a3ce929d0e0e4736",
                followed,
                "{value}"
            );
        };
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            true,
        );
        check(
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            true,
        );
        check("00-4bf92f3577b34da6-00f067aa0ba902b7-01", false);
        check(
            "00-4bf92f3577b34da6a3ce929d0e0e473'-00f067aa0ba902b7-01",
            false,
        );
    }
}
