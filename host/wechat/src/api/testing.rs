//! How the families' tests look at calls.

use super::{Body, Call};

/// A request in one line: method, path with query, body.
pub(super) fn line(call: &impl Call) -> String {
    let request = call.request().unwrap();
    let mut line = format!("{} {}", request.method.as_str(), request.path);
    for (place, (name, value)) in request.query.iter().enumerate() {
        line += if place == 0 { "?" } else { "&" };
        line += &format!("{name}={value}");
    }
    match &request.body {
        Body::Empty => {}
        Body::Json(json) => line += &format!(" {json}"),
        Body::Multipart(form) => line += &format!(" {form:?}"),
    }
    line
}

/// Why a request can't be built.
pub(super) fn refused(call: &impl Call) -> String {
    call.request().unwrap_err().to_string()
}

/// The answer of a call.
#[track_caller]
pub(super) fn answer<C: Call>(_: &C, body: &str) -> C::Answer {
    C::answer(body.as_bytes()).unwrap()
}
