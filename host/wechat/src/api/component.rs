//! Third-party platforms (第三方平台): how a platform gets its own token, and the tokens of the accounts
//! that have let it serve them.
//!
//! A platform's own calls take its component token as `access_token`; an account's calls take the
//! account's token, whoever got it. Everything that these calls give out is a secret of which nothing but
//! its length is known: up to 512 bytes, never to be parsed.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::answer;
use super::limit::{self, InvalidCall};
use super::token::Fresh;
use super::{Call, Done, Request};
use crate::id::AppId;
use crate::secret::AppSecret;

/// Authorisers of one page of the list, at most.
pub const MAX_LISTED: u32 = 500;

/// Most bytes of a ticket, a code or a refresh token that are kept. WeChat's documents say 512.
pub const MAX_BYTES: usize = 2048;

/// Where a platform's token comes from.
pub const TOKEN_PATH: &str = "/cgi-bin/component/api_component_token";
/// Where an account's token comes from. Codes mean the same on all calls of a platform.
pub const AUTHORIZER_TOKEN_PATH: &str = "/cgi-bin/component/api_authorizer_token";

/// `POST /cgi-bin/component/api_component_token`: the platform's own token, for two hours. WeChat limits
/// how often it is asked, and does not say how.
#[derive(Clone, Copy, Debug)]
pub struct ComponentToken<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// Its secret.
    pub secret: &'a AppSecret,
    /// What WeChat has pushed last; the one before does, too.
    pub ticket: &'a Secret,
}

/// `POST /cgi-bin/component/api_create_preauthcode`: begins one authorisation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CreatePreAuthCode<'a> {
    /// The platform.
    #[serde(rename = "component_appid")]
    pub component_app_id: &'a AppId,
}

/// `POST /cgi-bin/component/api_query_auth`: what an account has granted, with its tokens. A code is good
/// for one such call.
#[derive(Clone, Copy, Debug)]
pub struct QueryAuth<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// What the redirect or the event brought.
    pub code: &'a Secret,
}

/// `POST /cgi-bin/component/api_authorizer_token`: a new token of an account, and the refresh token for
/// the next one.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizerToken<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// The account.
    pub app_id: &'a AppId,
    /// What the account's last authorisation or token came with.
    pub refresh_token: &'a Secret,
}

/// `POST /cgi-bin/component/api_get_authorizer_info`: what an account is, and what it has granted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GetAuthorizerInfo<'a> {
    /// The platform.
    #[serde(rename = "component_appid")]
    pub component_app_id: &'a AppId,
    /// The account.
    #[serde(rename = "authorizer_appid")]
    pub app_id: &'a AppId,
}

/// `POST /cgi-bin/component/api_get_authorizer_list`: the accounts that have let the platform serve them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GetAuthorizerList<'a> {
    /// The platform.
    #[serde(rename = "component_appid")]
    pub component_app_id: &'a AppId,
    /// Those to pass over; the list may move meanwhile.
    pub offset: u32,
    /// [`MAX_LISTED`] at most.
    pub count: u32,
}

/// `POST /cgi-bin/component/api_start_push_ticket`: tickets are pushed again, if they were not.
#[derive(Clone, Copy, Debug)]
pub struct StartPushTicket<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// Its secret.
    pub secret: &'a AppSecret,
}

/// `POST /cgi-bin/component/clear_quota/v2`: begins the day of a platform anew, for when no token is to be
/// had any more. It counts among the ten a month.
#[derive(Clone, Copy, Debug)]
pub struct ClearQuota<'a> {
    /// The platform.
    pub component_app_id: &'a AppId,
    /// Its secret.
    pub secret: &'a AppSecret,
}

/// A ticket, a code or a refresh token: visible ASCII characters, [`MAX_BYTES`] at most.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(SecretString);

/// What these texts are not. It never repeats them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not 1 to {MAX_BYTES} visible ASCII characters")]
pub struct SecretError;

impl Secret {
    /// Checks length and characters.
    ///
    /// # Errors
    ///
    /// [`SecretError`].
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let fits = (1..=MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(SecretError)
        }
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        Self::parse(&text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The beginning of an authorisation.
#[derive(Clone, Debug, Deserialize)]
pub struct PreAuthCode {
    /// Stands in the link, for one authorisation.
    pub pre_auth_code: Secret,
    /// Seconds that it is good for.
    #[serde(deserialize_with = "answer::number")]
    pub expires_in: u64,
}

/// What [`QueryAuth`] tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Authorisation {
    /// What an account has granted.
    pub authorization_info: Granted,
}

/// What an account has granted.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "GrantedFields")]
pub struct Granted {
    /// The account.
    pub app_id: Option<AppId>,
    /// Its access token; an account without rights to the API has none, and [`GetAuthorizerInfo`] tells
    /// none.
    pub token: Option<Fresh>,
    /// What its next token is got with. Empty where nobody has asked for the code in time.
    pub refresh_token: Option<Secret>,
    /// The permission sets (权限集), by their ids.
    pub permission_sets: Vec<u32>,
}

#[derive(Deserialize)]
struct GrantedFields {
    #[serde(default, alias = "authorizer_appid")]
    authorization_appid: Option<String>,
    #[serde(default)]
    authorizer_access_token: Option<String>,
    #[serde(default, deserialize_with = "answer::optional_number")]
    expires_in: Option<u64>,
    #[serde(default)]
    authorizer_refresh_token: Option<String>,
    #[serde(default)]
    func_info: Vec<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    funcscope_category: Category,
}

#[derive(Default, Deserialize)]
struct Category {
    #[serde(default, deserialize_with = "answer::optional_number")]
    id: Option<u64>,
}

impl From<GrantedFields> for Granted {
    fn from(fields: GrantedFields) -> Self {
        let token = fields.authorizer_access_token.as_deref();
        let id = |function: Function| u32::try_from(function.funcscope_category.id?).ok();
        let mut permission_sets: Vec<_> = fields.func_info.into_iter().filter_map(id).collect();
        permission_sets.sort_unstable();
        permission_sets.dedup();
        Self {
            app_id: AppId::parse(&fields.authorization_appid.unwrap_or_default()).ok(),
            token: token.and_then(|token| Fresh::new(token, fields.expires_in?).ok()),
            refresh_token: Secret::parse(&fields.authorizer_refresh_token.unwrap_or_default()).ok(),
            permission_sets,
        }
    }
}

/// A new token of an account.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RenewedFields")]
pub struct Renewed {
    /// It.
    pub token: Fresh,
    /// What the next one is got with; the same as before where WeChat does not say.
    pub refresh_token: Option<Secret>,
}

#[derive(Deserialize)]
struct RenewedFields {
    authorizer_access_token: String,
    #[serde(deserialize_with = "answer::number")]
    expires_in: u64,
    #[serde(default)]
    authorizer_refresh_token: Option<String>,
}

impl TryFrom<RenewedFields> for Renewed {
    type Error = &'static str;

    fn try_from(fields: RenewedFields) -> Result<Self, Self::Error> {
        let refresh_token = fields.authorizer_refresh_token.unwrap_or_default();
        Ok(Self {
            token: Fresh::new(&fields.authorizer_access_token, fields.expires_in)?,
            refresh_token: Secret::parse(&refresh_token).ok(),
        })
    }
}

/// What an account is.
#[derive(Clone, Debug, Deserialize)]
pub struct Authorizer {
    /// As its owner and WeChat describe it.
    pub authorizer_info: AuthorizerInfo,
    /// What it has granted, without an access token.
    pub authorization_info: Granted,
}

/// An account as its owner and WeChat describe it. Each part may be missing.
#[derive(Clone, Debug, Default, Deserialize, Serialize, Eq, PartialEq)]
#[serde(default)]
pub struct AuthorizerInfo {
    /// Its name.
    pub nick_name: String,
    /// Address of its picture; may change.
    pub head_img: String,
    /// What kind of account it is: 0 and 1 a subscription account, 2 a service account.
    pub service_type_info: Kind,
    /// Whether WeChat has verified it: -1 not.
    pub verify_type_info: Kind,
    /// 原始 ID: what its callbacks are addressed to.
    pub user_name: String,
    /// 微信号.
    pub alias: String,
    /// Address of its QR code.
    pub qrcode_url: String,
    /// Who owns it.
    pub principal_name: String,
    /// Its description.
    pub signature: String,
    /// 1 is in order; 14 closed, 16 banned, 18 warned, 19 frozen.
    #[serde(deserialize_with = "answer::optional_number")]
    pub account_status: Option<u64>,
    /// There only where it is a mini program.
    #[serde(rename = "MiniProgramInfo", skip_serializing_if = "Option::is_none")]
    pub mini_program: Option<serde_json::Value>,
}

/// A number and, in newer answers, its name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, Eq, PartialEq)]
#[serde(default)]
pub struct Kind {
    /// It; what it stands for depends on where.
    pub id: Option<i64>,
}

/// A page of the accounts that have let a platform serve them.
#[derive(Clone, Debug, Deserialize)]
pub struct AuthorizerPage {
    /// On all pages.
    #[serde(default, deserialize_with = "answer::number")]
    pub total_count: u64,
    /// On this one.
    #[serde(default)]
    pub list: Vec<ListedAuthorizer>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedAuthorizer {
    /// The account.
    #[serde(rename = "authorizer_appid")]
    pub app_id: String,
    /// Empty where nobody has exchanged its code.
    #[serde(default)]
    refresh_token: Option<String>,
    /// When it was authorised, Unix seconds.
    #[serde(default, deserialize_with = "answer::optional_number")]
    pub auth_time: Option<u64>,
}

impl ListedAuthorizer {
    /// What its next token is got with.
    pub fn refresh_token(&self) -> Option<Secret> {
        Secret::parse(self.refresh_token.as_deref()?).ok()
    }
}

impl Call for ComponentToken<'_> {
    type Answer = Fresh;

    fn request(&self) -> Result<Request, InvalidCall> {
        #[derive(Serialize)]
        struct Body<'a> {
            component_appid: &'a AppId,
            component_appsecret: &'a str,
            component_verify_ticket: &'a str,
        }
        let body = Body {
            component_appid: self.component_app_id,
            component_appsecret: self.secret.expose(),
            component_verify_ticket: self.ticket.expose(),
        };
        Ok(Request::post(TOKEN_PATH, &body)?.without_token())
    }
}

impl Call for CreatePreAuthCode<'_> {
    type Answer = PreAuthCode;

    fn request(&self) -> Result<Request, InvalidCall> {
        // One that is not used ends by itself.
        Request::ask("/cgi-bin/component/api_create_preauthcode", self)
    }
}

impl Call for QueryAuth<'_> {
    type Answer = Authorisation;

    fn request(&self) -> Result<Request, InvalidCall> {
        #[derive(Serialize)]
        struct Body<'a> {
            component_appid: &'a AppId,
            authorization_code: &'a str,
        }
        let body = Body {
            component_appid: self.component_app_id,
            authorization_code: self.code.expose(),
        };
        Request::post("/cgi-bin/component/api_query_auth", &body)
    }
}

impl Call for AuthorizerToken<'_> {
    type Answer = Renewed;

    fn request(&self) -> Result<Request, InvalidCall> {
        #[derive(Serialize)]
        struct Body<'a> {
            component_appid: &'a AppId,
            authorizer_appid: &'a AppId,
            authorizer_refresh_token: &'a str,
        }
        let body = Body {
            component_appid: self.component_app_id,
            authorizer_appid: self.app_id,
            authorizer_refresh_token: self.refresh_token.expose(),
        };
        Request::post(AUTHORIZER_TOKEN_PATH, &body)
    }
}

impl Call for GetAuthorizerInfo<'_> {
    type Answer = Authorizer;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/component/api_get_authorizer_info", self)
    }
}

impl Call for GetAuthorizerList<'_> {
    type Answer = AuthorizerPage;

    fn request(&self) -> Result<Request, InvalidCall> {
        let fits = (1..=MAX_LISTED).contains(&self.count);
        limit::demand(fits, "count", "must be 1 to 500")?;
        Request::ask("/cgi-bin/component/api_get_authorizer_list", self)
    }
}

impl Call for StartPushTicket<'_> {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        #[derive(Serialize)]
        struct Body<'a> {
            component_appid: &'a AppId,
            component_secret: &'a str,
        }
        let body = Body {
            component_appid: self.component_app_id,
            component_secret: self.secret.expose(),
        };
        let path = "/cgi-bin/component/api_start_push_ticket";
        Ok(Request::ask(path, &body)?.without_token())
    }
}

impl Call for ClearQuota<'_> {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        #[derive(Serialize)]
        struct Body<'a> {
            component_appid: &'a AppId,
            appsecret: &'a str,
        }
        let body = Body {
            component_appid: self.component_app_id,
            appsecret: self.secret.expose(),
        };
        let path = "/cgi-bin/component/clear_quota/v2";
        Ok(Request::post(path, &body)?.without_token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn requests_are_the_documents_and_hide_what_is_secret() {
        let id = AppId::parse("wx0c").unwrap();
        let app_id = AppId::parse("wx01").unwrap();
        let secret = AppSecret::parse(SECRET).unwrap();
        let hidden = Secret::parse("ticket@@@hush").unwrap();
        let token = ComponentToken {
            component_app_id: &id,
            secret: &secret,
            ticket: &hidden,
        };
        let query = QueryAuth {
            component_app_id: &id,
            code: &hidden,
        };
        let renew = AuthorizerToken {
            component_app_id: &id,
            app_id: &app_id,
            refresh_token: &hidden,
        };
        let start = StartPushTicket {
            component_app_id: &id,
            secret: &secret,
        };
        for (request, needs_token, json) in [
            (
                token.request(),
                false,
                format!(
                    r#"{{"component_appid":"wx0c","component_appsecret":"{SECRET}","component_verify_ticket":"ticket@@@hush"}}"#
                ),
            ),
            (
                query.request(),
                true,
                r#"{"component_appid":"wx0c","authorization_code":"ticket@@@hush"}"#.into(),
            ),
            (
                renew.request(),
                true,
                r#"{"component_appid":"wx0c","authorizer_appid":"wx01","authorizer_refresh_token":"ticket@@@hush"}"#
                    .into(),
            ),
            (
                start.request(),
                false,
                format!(r#"{{"component_appid":"wx0c","component_secret":"{SECRET}"}}"#),
            ),
        ] {
            let request = request.unwrap();
            assert_eq!(request.json(), Some(&*json));
            assert_eq!(request.needs_token, needs_token, "{json}");
            let shown = format!("{request:?}");
            assert!(!shown.contains("hush") && !shown.contains(SECRET), "{shown}");
        }
        let shown = format!("{token:?}{query:?}{renew:?}{start:?}");
        assert!(
            !shown.contains("hush") && !shown.contains(SECRET),
            "{shown}"
        );
    }

    #[test]
    fn answers_are_read_with_and_without_what_may_be_missing() {
        let fresh =
            ComponentToken::answer(br#"{"component_access_token":"c-1","expires_in":7200}"#);
        assert_eq!(fresh.unwrap().expose(), "c-1");

        let whole = QueryAuth::answer(
            br#"{"authorization_info":{"authorizer_appid":"wx01","authorizer_access_token":"a-1",
            "expires_in":7200,"authorizer_refresh_token":"refreshtoken@@@1","func_info":[
            {"funcscope_category":{"id":7,"type":1}},{"funcscope_category":{"id":1}},
            {"funcscope_category":{"id":1},"confirm_info":{"need_confirm":1}}]}}"#,
        );
        let whole = whole.unwrap().authorization_info;
        assert_eq!(whole.app_id.unwrap().as_str(), "wx01");
        assert_eq!(whole.token.unwrap().expose(), "a-1");
        assert_eq!(whole.refresh_token.unwrap().expose(), "refreshtoken@@@1");
        assert_eq!(whole.permission_sets, [1, 7]);

        let bare = QueryAuth::answer(br#"{"authorization_info":{"authorizer_appid":"wx01"}}"#);
        let bare = bare.unwrap().authorization_info;
        assert!(bare.token.is_none() && bare.refresh_token.is_none());

        let info = GetAuthorizerInfo::answer(
            r#"{"authorizer_info":{"nick_name":"茶馆","service_type_info":{"id":2,"name":"x"},
            "user_name":"gh_1","account_status":1,"unknown":{}},"authorization_info":{
            "authorization_appid":"wx01","authorizer_refresh_token":"","func_info":null}}"#
                .as_bytes(),
        );
        let info = info.unwrap();
        assert_eq!(info.authorizer_info.service_type_info.id, Some(2));
        assert_eq!(info.authorization_info.app_id.unwrap().as_str(), "wx01");
        assert!(info.authorization_info.refresh_token.is_none());

        let page = GetAuthorizerList::answer(
            br#"{"total_count":2,"list":[{"authorizer_appid":"wx01","refresh_token":"r","auth_time":5},
            {"authorizer_appid":"wx02","refresh_token":""}]}"#,
        );
        let page = page.unwrap();
        assert_eq!(page.list[0].refresh_token().unwrap().expose(), "r");
        assert!(page.list[1].refresh_token().is_none());
    }

    #[test]
    fn a_page_has_one_to_five_hundred_authorisers() {
        let id = AppId::parse("wx0c").unwrap();
        for (count, fits) in [(0, false), (1, true), (500, true), (501, false)] {
            let call = GetAuthorizerList {
                component_app_id: &id,
                offset: 0,
                count,
            };
            assert_eq!(call.request().is_ok(), fits, "{count}");
        }
    }
}
