//! Customer-service sessions (会话控制) and what was said in them (聊天记录).

use serde::{Deserialize, Serialize};

use super::kf_account::check_account;
use super::limit::{self, InvalidCall};
use super::{Call, Done, LongId, Request, answer};
use crate::id::OpenId;

/// Longest time that is looked at at once: a day.
pub const MAX_HISTORY_SECONDS: u64 = 86_400;
/// Most records of an answer.
pub const MAX_RECORDS: u32 = 10_000;

/// `POST /customservice/kfsession/create`: lets an account that is there answer a user.
#[derive(Clone, Debug, Serialize)]
pub struct Create {
    /// Such as `test1@test`.
    pub kf_account: String,
    /// The user.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
}

/// `POST /customservice/kfsession/close`.
#[derive(Clone, Debug, Serialize)]
pub struct Close {
    /// Such as `test1@test`.
    pub kf_account: String,
    /// The user.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
}

/// `GET /customservice/kfsession/getsession`: who answers a user.
#[derive(Clone, Debug)]
pub struct OfUser {
    /// The user.
    pub open_id: OpenId,
}

/// `GET /customservice/kfsession/getsessionlist`: whom an account answers.
#[derive(Clone, Debug)]
pub struct OfAccount {
    /// Such as `test1@test`.
    pub kf_account: String,
}

/// `GET /customservice/kfsession/getwaitcase`: who waits, the longest waiting first; 100 at most.
#[derive(Clone, Copy, Debug)]
pub struct Waiting;

/// `POST /customservice/msgrecord/getmsglist`: what was said, oldest first.
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// Unix seconds.
    #[serde(rename = "starttime")]
    pub start: u64,
    /// Unix seconds; [`MAX_HISTORY_SECONDS`] after `start` at most.
    #[serde(rename = "endtime")]
    pub end: u64,
    /// 1 at first, then [`Records::next`].
    #[serde(rename = "msgid")]
    pub from: LongId,
    /// How many, 1 to [`MAX_RECORDS`].
    pub number: u32,
}

/// Who answers a user.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Session {
    /// Such as `test1@test`; None for nobody.
    #[serde(default, deserialize_with = "answer::non_empty")]
    pub kf_account: Option<String>,
    /// Unix seconds.
    #[serde(default, rename = "createtime", deserialize_with = "answer::number")]
    pub created: u64,
}

/// Whom an account answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Sessions {
    /// The users.
    #[serde(rename = "sessionlist")]
    pub sessions: Vec<AccountSession>,
}

/// Whom an account answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct AccountSession {
    /// The user.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
    /// Unix seconds.
    #[serde(rename = "createtime", deserialize_with = "answer::number")]
    pub created: u64,
}

/// Who waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct WaitingList {
    /// How many users wait.
    #[serde(deserialize_with = "answer::number")]
    pub count: u64,
    /// The first of them.
    #[serde(default, rename = "waitcaselist")]
    pub users: Vec<WaitingUser>,
}

/// One who waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct WaitingUser {
    /// The user.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
    /// When the user wrote last, Unix seconds.
    #[serde(rename = "latest_time", deserialize_with = "answer::number")]
    pub wrote: u64,
}

/// What was said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Records {
    /// The records.
    #[serde(default, rename = "recordlist")]
    pub records: Vec<Record>,
    /// How many they are; fewer than asked for end the history.
    #[serde(deserialize_with = "answer::number")]
    pub number: u64,
    /// Where to go on.
    #[serde(rename = "msgid")]
    pub next: LongId,
}

/// Something that was said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Record {
    /// The user.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
    /// 2002 said by the account, 2003 by the user.
    #[serde(deserialize_with = "answer::number")]
    pub opercode: u64,
    /// The words; a mark such as `[图片]` for what is not text.
    #[serde(default)]
    pub text: String,
    /// Unix seconds.
    #[serde(deserialize_with = "answer::number")]
    pub time: u64,
    /// Such as `test1@test`.
    #[serde(default)]
    pub worker: String,
}

impl Call for Create {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        Request::post("/customservice/kfsession/create", self)
    }
}

impl Call for Close {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        Request::post("/customservice/kfsession/close", self)
    }
}

impl Call for OfUser {
    type Answer = Session;

    fn request(&self) -> Result<Request, InvalidCall> {
        let request = Request::get("/customservice/kfsession/getsession");
        Ok(request.with("openid", self.open_id.as_str()))
    }
}

impl Call for OfAccount {
    type Answer = Sessions;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        let request = Request::get("/customservice/kfsession/getsessionlist");
        Ok(request.with("kf_account", &self.kf_account))
    }
}

impl Call for Waiting {
    type Answer = WaitingList;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/customservice/kfsession/getwaitcase"))
    }
}

impl Call for History {
    type Answer = Records;

    fn request(&self) -> Result<Request, InvalidCall> {
        let latest = self.start.saturating_add(MAX_HISTORY_SECONDS);
        limit::range("endtime", self.end, self.start..=latest)?;
        limit::range("msgid", self.from.0, 1..=u64::MAX)?;
        limit::range("number", self.number, 1..=MAX_RECORDS.into())?;
        Request::ask("/customservice/msgrecord/getmsglist", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn history() -> History {
        History {
            start: 987_654_321,
            end: 987_654_321 + 86_400,
            from: LongId(1),
            number: 10_000,
        }
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let (kf_account, open_id) = (|| "test1@test".to_owned(), || OpenId::parse("oA").unwrap());
        check(
            line(&Create {
                kf_account: kf_account(),
                open_id: open_id(),
            }),
            r#"POST /customservice/kfsession/create {"kf_account":"test1@test","openid":"oA"}"#,
        );
        check(
            line(&Close {
                kf_account: kf_account(),
                open_id: open_id(),
            }),
            r#"POST /customservice/kfsession/close {"kf_account":"test1@test","openid":"oA"}"#,
        );
        check(
            line(&OfUser { open_id: open_id() }),
            "GET /customservice/kfsession/getsession?openid=oA",
        );
        check(
            line(&OfAccount {
                kf_account: kf_account(),
            }),
            "GET /customservice/kfsession/getsessionlist?kf_account=test1@test",
        );
        check(line(&Waiting), "GET /customservice/kfsession/getwaitcase");
        check(
            line(&history()),
            r#"POST /customservice/msgrecord/getmsglist {"starttime":987654321,"endtime":987740721,"msgid":1,"number":10000}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let of_user = OfUser {
            open_id: OpenId::parse("oA").unwrap(),
        };
        let session = answer(
            &of_user,
            r#"{"createtime":123456789,"kf_account":"test1@test"}"#,
        );
        assert_eq!(
            (session.created, session.kf_account.as_deref()),
            (123_456_789, Some("test1@test"))
        );
        assert_eq!(
            answer(&of_user, r#"{"createtime":0,"kf_account":""}"#).kf_account,
            None
        );
        let of_account = OfAccount {
            kf_account: "test1@test".into(),
        };
        let sessions = answer(
            &of_account,
            r#"{"sessionlist":[{"createtime":1,"openid":"oA"}]}"#,
        );
        assert_eq!(sessions.sessions[0].open_id.as_str(), "oA");
        let waiting = answer(
            &Waiting,
            r#"{"count":150,"waitcaselist":[{"latest_time":1,"openid":"oA"}]}"#,
        );
        assert_eq!((waiting.count, waiting.users.len()), (150, 1));
        let records = answer(
            &history(),
            r#"{"recordlist":[{"openid":"oA","opercode":2002,"text":"您好，客服test1为您服务。","time":1400563710,
            "worker":"test1@test"}],"number":1,"msgid":20165267}"#,
        );
        assert_eq!(
            (records.next, records.records[0].opercode),
            (LongId(20_165_267), 2002)
        );
    }

    #[test]
    fn limits_hold() {
        let check = |history: History, expected: &str| assert_eq!(refused(&history), expected);
        let end = |end| History { end, ..history() };
        check(
            end(987_740_722),
            "endtime is 987740722, 987654321 to 987740721 is allowed",
        );
        check(
            end(987_654_320),
            "endtime is 987654320, 987654321 to 987740721 is allowed",
        );
        check(
            History {
                number: 10_001,
                ..history()
            },
            "number is 10001, 1 to 10000 is allowed",
        );
        let from = LongId(0);
        check(
            History { from, ..history() },
            "msgid is 0, 1 to 18446744073709551615 is allowed",
        );
        let of_account = OfAccount {
            kf_account: "test1&a=b".into(),
        };
        assert_eq!(refused(&of_account), "kf_account is not name@account");
    }
}
