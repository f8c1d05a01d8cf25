//! Addresses and connectivity (网络通信检测): where WeChat calls from and is called at, and whether it
//! reaches the account's server.

use serde::{Deserialize, Serialize};

use super::limit::InvalidCall;
use super::{Call, Request};

/// `GET /cgi-bin/getcallbackip`: where callbacks come from, for an allow-list of what comes in.
#[derive(Clone, Copy, Debug)]
pub struct CallbackAddresses;

/// `GET /cgi-bin/get_api_domain_ip`: where the API is, for an allow-list of what goes out.
#[derive(Clone, Copy, Debug)]
pub struct ApiAddresses;

/// `POST /cgi-bin/callback/check`: lets WeChat try the account's callback URL.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CheckCallback {
    /// What to try.
    pub action: Check,
    /// From whose network.
    #[serde(rename = "check_operator")]
    pub operator: Operator,
}

/// What WeChat tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// Resolving the name.
    Dns,
    /// Reaching the addresses.
    Ping,
    /// Both.
    All,
}

/// A network operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operator {
    /// China Telecom.
    ChinaNet,
    /// China Unicom.
    Unicom,
    /// Tencent's own.
    Cap,
    /// Whichever suits the address.
    Default,
}

/// Addresses.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Addresses {
    /// IPv4, IPv6, or ranges such as `101.226.103.0/25`.
    pub ip_list: Vec<String>,
}

/// What WeChat found out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Checked {
    /// What the name resolves to.
    #[serde(default)]
    pub dns: Vec<Resolved>,
    /// How the addresses are reached.
    #[serde(default)]
    pub ping: Vec<Pinged>,
}

/// An address that the name resolves to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Resolved {
    /// The address.
    pub ip: String,
    /// Whose network it is in.
    #[serde(default)]
    pub real_operator: String,
}

/// How an address is reached.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Pinged {
    /// The address.
    pub ip: String,
    /// From whose network.
    #[serde(default)]
    pub from_operator: String,
    /// How much is lost, such as `0%`.
    #[serde(default)]
    pub package_loss: String,
    /// How long it takes, such as `23.079ms`.
    #[serde(default)]
    pub time: String,
}

impl Call for CallbackAddresses {
    type Answer = Addresses;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/getcallbackip"))
    }
}

impl Call for ApiAddresses {
    type Answer = Addresses;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/get_api_domain_ip"))
    }
}

impl Call for CheckCallback {
    type Answer = Checked;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/callback/check", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line};
    use super::*;

    #[test]
    fn calls_are_the_documents() {
        assert_eq!(line(&CallbackAddresses), "GET /cgi-bin/getcallbackip");
        assert_eq!(line(&ApiAddresses), "GET /cgi-bin/get_api_domain_ip");
        let list = answer(
            &CallbackAddresses,
            r#"{"ip_list":["127.0.0.1","101.226.103.0/25"]}"#,
        );
        assert_eq!(list.ip_list[1], "101.226.103.0/25");
        let check = |operator, expected: &str| {
            let check = CheckCallback {
                action: Check::All,
                operator,
            };
            let expected = format!(r#"{{"action":"all","check_operator":"{expected}"}}"#);
            assert_eq!(
                line(&check),
                format!("POST /cgi-bin/callback/check {expected}")
            );
        };
        check(Operator::ChinaNet, "CHINANET");
        check(Operator::Unicom, "UNICOM");
        check(Operator::Cap, "CAP");
        check(Operator::Default, "DEFAULT");
    }

    #[test]
    fn check_is_read() {
        let check = CheckCallback {
            action: Check::Dns,
            operator: Operator::Default,
        };
        let checked = answer(
            &check,
            r#"{"dns":[{"ip":"111.161.64.40","real_operator":"UNICOM"}],
            "ping":[{"ip":"111.161.64.40","from_operator":"UNICOM","package_loss":"0%","time":"23.079ms"}]}"#,
        );
        assert_eq!(
            (&*checked.dns[0].real_operator, &*checked.ping[0].time),
            ("UNICOM", "23.079ms")
        );
    }
}
