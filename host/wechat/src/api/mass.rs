//! Mass messages (群发): one message to all followers, to a tag's, or to a list of users.
//!
//! A verified subscription account sends one a day; of a service account each user gets four a month,
//! and those who had theirs are passed over in silence. Sending is slow and told by a callback
//! (`MASSSENDJOBFINISH`); an administrator may have to confirm it first.

use serde::{Deserialize, Serialize};

use super::answer::{self, AnswerError, Done, LongId};
use super::limit::{self, InvalidCall};
use super::{Call, Request};
use crate::errcode;
use crate::id::OpenId;

/// Fewest users of a list (40130).
pub const MIN_OPEN_IDS: usize = 2;
/// Most users of a list.
pub const MAX_OPEN_IDS: usize = 10_000;
/// Most bytes of a [`Draft::client_msg_id`]: the documents say 32 in one place and 64 in another.
pub const MAX_CLIENT_MSG_ID_BYTES: usize = 32;
/// The largest (slowest) [`SetSpeed::speed`].
pub const MAX_SPEED: u8 = 4;

/// `POST /cgi-bin/message/mass/sendall`: to all followers, or to those of a tag. 60 a minute.
#[derive(Clone, Debug)]
pub struct SendToAll {
    /// The tag; None for all followers.
    pub tag_id: Option<u32>,
    /// What.
    pub draft: Draft,
}

/// `POST /cgi-bin/message/mass/send`: to a list of users.
#[derive(Clone, Debug)]
pub struct SendToList {
    /// To whom: [`MIN_OPEN_IDS`] to [`MAX_OPEN_IDS`].
    pub open_ids: Vec<OpenId>,
    /// What.
    pub draft: Draft,
}

/// `POST /cgi-bin/message/mass/preview`: to one user, to look at. 100 a day.
#[derive(Clone, Debug)]
pub struct Preview {
    /// To whom.
    pub to: Reviewer,
    /// What.
    pub content: Content,
}

/// `POST /cgi-bin/message/mass/delete`: takes a sent message back.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// The message.
    pub msg_id: LongId,
    /// How much of it.
    #[serde(flatten)]
    pub part: Part,
}

/// `POST /cgi-bin/message/mass/get`: how far the sending is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The message.
    pub msg_id: LongId,
}

/// `POST /cgi-bin/message/mass/speed/get`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {}

/// `POST /cgi-bin/message/mass/speed/set`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SetSpeed {
    /// 0 to 4, for 800,000, 600,000, 450,000, 300,000 or 100,000 messages a minute.
    pub speed: u8,
}

/// A message to many.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it holds.
    pub content: Content,
    /// Sends articles even if they turn out to be reposts of others'.
    pub send_ignore_reprint: bool,
    /// A repetition under the same id is not sent again, see [`Sent::repeated`]; without one WeChat makes
    /// one of content and receivers. [`MAX_CLIENT_MSG_ID_BYTES`] at most.
    pub client_msg_id: Option<String>,
}

/// What a message holds, by its kind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Content {
    /// Articles.
    MpNews {
        /// Their media id.
        media_id: String,
    },
    /// Text.
    Text {
        /// The text.
        content: String,
    },
    /// A voice message.
    Voice {
        /// Its media id.
        media_id: String,
    },
    /// Images.
    Images(Images),
    /// A video.
    MpVideo {
        /// Its media id.
        media_id: String,
    },
    /// A card or coupon.
    WxCard {
        /// Its card id.
        card_id: String,
    },
}

/// Images.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// Their media ids.
    pub media_ids: Vec<String>,
    /// The words beside them.
    pub recommend: String,
    /// Whether users may comment: 1 or 0.
    pub need_open_comment: u8,
    /// Whether only followers may comment: 1 or 0.
    pub only_fans_can_comment: u8,
}

/// Who gets a preview.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reviewer {
    /// A follower.
    OpenId(OpenId),
    /// A user by WeChat id.
    WeChatId(String),
}

/// How much of a message is taken back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The article of this place, from 1; 0 for all.
    ArticleIdx(u8),
    /// The article at this address.
    Url(String),
}

/// A message that is on its way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Sent {
    /// Comes back when sending has ended.
    pub msg_id: LongId,
    /// For the statistics of articles.
    #[serde(default)]
    pub msg_data_id: Option<LongId>,
    /// Whether it was sent before, under the same [`Draft::client_msg_id`] (45065).
    #[serde(skip)]
    pub repeated: bool,
}

/// How far the sending is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Progress {
    /// The message.
    pub msg_id: LongId,
    /// `SEND_SUCCESS`, `SENDING`, `SEND_FAIL` or `DELETE`.
    pub msg_status: String,
}

/// How fast WeChat sends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct SpeedAnswer {
    /// 0 to 4.
    pub speed: u8,
    /// Ten thousands of messages a minute.
    #[serde(rename = "realspeed")]
    pub real_speed: u32,
}

impl Content {
    /// WeChat's msgtype.
    pub fn msg_type(&self) -> &'static str {
        match self {
            Content::MpNews { .. } => "mpnews",
            Content::Text { .. } => "text",
            Content::Voice { .. } => "voice",
            Content::Images(_) => "image",
            Content::MpVideo { .. } => "mpvideo",
            Content::WxCard { .. } => "wxcard",
        }
    }

    fn check(&self) -> Result<(), InvalidCall> {
        match self {
            Content::MpNews { media_id }
            | Content::Voice { media_id }
            | Content::MpVideo { media_id } => limit::given("media_id", media_id),
            Content::Text { content } => limit::given("text.content", content),
            Content::WxCard { card_id } => limit::given("card_id", card_id),
            Content::Images(images) => {
                limit::filled("images.media_ids", &images.media_ids)?;
                limit::range("images.need_open_comment", images.need_open_comment, 0..=1)?;
                limit::range(
                    "images.only_fans_can_comment",
                    images.only_fans_can_comment,
                    0..=1,
                )
            }
        }
    }
}

impl Draft {
    /// The request that sends it. Under an id of ours it may be repeated.
    fn send(&self, path: &'static str, to: Receivers<'_>) -> Result<Request, InvalidCall> {
        self.content.check()?;
        let is_article = matches!(self.content, Content::MpNews { .. });
        let body = Body {
            to,
            content: &self.content,
            msgtype: self.content.msg_type(),
            send_ignore_reprint: is_article.then(|| self.send_ignore_reprint.into()),
            clientmsgid: self.client_msg_id.as_deref(),
        };
        match body.clientmsgid {
            None => Request::post(path, &body),
            Some(id) => {
                limit::bytes("clientmsgid", id, 1..=MAX_CLIENT_MSG_ID_BYTES)?;
                Request::ask(path, &body)
            }
        }
    }
}

/// Codes mean the same on all calls of this family.
const SEND_ALL: &str = "/cgi-bin/message/mass/sendall";

/// An answer that names the message that was sent before is one, not an error.
fn sent(body: &[u8]) -> Result<Sent, AnswerError> {
    match errcode::read(body) {
        Err(refusal) if refusal.errcode.on(SEND_ALL).is_repeat() => Ok(Sent {
            repeated: true,
            ..answer::data(body)?
        }),
        Err(refusal) => Err(refusal.into()),
        Ok(()) => answer::data(body),
    }
}

impl Call for SendToAll {
    type Answer = Sent;

    fn request(&self) -> Result<Request, InvalidCall> {
        let to = Receivers::Filter {
            is_to_all: self.tag_id.is_none(),
            tag_id: self.tag_id,
        };
        self.draft.send(SEND_ALL, to)
    }

    fn answer(body: &[u8]) -> Result<Sent, AnswerError> {
        sent(body)
    }
}

impl Call for SendToList {
    type Answer = Sent;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("touser", &self.open_ids, MIN_OPEN_IDS..=MAX_OPEN_IDS)?;
        let to = Receivers::ToUser(&self.open_ids);
        self.draft.send("/cgi-bin/message/mass/send", to)
    }

    fn answer(body: &[u8]) -> Result<Sent, AnswerError> {
        sent(body)
    }
}

impl Call for Preview {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        self.content.check()?;
        let to = match &self.to {
            Reviewer::OpenId(open_id) => PreviewReceiver::ToUser(open_id),
            Reviewer::WeChatId(name) => {
                limit::given("towxname", name)?;
                PreviewReceiver::ToWxName(name)
            }
        };
        let body = Body {
            to,
            content: &self.content,
            msgtype: self.content.msg_type(),
            send_ignore_reprint: None,
            clientmsgid: None,
        };
        Request::post("/cgi-bin/message/mass/preview", &body)
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        if let Part::Url(url) = &self.part {
            limit::given("url", url)?;
        }
        Request::post("/cgi-bin/message/mass/delete", self)
    }
}

impl Call for Status {
    type Answer = Progress;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/message/mass/get", self)
    }
}

impl Call for Speed {
    type Answer = SpeedAnswer;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::ask("/cgi-bin/message/mass/speed/get", self)
    }
}

impl Call for SetSpeed {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::range("speed", self.speed, 0..=MAX_SPEED.into())?;
        Request::ask("/cgi-bin/message/mass/speed/set", self)
    }
}

#[derive(Serialize)]
struct Body<'a, To> {
    #[serde(flatten)]
    to: To,
    #[serde(flatten)]
    content: &'a Content,
    msgtype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_ignore_reprint: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clientmsgid: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Receivers<'a> {
    Filter {
        is_to_all: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        tag_id: Option<u32>,
    },
    ToUser(&'a [OpenId]),
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum PreviewReceiver<'a> {
    ToUser(&'a OpenId),
    ToWxName(&'a str),
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn draft(content: Content) -> Draft {
        Draft {
            content,
            send_ignore_reprint: false,
            client_msg_id: None,
        }
    }

    fn text() -> Content {
        Content::Text {
            content: "你好".into(),
        }
    }

    fn users(count: usize) -> Vec<OpenId> {
        vec![OpenId::parse("oA").unwrap(); count]
    }

    #[test]
    fn contents_are_the_documents() {
        let check = |content: Content, expected: &str| {
            let all = SendToAll {
                tag_id: None,
                draft: draft(content),
            };
            let filter = r#"{"filter":{"is_to_all":true}"#;
            let expected = format!("POST /cgi-bin/message/mass/sendall {filter},{expected}}}");
            assert_eq!(line(&all), expected);
        };
        let media_id = "m1".to_owned();
        check(text(), r#""text":{"content":"你好"},"msgtype":"text""#);
        check(
            Content::MpNews {
                media_id: media_id.clone(),
            },
            r#""mpnews":{"media_id":"m1"},"msgtype":"mpnews","send_ignore_reprint":0"#,
        );
        check(
            Content::Voice {
                media_id: media_id.clone(),
            },
            r#""voice":{"media_id":"m1"},"msgtype":"voice""#,
        );
        check(
            Content::MpVideo {
                media_id: media_id.clone(),
            },
            r#""mpvideo":{"media_id":"m1"},"msgtype":"mpvideo""#,
        );
        check(
            Content::WxCard {
                card_id: "c1".into(),
            },
            r#""wxcard":{"card_id":"c1"},"msgtype":"wxcard""#,
        );
        check(
            Content::Images(Images {
                media_ids: vec![media_id],
                recommend: "推荐".into(),
                need_open_comment: 1,
                only_fans_can_comment: 0,
            }),
            r#""images":{"media_ids":["m1"],"recommend":"推荐","need_open_comment":1,"only_fans_can_comment":0},"msgtype":"image""#,
        );
    }

    #[test]
    fn receivers_and_ids_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let tagged = SendToAll {
            tag_id: Some(2),
            draft: Draft {
                client_msg_id: Some("send_tag_2".into()),
                ..draft(text())
            },
        };
        check(
            line(&tagged),
            r#"POST /cgi-bin/message/mass/sendall {"filter":{"is_to_all":false,"tag_id":2},"text":{"content":"你好"},"msgtype":"text","clientmsgid":"send_tag_2"}"#,
        );
        assert!(tagged.request().unwrap().idempotent);
        let list = SendToList {
            open_ids: users(2),
            draft: draft(text()),
        };
        check(
            line(&list),
            r#"POST /cgi-bin/message/mass/send {"touser":["oA","oA"],"text":{"content":"你好"},"msgtype":"text"}"#,
        );
        assert!(!list.request().unwrap().idempotent);
        let preview = |to| Preview {
            to,
            content: text(),
        };
        check(
            line(&preview(Reviewer::OpenId(OpenId::parse("oA").unwrap()))),
            r#"POST /cgi-bin/message/mass/preview {"touser":"oA","text":{"content":"你好"},"msgtype":"text"}"#,
        );
        check(
            line(&preview(Reviewer::WeChatId("someone".into()))),
            r#"POST /cgi-bin/message/mass/preview {"towxname":"someone","text":{"content":"你好"},"msgtype":"text"}"#,
        );
        let delete = |part| Delete {
            msg_id: LongId(30124),
            part,
        };
        check(
            line(&delete(Part::ArticleIdx(2))),
            r#"POST /cgi-bin/message/mass/delete {"msg_id":30124,"article_idx":2}"#,
        );
        check(
            line(&delete(Part::Url("http://a".into()))),
            r#"POST /cgi-bin/message/mass/delete {"msg_id":30124,"url":"http://a"}"#,
        );
        check(
            line(&Status {
                msg_id: LongId(u64::MAX),
            }),
            r#"POST /cgi-bin/message/mass/get {"msg_id":18446744073709551615}"#,
        );
        check(line(&Speed {}), "POST /cgi-bin/message/mass/speed/get {}");
        check(
            line(&SetSpeed { speed: 1 }),
            r#"POST /cgi-bin/message/mass/speed/set {"speed":1}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let list = SendToList {
            open_ids: users(2),
            draft: draft(text()),
        };
        let sent = answer(
            &list,
            r#"{"errcode":0,"errmsg":"send job submission success","msg_id":34182,"msg_data_id":206227730}"#,
        );
        assert_eq!(sent.msg_data_id, Some(LongId(206_227_730)));
        assert!(!sent.repeated);
        let again = answer(
            &list,
            r#"{"errcode":45065,"errmsg":"clientmsgid exist","msg_id":34182}"#,
        );
        assert_eq!((again.msg_id, again.repeated), (LongId(34182), true));
        let failed = SendToAll::answer(br#"{"errcode":45028,"errmsg":"has no masssend quota"}"#);
        assert!(matches!(failed, Err(AnswerError::Refused(_))));
        let progress = answer(
            &Status { msg_id: LongId(1) },
            r#"{"msg_id":"1","msg_status":"SEND_SUCCESS"}"#,
        );
        assert_eq!(
            (progress.msg_id, &*progress.msg_status),
            (LongId(1), "SEND_SUCCESS")
        );
        let speed = answer(&Speed {}, r#"{"speed":3,"realspeed":30}"#);
        assert_eq!((speed.speed, speed.real_speed), (3, 30));
    }

    #[test]
    fn limits_hold() {
        let list = |count| SendToList {
            open_ids: users(count),
            draft: draft(text()),
        };
        assert_eq!(
            refused(&list(1)),
            "touser has 1 items, 2 to 10000 are allowed"
        );
        assert_eq!(
            refused(&list(10_001)),
            "touser has 10001 items, 2 to 10000 are allowed"
        );
        assert!(list(10_000).request().is_ok());
        let named = |id: String| SendToAll {
            tag_id: None,
            draft: Draft {
                client_msg_id: Some(id),
                ..draft(text())
            },
        };
        assert_eq!(
            refused(&named("x".repeat(33))),
            "clientmsgid has 33 bytes, 1 to 32 are allowed"
        );
        assert_eq!(
            refused(&named(String::new())),
            "clientmsgid has 0 bytes, 1 to 32 are allowed"
        );
        assert_eq!(
            refused(&SetSpeed { speed: 5 }),
            "speed is 5, 0 to 4 is allowed"
        );
        let images = |images| SendToAll {
            tag_id: None,
            draft: draft(Content::Images(images)),
        };
        assert_eq!(
            refused(&images(Images::default())),
            "images.media_ids is empty"
        );
        let images = images(Images {
            media_ids: vec!["m1".into()],
            need_open_comment: 2,
            ..Images::default()
        });
        assert_eq!(
            refused(&images),
            "images.need_open_comment is 2, 0 to 1 is allowed"
        );
    }
}
