//! Quotas (API调用次数) and request ids: what is left of a day's calls, and what became of one.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Done, Request, answer};
use crate::id::AppId;
use crate::secret::AppSecret;

/// `POST /cgi-bin/openapi/quota/get`.
#[derive(Clone, Debug, Serialize)]
pub struct Get {
    /// Such as `/cgi-bin/message/custom/send`.
    pub cgi_path: String,
}

/// `POST /cgi-bin/openapi/quota/clear`: begins one API's day anew.
#[derive(Clone, Debug, Serialize)]
pub struct ClearPath {
    /// Such as `/cgi-bin/message/custom/send`.
    pub cgi_path: String,
}

/// `POST /cgi-bin/clear_quota`: begins the day of all APIs anew. Ten a month, those in WeChat's console
/// included (48006).
#[derive(Clone, Debug, Serialize)]
pub struct Clear {
    /// The account.
    #[serde(rename = "appid")]
    pub app_id: AppId,
}

/// `POST /cgi-bin/clear_quota/v2`: the same without a token, for when none is to be had any more.
#[derive(Clone, Debug)]
pub struct ClearWithSecret<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// Its AppSecret.
    pub secret: &'a AppSecret,
}

/// `POST /cgi-bin/openapi/rid/get`: what WeChat kept of a call, for seven days.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// Its id, as [`crate::errcode::ApiError::rid`] has it.
    pub rid: String,
}

/// What is left of an API's calls.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Quotas {
    /// Of this day's, in Beijing.
    pub quota: Quota,
    /// How fast the account may call.
    #[serde(default)]
    pub rate_limit: Option<Rate>,
    /// How fast its third-party platform may call.
    #[serde(default)]
    pub component_rate_limit: Option<Rate>,
}

/// What is left of a day's calls.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Quota {
    /// Calls a day.
    #[serde(deserialize_with = "answer::number")]
    pub daily_limit: u64,
    /// Calls so far.
    #[serde(deserialize_with = "answer::number")]
    pub used: u64,
    /// Calls left.
    #[serde(deserialize_with = "answer::number")]
    pub remain: u64,
}

/// So many calls in so much time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Rate {
    /// The calls.
    #[serde(deserialize_with = "answer::number")]
    pub call_count: u64,
    /// The time.
    #[serde(deserialize_with = "answer::number")]
    pub refresh_second: u64,
}

/// What became of a call.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Traced {
    /// The call.
    pub request: TracedRequest,
}

/// A call that WeChat remembers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct TracedRequest {
    /// Unix seconds.
    #[serde(deserialize_with = "answer::number")]
    pub invoke_time: u64,
    /// How long it took.
    #[serde(rename = "cost_in_ms", deserialize_with = "answer::number")]
    pub cost_ms: u64,
    /// Its query.
    #[serde(default)]
    pub request_url: String,
    /// What was posted.
    #[serde(default)]
    pub request_body: String,
    /// What was answered.
    #[serde(default)]
    pub response_body: String,
    /// Where it came from.
    #[serde(default)]
    pub client_ip: String,
}

impl Call for Get {
    type Answer = Quotas;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_path(&self.cgi_path)?;
        Request::ask("/cgi-bin/openapi/quota/get", self)
    }
}

impl Call for ClearPath {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_path(&self.cgi_path)?;
        Request::post("/cgi-bin/openapi/quota/clear", self)
    }
}

impl Call for Clear {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::post("/cgi-bin/clear_quota", self)
    }
}

impl Call for ClearWithSecret<'_> {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        let body = SecretBody {
            appid: self.app_id,
            appsecret: self.secret.expose(),
        };
        Ok(Request::post("/cgi-bin/clear_quota/v2", &body)?.without_token())
    }
}

impl Call for Trace {
    type Answer = Traced;

    fn request(&self) -> Result<Request, InvalidCall> {
        let is_part =
            |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parts = self.rid.split('-');
        let is_rid = parts.clone().count() == 3 && parts.clone().all(is_part);
        limit::demand(
            is_rid,
            "rid",
            "is not three groups of eight hexadecimal digits",
        )?;
        Request::ask("/cgi-bin/openapi/rid/get", self)
    }
}

/// WeChat answers 76003 to a host, 76021 to what it does not know.
fn check_path(path: &str) -> Result<(), InvalidCall> {
    let is_path = path.starts_with('/') && !path.starts_with("//") && path.len() > 1;
    limit::demand(
        is_path,
        "cgi_path",
        "is not a path from / on, without a host",
    )?;
    limit::demand(!path.contains(['?', '#']), "cgi_path", "has a query")
}

#[derive(Serialize)]
struct SecretBody<'a> {
    appid: &'a AppId,
    appsecret: &'a str,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn get(path: &str) -> Get {
        Get {
            cgi_path: path.into(),
        }
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let (app_id, secret) = (AppId::parse("wx01").unwrap(), "0123456789abcdef");
        check(
            line(&get("/cgi-bin/message/custom/send")),
            r#"POST /cgi-bin/openapi/quota/get {"cgi_path":"/cgi-bin/message/custom/send"}"#,
        );
        check(
            line(&ClearPath {
                cgi_path: "/cgi-bin/user/get".into(),
            }),
            r#"POST /cgi-bin/openapi/quota/clear {"cgi_path":"/cgi-bin/user/get"}"#,
        );
        check(
            line(&Clear {
                app_id: app_id.clone(),
            }),
            r#"POST /cgi-bin/clear_quota {"appid":"wx01"}"#,
        );
        let secret = AppSecret::parse(secret).unwrap();
        let with_secret = ClearWithSecret {
            app_id: &app_id,
            secret: &secret,
        };
        check(
            line(&with_secret),
            r#"POST /cgi-bin/clear_quota/v2 {"appid":"wx01","appsecret":"0123456789abcdef"}"#,
        );
        assert!(!with_secret.request().unwrap().needs_token);
        assert!(!format!("{with_secret:?}").contains("0123456789abcdef"));
        check(
            line(&Trace {
                rid: "61725984-6126f6f9-040f19c4".into(),
            }),
            r#"POST /cgi-bin/openapi/rid/get {"rid":"61725984-6126f6f9-040f19c4"}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let quotas = answer(
            &get("/cgi-bin/user/get"),
            r#"{"errcode":0,"errmsg":"ok","quota":{"daily_limit":500,"used":1,"remain":499},
            "rate_limit":{"call_count":1000,"refresh_second":60}}"#,
        );
        assert_eq!(quotas.quota.remain, 499);
        assert_eq!(quotas.rate_limit.unwrap().refresh_second, 60);
        assert_eq!(quotas.component_rate_limit, None);
        let traced = answer(
            &Trace { rid: String::new() },
            r#"{"request":{"invoke_time":1635156704,"cost_in_ms":30,"request_url":"access_token=50_Im7xxxx",
            "request_body":"","response_body":"{\"errcode\":45009}","client_ip":"113.xx"}}"#,
        );
        assert_eq!(
            (traced.request.cost_ms, traced.request.invoke_time),
            (30, 1_635_156_704)
        );
    }

    #[test]
    fn limits_hold() {
        let path = "cgi_path is not a path from / on, without a host";
        for bad in [
            "",
            "/",
            "cgi-bin/user/get",
            "https://api.weixin.qq.com/cgi-bin/user/get",
            "//a/b",
        ] {
            assert_eq!(refused(&get(bad)), path, "{bad}");
        }
        assert_eq!(
            refused(&get("/cgi-bin/user/get?a=b")),
            "cgi_path has a query"
        );
        let rid = "rid is not three groups of eight hexadecimal digits";
        for bad in [
            "",
            "61725984-6126f6f9",
            "61725984-6126f6f9-040f19cx",
            "61725984-6126f6f9-040f19c4-0",
        ] {
            assert_eq!(refused(&Trace { rid: bad.into() }), rid, "{bad}");
        }
    }
}
