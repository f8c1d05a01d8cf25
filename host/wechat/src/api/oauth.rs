//! Web authorisation (网页授权): who has come back with a code, and what they let an account know of them. The
//! tokens of these calls are a user's; no other call takes them.
//!
//! Codes and refresh tokens are proved for the account: by its AppSecret, or by the third-party platform that
//! serves it.

use serde::Deserialize;

use super::answer;
use super::component::Secret;
use super::limit::InvalidCall;
use super::user::Language;
use super::{Call, Done, Request};
use crate::id::{AppId, OpenId};
use crate::secret::AppSecret;

/// By what right an account asks.
#[derive(Clone, Copy, Debug)]
pub enum Right<'a> {
    /// By its own secret.
    Secret(&'a AppSecret),
    /// By the platform that serves it, whose token the call takes.
    Platform(&'a AppId),
}

/// `GET /sns/oauth2/access_token`: who has come with a code. A code is good for one such call, within five
/// minutes.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeCode<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// By what right.
    pub right: Right<'a>,
    /// What the redirect brought.
    pub code: &'a Secret,
}

/// `GET /sns/oauth2/refresh_token`: the user's token for two hours more. The refresh token stays the same, for
/// thirty days from the authorisation.
#[derive(Clone, Copy, Debug)]
pub struct RefreshGrant<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// The platform that serves it, whose token the call takes.
    pub platform: Option<&'a AppId>,
    /// What the exchange brought.
    pub refresh_token: &'a Secret,
}

/// `GET /sns/userinfo`: the user's profile, with the user's own token, which was granted `snsapi_userinfo`.
#[derive(Clone, Copy, Debug)]
pub struct UserInfo<'a> {
    /// Who.
    pub open_id: &'a OpenId,
    /// The language of what is translated.
    pub language: Language,
}

/// `GET /sns/auth`: whether a user's own token is good.
#[derive(Clone, Copy, Debug)]
pub struct CheckGrant<'a> {
    /// Who.
    pub open_id: &'a OpenId,
}

/// What a user has granted.
#[derive(Clone, Debug, Deserialize)]
pub struct UserGrant {
    /// The user's token.
    pub access_token: Secret,
    /// Seconds that it is good for.
    #[serde(deserialize_with = "answer::number")]
    pub expires_in: u64,
    /// What the next one is got with.
    #[serde(default)]
    pub refresh_token: Option<Secret>,
    /// Who, for this account.
    #[serde(rename = "openid")]
    pub open_id: String,
    /// What was granted, words with commas between.
    #[serde(default)]
    pub scope: String,
    /// 1 where it is nobody: a page was looked at without being opened (快照页).
    #[serde(default, deserialize_with = "answer::optional_number")]
    is_snapshotuser: Option<u64>,
    /// Who, for all accounts of an Open Platform account.
    #[serde(default, rename = "unionid")]
    pub union_id: Option<String>,
}

impl UserGrant {
    /// Whether it is a virtual account, of somebody who only looks at a snapshot of the page.
    pub fn is_snapshot_user(&self) -> bool {
        self.is_snapshotuser == Some(1)
    }

    /// When the token ends, Unix milliseconds, where it was asked for at `asked_at_ms`.
    pub fn ends_at_ms(&self, asked_at_ms: i64) -> i64 {
        let lives_ms = self.expires_in.saturating_mul(1000);
        asked_at_ms.saturating_add_unsigned(lives_ms)
    }
}

/// What a user lets an account see of them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Profile {
    /// Who, for this account.
    #[serde(rename = "openid")]
    pub open_id: String,
    /// As they call themselves.
    pub nickname: String,
    /// Address of their picture.
    pub headimgurl: String,
    /// 0 unknown, which it is of most; 1 male, 2 female.
    #[serde(deserialize_with = "answer::optional_number")]
    pub sex: Option<u64>,
    /// Empty for most.
    pub province: String,
    /// Empty for most.
    pub city: String,
    /// Empty for most.
    pub country: String,
    /// Who, for all accounts of an Open Platform account.
    #[serde(rename = "unionid")]
    pub union_id: Option<String>,
}

/// The parameter in which a platform's token stands on these calls.
const COMPONENT_TOKEN: &str = "component_access_token";

impl Call for ExchangeCode<'_> {
    type Answer = UserGrant;

    fn request(&self) -> Result<Request, InvalidCall> {
        let path = match self.right {
            Right::Secret(_) => "/sns/oauth2/access_token",
            Right::Platform(_) => "/sns/oauth2/component/access_token",
        };
        let mut request = Request::get(path).with("appid", self.app_id.as_str());
        if let Right::Secret(secret) = self.right {
            request = request.without_token().with("secret", secret.expose());
        }
        request = request
            .with("code", self.code.expose())
            .with("grant_type", "authorization_code");
        if let Right::Platform(platform) = self.right {
            request = request
                .with("component_appid", platform.as_str())
                .with_token_in(COMPONENT_TOKEN);
        }
        // Whether a code was used up by an answer that is lost is not known.
        request.idempotent = false;
        Ok(request)
    }
}

impl Call for RefreshGrant<'_> {
    type Answer = UserGrant;

    fn request(&self) -> Result<Request, InvalidCall> {
        let path = match self.platform {
            None => "/sns/oauth2/refresh_token",
            Some(_) => "/sns/oauth2/component/refresh_token",
        };
        let request = Request::get(path)
            .with("appid", self.app_id.as_str())
            .with("grant_type", "refresh_token");
        let request = match self.platform {
            None => request.without_token(),
            Some(platform) => request
                .with("component_appid", platform.as_str())
                .with_token_in(COMPONENT_TOKEN),
        };
        Ok(request.with("refresh_token", self.refresh_token.expose()))
    }
}

impl Call for UserInfo<'_> {
    type Answer = Profile;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/sns/userinfo")
            .with("openid", self.open_id.as_str())
            .with("lang", self.language.as_str()))
    }
}

impl Call for CheckGrant<'_> {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/sns/auth").with("openid", self.open_id.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line};
    use super::*;

    fn parts() -> (AppId, AppId, OpenId, AppSecret, Secret) {
        let secret = AppSecret::parse("0123456789abcdef0123456789abcdef").unwrap();
        (
            AppId::parse("wx01").unwrap(),
            AppId::parse("wx0c").unwrap(),
            OpenId::parse("o1").unwrap(),
            secret,
            Secret::parse("c1").unwrap(),
        )
    }

    #[test]
    fn calls_are_the_documents() {
        let (app_id, platform, open_id, secret, code) = parts();
        let by_secret = ExchangeCode {
            app_id: &app_id,
            right: Right::Secret(&secret),
            code: &code,
        };
        assert_eq!(
            line(&by_secret),
            "GET /sns/oauth2/access_token?appid=wx01&secret=0123456789abcdef0123456789abcdef\
             &code=c1&grant_type=authorization_code"
        );
        let by_platform = ExchangeCode {
            right: Right::Platform(&platform),
            ..by_secret
        };
        assert_eq!(
            line(&by_platform),
            "GET /sns/oauth2/component/access_token?appid=wx01&code=c1\
             &grant_type=authorization_code&component_appid=wx0c"
        );
        let (own, theirs) = (by_secret.request().unwrap(), by_platform.request().unwrap());
        assert!(!own.needs_token && !own.idempotent && !theirs.idempotent);
        assert!(theirs.needs_token && theirs.token_name == "component_access_token");

        let mut refresh = RefreshGrant {
            app_id: &app_id,
            platform: None,
            refresh_token: &code,
        };
        assert_eq!(
            line(&refresh),
            "GET /sns/oauth2/refresh_token?appid=wx01&grant_type=refresh_token&refresh_token=c1"
        );
        assert!(!refresh.request().unwrap().needs_token);
        refresh.platform = Some(&platform);
        assert_eq!(
            line(&refresh),
            "GET /sns/oauth2/component/refresh_token?appid=wx01&grant_type=refresh_token\
             &component_appid=wx0c&refresh_token=c1"
        );

        let info = UserInfo {
            open_id: &open_id,
            language: Language::Simplified,
        };
        assert_eq!(line(&info), "GET /sns/userinfo?openid=o1&lang=zh_CN");
        assert_eq!(info.request().unwrap().token_name, "access_token");
        let check = CheckGrant { open_id: &open_id };
        assert_eq!(line(&check), "GET /sns/auth?openid=o1");
    }

    #[test]
    fn answers_are_the_documents() {
        let (app_id, _, open_id, secret, code) = parts();
        let exchange = ExchangeCode {
            app_id: &app_id,
            right: Right::Secret(&secret),
            code: &code,
        };
        let granted = answer(
            &exchange,
            r#"{"access_token":"t1","expires_in":7200,"refresh_token":"r1","openid":"o1",
                "scope":"snsapi_base"}"#,
        );
        assert_eq!(
            (
                granted.access_token.expose(),
                granted.expires_in,
                &*granted.open_id
            ),
            ("t1", 7200, "o1")
        );
        assert!(!granted.is_snapshot_user() && granted.union_id.is_none());
        let snapshot = answer(
            &exchange,
            r#"{"access_token":"t1","expires_in":"7200","openid":"o1","is_snapshotuser":1,
                "unionid":"u1","scope":"snsapi_userinfo"}"#,
        );
        assert!(snapshot.is_snapshot_user());
        assert_eq!(snapshot.union_id.as_deref(), Some("u1"));

        let info = UserInfo {
            open_id: &open_id,
            language: Language::Simplified,
        };
        let profile = answer(
            &info,
            r#"{"openid":"o1","nickname":"小茶","sex":0,"province":"","city":"","country":"",
                "headimgurl":"https://thirdwx.qlogo.cn/mmopen/x/132","privilege":[]}"#,
        );
        assert_eq!((&*profile.nickname, profile.sex), ("小茶", Some(0)));
    }
}
