//! WeChat's own API, asked for this account. The host adds the access token.
//!
//! Each call leaves the host while the handler waits; a call of the handler may make 16 of them. What
//! changes something at WeChat's is better an effect of the [`Outcome`](crate::Outcome): effects happen
//! once, a call happens as often as the handler runs.

use crate::error::{Error as Failure, Result};
use crate::host;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::wxhost::plugin::wechat_api::{
    Error, Method, Quota, Refusal, Request, User,
};

/// A follower as WeChat knows it.
///
/// # Errors
///
/// When WeChat refuses or cannot be reached.
pub fn user_info(open_id: &str) -> Result<User, Error> {
    host::wechat_api::user_info(open_id)
}

/// The account's menus, as WeChat's JSON.
///
/// # Errors
///
/// When WeChat refuses (46003: there is no menu) or cannot be reached.
pub fn menu() -> Result<String, Error> {
    host::wechat_api::menu_get()
}

/// What is left of the daily quota of a path such as `/cgi-bin/message/custom/send`.
///
/// # Errors
///
/// When WeChat refuses or cannot be reached.
pub fn quota(cgi_path: &str) -> Result<Quota, Error> {
    host::wechat_api::quota_get(cgi_path)
}

/// Makes any call that `plugin.toml` asks for and the operator grants; gives WeChat's JSON.
///
/// # Errors
///
/// When it is not granted, or WeChat refuses or cannot be reached.
pub fn call(request: &Request) -> Result<String, Error> {
    host::wechat_api::call(request)
}

/// A granted GET, its answer as a value of your own type.
///
/// # Errors
///
/// As [`call`]; and when the answer does not fit the type.
pub fn get<T: DeserializeOwned>(path: &str, query: &[(&str, &str)]) -> Result<T> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    answer(&Request {
        method: Method::Get,
        path: path.to_owned(),
        query: query.iter().map(owned).collect(),
        body: String::new(),
    })
}

/// A granted POST, its answer as a value of your own type.
///
/// # Errors
///
/// As [`call`]; and when the body has no JSON form or the answer does not fit the type.
pub fn post<T: DeserializeOwned>(path: &str, body: &impl Serialize) -> Result<T> {
    let body = serde_json::to_string(body).map_err(|error| Failure::bug(error.to_string()))?;
    answer(&Request {
        method: Method::Post,
        path: path.to_owned(),
        query: Vec::new(),
        body,
    })
}

fn answer<T: DeserializeOwned>(request: &Request) -> Result<T> {
    serde_json::from_str(&call(request)?).map_err(|error| {
        Failure::bug(format!(
            "the answer of {} does not fit: {error}",
            request.path
        ))
    })
}
