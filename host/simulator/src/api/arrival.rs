//! A request as it came, before anybody judged it.

use std::net::IpAddr;

use axum::extract::Query;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// Lets a caller name the address that it seems to call from.
const CLIENT_IP_HEADER: &str = "x-sim-client-ip";

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
    /// Where the connection comes from.
    pub(crate) peer: IpAddr,
    /// Where the caller says that it comes from.
    pub(crate) claimed_ip: Option<String>,
}

impl Arrival {
    /// Reads method, address and headers. A query that can't be decoded counts as none.
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        peer: IpAddr,
    ) -> Self {
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self {
            method: method.clone(),
            path: uri.path().to_owned(),
            query: query.map(|Query(pairs)| pairs).unwrap_or_default(),
            content_type: header("content-type"),
            body,
            peer,
            claimed_ip: header(CLIENT_IP_HEADER),
        }
    }

    /// A parameter of the query; the first of that name, and only where it is not empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(given, _)| given == name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// The fields of a form that was sent; none where the body can't be decoded.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        let uri = format!("/?{}", String::from_utf8_lossy(&self.body)).parse();
        let form = uri.map(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri));
        match form {
            Ok(Ok(Query(form))) => form,
            _ => Vec::new(),
        }
    }

    /// The query without credentials, for records.
    pub(crate) fn shown_query(&self) -> String {
        let pairs: Vec<String> = self
            .query
            .iter()
            .filter(|(name, _)| name != "access_token" && name != "component_access_token")
            .map(|(name, value)| match name.as_str() {
                "secret" | "appsecret" | "refresh_token" => format!("{name}=***"),
                _ => format!("{name}={value}"),
            })
            .collect();
        pairs.join("&")
    }
}
