//! Web authorisation (网页授权): the address at which a user tells a page who they are. The calls that follow
//! are in [`crate::api::oauth`].

use form_urlencoded::byte_serialize;

use crate::id::AppId;

/// Most bytes of a state.
pub const MAX_STATE_BYTES: usize = 128;

/// What a user is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// `snsapi_base`: the open id, without asking.
    Base,
    /// `snsapi_userinfo`: the profile, for which the user is asked.
    UserInfo,
}

impl Scope {
    /// The one of WeChat's word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "snsapi_base" => Some(Self::Base),
            "snsapi_userinfo" => Some(Self::UserInfo),
            _ => None,
        }
    }

    /// WeChat's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::UserInfo => "snsapi_userinfo",
        }
    }
}

/// Where a user is sent.
#[derive(Clone, Copy, Debug)]
pub struct Authorize<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// Where WeChat leads back to, on the account's web domain (网页授权域名), or on the platform's.
    pub redirect_uri: &'a str,
    /// What is asked for.
    pub scope: Scope,
    /// Comes back as it is: letters and digits, [`MAX_STATE_BYTES`] at most.
    pub state: &'a str,
    /// The third-party platform that serves the account.
    pub component_app_id: Option<&'a AppId>,
}

impl Authorize<'_> {
    /// The address. `open` is where open.weixin.qq.com is. The order of the parameters matters to WeChat.
    pub fn address(&self, open: &str) -> String {
        let redirect_uri: String = byte_serialize(self.redirect_uri.as_bytes()).collect();
        let component = self
            .component_app_id
            .map(|id| format!("&component_appid={id}"));
        format!(
            "{open}/connect/oauth2/authorize?appid={}&redirect_uri={redirect_uri}&response_type=code\
             &scope={}&state={}{}#wechat_redirect",
            self.app_id,
            self.scope.as_str(),
            self.state,
            component.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_documents() {
        let app_id = AppId::parse("wx01").unwrap();
        let platform = AppId::parse("wx0c").unwrap();
        let authorize = Authorize {
            app_id: &app_id,
            redirect_uri: "https://a.example/back?x=1&y=茶",
            scope: Scope::Base,
            state: "s1",
            component_app_id: None,
        };
        assert_eq!(
            authorize.address("https://open.weixin.qq.com"),
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wx01\
             &redirect_uri=https%3A%2F%2Fa.example%2Fback%3Fx%3D1%26y%3D%E8%8C%B6&response_type=code\
             &scope=snsapi_base&state=s1#wechat_redirect"
        );
        let by_platform = Authorize {
            scope: Scope::UserInfo,
            component_app_id: Some(&platform),
            ..authorize
        };
        let address = by_platform.address("https://open.weixin.qq.com");
        assert!(
            address
                .ends_with("&scope=snsapi_userinfo&state=s1&component_appid=wx0c#wechat_redirect")
        );
    }

    #[test]
    fn scopes_are_wechats_words() {
        for scope in [Scope::Base, Scope::UserInfo] {
            assert_eq!(Scope::of(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::of("snsapi_login"), None);
    }
}
