//! Followers (用户管理): who they are and what an account knows of them.

use serde::{Deserialize, Serialize, Serializer};

use super::answer::{self, Done};
use super::limit::{self, InvalidCall};
use super::{Call, Request};
use crate::id::{AppId, OpenId};

/// Open ids on a full [`Page`].
pub const PAGE_SIZE: u64 = 10_000;
/// Most users that are asked for at once.
pub const MAX_INFOS: usize = 100;
/// Most characters of a remark; it has fewer than 30.
pub const MAX_REMARK_CHARACTERS: usize = 29;
/// Most open ids that are changed at once.
pub const MAX_CHANGES: usize = 100;

/// `GET /cgi-bin/user/get`: the account's followers, page by page. 500 calls a day.
#[derive(Clone, Debug, Default)]
pub struct Followers {
    /// [`Page::next`] of the page before; None for the first page.
    pub next: Option<OpenId>,
}

/// `GET /cgi-bin/user/info`: what is known of a user.
#[derive(Clone, Debug)]
pub struct Info {
    /// Who.
    pub open_id: OpenId,
    /// The language of what is translated.
    pub language: Language,
}

/// `POST /cgi-bin/user/info/batchget`: what is known of [`MAX_INFOS`] users at most.
#[derive(Clone, Debug)]
pub struct Infos {
    /// Who.
    pub open_ids: Vec<OpenId>,
    /// The language of what is translated.
    pub language: Language,
}

/// `POST /cgi-bin/user/info/updateremark`: how the account names a user.
#[derive(Clone, Debug, Serialize)]
pub struct SetRemark {
    /// Who.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
    /// The remark; an empty one removes it.
    pub remark: String,
}

/// `POST /cgi-bin/changeopenid`: who the followers of an account are now that it has moved to another.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeOpenIds {
    /// The account that they followed.
    #[serde(rename = "from_appid")]
    pub from: AppId,
    /// Their open ids there, [`MAX_CHANGES`] at most.
    #[serde(rename = "openid_list")]
    pub open_ids: Vec<OpenId>,
}

/// A language of WeChat's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Language {
    /// Simplified Chinese.
    #[default]
    #[serde(rename = "zh_CN")]
    Simplified,
    /// Traditional Chinese.
    #[serde(rename = "zh_TW")]
    Traditional,
    /// English.
    #[serde(rename = "en")]
    English,
}

/// A page of open ids.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "PageAnswer")]
pub struct Page {
    /// How many there are on all pages; 0 where the call does not say.
    pub total: u64,
    /// Those of this page.
    pub open_ids: Vec<OpenId>,
    /// Asks for the page that follows; None after the last.
    pub next: Option<OpenId>,
}

/// What WeChat knows of a user. Names and pictures are empty since the end of 2021 and left out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct User {
    /// Who.
    #[serde(rename = "openid")]
    pub open_id: OpenId,
    /// Whether the user follows the account; if not, nothing else is known.
    #[serde(rename = "subscribe", deserialize_with = "answer::truth")]
    pub subscribed: bool,
    /// Unix seconds of the last follow; 0 if unknown.
    #[serde(default, deserialize_with = "answer::number")]
    pub subscribe_time: u64,
    /// The user in all accounts of one Open Platform account.
    #[serde(default, rename = "unionid", deserialize_with = "answer::non_empty")]
    pub union_id: Option<String>,
    /// The user's language, such as `zh_CN`.
    #[serde(default)]
    pub language: String,
    /// The account's remark.
    #[serde(default)]
    pub remark: String,
    /// Ids of tags.
    #[serde(default, rename = "tagid_list")]
    pub tags: Vec<u32>,
    /// How the user came, such as `ADD_SCENE_QR_CODE`.
    #[serde(default)]
    pub subscribe_scene: String,
    /// The number of the QR code that led here; 0 for none.
    #[serde(default, deserialize_with = "answer::number")]
    pub qr_scene: u64,
    /// The text of the QR code that led here.
    #[serde(default)]
    pub qr_scene_str: String,
}

impl User {
    /// The scene of the QR code that led here, a number or a text.
    pub fn scene(&self) -> Option<String> {
        match (&*self.qr_scene_str, self.qr_scene) {
            ("", 0) => None,
            ("", number) => Some(number.to_string()),
            (text, _) => Some(text.to_owned()),
        }
    }
}

/// What is known of several users.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Users {
    /// In the order of the question.
    #[serde(rename = "user_info_list")]
    pub users: Vec<User>,
}

/// Who several users are now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Changes {
    /// In the order of the question.
    #[serde(rename = "result_list")]
    pub changes: Vec<Change>,
}

/// Who a user is now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Change {
    /// The open id in the account before.
    #[serde(rename = "ori_openid")]
    pub before: OpenId,
    /// The open id now; None if it did not change, for the reason in `message`.
    #[serde(default, rename = "new_openid", deserialize_with = "answer::non_empty")]
    pub now: Option<String>,
    /// `ok`, or why not.
    #[serde(default, rename = "err_msg")]
    pub message: String,
}

impl Language {
    /// As WeChat names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::Simplified => "zh_CN",
            Language::Traditional => "zh_TW",
            Language::English => "en",
        }
    }
}

impl Call for Followers {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        let request = Request::get("/cgi-bin/user/get");
        Ok(match &self.next {
            Some(next) => request.with("next_openid", next.as_str()),
            None => request,
        })
    }
}

impl Call for Info {
    type Answer = User;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/user/info")
            .with("openid", self.open_id.as_str())
            .with("lang", self.language.as_str()))
    }
}

impl Call for Infos {
    type Answer = Users;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("user_list", &self.open_ids, 1..=MAX_INFOS)?;
        let question = |open_id| Question {
            openid: open_id,
            lang: self.language,
        };
        let user_list = self.open_ids.iter().map(question).collect();
        Request::ask("/cgi-bin/user/info/batchget", &Questions { user_list })
    }
}

impl Call for SetRemark {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::characters("remark", &self.remark, 0..=MAX_REMARK_CHARACTERS)?;
        Request::ask("/cgi-bin/user/info/updateremark", self)
    }
}

impl Call for ChangeOpenIds {
    type Answer = Changes;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("openid_list", &self.open_ids, 1..=MAX_CHANGES)?;
        Request::ask("/cgi-bin/changeopenid", self)
    }
}

/// An open id that may be absent, as WeChat writes it.
pub(super) fn or_empty<S: Serializer>(id: &Option<OpenId>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(id.as_ref().map_or("", OpenId::as_str))
}

#[derive(Serialize)]
struct Questions<'a> {
    user_list: Vec<Question<'a>>,
}

#[derive(Serialize)]
struct Question<'a> {
    openid: &'a OpenId,
    lang: Language,
}

#[derive(Deserialize)]
struct PageAnswer {
    #[serde(default, deserialize_with = "answer::number")]
    total: u64,
    #[serde(default, deserialize_with = "answer::number")]
    count: u64,
    #[serde(default)]
    data: Option<PageData>,
    #[serde(default, deserialize_with = "answer::non_empty")]
    next_openid: Option<String>,
}

#[derive(Deserialize)]
struct PageData {
    #[serde(default)]
    openid: Vec<OpenId>,
}

impl From<PageAnswer> for Page {
    /// WeChat fills `next_openid` on the last page, too: only a full page has one after it.
    fn from(answer: PageAnswer) -> Self {
        let open_ids = answer.data.map(|data| data.openid).unwrap_or_default();
        let is_full = answer.count >= PAGE_SIZE && !open_ids.is_empty();
        let next = answer.next_openid.filter(|_| is_full);
        Self {
            total: answer.total,
            open_ids,
            next: next.and_then(|next| OpenId::parse(&next).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn id(text: &str) -> OpenId {
        OpenId::parse(text).unwrap()
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(line(&Followers::default()), "GET /cgi-bin/user/get");
        check(
            line(&Followers {
                next: Some(id("oA")),
            }),
            "GET /cgi-bin/user/get?next_openid=oA",
        );
        let language = Language::default();
        check(
            line(&Info {
                open_id: id("oA"),
                language,
            }),
            "GET /cgi-bin/user/info?openid=oA&lang=zh_CN",
        );
        check(
            line(&Infos {
                open_ids: vec![id("oA"), id("oB")],
                language: Language::English,
            }),
            r#"POST /cgi-bin/user/info/batchget {"user_list":[{"openid":"oA","lang":"en"},{"openid":"oB","lang":"en"}]}"#,
        );
        check(
            line(&SetRemark {
                open_id: id("oA"),
                remark: "老王".into(),
            }),
            r#"POST /cgi-bin/user/info/updateremark {"openid":"oA","remark":"老王"}"#,
        );
        check(
            line(&ChangeOpenIds {
                from: AppId::parse("wx01").unwrap(),
                open_ids: vec![id("oA")],
            }),
            r#"POST /cgi-bin/changeopenid {"from_appid":"wx01","openid_list":["oA"]}"#,
        );
    }

    #[test]
    fn person_is_read() {
        let info = Info {
            open_id: id("oA"),
            language: Language::default(),
        };
        let user = answer(
            &info,
            r#"{"subscribe":1,"openid":"oA","nickname":"","sex":0,"language":"zh_CN",
            "subscribe_time":1434093047,"unionid":"u1","remark":"老王","groupid":0,"tagid_list":[128,2],
            "subscribe_scene":"ADD_SCENE_QR_CODE","qr_scene":98765,"qr_scene_str":""}"#,
        );
        assert!(user.subscribed);
        assert_eq!(
            (user.subscribe_time, user.union_id.as_deref()),
            (1_434_093_047, Some("u1"))
        );
        assert_eq!((&*user.remark, &*user.tags), ("老王", &[128, 2][..]));
        assert_eq!(user.scene().as_deref(), Some("98765"));

        let gone = answer(&info, r#"{"subscribe":0,"openid":"oA","unionid":""}"#);
        assert!(!gone.subscribed && gone.union_id.is_none() && gone.scene().is_none());

        let infos = Infos {
            open_ids: vec![id("oA")],
            language: Language::default(),
        };
        let users = answer(
            &infos,
            r#"{"user_info_list":[{"subscribe":1,"openid":"oA","qr_scene_str":"表"},
            {"subscribe":0,"openid":"oB"}]}"#,
        )
        .users;
        assert_eq!((users.len(), users[0].scene().as_deref()), (2, Some("表")));
    }

    #[test]
    fn list_ends_with_a_page_that_is_not_full() {
        let next = |body: &str| answer(&Followers::default(), body).next;
        let full = "\"oA\",".repeat(9_999) + "\"oZ\"";
        let page = format!(
            r#"{{"total":23000,"count":10000,"data":{{"openid":[{full}]}},"next_openid":"oZ"}}"#
        );
        let page = answer(&Followers::default(), &page);
        assert_eq!(
            (page.total, page.open_ids.len(), page.next),
            (23_000, 10_000, Some(id("oZ")))
        );
        let empty_next =
            format!(r#"{{"count":10000,"data":{{"openid":[{full}]}},"next_openid":""}}"#);
        assert_eq!(next(&empty_next), None);
        assert_eq!(
            next(r#"{"total":2,"count":2,"data":{"openid":["oA","oB"]},"next_openid":"oB"}"#),
            None
        );
        assert_eq!(next(r#"{"total":2,"count":0,"next_openid":""}"#), None);
        assert_eq!(
            next(r#"{"total":2,"count":10000,"next_openid":"oB"}"#),
            None
        );
    }

    #[test]
    fn changed_ids_are_read() {
        let change = ChangeOpenIds {
            from: AppId::parse("wx01").unwrap(),
            open_ids: vec![id("oA")],
        };
        let changes = answer(
            &change,
            r#"{"errcode":0,"result_list":[
            {"ori_openid":"oA","new_openid":"oN","err_msg":"ok"},
            {"ori_openid":"oB","err_msg":"ori_openid error"}]}"#,
        )
        .changes;
        assert_eq!(changes[0].now.as_deref(), Some("oN"));
        assert_eq!(
            (&changes[1].now, &*changes[1].message),
            (&None, "ori_openid error")
        );
    }

    #[test]
    fn limits_hold() {
        let open_ids = vec![id("oA"); 101];
        let infos = Infos {
            open_ids: open_ids.clone(),
            language: Language::default(),
        };
        assert_eq!(
            refused(&infos),
            "user_list has 101 items, 1 to 100 are allowed"
        );
        let change = ChangeOpenIds {
            from: AppId::parse("wx01").unwrap(),
            open_ids,
        };
        assert_eq!(
            refused(&change),
            "openid_list has 101 items, 1 to 100 are allowed"
        );
        let remark = SetRemark {
            open_id: id("oA"),
            remark: "字".repeat(30),
        };
        assert_eq!(
            refused(&remark),
            "remark has 30 characters, 0 to 29 are allowed"
        );
        assert!(
            SetRemark {
                open_id: id("oA"),
                remark: "字".repeat(29)
            }
            .request()
            .is_ok()
        );
    }
}
