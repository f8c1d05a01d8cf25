//! Credentials (获取 Access token, 获取稳定版接口调用凭据, 获取 ticket): the calls that give out the tokens and
//! tickets which every other call and every web page needs.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::answer;
use super::{Call, InvalidCall, Request};
use crate::errcode::{ApiError, OnCall};
use crate::id::AppId;
use crate::secret::AppSecret;

/// Most bytes of a token or ticket that we keep. WeChat promises 512 and gives about 200.
pub const MAX_BYTES: usize = 2048;

/// `POST /cgi-bin/stable_token`: answers the same token until five minutes before it expires. Ten
/// thousand calls a minute, 500,000 a day.
#[derive(Clone, Debug)]
pub struct StableToken<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// Its AppSecret.
    pub secret: &'a AppSecret,
    /// Makes a new token and ends the one before at once: 20 a day, 30 seconds apart.
    pub force_refresh: bool,
}

/// `GET /cgi-bin/token`: makes a new token each time; the one before ends five minutes later. 2,000
/// calls a day.
#[derive(Clone, Debug)]
pub struct ClassicToken<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// Its AppSecret.
    pub secret: &'a AppSecret,
}

/// `GET /cgi-bin/ticket/getticket`: a ticket for signatures, the same until it expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ticket {
    /// For pages, see [`crate::jssdk::signature`].
    Jsapi,
    /// For cards, see [`crate::jssdk::card_signature`].
    Card,
}

/// A token or ticket, just got.
#[derive(Clone, Deserialize)]
#[serde(try_from = "Answer")]
pub struct Fresh {
    value: SecretString,
    /// Seconds that it is valid for, counted from when WeChat answered; at least 1.
    pub expires_in_seconds: u64,
}

impl Fresh {
    pub(super) fn new(value: &str, expires_in_seconds: u64) -> Result<Self, &'static str> {
        Self::try_from(Answer {
            access_token: value.into(),
            expires_in: expires_in_seconds,
        })
    }

    /// The token or ticket itself: visible ASCII characters, [`MAX_BYTES`] at most.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }

    /// Itself, to keep.
    pub fn into_value(self) -> SecretString {
        self.value
    }
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fresh(…, {} s)", self.expires_in_seconds)
    }
}

/// What a refused token call says: it answers a wrong AppSecret with 40001, which elsewhere means a
/// token that has ended.
pub fn refused(refusal: &ApiError) -> OnCall {
    refusal.errcode.on(STABLE_PATH)
}

/// Whether a refused token call waits for the account's owner.
pub fn needs_owner(refusal: &ApiError) -> bool {
    refused(refusal).needs_owner()
}

#[derive(Serialize)]
struct StableBody<'a> {
    grant_type: &'static str,
    appid: &'a AppId,
    secret: &'a str,
    force_refresh: bool,
}

impl Call for StableToken<'_> {
    type Answer = Fresh;

    fn request(&self) -> Result<Request, InvalidCall> {
        let body = StableBody {
            grant_type: GRANT_TYPE,
            appid: self.app_id,
            secret: self.secret.expose(),
            force_refresh: self.force_refresh,
        };
        let request = match self.force_refresh {
            false => Request::ask(STABLE_PATH, &body),
            true => Request::post(STABLE_PATH, &body),
        };
        Ok(request?.without_token())
    }
}

impl Call for ClassicToken<'_> {
    type Answer = Fresh;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request {
            // Each success makes a token.
            idempotent: false,
            ..Request::get("/cgi-bin/token")
                .without_token()
                .with("grant_type", GRANT_TYPE)
                .with("appid", self.app_id.as_str())
                .with("secret", self.secret.expose())
        })
    }
}

impl Call for Ticket {
    type Answer = Fresh;

    fn request(&self) -> Result<Request, InvalidCall> {
        let kind = match self {
            Ticket::Jsapi => "jsapi",
            Ticket::Card => "wx_card",
        };
        Ok(Request::get(TICKET_PATH).with("type", kind))
    }
}

const GRANT_TYPE: &str = "client_credential";
/// Where tickets come from.
pub const TICKET_PATH: &str = "/cgi-bin/ticket/getticket";
/// Where stable tokens come from. Codes mean the same where classic ones do.
pub const STABLE_PATH: &str = "/cgi-bin/stable_token";

#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "ticket", alias = "component_access_token")]
    access_token: SecretString,
    #[serde(deserialize_with = "answer::number")]
    expires_in: u64,
}

impl TryFrom<Answer> for Fresh {
    type Error = &'static str;

    fn try_from(answer: Answer) -> Result<Self, Self::Error> {
        let value = answer.access_token.expose_secret();
        let fits = (1..=MAX_BYTES).contains(&value.len());
        if !fits || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("not a token");
        }
        if answer.expires_in == 0 {
            return Err("expired");
        }
        Ok(Self {
            value: answer.access_token,
            expires_in_seconds: answer.expires_in,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Method;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn requests_are_the_documents() {
        let (app_id, secret) = (
            AppId::parse("wx01").unwrap(),
            AppSecret::parse(SECRET).unwrap(),
        );
        let stable = StableToken {
            app_id: &app_id,
            secret: &secret,
            force_refresh: false,
        };
        let request = stable.request().unwrap();
        assert_eq!(
            (request.method, &*request.path),
            (Method::Post, "/cgi-bin/stable_token")
        );
        assert_eq!(
            request.json().unwrap(),
            format!(
                r#"{{"grant_type":"client_credential","appid":"wx01","secret":"{SECRET}","force_refresh":false}}"#
            )
        );
        assert!(!request.needs_token && request.idempotent);
        let forced = StableToken {
            force_refresh: true,
            ..stable.clone()
        };
        assert!(!forced.request().unwrap().idempotent);

        let classic = ClassicToken {
            app_id: &app_id,
            secret: &secret,
        };
        let request = classic.request().unwrap();
        assert_eq!(
            (request.method, &*request.path),
            (Method::Get, "/cgi-bin/token")
        );
        let query: Vec<_> = request
            .query
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            query,
            [
                ("grant_type", "client_credential"),
                ("appid", "wx01"),
                ("secret", SECRET)
            ]
        );
        assert!(!request.needs_token && !request.idempotent);

        let request = Ticket::Card.request().unwrap();
        assert_eq!(request.query, [("type".into(), "wx_card".to_owned())]);
        assert!(request.needs_token);
        for shown in [format!("{stable:?}{classic:?}"), format!("{request:?}")] {
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }

    #[test]
    fn fresh_token_is_read_and_hidden() {
        let fresh =
            StableToken::answer(br#"{"access_token":"76_aB-c","expires_in":"7200"}"#).unwrap();
        assert_eq!(
            (fresh.expose(), fresh.expires_in_seconds),
            ("76_aB-c", 7200)
        );
        assert_eq!(format!("{fresh:?}"), "Fresh(…, 7200 s)");
        let ticket =
            Ticket::answer(br#"{"errcode":0,"errmsg":"ok","ticket":"t-1","expires_in":1}"#);
        assert_eq!(ticket.unwrap().expose(), "t-1");
    }

    #[test]
    fn token_that_could_break_a_header_or_query_is_refused() {
        for token in ["", " ", "a b", "a\\nb", "令牌", &"a".repeat(MAX_BYTES + 1)] {
            let body = format!(r#"{{"access_token":"{token}","expires_in":7200}}"#);
            let error = StableToken::answer(body.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("a b"), "{error}");
        }
        for expires_in in ["0", "-1", "null", "\"soon\""] {
            let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
            assert!(
                StableToken::answer(body.as_bytes()).is_err(),
                "{expires_in}"
            );
        }
    }

    #[test]
    fn wrong_secret_waits_for_the_owner() {
        let needs = |code: i64| {
            let body = format!(r#"{{"errcode":{code},"errmsg":"no"}}"#);
            needs_owner(&crate::errcode::read(body.as_bytes()).unwrap_err())
        };
        assert!(needs(40001) && needs(40013) && needs(40125) && needs(40164) && needs(50007));
        assert!(!needs(-1) && !needs(45009) && !needs(45011) && !needs(42001));
    }
}
