//! Events as WeChat would send them, for tests to begin with.

use crate::event::{Content, Event, Image, Scan, Subscribe, Text};

/// An event of any content, from the user `oUser`.
#[must_use]
pub fn event(content: Content) -> Event {
    Event {
        id: "m:1".to_owned(),
        open_id: "oUser".to_owned(),
        create_time: 1_700_000_000,
        content,
        extra: Vec::new(),
    }
}

/// A text message.
#[must_use]
pub fn text(content: &str) -> Event {
    event(Content::Text(Text {
        content: content.to_owned(),
        menu_id: None,
    }))
}

/// An image message.
#[must_use]
pub fn image(media_id: &str) -> Event {
    let pic_url = format!("http://mmbiz.qpic.cn/{media_id}");
    event(Content::Image(Image {
        pic_url,
        media_id: media_id.to_owned(),
    }))
}

/// A tap on a menu button of type click.
#[must_use]
pub fn click(key: &str) -> Event {
    event(Content::Click(key.to_owned()))
}

/// A user follows the account, by search or by a card.
#[must_use]
pub fn subscribe() -> Event {
    event(Content::Subscribe(Subscribe {
        scene: None,
        ticket: None,
        event_key: String::new(),
    }))
}

/// A user follows the account by a QR code with this scene.
#[must_use]
pub fn subscribe_by(scene: &str) -> Event {
    event(Content::Subscribe(Subscribe {
        scene: Some(scene.to_owned()),
        ticket: Some("TICKET".to_owned()),
        event_key: format!("qrscene_{scene}"),
    }))
}

/// A follower scans a QR code with this scene.
#[must_use]
pub fn scan(scene: &str) -> Event {
    event(Content::Scan(Scan {
        scene: scene.to_owned(),
        ticket: "TICKET".to_owned(),
    }))
}

impl Event {
    /// The same event from another user.
    #[must_use]
    pub fn from_user(mut self, open_id: &str) -> Self {
        open_id.clone_into(&mut self.open_id);
        self
    }
}
