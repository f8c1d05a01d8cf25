//! Signatures for an account's web pages (JS-SDK使用权限签名算法) and for cards (卡券签名).
//!
//! A page calls WeChat's JavaScript with a signature over its own address; whether an account's host
//! signs for that address is the host's decision, see [`PageUrl::origin`].

use sha1::{Digest as _, Sha1};

use crate::signature::sha1_sorted_concat;

/// Most bytes of a page's address. WeChat names no limit; ours is above what browsers share.
pub const MAX_PAGE_URL_BYTES: usize = 4096;

/// A page's address as signatures cover it: `http` or `https`, with its query, without the fragment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageUrl<'a> {
    text: &'a str,
    origin: usize,
}

/// Why a text is not the address of a page that could be signed for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PageUrlError {
    /// Longer than [`MAX_PAGE_URL_BYTES`].
    #[error("a page's address has {MAX_PAGE_URL_BYTES} bytes at most")]
    TooLong,
    /// Neither `http://` nor `https://`.
    #[error("a page's address begins with http:// or https://")]
    Scheme,
    /// No host, or a host beside which a name, a password or another host could stand.
    #[error("a page's address names its host plainly")]
    Host,
    /// A character that `location.href` never holds: a space, a control character, one that is not
    /// ASCII.
    #[error("a page's address is ASCII without spaces, as location.href gives it")]
    Character,
}

/// Takes `location.href` as a page reports it, and cuts the fragment off.
///
/// # Errors
///
/// What keeps it from being signed for.
pub fn page_url(location: &str) -> Result<PageUrl<'_>, PageUrlError> {
    if location.len() > MAX_PAGE_URL_BYTES {
        return Err(PageUrlError::TooLong);
    }
    let text = location.split('#').next().unwrap_or_default();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(PageUrlError::Character);
    }
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| text.starts_with(scheme))
        .ok_or(PageUrlError::Scheme)?;
    let rest = &text[scheme.len()..];
    let host = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return Err(PageUrlError::Host);
    }
    let origin = scheme.len() + host.len();
    Ok(PageUrl { text, origin })
}

impl<'a> PageUrl<'a> {
    /// The address that is signed.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// Scheme, host and port as they stand there, such as `https://shop.example:8443`, lower case.
    pub fn origin(&self) -> String {
        self.text[..self.origin].to_ascii_lowercase()
    }
}

/// The `signature` of `wx.config`: over the jsapi ticket, the nonce (`nonceStr`), the time in Unix
/// seconds (`timestamp`) and the page. Nothing in it is URL-encoded.
pub fn signature(ticket: &str, nonce: &str, timestamp: u64, page: &PageUrl<'_>) -> String {
    let url = page.as_str();
    let signed = format!("jsapi_ticket={ticket}&noncestr={nonce}&timestamp={timestamp}&url={url}");
    hex::encode(Sha1::digest(signed))
}

/// The `signature` of a card's `cardExt`: over the card ticket and the values of timestamp, card_id,
/// code, openid and nonce_str, as far as the card has them, in any order.
pub fn card_signature(values: &[&str]) -> String {
    hex::encode(sha1_sorted_concat(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_cut_at_its_fragment_and_knows_its_origin() {
        let check = |location: &str, url: &str, origin: &str| {
            let page = page_url(location).unwrap();
            assert_eq!((page.as_str(), &*page.origin()), (url, origin));
        };
        check(
            "https://a.example/p?q=1#/route",
            "https://a.example/p?q=1",
            "https://a.example",
        );
        check(
            "http://A.example:8080?x=http://b",
            "http://A.example:8080?x=http://b",
            "http://a.example:8080",
        );
        check(
            "https://a.example/#?#",
            "https://a.example/",
            "https://a.example",
        );
        check("http://[::1]:80/", "http://[::1]:80/", "http://[::1]:80");
    }

    #[test]
    fn address_that_hides_its_host_is_refused() {
        let check = |location: &str, expected: PageUrlError| {
            assert_eq!(page_url(location).unwrap_err(), expected, "{location}");
        };
        check("https://good.example@evil.example/", PageUrlError::Host);
        check("https://evil.example\\@good.example/", PageUrlError::Host);
        check("https://good.example%2eevil.example/", PageUrlError::Host);
        check("https:///path", PageUrlError::Host);
        check("https://#a.example", PageUrlError::Host);
        check("javascript:alert(1)", PageUrlError::Scheme);
        check("//a.example/", PageUrlError::Scheme);
        check("httpx://a.example/", PageUrlError::Scheme);
        check("https:/a.example/", PageUrlError::Scheme);
        check("", PageUrlError::Scheme);
        check("https://a.example/a b", PageUrlError::Character);
        check("https://a.example/页", PageUrlError::Character);
        check("https://a.example/\n", PageUrlError::Character);
        check(
            &format!("https://a.example/{}", "a".repeat(4096)),
            PageUrlError::TooLong,
        );
    }
}
