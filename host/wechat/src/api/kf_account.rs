//! Customer-service accounts (客服管理): the staff who answer in an account's name.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::media::{File, Kind};
use super::{Call, Done, Request, answer};

/// Most characters of the part before `@`.
pub const MAX_NAME_CHARACTERS: usize = 10;
/// Most characters of a nickname.
pub const MAX_NICKNAME_CHARACTERS: usize = 16;

/// `POST /customservice/kfaccount/add`: an official account has 100 of them.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// Such as `test1@test`: up to ten letters and digits, `@`, the official account's WeChat id.
    pub kf_account: String,
    /// What users see, [`MAX_NICKNAME_CHARACTERS`] at most.
    pub nickname: String,
}

/// `POST /customservice/kfaccount/update`: gives another nickname.
#[derive(Clone, Debug, Serialize)]
pub struct Update {
    /// Whose.
    pub kf_account: String,
    /// What users see, [`MAX_NICKNAME_CHARACTERS`] at most.
    pub nickname: String,
}

/// `POST /customservice/kfaccount/del`.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// Which.
    pub kf_account: String,
}

/// `POST /customservice/kfaccount/inviteworker`: asks a user to answer under this account.
#[derive(Clone, Debug, Serialize)]
pub struct Invite {
    /// Which.
    pub kf_account: String,
    /// The user's WeChat id.
    #[serde(rename = "invite_wx")]
    pub wechat_id: String,
}

/// `POST /customservice/kfaccount/uploadheadimg`: a picture, best 640 × 640 pixels.
#[derive(Clone, Debug)]
pub struct UploadPicture {
    /// Whose.
    pub kf_account: String,
    /// A JPG.
    pub file: File,
}

/// `GET /cgi-bin/customservice/getkflist`.
#[derive(Clone, Copy, Debug)]
pub struct List;

/// `GET /cgi-bin/customservice/getonlinekflist`: those who are there.
#[derive(Clone, Copy, Debug)]
pub struct Online;

/// All accounts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Accounts {
    /// The accounts.
    #[serde(rename = "kf_list")]
    pub accounts: Vec<Account>,
}

/// An account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Account {
    /// Such as `test1@test`.
    pub kf_account: String,
    /// What users see.
    #[serde(default, rename = "kf_nick")]
    pub nickname: String,
    /// Its number.
    #[serde(default, rename = "kf_id", deserialize_with = "answer::label")]
    pub id: String,
    /// Address of its picture.
    #[serde(default, rename = "kf_headimgurl")]
    pub picture_url: String,
    /// The user's WeChat id; None until an invitation is accepted.
    #[serde(default, rename = "kf_wx", deserialize_with = "answer::non_empty")]
    pub wechat_id: Option<String>,
}

/// Those who are there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct OnlineAccounts {
    /// The accounts.
    #[serde(rename = "kf_online_list")]
    pub accounts: Vec<OnlineAccount>,
}

/// One who is there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct OnlineAccount {
    /// Such as `test1@test`.
    pub kf_account: String,
    /// 1 on the web.
    #[serde(deserialize_with = "answer::number")]
    pub status: u64,
    /// Its number.
    #[serde(default, rename = "kf_id", deserialize_with = "answer::label")]
    pub id: String,
    /// How many users it talks with.
    #[serde(rename = "accepted_case", deserialize_with = "answer::number")]
    pub sessions: u64,
}

/// A name and the official account that it belongs to.
pub(super) fn check_account(kf_account: &str) -> Result<(), InvalidCall> {
    let (name, of) = kf_account.split_once('@').unwrap_or_default();
    let is_account = !of.is_empty() && !of.contains('@');
    limit::demand(is_account, "kf_account", "is not name@account")?;
    limit::characters("kf_account name", name, 1..=MAX_NAME_CHARACTERS)?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    limit::demand(
        is_plain,
        "kf_account name",
        "holds more than letters and digits",
    )
}

fn check_nickname(nickname: &str) -> Result<(), InvalidCall> {
    limit::characters("nickname", nickname, 1..=MAX_NICKNAME_CHARACTERS)
}

impl Call for Add {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        check_nickname(&self.nickname)?;
        Request::post("/customservice/kfaccount/add", self)
    }
}

impl Call for Update {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        check_nickname(&self.nickname)?;
        Request::ask("/customservice/kfaccount/update", self)
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        Request::post("/customservice/kfaccount/del", self)
    }
}

impl Call for Invite {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        limit::given("invite_wx", &self.wechat_id)?;
        Request::post("/customservice/kfaccount/inviteworker", self)
    }
}

impl Call for UploadPicture {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_account(&self.kf_account)?;
        let form = self.file.form(&["jpg", "jpeg"], Kind::Image.max_bytes())?;
        let request = Request::upload("/customservice/kfaccount/uploadheadimg", form);
        Ok(request.with("kf_account", &self.kf_account))
    }
}

impl Call for List {
    type Answer = Accounts;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/customservice/getkflist"))
    }
}

impl Call for Online {
    type Answer = OnlineAccounts;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/customservice/getonlinekflist"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn add(kf_account: &str, nickname: &str) -> Add {
        Add {
            kf_account: kf_account.into(),
            nickname: nickname.into(),
        }
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let kf_account = || "test1@test".to_owned();
        check(
            line(&add("test1@test", "客服1")),
            r#"POST /customservice/kfaccount/add {"kf_account":"test1@test","nickname":"客服1"}"#,
        );
        check(
            line(&Update {
                kf_account: kf_account(),
                nickname: "客服".into(),
            }),
            r#"POST /customservice/kfaccount/update {"kf_account":"test1@test","nickname":"客服"}"#,
        );
        check(
            line(&Delete {
                kf_account: kf_account(),
            }),
            r#"POST /customservice/kfaccount/del {"kf_account":"test1@test"}"#,
        );
        check(
            line(&Invite {
                kf_account: kf_account(),
                wechat_id: "someone".into(),
            }),
            r#"POST /customservice/kfaccount/inviteworker {"kf_account":"test1@test","invite_wx":"someone"}"#,
        );
        let file = File {
            name: "a.jpg".into(),
            content_type: "image/jpeg".into(),
        };
        let upload = UploadPicture {
            kf_account: kf_account(),
            file,
        };
        check(
            line(&upload),
            "POST /customservice/kfaccount/uploadheadimg?kf_account=test1@test Multipart { field: \
             \"media\", file_name: \"a.jpg\", content_type: \"image/jpeg\", max_bytes: 10485760, texts: [] }",
        );
        check(line(&List), "GET /cgi-bin/customservice/getkflist");
        check(line(&Online), "GET /cgi-bin/customservice/getonlinekflist");
    }

    #[test]
    fn answers_are_read() {
        let accounts = answer(
            &List,
            r#"{"kf_list":[{"kf_account":"test1@test","kf_headimgurl":"http://a","kf_id":"1001","kf_nick":"客服1","kf_wx":"kfwx1"},
            {"kf_account":"test2@test","kf_id":1002,"invite_wx":"kfwx2","invite_status":"waiting"}]}"#,
        )
        .accounts;
        assert_eq!(accounts[0].wechat_id.as_deref(), Some("kfwx1"));
        assert_eq!((&*accounts[1].id, &accounts[1].wechat_id), ("1002", &None));
        let online = answer(
            &Online,
            r#"{"kf_online_list":[{"kf_account":"test1@test","status":1,"kf_id":"1001","accepted_case":2}]}"#,
        );
        assert_eq!(
            (online.accounts[0].status, online.accounts[0].sessions),
            (1, 2)
        );
    }

    #[test]
    fn limits_hold() {
        let check = |kf_account: &str, expected: &str| {
            assert_eq!(refused(&add(kf_account, "客服")), expected);
        };
        check("test1", "kf_account is not name@account");
        check("test1@", "kf_account is not name@account");
        check("a@b@c", "kf_account is not name@account");
        check(
            "@test",
            "kf_account name has 0 characters, 1 to 10 are allowed",
        );
        check(
            "abcdefghijk@test",
            "kf_account name has 11 characters, 1 to 10 are allowed",
        );
        check(
            "客服@test",
            "kf_account name holds more than letters and digits",
        );
        let nickname = refused(&add("test1@test", &"客".repeat(17)));
        assert_eq!(nickname, "nickname has 17 characters, 1 to 16 are allowed");
        assert!(add("abcdefghij@test", &"客".repeat(16)).request().is_ok());
    }
}
