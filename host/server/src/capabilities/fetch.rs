//! Requests to the tenant's own systems: between the contract's values and `crate::egress`.

use std::time::Duration;

use wxhost_runtime::egress as wit;

use crate::egress::{EgressError, Request, Response};

pub(super) fn request_of(given: wit::Request) -> Request {
    Request {
        method: given.method,
        url: given.url,
        headers: given.headers,
        body: given.body,
        timeout: Duration::from_millis(given.timeout_ms.into()),
    }
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
        EgressError::Unreachable => wit::Error::Unreachable,
        EgressError::Timeout => wit::Error::Timeout,
        EgressError::TooLarge => wit::Error::TooLarge,
        EgressError::RedirectRefused => wit::Error::RedirectRefused,
    }
}
