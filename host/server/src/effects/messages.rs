//! Effects that send something to a contact: the JSON that WeChat takes, checked against WeChat's limits
//! when it is built.

use wxhost_runtime::messages::{self as wit, Body};
use wxhost_wechat::api::customer_message::{
    self, Article, Choice, Content, Menu, MiniProgramPage, Music, Video,
};
use wxhost_wechat::api::{subscription, template};
use wxhost_wechat::id::AppId;

use super::{open_id, outgoing, said};
use crate::db::outbox::{Kind, Outgoing};

/// A customer-service message.
pub(super) fn customer(message: wit::CustomerMessage) -> Result<Outgoing, String> {
    let open_id = open_id(&message.open_id)?;
    let call = customer_message::Send {
        open_id: open_id.clone(),
        content: content(message.body),
        kf_account: message.kf_account,
    };
    let sent = outgoing(Kind::CustomerMessage, &open_id, &call).map_err(said)?;
    Ok(expiring(sent, message.expires_at))
}

/// A template message, which its id names, whatever is repeated.
pub(super) fn template(
    message: wit::TemplateMessage,
    message_id: Option<String>,
) -> Result<Outgoing, String> {
    let open_id = open_id(&message.open_id)?;
    let call = template::Send {
        open_id: open_id.clone(),
        template_id: message.template_id,
        url: message.url,
        mini_program: message.mini_program.map(mini_program).transpose()?,
        data: template::Data(message.data),
        client_msg_id: message_id,
    };
    let sent = outgoing(Kind::Template, &open_id, &call).map_err(said)?;
    Ok(expiring(sent, message.expires_at))
}

/// A subscription notice.
pub(super) fn subscription(message: wit::SubscriptionMessage) -> Result<Outgoing, String> {
    let open_id = open_id(&message.open_id)?;
    let call = subscription::Send {
        open_id: open_id.clone(),
        template_id: message.template_id,
        page: message.page,
        mini_program: message.mini_program.map(mini_program).transpose()?,
        data: subscription::Data(message.data),
        miniprogram_state: None,
        language: None,
    };
    let sent = outgoing(Kind::Subscription, &open_id, &call).map_err(said)?;
    Ok(expiring(sent, message.expires_at))
}

/// A time beyond all that is kept is as good as none.
fn expiring(sent: Outgoing, expires_at: Option<u64>) -> Outgoing {
    Outgoing {
        expires_at: expires_at.and_then(|at| i64::try_from(at).ok()),
        ..sent
    }
}

fn content(body: Body) -> Content {
    match body {
        Body::Text(content) => Content::Text { content },
        Body::Image(media_id) => Content::Image { media_id },
        Body::Voice(media_id) => Content::Voice { media_id },
        Body::Video(video) => Content::Video(Video {
            media_id: video.media_id,
            thumb_media_id: video.thumb_media_id,
            title: video.title,
            description: video.description,
        }),
        Body::Music(music) => Content::Music(Music {
            title: music.title,
            description: music.description,
            music_url: music.music_url,
            hq_music_url: music.hq_music_url,
            thumb_media_id: music.thumb_media_id,
        }),
        Body::Link(link) => Content::News {
            articles: [Article {
                title: link.title,
                description: link.description,
                url: link.url,
                pic_url: link.pic_url,
            }],
        },
        Body::Article(article_id) => Content::MpNewsArticle { article_id },
        Body::Menu(menu) => Content::MsgMenu(Menu {
            head: menu.head,
            choices: menu.choices.into_iter().map(choice).collect(),
            tail: menu.tail,
        }),
        Body::Card(card_id) => Content::WxCard { card_id },
        Body::MiniProgramPage(page) => Content::MiniProgramPage(MiniProgramPage {
            title: page.title,
            app_id: page.app_id,
            page_path: page.page_path,
            thumb_media_id: page.thumb_media_id,
        }),
    }
}

fn choice(choice: wit::MenuChoice) -> Choice {
    Choice {
        id: choice.id,
        content: choice.content,
    }
}

fn mini_program(given: wit::MiniProgram) -> Result<template::MiniProgram, String> {
    Ok(template::MiniProgram {
        app_id: AppId::parse(&given.app_id).map_err(|error| format!("mini-program: {error}"))?,
        page_path: given.page_path,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn notice(data: &[(&str, &str)]) -> wit::TemplateMessage {
        let data = data
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        wit::TemplateMessage {
            open_id: "oA".into(),
            template_id: "T1".into(),
            data: data.collect(),
            url: None,
            mini_program: None,
            expires_at: Some(u64::MAX),
        }
    }

    fn text(text: &str) -> wit::CustomerMessage {
        wit::CustomerMessage {
            open_id: "oA".into(),
            body: Body::Text(text.into()),
            kf_account: None,
            expires_at: Some(7),
        }
    }

    fn payload(sent: &Outgoing) -> Value {
        serde_json::from_str(&sent.payload).unwrap()
    }

    #[test]
    fn messages_become_what_wechat_takes() {
        let sent = customer(text("你好")).unwrap();
        assert_eq!(sent.path, "/cgi-bin/message/custom/send");
        assert_eq!((&*sent.open_id, sent.expires_at), ("oA", Some(7)));
        let expected = json!({"touser": "oA", "msgtype": "text", "text": {"content": "你好"}});
        assert_eq!(payload(&sent), expected);
    }

    #[test]
    fn a_template_message_is_named_by_its_id() {
        let id = |id: Option<&str>| {
            let sent = template(notice(&[("first", "1")]), id.map(Into::into)).unwrap();
            assert_eq!(sent.path, "/cgi-bin/message/template/send");
            assert_eq!(sent.expires_at, None);
            payload(&sent)["client_msg_id"].as_str().map(str::to_owned)
        };
        assert_eq!(id(Some("m1")).as_deref(), Some("m1"));
        assert_eq!(id(None), None);
    }

    #[test]
    fn what_wechat_would_refuse_is_refused_with_the_field() {
        for (sent, expected) in [
            (customer(text(&"x".repeat(2049))), "text.content"),
            (customer(text("")), "text.content"),
            (template(notice(&[("a.DATA", "1")]), None), "data"),
        ] {
            let error = sent.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
