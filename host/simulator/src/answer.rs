//! Reads a host's answer as WeChat does, and finds what is wrong with it.
//!
//! Rules: callbacks.md sections 3, 4 and 7 (被动回复用户消息). What cannot be read is a service fault;
//! what can be read but breaks a limit is not delivered.

use std::{fmt, slice};

use wxhost_wechat::body::Format;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::reply::{Article, Music, Reply, Video};
use wxhost_wechat::signature;
use wxhost_wechat::tree::{Node, Tree};

use crate::{Callback, SimulatedAccount};

/// What WeChat tells the user when a host gives no proper answer.
pub const SERVICE_FAULT: &str = "该公众号提供的服务出现故障，请稍后再试";

/// Bytes of an answer that are read.
pub(crate) const MAX_ANSWER_BYTES: usize = 1 << 20;

/// UTF-8 bytes that a text reply may hold.
const MAX_TEXT_BYTES: usize = 2048;

/// What the user sees.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// The reply.
    Reply(Reply),
    /// Nothing.
    Nothing,
    /// [`SERVICE_FAULT`].
    ServiceFault,
}

/// For a person: what stands in the chat.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("(nothing)"),
            Self::ServiceFault => f.write_str(SERVICE_FAULT),
            Self::Reply(reply) => match reply {
                Reply::Text(text) => f.write_str(text),
                Reply::Image(id) => write!(f, "[image {id}]"),
                Reply::Voice(id) => write!(f, "[voice {id}]"),
                Reply::Video(video) => write!(f, "[video {} {}]", video.media_id, video.title),
                Reply::Music(music) => write!(f, "[music {}]", music.title),
                Reply::News(articles) => {
                    let titles: Vec<&str> = articles.iter().map(|a| a.title.as_str()).collect();
                    write!(f, "[news {}]", titles.join(" | "))
                }
                Reply::TransferCustomerService(None) => f.write_str("[human service]"),
                Reply::TransferCustomerService(Some(agent)) => {
                    write!(f, "[human service by {agent}]")
                }
            },
        }
    }
}

/// What is wrong with an answer that came with status 200.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Neither `success`, nor empty, nor a reply.
    #[error("body is neither success, empty nor a reply: {0}")]
    NotAReply(String),
    /// More bytes than any reply needs.
    #[error("body is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    /// A reply in clear from an account in safe mode.
    #[error("reply in clear, but the account is in safe mode")]
    NotEncrypted,
    /// An encrypted reply to a callback that came in clear.
    #[error("encrypted reply, but the account is in plain mode")]
    Encrypted,
    /// MsgSignature is not the one of token, TimeStamp, Nonce and Encrypt.
    #[error("wrong MsgSignature")]
    WrongSignature,
    /// Encrypt does not decrypt with the account's key and AppId.
    #[error("Encrypt does not decrypt with the account's key and app id")]
    Undecipherable,
    /// A field that the kind of reply must have.
    #[error("no {0}")]
    Missing(&'static str),
    /// A field whose text is no number.
    #[error("{0} is not a number")]
    NotANumber(&'static str),
    /// ToUserName is not the user.
    #[error("ToUserName is “{0}”, not the user's open id")]
    WrongTo(String),
    /// FromUserName is not the account.
    #[error("FromUserName is “{0}”, not the account's original id")]
    WrongFrom(String),
    /// A MsgType that no reply has.
    #[error("unknown MsgType “{0}”")]
    UnknownKind(String),
    /// ArticleCount does not count the articles.
    #[error("ArticleCount is {declared}, but there are {found} articles")]
    Miscounted {
        /// What it says.
        declared: usize,
        /// What there is.
        found: usize,
    },
    /// A text above the limit. Not delivered.
    #[error("text of {bytes} bytes, the limit is {MAX_TEXT_BYTES}")]
    TextTooLong {
        /// Its length in UTF-8.
        bytes: usize,
    },
    /// More articles than this callback allows. Not delivered.
    #[error("{articles} articles, the limit here is {limit}")]
    TooManyArticles {
        /// How many there are.
        articles: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A media id that this account never had. Not delivered.
    #[error("unknown media id “{0}”")]
    UnknownMedia(String),
}

impl Flaw {
    /// Whether the user sees [`SERVICE_FAULT`]; otherwise the reply is dropped in silence.
    pub fn shows_fault(&self) -> bool {
        !matches!(
            self,
            Self::TextTooLong { .. } | Self::TooManyArticles { .. } | Self::UnknownMedia(_)
        )
    }
}

/// Reads the body of a 200: a reply, or none. `knows_media` tells whether the account has a media id.
pub(crate) fn read(
    account: &SimulatedAccount,
    callback: &Callback,
    body: &[u8],
    knows_media: impl Fn(&str) -> bool,
) -> Result<Option<Reply>, Flaw> {
    if body.is_empty() || body == b"success" {
        return Ok(None);
    }
    if body.len() > MAX_ANSWER_BYTES {
        return Err(Flaw::TooLarge);
    }
    let outer = parse(account.format, body)?;
    let clear;
    let tree = match (outer.text("Encrypt"), account.mode) {
        (Some(_), Mode::Plain) => return Err(Flaw::Encrypted),
        (None, Mode::Safe) => return Err(Flaw::NotEncrypted),
        (None, Mode::Plain | Mode::Compatible) => outer,
        (Some(encrypt), Mode::Compatible | Mode::Safe) => {
            clear = open(account, &outer, encrypt)?;
            parse(account.format, &clear)?
        }
    };
    check_header(callback, &tree)?;
    let reply = typed(&tree)?;
    check_limits(callback, &reply)?;
    match media(&reply) {
        Some(id) if !knows_media(id) => Err(Flaw::UnknownMedia(id.to_owned())),
        _ => Ok(Some(reply)),
    }
}

fn parse(format: Format, body: &[u8]) -> Result<Tree<'_>, Flaw> {
    if format == Format::Xml && !body.trim_ascii_start().starts_with(b"<xml>") {
        return Err(Flaw::NotAReply("no <xml> element".to_owned()));
    }
    format
        .parse(body)
        .map_err(|error| Flaw::NotAReply(error.to_string()))
}

fn open(account: &SimulatedAccount, outer: &Tree<'_>, encrypt: &str) -> Result<Vec<u8>, Flaw> {
    let given = required(outer, "MsgSignature")?;
    let timestamp = required(outer, "TimeStamp")?;
    let nonce = required(outer, "Nonce")?;
    number::<u64>(outer, "TimeStamp")?;
    let expected = signature::message_signature(&account.token, timestamp, nonce, encrypt);
    if !signature::matches(&expected, given) {
        return Err(Flaw::WrongSignature);
    }
    MessageCipher::new(&account.aes_key)
        .decrypt(encrypt, account.receive_id().as_str())
        .map_err(|_| Flaw::Undecipherable)
}

fn check_header(callback: &Callback, tree: &Tree<'_>) -> Result<(), Flaw> {
    let to = required(tree, "ToUserName")?;
    if to != callback.from().as_str() {
        return Err(Flaw::WrongTo(to.to_owned()));
    }
    let from = required(tree, "FromUserName")?;
    if from != callback.to().as_str() {
        return Err(Flaw::WrongFrom(from.to_owned()));
    }
    number::<u64>(tree, "CreateTime")?;
    Ok(())
}

fn typed(tree: &Tree<'_>) -> Result<Reply, Flaw> {
    let optional = |path| tree.text(path).unwrap_or_default().to_owned();
    let reply = match required(tree, "MsgType")? {
        "text" => Reply::Text(owned(tree, "Content")?),
        "image" => Reply::Image(owned(tree, "Image.MediaId")?),
        "voice" => Reply::Voice(owned(tree, "Voice.MediaId")?),
        "video" => Reply::Video(Video {
            media_id: owned(tree, "Video.MediaId")?,
            title: optional("Video.Title"),
            description: optional("Video.Description"),
            ..Video::default()
        }),
        "music" => Reply::Music(Music {
            title: optional("Music.Title"),
            description: optional("Music.Description"),
            music_url: optional("Music.MusicUrl"),
            hq_music_url: optional("Music.HQMusicUrl"),
            // It may be left out, but not be empty.
            thumb_media_id: match tree.get("Music.ThumbMediaId") {
                None => String::new(),
                Some(_) => owned(tree, "Music.ThumbMediaId")?,
            },
        }),
        "news" => Reply::News(articles(tree)?),
        "transfer_customer_service" => {
            Reply::TransferCustomerService(tree.text("TransInfo.KfAccount").map(str::to_owned))
        }
        other => return Err(Flaw::UnknownKind(other.to_owned())),
    };
    Ok(reply)
}

fn articles(tree: &Tree<'_>) -> Result<Vec<Article>, Flaw> {
    let items = match tree.get("Articles.item").or_else(|| tree.get("Articles")) {
        Some(Node::List(items)) => items.as_slice(),
        Some(item) => slice::from_ref(item),
        None => return Err(Flaw::Missing("Articles")),
    };
    let declared = number(tree, "ArticleCount")?;
    if declared != items.len() {
        return Err(Flaw::Miscounted {
            declared,
            found: items.len(),
        });
    }
    items.iter().map(article).collect()
}

fn article(item: &Node<'_>) -> Result<Article, Flaw> {
    let Node::Map(fields) = item else {
        return Err(Flaw::Missing("Articles.item.Title"));
    };
    let optional = |name| fields.text(name).unwrap_or_default().to_owned();
    Ok(Article {
        title: optional("Title"),
        description: optional("Description"),
        pic_url: optional("PicUrl"),
        url: optional("Url"),
    })
}

fn check_limits(callback: &Callback, reply: &Reply) -> Result<(), Flaw> {
    match reply {
        Reply::Text(text) if text.len() > MAX_TEXT_BYTES => {
            Err(Flaw::TextTooLong { bytes: text.len() })
        }
        Reply::News(articles) if articles.len() > callback.max_articles() => {
            Err(Flaw::TooManyArticles {
                articles: articles.len(),
                limit: callback.max_articles(),
            })
        }
        _ => Ok(()),
    }
}

/// The media id that a reply shows.
fn media(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Image(id) | Reply::Voice(id) => Some(id),
        Reply::Video(video) => Some(&video.media_id),
        Reply::Music(music) => Some(music.thumb_media_id.as_str()).filter(|id| !id.is_empty()),
        Reply::Text(_) | Reply::News(_) | Reply::TransferCustomerService(_) => None,
    }
}

/// A field's text; an empty one counts as missing.
fn required<'t>(tree: &'t Tree<'_>, path: &'static str) -> Result<&'t str, Flaw> {
    tree.text(path)
        .filter(|text| !text.is_empty())
        .ok_or(Flaw::Missing(path))
}

fn owned(tree: &Tree<'_>, path: &'static str) -> Result<String, Flaw> {
    required(tree, path).map(str::to_owned)
}

fn number<N: std::str::FromStr>(tree: &Tree<'_>, path: &'static str) -> Result<N, Flaw> {
    let digits = required(tree, path)?;
    digits.parse().map_err(|_| Flaw::NotANumber(path))
}

#[cfg(test)]
mod tests;
