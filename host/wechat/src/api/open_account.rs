//! Open Platform accounts (开放平台账号): what gives a person one union id over several accounts. Called with
//! an account's token by a third-party platform that holds permission set 24; an account belongs to one at
//! most.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Done, Request};

/// Most bytes of an Open Platform account's id.
const MAX_ID_BYTES: usize = 128;

/// `POST /cgi-bin/open/create`: makes one, and binds the account to it. It is unverified: of the account's
/// own subject only, with five members at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Create {}

/// `POST /cgi-bin/open/bind`: binds the account to one.
#[derive(Clone, Debug, Serialize)]
pub struct Bind {
    /// Which.
    pub open_appid: String,
}

/// `POST /cgi-bin/open/unbind`: takes the account out of one.
#[derive(Clone, Debug, Serialize)]
pub struct Unbind {
    /// Which.
    pub open_appid: String,
}

/// `POST /cgi-bin/open/get`: which one the account belongs to; 89002 if none.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Get {}

/// An Open Platform account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct OpenAccount {
    /// Its id.
    pub open_appid: String,
}

impl Call for Create {
    type Answer = OpenAccount;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::post("/cgi-bin/open/create", self)
    }
}

impl Call for Bind {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::bytes("open_appid", &self.open_appid, 1..=MAX_ID_BYTES)?;
        Request::post("/cgi-bin/open/bind", self)
    }
}

impl Call for Unbind {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::bytes("open_appid", &self.open_appid, 1..=MAX_ID_BYTES)?;
        Request::post("/cgi-bin/open/unbind", self)
    }
}

impl Call for Get {
    type Answer = OpenAccount;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/open/get", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_the_documents() {
        assert_eq!(Create {}.request().unwrap().json(), Some("{}"));
        let bind = Bind {
            open_appid: "wxo".into(),
        };
        assert_eq!(
            bind.request().unwrap().json(),
            Some(r#"{"open_appid":"wxo"}"#)
        );
        let nobody = Unbind {
            open_appid: String::new(),
        };
        assert!(nobody.request().is_err());
        let made = Create::answer(br#"{"open_appid":"wxo","errcode":0,"errmsg":"ok"}"#).unwrap();
        assert_eq!(made.open_appid, "wxo");
        let none = Get::answer(br#"{"errcode":89002,"errmsg":"open not exists"}"#);
        assert!(none.is_err());
    }
}
