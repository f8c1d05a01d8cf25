//! Customer-service messages (客服消息): how an answer goes out that is too late to be passive.

use serde_json::{Value, json};

use crate::id::OpenId;
use crate::reply::Reply;

/// The body of `POST /cgi-bin/message/custom/send` that says what `reply` says; None for the handing
/// over to human service, which has no such form.
///
/// WeChat takes one article in such a message; more are left out.
pub fn from_reply(to: &OpenId, reply: &Reply) -> Option<String> {
    let (kind, content) = match reply {
        Reply::Text(content) => ("text", json!({ "content": content })),
        Reply::Image(media_id) => ("image", json!({ "media_id": media_id })),
        Reply::Voice(media_id) => ("voice", json!({ "media_id": media_id })),
        Reply::Video(video) => (
            "video",
            json!({
                "media_id": video.media_id,
                // WeChat wants a thumbnail here, which a passive reply does not have.
                "thumb_media_id": video.media_id,
                "title": video.title,
                "description": video.description,
            }),
        ),
        Reply::Music(music) => (
            "music",
            json!({
                "title": music.title,
                "description": music.description,
                "musicurl": music.music_url,
                "hqmusicurl": music.hq_music_url,
                "thumb_media_id": music.thumb_media_id,
            }),
        ),
        Reply::News(articles) => {
            let article = articles.first()?;
            (
                "news",
                json!({ "articles": [{
                    "title": article.title,
                    "description": article.description,
                    "url": article.url,
                    "picurl": article.pic_url,
                }] }),
            )
        }
        Reply::TransferCustomerService(_) => return None,
    };
    let mut message = json!({ "touser": to.as_str(), "msgtype": kind });
    message[kind] = content;
    Some(Value::to_string(&message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Article;

    #[track_caller]
    fn check(reply: &Reply, expected: &str) {
        let to = OpenId::parse("oUser1").expect("an open id");
        let message = from_reply(&to, reply).expect("has such a form");
        let message: Value = serde_json::from_str(&message).expect("JSON");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(message, expected);
    }

    #[test]
    fn replies_become_customer_messages() {
        check(
            &Reply::Text("你好 \"]]>\"".into()),
            r#"{"touser":"oUser1","msgtype":"text","text":{"content":"你好 \"]]>\""}}"#,
        );
        check(
            &Reply::Image("m1".into()),
            r#"{"touser":"oUser1","msgtype":"image","image":{"media_id":"m1"}}"#,
        );
        let article = |title: &str| Article {
            title: title.into(),
            url: "https://a.example".into(),
            ..Article::default()
        };
        check(
            &Reply::News(vec![article("one"), article("two")]),
            r#"{"touser":"oUser1","msgtype":"news","news":{"articles":[
                {"title":"one","description":"","url":"https://a.example","picurl":""}]}}"#,
        );
    }

    #[test]
    fn handing_over_to_human_service_can_not_be_late() {
        let to = OpenId::parse("oUser1").expect("an open id");
        assert_eq!(from_reply(&to, &Reply::TransferCustomerService(None)), None);
    }
}
