//! Where a request goes: the part of its URL that grants and addresses are checked by.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::EgressError;

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 8 * 1024;

/// What a grant speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host as it is connected to: in lower case, international names in their `xn--` form, IPv4
    /// addresses as four decimals however they were written, IPv6 addresses in brackets.
    pub host: &'a str,
    /// The port, the scheme's own where the URL names none.
    pub port: u16,
}

impl<'a> Target<'a> {
    /// Where a URL goes; nowhere if it is not of HTTP, has no host or names a user.
    pub(super) fn of(url: &'a Url) -> Option<Self> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let port = url.port_or_known_default().filter(|port| *port != 0)?;
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(Self { tls, host, port })
    }

    /// The address, where the URL holds one instead of a name.
    pub(super) fn literal_address(&self) -> Option<IpAddr> {
        let bare = self.host.strip_prefix('[');
        let bare = bare.and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(self.host).parse().ok()
    }
}

/// `name`, or `name:port` where the port is not the scheme's own.
impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = if self.tls { 443 } else { 80 };
        match self.port == own {
            true => f.write_str(self.host),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Parses the URL that a plugin gives.
pub(super) fn parse(text: &str) -> Result<Url, EgressError> {
    let invalid = |reason: &str| EgressError::InvalidArgument(format!("url: {reason}"));
    if text.len() > MAX_URL_BYTES {
        return Err(invalid("longer than 8192 bytes"));
    }
    let url = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if Target::of(&url).is_none() {
        return Err(invalid(
            "not https://host/… or http://host/…, without a user",
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn invalid(text: &str, reason: &str) {
        match parse(text) {
            Err(EgressError::InvalidArgument(said)) => assert!(said.contains(reason), "{said}"),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[track_caller]
    fn literal(text: &str, address: &str) {
        let url = parse(text).expect("a URL");
        let target = Target::of(&url).expect("a target");
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(target.literal_address(), Some(address), "{text}");
    }

    #[test]
    fn targets_are_what_is_connected_to() {
        for (text, tls, host, port, shown) in [
            (
                "https://Erp.Example.COM/x?y",
                true,
                "erp.example.com",
                443,
                "erp.example.com",
            ),
            (
                "http://erp.example.com:443",
                false,
                "erp.example.com",
                443,
                "erp.example.com:443",
            ),
            (
                "https://erp.example.com:8443/",
                true,
                "erp.example.com",
                8443,
                "erp.example.com:8443",
            ),
            (
                "https://例子.中国/",
                true,
                "xn--fsqu00a.xn--fiqs8s",
                443,
                "xn--fsqu00a.xn--fiqs8s",
            ),
            (
                "https://erp.example.com\\@evil.example/",
                true,
                "erp.example.com",
                443,
                "erp.example.com",
            ),
        ] {
            let url = parse(text).expect(text);
            let target = Target::of(&url).expect(text);
            assert_eq!(target, Target { tls, host, port }, "{text}");
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.literal_address(), None);
        }
    }

    #[test]
    fn odd_forms_of_ipv4_are_seen_as_addresses() {
        for text in [
            "http://127.0.0.1/",
            "http://127.0.0.1./",
            "http://127.1/",
            "http://0x7f.1/",
            "http://0X7F000001/",
            "http://017700000001/",
            "http://2130706433/",
            "http://0177.0.0.0x1/",
            "http://%31%32%37.0.0.1/",
            "http://１２７。０。０。１/",
            "http:127.0.0.1",
            "http://\t127.0.\n0.1/",
        ] {
            literal(text, "127.0.0.1");
        }
        literal(
            "http://169.254.169.254/latest/meta-data/",
            "169.254.169.254",
        );
        literal("http://0/", "0.0.0.0");
    }

    #[test]
    fn literal_ipv6_is_seen_as_an_address() {
        literal("http://[::1]:80/", "::1");
        literal("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1");
        literal("http://[0:0:0:0:0:ffff:7f00:1]/", "::ffff:127.0.0.1");
        literal("http://[fd00:ec2::254]/", "fd00:ec2::254");
    }

    #[test]
    fn user_info_that_looks_like_a_host_is_refused() {
        invalid("https://erp.example.com@evil.example/", "without a user");
        invalid("https://user:word@erp.example.com/", "without a user");
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in [
            "file:///etc/passwd",
            "gopher://erp.example.com/",
            "ftp://erp.example.com/",
            "data:text/plain,x",
            "unix:/run/docker.sock",
        ] {
            invalid(text, "not https");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        invalid("/path", "relative URL without a base");
        invalid("https://", "empty host");
        invalid("https://erp.example.com:0/", "not https");
        invalid("https://256.256.256.256/", "IPv4");
        invalid("http://[fe80::1%25eth0]/", "IPv6");
        invalid(
            &format!("https://erp.example.com/{}", "x".repeat(MAX_URL_BYTES)),
            "8192",
        );
    }
}
