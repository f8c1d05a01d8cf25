//! From an effect that concerns a person to what happens: the JSON that WeChat takes, checked against
//! WeChat's limits when it is built, and the change of the contact.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use wxhost_runtime::messages::{self as wit, Body};
use wxhost_wechat::api::customer_message::{
    self, Article, Choice, Content, Menu, MiniProgramPage, Music, Video,
};
use wxhost_wechat::api::{subscription, tag, template, user};
use wxhost_wechat::id::{AppId, OpenId};

use super::Personal;
use crate::db::outbox::Kind;
use crate::db::personal::{Change, Step};
use crate::outbox::outgoing;

/// Hex digits of a message's id: WeChat takes at least 32 everywhere.
const MESSAGE_ID_DIGITS: usize = 32;

/// The event that effects belong to.
#[derive(Debug, Clone, Copy)]
pub struct Cause<'a> {
    /// The account.
    pub app_id: &'a str,
    /// The event.
    pub event_id: &'a str,
}

impl Cause<'_> {
    /// Names what the effect at `position` sends: the same whatever is repeated, and nothing else's.
    fn message_id(self, position: usize) -> String {
        let name = format!("{}\n{}\n{position}", self.app_id, self.event_id);
        let mut digits = hex::encode(Sha256::digest(name));
        digits.truncate(MESSAGE_ID_DIGITS);
        digits
    }
}

/// What the effect at `position` does.
///
/// # Errors
/// What is wrong with it.
pub(super) fn steps(
    effect: Personal,
    cause: Cause<'_>,
    position: usize,
) -> Result<Vec<Step>, String> {
    let open_id = OpenId::parse(effect.open_id()).map_err(said)?;
    let person = open_id.as_str().to_owned();
    let change = |change| Step::Change {
        open_id: person.clone(),
        change,
    };
    Ok(match effect {
        Personal::Message(message) => {
            let call = customer_message::Send {
                open_id: open_id.clone(),
                content: content(message.body),
                kf_account: message.kf_account,
            };
            let sent = outgoing(Kind::CustomerMessage, &open_id, &call).map_err(said)?;
            vec![Step::Send(sent)]
        }
        Personal::Template(message) => {
            let call = template::Send {
                open_id: open_id.clone(),
                template_id: message.template_id,
                url: message.url,
                mini_program: message.mini_program.map(mini_program).transpose()?,
                data: template::Data(message.data),
                client_msg_id: Some(cause.message_id(position)),
            };
            let sent = outgoing(Kind::Template, &open_id, &call).map_err(said)?;
            vec![Step::Send(sent)]
        }
        Personal::Subscription(message) => {
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
            vec![Step::Send(sent)]
        }
        Personal::Tags(tags) => {
            let mut steps = tag_steps(&open_id, &tags.add, &tags.remove)?;
            steps.push(change(Change::Tags {
                add: tags.add,
                remove: tags.remove,
            }));
            steps
        }
        Personal::Remark(set) => {
            if set.remark.chars().any(char::is_control) {
                return Err("a remark has no control characters".to_owned());
            }
            let call = user::SetRemark {
                open_id: open_id.clone(),
                remark: set.remark.clone(),
            };
            let sent = outgoing(Kind::Remark, &open_id, &call).map_err(said)?;
            vec![Step::Send(sent), change(Change::Remark(set.remark))]
        }
        Personal::Attributes(set) => {
            let members: Map<String, Value> = serde_json::from_str(&set.attributes)
                .map_err(|error| format!("attributes are not a JSON object: {error}"))?;
            vec![change(Change::Attributes(members))]
        }
        Personal::OptOut(set) => vec![change(Change::OptOut(set.opted_out))],
    })
}

/// WeChat takes one tag at a time.
fn tag_steps(open_id: &OpenId, add: &[u32], remove: &[u32]) -> Result<Vec<Step>, String> {
    let open_ids = || vec![open_id.clone()];
    let removed = remove.iter().map(|&id| {
        let call = tag::Remove {
            open_ids: open_ids(),
            id,
        };
        outgoing(Kind::Tags, open_id, &call)
    });
    let added = add.iter().map(|&id| {
        let call = tag::Add {
            open_ids: open_ids(),
            id,
        };
        outgoing(Kind::Tags, open_id, &call)
    });
    // Taken away first: a person has 20 at most.
    let calls = removed.chain(added);
    calls
        .map(|call| call.map(Step::Send).map_err(said))
        .collect()
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

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::effects::{RemarkChange, TagChange};

    const CAUSE: Cause<'_> = Cause {
        app_id: "wx01",
        event_id: "m:1",
    };

    fn template(data: &[(&str, &str)]) -> Personal {
        let data = data
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Personal::Template(wit::TemplateMessage {
            open_id: "oA".into(),
            template_id: "T1".into(),
            data: data.collect(),
            url: None,
            mini_program: None,
        })
    }

    fn text(text: &str) -> Personal {
        Personal::Message(wit::CustomerMessage {
            open_id: "oA".into(),
            body: Body::Text(text.into()),
            kf_account: None,
        })
    }

    #[track_caller]
    fn sent(effect: Personal, position: usize) -> (String, Value) {
        let steps = steps(effect, CAUSE, position).unwrap();
        let Some(Step::Send(outgoing)) = steps.into_iter().next() else {
            panic!("nothing is sent");
        };
        assert_eq!(outgoing.open_id, "oA");
        let payload = serde_json::from_str(&outgoing.payload).unwrap();
        (outgoing.path, payload)
    }

    #[test]
    fn messages_become_what_wechat_takes() {
        let (path, payload) = sent(text("你好"), 1);
        assert_eq!(path, "/cgi-bin/message/custom/send");
        let expected = json!({"touser": "oA", "msgtype": "text", "text": {"content": "你好"}});
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_template_message_has_an_id_that_repetitions_share_and_no_other_has() {
        let id = |position| {
            let (path, payload) = sent(template(&[("first", "1")]), position);
            assert_eq!(path, "/cgi-bin/message/template/send");
            payload["client_msg_id"].as_str().unwrap().to_owned()
        };
        assert_eq!(id(1).len(), 32);
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        let other = Cause {
            event_id: "m:2",
            ..CAUSE
        };
        assert_ne!(CAUSE.message_id(1), other.message_id(1));
    }

    #[test]
    fn tags_go_one_by_one_and_are_remembered() {
        let effect = Personal::Tags(TagChange {
            open_id: "oA".into(),
            add: vec![7],
            remove: vec![8, 9],
        });
        let steps = steps(effect, CAUSE, 1).unwrap();
        let paths: Vec<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Send(outgoing) => Some(&*outgoing.path),
                Step::Change { .. } => None,
            })
            .collect();
        let untag = "/cgi-bin/tags/members/batchuntagging";
        assert_eq!(paths, [untag, untag, "/cgi-bin/tags/members/batchtagging"]);
        let remembered = Change::Tags {
            add: vec![7],
            remove: vec![8, 9],
        };
        assert!(matches!(&steps[3], Step::Change { change, .. } if *change == remembered));
    }

    #[test]
    fn what_wechat_would_refuse_is_refused_with_the_field() {
        let remark = Personal::Remark(RemarkChange {
            open_id: "oA".into(),
            remark: "a\0b".into(),
        });
        for (effect, expected) in [
            (text(&"x".repeat(2049)), "text.content"),
            (text(""), "text.content"),
            (template(&[("a.DATA", "1")]), "data"),
            (remark, "control characters"),
        ] {
            let error = steps(effect, CAUSE, 1).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
