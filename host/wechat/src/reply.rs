//! Passive replies (被动回复用户消息): the answer to a callback, and WeChat's limits on it.
//!
//! WeChat answers a broken reply with a service fault on the user's screen, so what it would refuse is
//! refused here. Sealing a reply for safe mode is [`crate::envelope`]'s work.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::id::{OpenId, OriginalId};
use crate::message::Content;
use crate::xml;

/// Most bytes of a text.
pub const MAX_TEXT_BYTES: usize = 2048;
/// Most articles in the answer to a user's message.
pub const MAX_ARTICLES_TO_MESSAGE: usize = 1;
/// Most articles in the answer to an event.
pub const MAX_ARTICLES: usize = 8;
/// Most bytes of any other field. WeChat names no limit; ours is above every address in use.
pub const MAX_FIELD_BYTES: usize = 4096;

/// The body that means "no reply": WeChat shows nothing and does not try again. It is never sealed.
pub const NO_REPLY: &str = "success";

/// A passive reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Text, [`MAX_TEXT_BYTES`] at most. Line feeds are shown; `<a href="…">…</a>` makes a link.
    Text(String),
    /// An image, by media id.
    Image(String),
    /// A voice message, by media id.
    Voice(String),
    /// A video.
    Video(Video),
    /// Music.
    Music(Music),
    /// Articles: 1 when a user's message is answered, [`MAX_ARTICLES`] at most otherwise.
    News(Vec<Article>),
    /// Hands the chat over to human customer service (转发至客服); with a name, to that agent's account
    /// such as `test1@test`.
    TransferCustomerService(Option<String>),
}

/// A video.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Video {
    /// Media id of a temporary or permanent video.
    pub media_id: String,
    /// Shown above it; may be empty.
    pub title: String,
    /// Shown below it; may be empty.
    pub description: String,
    /// Media id of the cover; may be empty. A passive reply has none; WeChat demands it where the reply
    /// goes out later, as a customer-service message.
    pub thumb_media_id: String,
}

/// Music.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Music {
    /// May be empty.
    pub title: String,
    /// May be empty.
    pub description: String,
    /// Address of the music; may be empty.
    pub music_url: String,
    /// Address of a better copy for Wi-Fi; may be empty.
    pub hq_music_url: String,
    /// Media id of the cover; may be empty. Without one the element is left out: WeChat plays the music
    /// all the same, but takes an empty element for a fault. It is demanded where the reply goes out
    /// later, as a customer-service message.
    pub thumb_media_id: String,
}

/// One article of a news reply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Article {
    /// The headline.
    pub title: String,
    /// The text under it.
    pub description: String,
    /// Picture, JPG or PNG, 360 × 200 pixels.
    pub pic_url: String,
    /// Where a tap leads.
    pub url: String,
}

/// Articles that were cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the reply has {given} articles, WeChat shows {shown} here: the rest was cut")]
pub struct Cut {
    /// How many there were.
    pub given: usize,
    /// How many are left.
    pub shown: usize,
}

/// Who writes to whom, and when. A reply's sender is the account that received the message.
#[derive(Clone, Copy, Debug)]
pub struct Addressing<'a> {
    /// The user.
    pub to: &'a OpenId,
    /// The account.
    pub from: &'a OriginalId,
    /// Unix seconds.
    pub create_time: u64,
}

/// Why WeChat would refuse a reply.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReplyError {
    /// A field that WeChat demands is empty, or holds nothing but characters that XML forbids.
    #[error("{field} of the reply is empty")]
    Empty {
        /// The field, as WeChat names it.
        field: &'static str,
    },
    /// A field is too long.
    #[error("{field} of the reply has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// The field, as WeChat names it.
        field: &'static str,
        /// Bytes of UTF-8 given.
        bytes: usize,
        /// Most bytes.
        limit: usize,
    },
    /// Too many articles, for this trigger or at all.
    #[error("the reply has {articles} articles, at most {limit} are allowed here")]
    TooManyArticles {
        /// Articles given.
        articles: usize,
        /// Most articles.
        limit: usize,
    },
}

impl Reply {
    /// WeChat's MsgType.
    pub fn msg_type(&self) -> &'static str {
        match self {
            Reply::Text(_) => "text",
            Reply::Image(_) => "image",
            Reply::Voice(_) => "voice",
            Reply::Video(_) => "video",
            Reply::Music(_) => "music",
            Reply::News(_) => "news",
            Reply::TransferCustomerService(_) => "transfer_customer_service",
        }
    }

    /// Cuts the articles that WeChat would not show; with too many it shows none at all. Says how many
    /// there were, if it has cut any. `trigger` is what is answered.
    pub fn cut_articles(&mut self, trigger: Option<&Content>) -> Option<Cut> {
        let Reply::News(articles) = self else {
            return None;
        };
        let (given, shown) = (articles.len(), most_articles(trigger));
        articles.truncate(shown);
        (given > shown).then_some(Cut { given, shown })
    }

    /// Checks the limits. `trigger` is what is answered; without one the wider limit applies.
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: the first limit that is broken.
    pub fn check(&self, trigger: Option<&Content>) -> Result<(), ReplyError> {
        match self {
            Reply::Text(text) => demanded("Content", text, MAX_TEXT_BYTES),
            Reply::Image(id) | Reply::Voice(id) => demanded("MediaId", id, MAX_FIELD_BYTES),
            Reply::Video(video) => {
                demanded("MediaId", &video.media_id, MAX_FIELD_BYTES)?;
                bounded("Title", &video.title)?;
                bounded("Description", &video.description)
            }
            Reply::Music(music) => {
                bounded("ThumbMediaId", &music.thumb_media_id)?;
                bounded("Title", &music.title)?;
                bounded("Description", &music.description)?;
                bounded("MusicUrl", &music.music_url)?;
                bounded("HQMusicUrl", &music.hq_music_url)
            }
            Reply::News(articles) => check_articles(articles, trigger),
            Reply::TransferCustomerService(None) => Ok(()),
            Reply::TransferCustomerService(Some(account)) => {
                demanded("KfAccount", account, MAX_FIELD_BYTES)
            }
        }
    }

    /// Writes the reply as XML, after [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: the first limit that is broken.
    pub fn to_xml(
        &self,
        addressing: &Addressing<'_>,
        trigger: Option<&Content>,
    ) -> Result<String, ReplyError> {
        self.check(trigger)?;
        let mut out = String::with_capacity(512);
        out.push_str("<xml>");
        element(&mut out, "ToUserName", addressing.to.as_str());
        element(&mut out, "FromUserName", addressing.from.as_str());
        number(&mut out, "CreateTime", addressing.create_time);
        element(&mut out, "MsgType", self.msg_type());
        self.write_body(&mut out);
        out.push_str("</xml>");
        Ok(out)
    }

    /// Writes the reply as JSON, for accounts whose callbacks come in it, after
    /// [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`ReplyError`]: the first limit that is broken.
    pub fn to_json(
        &self,
        addressing: &Addressing<'_>,
        trigger: Option<&Content>,
    ) -> Result<String, ReplyError> {
        self.check(trigger)?;
        let mut object = self.json_body();
        object["ToUserName"] = addressing.to.as_str().into();
        object["FromUserName"] = addressing.from.as_str().into();
        object["CreateTime"] = addressing.create_time.into();
        object["MsgType"] = self.msg_type().into();
        Ok(object.to_string())
    }

    fn write_body(&self, out: &mut String) {
        match self {
            Reply::Text(text) => element(out, "Content", text),
            Reply::Image(id) => wrapped(out, "Image", &[("MediaId", id)]),
            Reply::Voice(id) => wrapped(out, "Voice", &[("MediaId", id)]),
            Reply::Video(video) => wrapped(out, "Video", &video.fields()),
            Reply::Music(music) => wrapped(out, "Music", music.fields(&mut [("", ""); 5])),
            Reply::News(articles) => {
                // check() has bounded it.
                number(out, "ArticleCount", articles.len() as u64);
                out.push_str("<Articles>");
                for article in articles {
                    wrapped(out, "item", &article.fields());
                }
                out.push_str("</Articles>");
            }
            Reply::TransferCustomerService(None) => {}
            Reply::TransferCustomerService(Some(account)) => {
                wrapped(out, "TransInfo", &[("KfAccount", account)]);
            }
        }
    }

    fn json_body(&self) -> Value {
        match self {
            Reply::Text(text) => json!({ "Content": allowed(text) }),
            Reply::Image(id) => json!({ "Image": object(&[("MediaId", id)]) }),
            Reply::Voice(id) => json!({ "Voice": object(&[("MediaId", id)]) }),
            Reply::Video(video) => json!({ "Video": object(&video.fields()) }),
            Reply::Music(music) => {
                json!({ "Music": object(music.fields(&mut [("", ""); 5])) })
            }
            Reply::News(articles) => json!({
                "ArticleCount": articles.len(),
                "Articles": articles.iter().map(|article| object(&article.fields())).collect::<Value>(),
            }),
            Reply::TransferCustomerService(None) => json!({}),
            Reply::TransferCustomerService(Some(account)) => {
                json!({ "TransInfo": object(&[("KfAccount", account)]) })
            }
        }
    }
}

/// An element's name and text.
type Field<'a> = (&'static str, &'a str);

impl Video {
    fn fields(&self) -> [(&'static str, &str); 3] {
        [
            ("MediaId", &self.media_id),
            ("Title", &self.title),
            ("Description", &self.description),
        ]
    }
}

impl Music {
    fn fields<'m, 'f>(&'m self, room: &'f mut [Field<'m>; 5]) -> &'f [Field<'m>] {
        *room = [
            ("Title", &self.title),
            ("Description", &self.description),
            ("MusicUrl", &self.music_url),
            ("HQMusicUrl", &self.hq_music_url),
            ("ThumbMediaId", &self.thumb_media_id),
        ];
        let has_cover = !self.thumb_media_id.chars().all(xml::is_forbidden);
        &room[..if has_cover { 5 } else { 4 }]
    }
}

impl Article {
    fn fields(&self) -> [(&'static str, &str); 4] {
        [
            ("Title", &self.title),
            ("Description", &self.description),
            ("PicUrl", &self.pic_url),
            ("Url", &self.url),
        ]
    }
}

fn most_articles(trigger: Option<&Content>) -> usize {
    match trigger {
        Some(content) if content.is_message() => MAX_ARTICLES_TO_MESSAGE,
        _ => MAX_ARTICLES,
    }
}

fn check_articles(articles: &[Article], trigger: Option<&Content>) -> Result<(), ReplyError> {
    let limit = most_articles(trigger);
    if articles.is_empty() {
        return Err(ReplyError::Empty { field: "Articles" });
    }
    if articles.len() > limit {
        return Err(ReplyError::TooManyArticles {
            articles: articles.len(),
            limit,
        });
    }
    let mut fields = articles.iter().flat_map(Article::fields);
    fields.try_for_each(|(field, value)| bounded(field, value))
}

/// Whether a reply as it goes out is for this user: what was written for another must not leave, however
/// it came here.
pub fn is_for(reply: &str, to: &OpenId) -> bool {
    #[derive(serde::Deserialize)]
    struct Receiver<'a> {
        #[serde(rename = "ToUserName", borrow)]
        to_user: Cow<'a, str>,
    }
    if let Some(fields) = reply.strip_prefix("<xml>") {
        let value = fields.strip_prefix("<ToUserName><![CDATA[");
        let rest = value.and_then(|value| value.strip_prefix(to.as_str()));
        if rest.is_some_and(|rest| rest.starts_with("]]></ToUserName>")) {
            return true;
        }
        // An id that its section can't hold in one piece.
        let mut head = String::with_capacity(96);
        element(&mut head, "ToUserName", to.as_str());
        return fields.starts_with(&head);
    }
    serde_json::from_str::<Receiver<'_>>(reply).is_ok_and(|reply| reply.to_user == to.as_str())
}

/// A field that WeChat demands. Characters that will be left out don't count.
fn demanded(field: &'static str, value: &str, limit: usize) -> Result<(), ReplyError> {
    if value.chars().all(xml::is_forbidden) {
        return Err(ReplyError::Empty { field });
    }
    within(field, value, limit)
}

fn bounded(field: &'static str, value: &str) -> Result<(), ReplyError> {
    within(field, value, MAX_FIELD_BYTES)
}

fn within(field: &'static str, value: &str, limit: usize) -> Result<(), ReplyError> {
    let bytes = value.len();
    if bytes > limit {
        return Err(ReplyError::TooLong {
            field,
            bytes,
            limit,
        });
    }
    Ok(())
}

fn element(out: &mut String, name: &str, value: &str) {
    tag(out, "<", name);
    xml::cdata(out, value);
    tag(out, "</", name);
}

fn number(out: &mut String, name: &str, value: u64) {
    tag(out, "<", name);
    out.push_str(&value.to_string());
    tag(out, "</", name);
}

fn wrapped(out: &mut String, name: &str, fields: &[(&str, &str)]) {
    tag(out, "<", name);
    for (field, value) in fields {
        element(out, field, value);
    }
    tag(out, "</", name);
}

fn tag(out: &mut String, opening: &str, name: &str) {
    out.push_str(opening);
    out.push_str(name);
    out.push('>');
}

fn object(fields: &[(&str, &str)]) -> Value {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Value::from(allowed(value))))
        .collect()
}

/// JSON could escape what XML forbids, but the user's client is the same.
fn allowed(value: &str) -> String {
    value
        .chars()
        .filter(|character| !xml::is_forbidden(*character))
        .collect()
}
