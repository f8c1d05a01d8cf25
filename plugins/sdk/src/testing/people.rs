//! People for tests to begin with, and what effects do to them.

use crate::contacts::{Contact, Interactions};
use crate::outcome::TagChange;
use crate::push::Recipient;
use crate::wechat_api::User;
use serde_json::{Map, Value};

/// A contact that follows the account and wrote to it, without tags, remark and attributes.
#[must_use]
pub fn contact(open_id: &str) -> Contact {
    Contact {
        open_id: open_id.to_owned(),
        union_id: None,
        following: Some(true),
        first_seen_ms: 1_700_000_000_000,
        followed_ms: Some(1_700_000_000_000),
        unfollowed_ms: None,
        qr_scene: None,
        last: Interactions {
            message: Some(1_700_000_000_000),
            menu: None,
            scan: None,
            follow: Some(1_700_000_000_000),
            payment: None,
        },
        tags: Vec::new(),
        remark: String::new(),
        attributes: "{}".to_owned(),
        opted_out: false,
    }
}

/// A recipient of a push, of whom the host knows what a contact of it tells.
#[must_use]
pub fn recipient(open_id: &str) -> Recipient {
    Recipient {
        open_id: open_id.to_owned(),
        contact: None,
    }
}

/// A follower as WeChat knows it, who came by search.
#[must_use]
pub fn user(open_id: &str) -> User {
    User {
        open_id: open_id.to_owned(),
        subscribed: true,
        subscribe_time: 1_700_000_000,
        union_id: None,
        language: "zh_CN".to_owned(),
        remark: String::new(),
        tags: Vec::new(),
        subscribe_scene: "ADD_SCENE_SEARCH".to_owned(),
        qr_scene: String::new(),
    }
}

impl Contact {
    pub(super) fn change_tags(&mut self, change: &TagChange) {
        self.tags.retain(|tag| !change.remove.contains(tag));
        for tag in &change.add {
            if !self.tags.contains(tag) {
                self.tags.push(*tag);
            }
        }
    }

    /// Sets members one by one. What is no JSON object changes nothing; the real host refuses it.
    pub(super) fn change_attributes(&mut self, attributes: &str) {
        let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
        let (Some(mut all), Some(changes)) = (object(&self.attributes), object(attributes)) else {
            return;
        };
        for (name, value) in changes {
            if value.is_null() {
                all.remove(&name);
            } else {
                all.insert(name, value);
            }
        }
        self.attributes = Value::Object(all).to_string();
    }
}
