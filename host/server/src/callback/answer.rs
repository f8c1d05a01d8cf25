//! From the plugin's reply to what goes out: passively, or late as a customer-service message.

use wxhost_runtime::reply as wit;
use wxhost_wechat::api::customer_message::{Content, Send};
use wxhost_wechat::envelope::Format;
use wxhost_wechat::reply::{Addressing, Article, Cut, Music, Reply, ReplyError, Video};

use super::Arrival;
use crate::db::outbox::{Kind, Outgoing};
use crate::effects::outgoing;
use crate::inbox::Answer;

/// A reply, and the body in which it goes out passively.
pub(super) struct Rendered {
    /// The passive answer.
    pub(super) answer: Answer,
    /// What was cut from it, to be told in the record.
    pub(super) cut: Option<Cut>,
    reply: Option<Reply>,
}

impl Rendered {
    pub(super) fn nothing() -> Self {
        Self {
            answer: Answer::nothing(),
            cut: None,
            reply: None,
        }
    }

    /// The reply as a customer-service message; none where there is no reply.
    ///
    /// # Errors
    /// It has no such form: why, for the tenant.
    pub(super) fn late(&self, arrival: &Arrival) -> Result<Option<Outgoing>, String> {
        let Some(reply) = &self.reply else {
            return Ok(None);
        };
        let open_id = &arrival.message.from_user;
        let message = Send {
            open_id: open_id.clone(),
            content: Content::from_reply(reply).map_err(|reason| reason.to_string())?,
            kf_account: None,
        };
        let message = outgoing(Kind::LateAnswer, open_id, &message);
        message.map(Some).map_err(|reason| reason.to_string())
    }
}

/// What a handler's reply comes to.
///
/// # Errors
/// A reply that WeChat would refuse.
pub(super) fn of_outcome(
    arrival: &Arrival,
    reply: Option<wit::Reply>,
) -> Result<Rendered, ReplyError> {
    match reply {
        None => Ok(Rendered::nothing()),
        Some(reply) => rendered(arrival, reply_of(reply)),
    }
}

/// The account's answer for when its plugin fails: its fallback text, or nothing.
pub(super) fn fallback(arrival: &Arrival) -> Rendered {
    let text = arrival.context.account.callbacks.fallback_text.as_deref();
    text.map_or_else(Rendered::nothing, |text| self::text(arrival, text))
}

/// A text of the account's settings. It was checked when it was set; one that does not fit any more is as
/// good as none.
pub(super) fn text(arrival: &Arrival, text: &str) -> Rendered {
    rendered(arrival, Reply::Text(text.to_owned())).unwrap_or_else(|_| Rendered::nothing())
}

fn rendered(arrival: &Arrival, mut reply: Reply) -> Result<Rendered, ReplyError> {
    let message = &arrival.message;
    let cut = reply.cut_articles(Some(&message.content));
    let addressing = Addressing {
        to: &message.from_user,
        from: &message.to_user,
        create_time: u64::try_from(arrival.context.created_at / 1000).unwrap_or_default(),
    };
    let body = match arrival.format {
        Format::Xml => reply.to_xml(&addressing, Some(&message.content))?,
        Format::Json => reply.to_json(&addressing, Some(&message.content))?,
    };
    Ok(Rendered {
        answer: Answer::reply(&body),
        cut,
        reply: Some(reply),
    })
}

fn reply_of(reply: wit::Reply) -> Reply {
    match reply {
        wit::Reply::Text(text) => Reply::Text(text),
        wit::Reply::Image(media_id) => Reply::Image(media_id),
        wit::Reply::Voice(media_id) => Reply::Voice(media_id),
        wit::Reply::Video(video) => Reply::Video(Video {
            media_id: video.media_id,
            title: video.title,
            description: video.description,
            thumb_media_id: video.thumb_media_id,
        }),
        wit::Reply::Music(music) => Reply::Music(Music {
            title: music.title,
            description: music.description,
            music_url: music.music_url,
            hq_music_url: music.hq_music_url,
            thumb_media_id: music.thumb_media_id,
        }),
        wit::Reply::News(articles) => {
            let articles = articles.into_iter().map(|article| Article {
                title: article.title,
                description: article.description,
                pic_url: article.pic_url,
                url: article.url,
            });
            Reply::News(articles.collect())
        }
        wit::Reply::TransferCustomerService(account) => Reply::TransferCustomerService(account),
    }
}
