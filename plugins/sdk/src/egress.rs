//! HTTP to the tenant's own systems: to the hosts that `plugin.toml` asks for and the operator grants.
//!
//! ```
//! use wxhost_sdk::Result;
//! use wxhost_sdk::egress::{Part, Request};
//!
//! fn stock(article: &str) -> Result<String> {
//!     let answer = Request::get(format!("https://erp.example.com/stock/{article}"))
//!         .header_of("authorization", [Part::text("Bearer "), Part::secret("erp")])
//!         .send()?;
//!     answer.text()
//! }
//! # use wxhost_sdk::prelude::*;
//! # struct Stock;
//! # impl CallbackHandler for Stock {
//! #     fn on_text(_: &Event, text: &Text) -> Result { Reply::text(stock(&text.content)?).into() }
//! # }
//! # use wxhost_sdk::testing::{self, TestHost};
//! # let mut host = TestHost::new()
//! #     .secret("erp")
//! #     .web("https://erp.example.com/stock/7", Ok(wxhost_sdk::egress::Response {
//! #         status: 200, headers: Vec::new(), body: b"12".to_vec(),
//! #     }));
//! # assert_eq!(host.run::<Stock>(&testing::text("7")).reply_text(), Some("12"));
//! ```

use crate::error::{Error as Failure, Result};
use crate::host;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::egress::{Error, Header, Part, Request, Response};

/// How long a request may take unless it says otherwise. The answer to a user has less than five seconds.
const TIMEOUT_MS: u32 = 3_000;

impl Request {
    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST with a JSON body.
    ///
    /// # Errors
    ///
    /// When the value has no JSON form.
    pub fn post_json(url: impl Into<String>, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::bug(error.to_string()))?;
        let request = Self::new("POST", url).header("content-type", "application/json");
        Ok(request.body(body))
    }

    /// Any method: `GET`, `POST`, `PUT`, `PATCH`, `DELETE` or `HEAD`.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: TIMEOUT_MS,
        }
    }

    /// With a header.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.header_of(name, [Part::text(value)])
    }

    /// With a header of several pieces, a secret among them.
    #[must_use]
    pub fn header_of(mut self, name: impl Into<String>, value: impl Into<Vec<Part>>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// With a body of 256 KiB at most.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        self.body_of([Part::Bytes(body.into())])
    }

    /// With a body of several pieces, a secret among them.
    #[must_use]
    pub fn body_of(mut self, body: impl Into<Vec<Part>>) -> Self {
        self.body = body.into();
        self
    }

    /// With so much time: 1 to 10,000 ms; 3,000 unless it is said.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// Sends it and waits for the answer, which may be of any status.
    ///
    /// # Errors
    ///
    /// When the host is not granted, cannot be reached, or does not answer in time.
    pub fn send(&self) -> Result<Response, Error> {
        host::egress::fetch(self)
    }
}

impl Part {
    /// Text. Whatever stands in it goes out as it is.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The secret of this name. The host puts it there where the request leaves it, if the deployment
    /// lets it go to that host.
    pub fn secret(name: impl Into<String>) -> Self {
        Self::Secret(name.into())
    }
}

impl Response {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(given, _)| given == name)?;
        Some(&header.1)
    }

    /// The body of a good answer (status 200 to 299) as text.
    ///
    /// # Errors
    ///
    /// With [`Fault::Dependency`](crate::Fault::Dependency), when the status is another one or the body is
    /// not UTF-8.
    pub fn text(self) -> Result<String> {
        let body = self.good_body()?;
        String::from_utf8(body).map_err(|error| Failure::dependency(error.to_string()))
    }

    /// The body of a good answer (status 200 to 299) as a value of your own type.
    ///
    /// # Errors
    ///
    /// With [`Fault::Dependency`](crate::Fault::Dependency), when the status is another one or the body
    /// does not fit the type.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let body = self.good_body()?;
        serde_json::from_slice(&body)
            .map_err(|error| Failure::dependency(format!("the answer does not fit: {error}")))
    }

    fn good_body(self) -> Result<Vec<u8>> {
        if (200..300).contains(&self.status) {
            Ok(self.body)
        } else {
            Err(Failure::dependency(format!("status {}", self.status)))
        }
    }
}
