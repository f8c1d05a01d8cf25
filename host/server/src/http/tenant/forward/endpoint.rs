//! What a path of WeChat's gives out.

use super::login::LoginCall;
use crate::grants;

/// What a path gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The account's access token.
    AccessToken,
    /// Its tickets.
    Ticket,
    /// Who a user is, and the user's own tokens.
    Login(LoginCall),
    /// Another token or secret; why it is not passed on.
    Secret(&'static str),
    /// Nothing of the kind.
    Data,
}

impl Endpoint {
    /// Of a path as it was asked for, in whatever spelling.
    pub(super) fn of(path: &str) -> Self {
        match &*path.to_ascii_lowercase() {
            "/cgi-bin/token" | "/cgi-bin/stable_token" => Self::AccessToken,
            "/cgi-bin/ticket/getticket" => Self::Ticket,
            path => match LoginCall::of(path) {
                Some(call) => Self::Login(call),
                None => grants::never(path).map_or(Self::Data, Self::Secret),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_a_path_gets_a_secret_out() {
        for (path, expected) in [
            ("/cgi-bin/token", "account token"),
            ("/CGI-BIN/Stable_Token", "account token"),
            ("/cgi-bin/ticket/getticket", "ticket"),
            ("/cgi-bin/ticket/GetTicket", "ticket"),
            ("/cgi-bin/ticket/other", "secret"),
            ("/cgi-bin/tokens", "secret"),
            ("/sns/oauth2/access_token", "login"),
            ("/SNS/UserInfo", "login"),
            ("/sns/oauth2/component/access_token", "secret"),
            ("/SNS/jscode2session", "secret"),
            ("/cgi-bin/component/api_component_token", "secret"),
            ("/cgi-bin/openapi/rid/get", "secret"),
            ("/cgi-bin/clear_quota/v2", "secret"),
            ("/cgi-bin/clear_quota", "data"),
            ("/cgi-bin/user/info", "data"),
            ("/snsx", "data"),
        ] {
            let endpoint = match Endpoint::of(path) {
                Endpoint::AccessToken => "account token",
                Endpoint::Ticket => "ticket",
                Endpoint::Login(_) => "login",
                Endpoint::Secret(_) => "secret",
                Endpoint::Data => "data",
            };
            assert_eq!(endpoint, expected, "{path}");
        }
    }
}
