//! What a browser does, step by step, for scenarios that look at each.

use anyhow::{Context, Result};
use reqwest::Response;
use reqwest::header::{LOCATION, SET_COOKIE};

/// A browser that tells where it is led.
pub(crate) fn browser() -> Result<reqwest::Client> {
    let none = reqwest::redirect::Policy::none();
    Ok(reqwest::Client::builder()
        .no_proxy()
        .redirect(none)
        .build()?)
}

/// Where an answer leads.
pub(crate) fn location(response: &Response) -> Result<String> {
    let location = response.headers().get(LOCATION);
    let location = location.with_context(|| format!("no way on: {response:?}"))?;
    Ok(location.to_str()?.to_owned())
}

/// The cookie that an answer sets, as it is brought back.
pub(crate) fn cookie_of(response: &Response) -> Result<String> {
    let cookie = response.headers().get(SET_COOKIE).context("a cookie")?;
    let (cookie, _) = cookie.to_str()?.split_once(';').context("its end")?;
    Ok(cookie.to_owned())
}

/// A field of a page's form that nobody sees.
pub(crate) fn hidden(page: &str, name: &str) -> Result<String> {
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = page.split_once(&mark).context("a field")?;
    let (value, _) = rest.split_once('"').context("its end")?;
    Ok(value.replace("&amp;", "&"))
}

/// A form as a browser sends it.
pub(crate) fn encoded(form: &[(&str, String)]) -> String {
    let escaped = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    };
    let pairs = form
        .iter()
        .map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}
