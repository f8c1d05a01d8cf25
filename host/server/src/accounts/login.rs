//! How users log in to an account's pages (网页授权): where WeChat leads back to, which pages they may be led on
//! to, and how long a session lasts.

use std::ops::RangeInclusive;

use reqwest::Url;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Account;
use crate::settings::{ChangeError, span};

/// Addresses on the list of an account.
const MAX_RETURN_URLS: usize = 64;
/// Bytes of an address.
const MAX_URL_BYTES: usize = 2048;
/// How long a session may last: a minute to ninety days, in seconds.
const SESSION_SECONDS: RangeInclusive<u32> = 60..=90 * 24 * 3600;

/// How users log in to an account's pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginSettings {
    /// Where the account's web domain (网页授权域名) leads to this host. Of an account that a third-party
    /// platform serves, the platform's address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://login.shop.example")]
    pub site_url: Option<String>,
    /// Where users may be led on to: these addresses, and what lies below them. 1 to 64.
    #[schema(example = json!(["https://shop.example/"]))]
    pub return_urls: Vec<String>,
    /// How long a session lasts, in seconds: 60 to 7776000; a week if absent.
    #[serde(default = "a_week")]
    pub session_seconds: u32,
}

fn a_week() -> u32 {
    7 * 24 * 3600
}

impl Account {
    /// Where the account's users log in at this host, without a slash at the end; None where they do not.
    pub fn login_site(&self) -> Option<&str> {
        let login = self.login.as_ref()?;
        let platform = self.authorisation.as_ref();
        let site = login
            .site_url
            .as_deref()
            .or_else(|| platform.map(|by| &*by.platform.public_url));
        site.map(|site| site.trim_end_matches('/'))
    }
}

impl LoginSettings {
    /// Refuses what could not be served.
    ///
    /// # Errors
    /// Which value is not acceptable, and why.
    pub fn check(&self) -> Result<(), ChangeError> {
        if let Some(site) = &self.site_url
            && !is_plain(site)
        {
            return Err(ChangeError::invalid(
                "login.site_url",
                "is not an http:// or https:// address without a query, such as https://login.shop.example",
            ));
        }
        if !(1..=MAX_RETURN_URLS).contains(&self.return_urls.len()) {
            return Err(ChangeError::invalid(
                "login.return_urls",
                format_args!("must be 1 to {MAX_RETURN_URLS}"),
            ));
        }
        if let Some(url) = self.return_urls.iter().find(|url| !is_plain(url)) {
            return Err(ChangeError::invalid(
                "login.return_urls",
                format_args!("{url:?} is not an address such as https://shop.example/orders/"),
            ));
        }
        if !SESSION_SECONDS.contains(&self.session_seconds) {
            return Err(ChangeError::invalid(
                "login.session_seconds",
                format_args!("must be {}", span(&SESSION_SECONDS)),
            ));
        }
        Ok(())
    }

    /// The address that a user may be led on to, as browsers understand it; None where it is not on the list.
    pub fn allowed(&self, address: &str) -> Option<Url> {
        let url = parsed(address)?;
        let mut listed = self.return_urls.iter().filter_map(|listed| parsed(listed));
        listed
            .any(|listed| listed.origin() == url.origin() && lies_below(url.path(), listed.path()))
            .then_some(url)
    }
}

/// An address of a page, which names its host plainly.
fn parsed(address: &str) -> Option<Url> {
    if address.len() > MAX_URL_BYTES {
        return None;
    }
    let url = Url::parse(address).ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    is_plain.then_some(url)
}

fn is_plain(address: &str) -> bool {
    parsed(address).is_some_and(|url| url.query().is_none() && url.fragment().is_none())
}

/// Whole segments only: `/a` covers `/a` and `/a/b`, not `/ab`.
fn lies_below(path: &str, listed: &str) -> bool {
    let listed = listed.strip_suffix('/').unwrap_or(listed);
    let rest = path.strip_prefix(listed);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(return_urls: &[&str]) -> LoginSettings {
        LoginSettings {
            site_url: None,
            return_urls: return_urls.iter().map(ToString::to_string).collect(),
            session_seconds: 3600,
        }
    }

    #[test]
    fn users_are_led_to_listed_pages_only() {
        let login = settings(&["https://shop.example/orders/", "http://127.0.0.1:8080"]);
        for (address, expected) in [
            ("https://shop.example/orders/", true),
            ("https://shop.example/orders?id=7#top", true),
            ("https://SHOP.example:443/orders/a/b", true),
            ("http://127.0.0.1:8080/anything", true),
            ("https://shop.example/ordersx", false),
            ("https://shop.example/", false),
            ("https://shop.example/orders/../admin", false),
            ("https://shop.example/orders/%2e%2e/admin", false),
            ("http://shop.example/orders/", false),
            ("https://shop.example:8443/orders/", false),
            ("https://shop.example.evil.example/orders/", false),
            ("https://shop.example@evil.example/orders/", false),
            ("https://evil.example\\@shop.example/orders/", false),
            ("//shop.example/orders/", false),
            ("/orders/", false),
            ("javascript:alert(1)", false),
            ("http://127.0.0.1:80801/", false),
        ] {
            assert_eq!(login.allowed(address).is_some(), expected, "{address}");
        }
    }

    #[test]
    fn settings_that_could_not_be_served_are_refused() {
        let refused = |login: LoginSettings| login.check().unwrap_err().to_string();
        assert!(settings(&["https://shop.example"]).check().is_ok());
        assert!(refused(settings(&[])).starts_with("login.return_urls"));
        for url in [
            "shop.example",
            "ftp://shop.example/",
            "https://shop.example/?a=b",
        ] {
            assert!(
                refused(settings(&[url])).starts_with("login.return_urls"),
                "{url}"
            );
        }
        let too_short = LoginSettings {
            session_seconds: 59,
            ..settings(&["https://shop.example"])
        };
        assert!(refused(too_short).starts_with("login.session_seconds"));
        let site = LoginSettings {
            site_url: Some("https://a:b@login.example".to_owned()),
            ..settings(&["https://shop.example"])
        };
        assert!(refused(site).starts_with("login.site_url"));
    }
}
