//! The addresses at which an account's administrator lets a platform serve the account (授权链接). They
//! must be reached from a page of the platform's one start-page domain.

use form_urlencoded::Serializer;

use crate::api::component::Secret;
use crate::id::AppId;

/// How the administrator goes there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// In a browser, where a QR code is shown to be scanned with WeChat.
    Pc,
    /// In WeChat itself.
    H5,
}

impl Form {
    /// The one of that word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "pc" => Some(Self::Pc),
            "h5" => Some(Self::H5),
            _ => None,
        }
    }

    /// As it stands in addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::H5 => "h5",
        }
    }
}

/// One authorisation that is to begin.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// New for each visit.
    pub pre_auth_code: &'a Secret,
    /// Where WeChat leads back to; its own query is kept.
    pub redirect_uri: &'a str,
    /// The one account that is meant: nobody but its administrator may go on.
    pub biz_appid: Option<&'a AppId>,
}

/// Official accounts (公众号) only.
const AUTH_TYPE: &str = "1";

impl Link<'_> {
    /// The address. `mp` and `open` are where mp.weixin.qq.com and open.weixin.qq.com are.
    pub fn address(&self, form: Form, mp: &str, open: &str) -> String {
        let mut query = Serializer::new(String::new());
        if form == Form::H5 {
            query.append_pair("action", "bindcomponent");
            query.append_pair("no_scan", "1");
        }
        query.append_pair("component_appid", self.component_app_id.as_str());
        query.append_pair("pre_auth_code", self.pre_auth_code.expose());
        query.append_pair("redirect_uri", self.redirect_uri);
        query.append_pair("auth_type", AUTH_TYPE);
        if let Some(app_id) = self.biz_appid {
            query.append_pair("biz_appid", app_id.as_str());
        }
        let query = query.finish();
        match form {
            Form::Pc => format!("{mp}/cgi-bin/componentloginpage?{query}"),
            Form::H5 => {
                format!("{open}/wxaopen/safe/bindcomponent?{query}#wechat_redirect")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_the_documents() {
        let id = AppId::parse("wx0c").unwrap();
        let account = AppId::parse("wx01").unwrap();
        let code = Secret::parse("preauthcode@@@1").unwrap();
        let link = Link {
            component_app_id: &id,
            pre_auth_code: &code,
            redirect_uri: "https://host.example/back/7?a=b",
            biz_appid: None,
        };
        let (mp, open) = ("https://mp.weixin.qq.com", "https://open.weixin.qq.com");
        assert_eq!(
            link.address(Form::Pc, mp, open),
            "https://mp.weixin.qq.com/cgi-bin/componentloginpage?component_appid=wx0c&\
             pre_auth_code=preauthcode%40%40%401&\
             redirect_uri=https%3A%2F%2Fhost.example%2Fback%2F7%3Fa%3Db&auth_type=1"
        );
        let again = Link {
            biz_appid: Some(&account),
            ..link
        };
        assert_eq!(
            again.address(Form::H5, mp, open),
            "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?action=bindcomponent&no_scan=1&\
             component_appid=wx0c&pre_auth_code=preauthcode%40%40%401&\
             redirect_uri=https%3A%2F%2Fhost.example%2Fback%2F7%3Fa%3Db&auth_type=1&\
             biz_appid=wx01#wechat_redirect"
        );
    }
}
