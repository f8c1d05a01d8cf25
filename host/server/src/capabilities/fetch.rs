//! Requests to the tenant's own systems: between the contract's values and `crate::egress`.

use std::time::Duration;

use wxhost_runtime::egress as wit;

use crate::egress::{EgressError, Part, Request, Response};

pub(super) fn request_of(given: wit::Request) -> Request {
    Request {
        method: given.method,
        url: given.url,
        headers: given
            .headers
            .into_iter()
            .map(|header| (header.name, parts_of(header.value)))
            .collect(),
        body: parts_of(given.body),
        timeout: Duration::from_millis(given.timeout_ms.into()),
    }
}

fn parts_of(given: Vec<wit::Part>) -> Vec<Part> {
    let parts = given.into_iter().map(|part| match part {
        wit::Part::Text(text) => Part::Bytes(text.into_bytes()),
        wit::Part::Bytes(bytes) => Part::Bytes(bytes),
        wit::Part::Secret(name) => Part::Secret(name),
    });
    parts.collect()
}

pub(super) fn response_of(response: Response) -> wit::Response {
    wit::Response {
        status: response.status,
        headers: response.headers,
        body: response.body,
    }
}

pub(super) fn error_of(error: EgressError) -> wit::Error {
    match error {
        EgressError::NotGranted(host) => wit::Error::NotGranted(host),
        EgressError::AddressRefused => wit::Error::AddressRefused,
        EgressError::InvalidArgument(reason) => wit::Error::InvalidArgument(reason),
        EgressError::UnknownSecret(name) => wit::Error::UnknownSecret(name),
        EgressError::SecretNotForHost(name) => wit::Error::SecretNotForHost(name),
        EgressError::AnswerRefused => wit::Error::AnswerRefused,
        EgressError::Unreachable => wit::Error::Unreachable,
        EgressError::Timeout => wit::Error::Timeout,
        EgressError::TooLarge => wit::Error::TooLarge,
        EgressError::RedirectRefused => wit::Error::RedirectRefused,
    }
}
