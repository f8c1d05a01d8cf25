//! One request from its arrival to its answer: faults, the call itself, and the record of both.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;

use crate::api::arrival::Arrival;
use crate::api::fault::{Fault, FaultKind};
use crate::api::pay;
use crate::api::record::Record;
use crate::api::refusal::Refusal;
use crate::api::world::{self, Caller, Sent, World};
use crate::api::{component_doors, control, login_doors};

/// Bytes that a body may have: the largest media (10 MB) and the form around it.
const MAX_BODY_BYTES: usize = 12 << 20;
/// What a proxy says when nobody behind it answers.
const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
     <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

/// The connection is to break without an answer.
#[derive(Debug, thiserror::Error)]
#[error("told to drop the connection")]
pub(crate) struct Dropped;

impl From<Infallible> for Dropped {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Answers a request, to the API or to the control surface.
pub(crate) async fn answer(
    world: Arc<Mutex<World>>,
    peer: IpAddr,
    request: Request<Body>,
) -> Result<Response<Body>, Dropped> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY_BYTES).await else {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Ok(page(status, "<html><title>413</title></html>"));
    };
    let arrival = Arrival::new(&parts.method, &parts.uri, &parts.headers, body, peer);
    if let Some(response) = component_doors::answer(&world, &arrival).await {
        return Ok(response);
    }
    if let Some(response) = login_doors::answer(&world, &arrival) {
        return Ok(response);
    }
    if control::owns(&arrival.path) {
        let answer = control::answer(&world, &arrival).await;
        pay::start(&world);
        return Ok(answer);
    }
    if pay::owns(&arrival.path) {
        let headers = pay::Headers::of(&parts.headers, &parts.uri);
        return answer_pay(&world, &headers, &arrival).await;
    }
    let caller = world.lock().caller(&arrival);
    let fault = {
        let app_id = caller.app_id.as_ref().map(|id| id.as_str());
        world.lock().faults.take(app_id, &arrival.path)
    };
    let Some(fault) = fault else {
        return Ok(sent(carry_out(&world, &arrival, &caller, None)));
    };
    if fault.delays_call() {
        tokio::time::sleep(fault.delay()).await;
    }
    let answer = carry_out(&world, &arrival, &caller, Some(&fault));
    if fault.delays_answer() {
        tokio::time::sleep(fault.delay()).await;
    }
    match fault.kind {
        FaultKind::Drop => Err(Dropped),
        FaultKind::Slow | FaultKind::Busy | FaultKind::Errcode | FaultKind::Html502 => {
            Ok(sent(answer))
        }
    }
}

/// Answers a call of WeChat Pay, with the faults that it is told to have.
async fn answer_pay(
    world: &Arc<Mutex<World>>,
    headers: &pay::Headers,
    arrival: &Arrival,
) -> Result<Response<Body>, Dropped> {
    let fault = world.lock().faults.take(None, &arrival.path);
    if let Some(fault) = fault.as_ref().filter(|fault| fault.delays_call()) {
        tokio::time::sleep(fault.delay()).await;
    }
    let performed = fault.as_ref().is_none_or(Fault::performs);
    let real = performed.then(|| pay::answer(&mut world.lock(), headers, arrival));
    pay::start(world);
    if let Some(fault) = fault.as_ref().filter(|fault| fault.delays_answer()) {
        tokio::time::sleep(fault.delay()).await;
    }
    let answer = match fault.map(|fault| (fault.kind, fault)) {
        None | Some((FaultKind::Slow, _)) => real,
        Some((FaultKind::Drop, _)) => return Err(Dropped),
        Some((FaultKind::Html502, _)) => None,
        Some((FaultKind::Busy, _)) => Some(pay::busy(500, "SYSTEM_ERROR")),
        Some((FaultKind::Errcode, fault)) => Some(pay::busy(
            fault.status.unwrap_or(429),
            fault.code.as_deref().unwrap_or("FREQUENCY_LIMITED"),
        )),
    };
    Ok(match answer {
        None => page(StatusCode::BAD_GATEWAY, BAD_GATEWAY),
        Some(answer) => answer.response(&world.lock()),
    })
}

/// Carries a call out, unless a fault prevents it, and records it, in one step. Answers what WeChat
/// says, which a fault may change; None where it says nothing of its own.
fn carry_out(
    world: &Mutex<World>,
    arrival: &Arrival,
    caller: &Caller,
    fault: Option<&Fault>,
) -> Option<Sent> {
    let mut world = world.lock();
    let performed = fault.is_none_or(Fault::performs);
    let real = performed.then(|| world.perform(arrival, caller));
    let answer = match fault {
        None => real,
        Some(fault) => match fault.kind {
            FaultKind::Slow => real,
            FaultKind::Drop | FaultKind::Html502 => None,
            FaultKind::Busy => Some(world.refuse(&Refusal::of(-1), arrival, caller)),
            FaultKind::Errcode => {
                let refusal = Refusal::of(fault.errcode.unwrap_or(-1));
                Some(world.refuse(&refusal, arrival, caller))
            }
        },
    };
    let mut record = record(&world, arrival, caller, answer.as_ref());
    record.fault = fault.map(|fault| fault.kind.name());
    record.performed = performed;
    world.records.keep(record);
    answer
}

fn record(world: &World, arrival: &Arrival, caller: &Caller, sent: Option<&Sent>) -> Record {
    Record {
        id: 0,
        at_ms: world.now_ms(),
        app_id: caller.app_id.as_ref().map(ToString::to_string),
        method: arrival.method.to_string(),
        path: arrival.path.clone(),
        query: arrival.shown_query(),
        token: caller.token.clone(),
        client_ip: world.client_ip(arrival, caller),
        body: world::shown_body(arrival),
        body_bytes: arrival.body.len(),
        shown_escaped: sent.is_some_and(|sent| sent.shown_escaped),
        fault: None,
        performed: false,
        errcode: sent.and_then(|sent| sent.errcode),
        rid: sent.and_then(|sent| sent.rid.clone()),
    }
}

/// The answer over HTTP; none of WeChat's own is a page of the proxy before it.
fn sent(sent: Option<Sent>) -> Response<Body> {
    let Some(sent) = sent else {
        return page(StatusCode::BAD_GATEWAY, BAD_GATEWAY);
    };
    let mut response = Response::new(Body::from(sent.body));
    *response.status_mut() = sent.status;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(sent.content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Some(value) = sent.disposition.and_then(|d| HeaderValue::try_from(d).ok()) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

fn page(status: StatusCode, html: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from_static(html.as_bytes())));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}
