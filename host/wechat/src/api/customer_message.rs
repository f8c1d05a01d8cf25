//! Customer-service messages (客服消息): what an account may write to a user who did something lately.
//!
//! How many messages each act allows, and for how long, is for whoever sends to keep count of; WeChat
//! refuses one too many with 45047 and one too late with 45015.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Done, Request};
use crate::id::OpenId;
use crate::reply::Reply;

/// Most bytes of a text.
pub const MAX_TEXT_BYTES: usize = 2048;

/// `POST /cgi-bin/message/custom/send`. 500,000 calls a day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Send {
    /// To whom.
    pub open_id: OpenId,
    /// What.
    pub content: Content,
    /// In the name of this customer-service account, such as `test1@test`; None for the account's own.
    pub kf_account: Option<String>,
}

/// `POST /cgi-bin/message/custom/typing`: shows for 15 seconds that an answer is on its way. Only
/// within 30 seconds of an exchange (45080), and not while it is shown (45081).
#[derive(Clone, Debug, Serialize)]
pub struct Typing {
    /// To whom.
    #[serde(rename = "touser")]
    pub open_id: OpenId,
    /// Whether to begin or to end.
    pub command: TypingCommand,
}

/// Begins or ends the sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum TypingCommand {
    /// Shows it.
    Typing,
    /// Ends it early.
    CancelTyping,
}

/// What a message holds, by its msgtype.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Content {
    /// Text, [`MAX_TEXT_BYTES`] at most; `<a>` with `href` or `data-miniprogram-appid` and
    /// `data-miniprogram-path` makes a link.
    Text {
        /// The text.
        content: String,
    },
    /// An image.
    Image {
        /// Its media id.
        media_id: String,
    },
    /// A voice message.
    Voice {
        /// Its media id.
        media_id: String,
    },
    /// A video.
    Video(Video),
    /// Music.
    Music(Music),
    /// A link with a picture.
    News {
        /// WeChat takes one, no more (45008).
        articles: [Article; 1],
    },
    /// A published article.
    MpNewsArticle {
        /// Its article id.
        article_id: String,
    },
    /// Articles by media id, as accounts from before the draft box may still send.
    MpNews {
        /// Their media id.
        media_id: String,
    },
    /// A menu of choices.
    MsgMenu(Menu),
    /// A card or coupon.
    WxCard {
        /// Its card id.
        card_id: String,
    },
    /// A card of a mini program.
    MiniProgramPage(MiniProgramPage),
}

/// A video.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    /// Media id of the video.
    pub media_id: String,
    /// Media id of the cover.
    pub thumb_media_id: String,
    /// May be empty.
    pub title: String,
    /// May be empty.
    pub description: String,
}

/// Music.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Music {
    /// May be empty.
    pub title: String,
    /// May be empty.
    pub description: String,
    /// Address of the music.
    #[serde(rename = "musicurl")]
    pub music_url: String,
    /// Address of a better copy for Wi-Fi.
    #[serde(rename = "hqmusicurl")]
    pub hq_music_url: String,
    /// Media id of the cover.
    pub thumb_media_id: String,
}

/// A link with a picture.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Article {
    /// The headline.
    pub title: String,
    /// The text under it.
    pub description: String,
    /// Where a tap leads.
    pub url: String,
    /// Address of the picture.
    #[serde(rename = "picurl")]
    pub pic_url: String,
}

/// A menu of choices.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Menu {
    /// Shown above.
    #[serde(rename = "head_content")]
    pub head: String,
    /// The choices.
    #[serde(rename = "list")]
    pub choices: Vec<Choice>,
    /// Shown below.
    #[serde(rename = "tail_content")]
    pub tail: String,
}

/// A choice of a menu.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Comes back as `bizmsgmenuid` when it is tapped.
    pub id: String,
    /// What is shown.
    pub content: String,
}

/// A card of a mini program.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MiniProgramPage {
    /// Shown on the card.
    pub title: String,
    /// The mini program; it must be linked with the account.
    #[serde(rename = "appid")]
    pub app_id: String,
    /// The page to open.
    #[serde(rename = "pagepath")]
    pub page_path: String,
    /// Media id of the picture.
    pub thumb_media_id: String,
}

/// Why a reply can't be sent as a customer-service message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSendable {
    /// The handing over to human service has no such form.
    #[error("handing over to customer service is no message that can be sent")]
    Transfer,
    /// WeChat demands a cover here, which a passive reply may do without.
    #[error("a message of {kind} is sent with a cover only, and the reply has no thumb_media_id")]
    NoCover {
        /// `video` or `music`.
        kind: &'static str,
    },
    /// It has no article.
    #[error("the reply has no article")]
    Empty,
}

/// The body of a [`Send`] that says what `reply` says.
///
/// WeChat takes one article in such a message; more are left out.
///
/// # Errors
///
/// It has no such form.
pub fn from_reply(to: &OpenId, reply: &Reply) -> Result<String, NotSendable> {
    let send = Send {
        open_id: to.clone(),
        content: Content::from_reply(reply)?,
        kf_account: None,
    };
    let request = send.request().map_err(|_| NotSendable::Empty)?;
    Ok(request.json().unwrap_or_default().to_owned())
}

impl Content {
    /// WeChat's msgtype.
    pub fn msg_type(&self) -> &'static str {
        match self {
            Content::Text { .. } => "text",
            Content::Image { .. } => "image",
            Content::Voice { .. } => "voice",
            Content::Video(_) => "video",
            Content::Music(_) => "music",
            Content::News { .. } => "news",
            Content::MpNewsArticle { .. } => "mpnewsarticle",
            Content::MpNews { .. } => "mpnews",
            Content::MsgMenu(_) => "msgmenu",
            Content::WxCard { .. } => "wxcard",
            Content::MiniProgramPage(_) => "miniprogrampage",
        }
    }

    /// What `reply` says.
    ///
    /// # Errors
    ///
    /// It has no such form.
    pub fn from_reply(reply: &Reply) -> Result<Self, NotSendable> {
        let cover = |kind, thumb_media_id: &str| match thumb_media_id {
            "" => Err(NotSendable::NoCover { kind }),
            given => Ok(given.to_owned()),
        };
        Ok(match reply.clone() {
            Reply::Text(content) => Content::Text { content },
            Reply::Image(media_id) => Content::Image { media_id },
            Reply::Voice(media_id) => Content::Voice { media_id },
            Reply::Video(video) => Content::Video(Video {
                thumb_media_id: cover("video", &video.thumb_media_id)?,
                media_id: video.media_id,
                title: video.title,
                description: video.description,
            }),
            Reply::Music(music) => Content::Music(Music {
                thumb_media_id: cover("music", &music.thumb_media_id)?,
                title: music.title,
                description: music.description,
                music_url: music.music_url,
                hq_music_url: music.hq_music_url,
            }),
            Reply::News(articles) => {
                let article = articles.into_iter().next().ok_or(NotSendable::Empty)?;
                let articles = [Article {
                    title: article.title,
                    description: article.description,
                    url: article.url,
                    pic_url: article.pic_url,
                }];
                Content::News { articles }
            }
            Reply::TransferCustomerService(_) => return Err(NotSendable::Transfer),
        })
    }

    fn check(&self) -> Result<(), InvalidCall> {
        match self {
            Content::Text { content } => limit::bytes("text.content", content, 1..=MAX_TEXT_BYTES),
            Content::Image { media_id }
            | Content::Voice { media_id }
            | Content::MpNews { media_id } => limit::given("media_id", media_id),
            Content::Video(video) => {
                limit::given("video.media_id", &video.media_id)?;
                limit::given("video.thumb_media_id", &video.thumb_media_id)
            }
            Content::Music(music) => limit::given("music.thumb_media_id", &music.thumb_media_id),
            Content::News { articles: [_] } => Ok(()),
            Content::MpNewsArticle { article_id } => limit::given("article_id", article_id),
            Content::MsgMenu(menu) => {
                limit::filled("msgmenu.list", &menu.choices)?;
                let mut choices = menu.choices.iter();
                choices.try_for_each(|choice| limit::given("msgmenu.list.id", &choice.id))
            }
            Content::WxCard { card_id } => limit::given("card_id", card_id),
            Content::MiniProgramPage(page) => {
                limit::given("miniprogrampage.appid", &page.app_id)?;
                limit::given("miniprogrampage.pagepath", &page.page_path)?;
                limit::given("miniprogrampage.thumb_media_id", &page.thumb_media_id)
            }
        }
    }
}

impl Call for Send {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        self.content.check()?;
        let customservice = match &self.kf_account {
            Some(kf_account) => {
                limit::given("customservice.kf_account", kf_account)?;
                Some(CustomService { kf_account })
            }
            None => None,
        };
        let body = Body {
            touser: &self.open_id,
            msgtype: self.content.msg_type(),
            content: &self.content,
            customservice,
        };
        Request::post("/cgi-bin/message/custom/send", &body)
    }
}

impl Call for Typing {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        Request::post("/cgi-bin/message/custom/typing", self)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    touser: &'a OpenId,
    msgtype: &'static str,
    #[serde(flatten)]
    content: &'a Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    customservice: Option<CustomService<'a>>,
}

#[derive(Serialize)]
struct CustomService<'a> {
    kf_account: &'a str,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{line, refused};
    use super::*;
    use crate::reply;

    fn send(content: Content) -> Send {
        Send {
            open_id: OpenId::parse("oA").unwrap(),
            content,
            kf_account: None,
        }
    }

    #[track_caller]
    fn check(content: Content, expected: &str) {
        let expected = format!(r#"POST /cgi-bin/message/custom/send {{"touser":"oA",{expected}}}"#);
        assert_eq!(line(&send(content)), expected);
    }

    #[test]
    fn messages_are_the_documents() {
        let (media_id, thumb_media_id) = ("m1".to_owned(), "t1".to_owned());
        let (title, description) = ("标题".to_owned(), "说明".to_owned());
        let content = "你好 \"]]>\"".to_owned();
        check(
            Content::Text { content },
            r#""msgtype":"text","text":{"content":"你好 \"]]>\""}"#,
        );
        check(
            Content::Image {
                media_id: media_id.clone(),
            },
            r#""msgtype":"image","image":{"media_id":"m1"}"#,
        );
        check(
            Content::Voice {
                media_id: media_id.clone(),
            },
            r#""msgtype":"voice","voice":{"media_id":"m1"}"#,
        );
        check(
            Content::Video(Video {
                media_id: media_id.clone(),
                thumb_media_id: thumb_media_id.clone(),
                title: title.clone(),
                description: description.clone(),
            }),
            r#""msgtype":"video","video":{"media_id":"m1","thumb_media_id":"t1","title":"标题","description":"说明"}"#,
        );
        check(
            Content::Music(Music {
                title: title.clone(),
                description: description.clone(),
                music_url: "http://a".into(),
                hq_music_url: "http://b".into(),
                thumb_media_id: thumb_media_id.clone(),
            }),
            r#""msgtype":"music","music":{"title":"标题","description":"说明","musicurl":"http://a","hqmusicurl":"http://b","thumb_media_id":"t1"}"#,
        );
        let article = Article {
            title: title.clone(),
            description,
            url: "http://a".into(),
            pic_url: "http://b".into(),
        };
        check(
            Content::News {
                articles: [article],
            },
            r#""msgtype":"news","news":{"articles":[{"title":"标题","description":"说明","url":"http://a","picurl":"http://b"}]}"#,
        );
        check(
            Content::MpNewsArticle {
                article_id: "a1".into(),
            },
            r#""msgtype":"mpnewsarticle","mpnewsarticle":{"article_id":"a1"}"#,
        );
        check(
            Content::MpNews { media_id },
            r#""msgtype":"mpnews","mpnews":{"media_id":"m1"}"#,
        );
        check(
            Content::WxCard {
                card_id: "c1".into(),
            },
            r#""msgtype":"wxcard","wxcard":{"card_id":"c1"}"#,
        );
        check(
            Content::MiniProgramPage(MiniProgramPage {
                title,
                app_id: "wx02".into(),
                page_path: "pages/index".into(),
                thumb_media_id,
            }),
            r#""msgtype":"miniprogrampage","miniprogrampage":{"title":"标题","appid":"wx02","pagepath":"pages/index","thumb_media_id":"t1"}"#,
        );
    }

    #[test]
    fn menu_typing_and_service_account_are_the_documents() {
        let choice = |id: &str, content: &str| Choice {
            id: id.into(),
            content: content.into(),
        };
        check(
            Content::MsgMenu(Menu {
                head: "满意吗？".into(),
                choices: vec![choice("101", "满意"), choice("102", "不满意")],
                tail: "欢迎再来".into(),
            }),
            r#""msgtype":"msgmenu","msgmenu":{"head_content":"满意吗？","list":[{"id":"101","content":"满意"},{"id":"102","content":"不满意"}],"tail_content":"欢迎再来"}"#,
        );
        let typing = |command| Typing {
            open_id: OpenId::parse("oA").unwrap(),
            command,
        };
        let path = "POST /cgi-bin/message/custom/typing";
        assert_eq!(
            line(&typing(TypingCommand::Typing)),
            format!(r#"{path} {{"touser":"oA","command":"Typing"}}"#)
        );
        assert_eq!(
            line(&typing(TypingCommand::CancelTyping)),
            format!(r#"{path} {{"touser":"oA","command":"CancelTyping"}}"#)
        );
        let mut named = send(Content::Text {
            content: "a".into(),
        });
        named.kf_account = Some("test1@test".into());
        assert!(line(&named).ends_with(r#","customservice":{"kf_account":"test1@test"}}"#));
    }

    #[test]
    fn limits_hold() {
        let check = |content: Content, expected: &str| {
            assert_eq!(refused(&send(content)), expected);
        };
        let text = |content: String| Content::Text { content };
        check(
            text("字".repeat(683)),
            "text.content has 2049 bytes, 1 to 2048 are allowed",
        );
        check(
            text(String::new()),
            "text.content has 0 bytes, 1 to 2048 are allowed",
        );
        assert!(send(text("a".repeat(2048))).request().is_ok());
        check(
            Content::Image {
                media_id: String::new(),
            },
            "media_id is empty",
        );
        check(Content::Video(Video::default()), "video.media_id is empty");
        check(
            Content::Music(Music::default()),
            "music.thumb_media_id is empty",
        );
        check(
            Content::MpNewsArticle {
                article_id: String::new(),
            },
            "article_id is empty",
        );
        check(
            Content::WxCard {
                card_id: String::new(),
            },
            "card_id is empty",
        );
        check(
            Content::MiniProgramPage(MiniProgramPage::default()),
            "miniprogrampage.appid is empty",
        );
        let none = Content::MsgMenu(Menu::default());
        assert_eq!(refused(&send(none)), "msgmenu.list is empty");
        let choices = vec![Choice::default()];
        check(
            Content::MsgMenu(Menu {
                choices,
                ..Menu::default()
            }),
            "msgmenu.list.id is empty",
        );
        let named = Send {
            kf_account: Some(String::new()),
            ..send(text("a".into()))
        };
        assert_eq!(refused(&named), "customservice.kf_account is empty");
    }

    #[test]
    fn replies_become_customer_messages() {
        let to = OpenId::parse("oA").unwrap();
        let check = |reply: Reply, expected: Result<&str, NotSendable>| {
            assert_eq!(from_reply(&to, &reply).as_deref(), expected.as_deref());
        };
        check(
            Reply::Text("你好".into()),
            Ok(r#"{"touser":"oA","msgtype":"text","text":{"content":"你好"}}"#),
        );
        check(
            Reply::Video(reply::Video {
                media_id: "m1".into(),
                thumb_media_id: "t1".into(),
                ..reply::Video::default()
            }),
            Ok(
                r#"{"touser":"oA","msgtype":"video","video":{"media_id":"m1","thumb_media_id":"t1","title":"","description":""}}"#,
            ),
        );
        let article = |title: &str| reply::Article {
            title: title.into(),
            ..Default::default()
        };
        check(
            Reply::News(vec![article("one"), article("two")]),
            Ok(
                r#"{"touser":"oA","msgtype":"news","news":{"articles":[{"title":"one","description":"","url":"","picurl":""}]}}"#,
            ),
        );
        check(
            Reply::TransferCustomerService(None),
            Err(NotSendable::Transfer),
        );
        // WeChat would refuse them, and nobody would know until then.
        let video = reply::Video {
            media_id: "m1".into(),
            ..reply::Video::default()
        };
        check(
            Reply::Video(video),
            Err(NotSendable::NoCover { kind: "video" }),
        );
        let music = reply::Music::default();
        check(
            Reply::Music(music),
            Err(NotSendable::NoCover { kind: "music" }),
        );
    }
}
