//! The users that an account has met: followers, former ones, and what is known of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Value, json};
use wxhost_wechat::id::OpenId;

use crate::Environment;
use crate::api::allowance::{Allowance, Scene};
use crate::api::refusal::Refusal;

/// Users that are remembered per app.
const MAX_USERS: usize = 200_000;
/// Templates of which one user's acceptances are remembered.
const MAX_ACCEPTED: usize = 100;
/// Characters of an open id.
const OPEN_ID_LENGTH: usize = 28;

/// One user.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    pub(crate) follows: bool,
    /// Seconds since 1970.
    pub(crate) followed_at: u64,
    pub(crate) union_id: Option<String>,
    pub(crate) remark: String,
    /// In the order in which they were given.
    pub(crate) tags: Vec<u64>,
    pub(crate) scene: String,
    pub(crate) qr_scene: u64,
    pub(crate) qr_scene_text: String,
    pub(crate) blacklisted: bool,
    pub(crate) allowance: Allowance,
    /// Until when "is typing" shows, in milliseconds since 1970.
    pub(crate) typing_until_ms: u64,
    /// Subscription notices that were accepted and are not sent yet, by template.
    pub(crate) accepted: BTreeMap<String, u32>,
    /// The month, and how many mass messages came in it.
    pub(crate) mass_messages: (u64, u32),
}

/// A user as the control surface gives it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFollower {
    pub(crate) open_id: OpenId,
    #[serde(default)]
    pub(crate) union_id: Option<String>,
    #[serde(default)]
    pub(crate) subscribe_scene: Option<String>,
    #[serde(default)]
    pub(crate) qr_scene: u64,
    #[serde(default)]
    pub(crate) qr_scene_str: String,
}

impl NewFollower {
    pub(crate) fn named(open_id: OpenId) -> Self {
        Self {
            open_id,
            union_id: None,
            subscribe_scene: None,
            qr_scene: 0,
            qr_scene_str: String::new(),
        }
    }
}

/// An open id that nobody has yet.
pub(crate) fn fresh_open_id(chance: &dyn Environment) -> OpenId {
    let text = format!("o{}", chance.letters(OPEN_ID_LENGTH - 1));
    OpenId::parse(&text).expect("letters and digits make an open id")
}

impl Follower {
    /// What `user/info` tells of them.
    pub(crate) fn info(&self, open_id: &str) -> Value {
        if !self.follows {
            return json!({ "subscribe": 0, "openid": open_id });
        }
        let mut info = json!({
            "subscribe": 1,
            "openid": open_id,
            "nickname": "",
            "sex": 0,
            "language": "zh_CN",
            "city": "",
            "province": "",
            "country": "",
            "headimgurl": "",
            "subscribe_time": self.followed_at,
            "remark": self.remark,
            "groupid": self.tags.first().copied().unwrap_or(0),
            "tagid_list": self.tags,
            "subscribe_scene": self.scene,
            "qr_scene": self.qr_scene,
            "qr_scene_str": self.qr_scene_text,
        });
        if let Some(union_id) = &self.union_id {
            info["unionid"] = union_id.as_str().into();
        }
        info
    }
}

/// All users of one app, by open id.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    users: BTreeMap<String, Follower>,
}

impl Followers {
    /// A user that the app has met: 40003 otherwise.
    pub(crate) fn find(&self, open_id: &str) -> Result<&Follower, Refusal> {
        self.users.get(open_id).ok_or_else(|| Refusal::of(40003))
    }

    /// A user that the app has met: 40003 otherwise.
    pub(crate) fn find_mut(&mut self, open_id: &str) -> Result<&mut Follower, Refusal> {
        self.users
            .get_mut(open_id)
            .ok_or_else(|| Refusal::of(40003))
    }

    /// Whoever follows, with their open ids.
    pub(crate) fn following(&self) -> impl Iterator<Item = (&str, &Follower)> {
        let all = self.users.iter().map(|(id, user)| (id.as_str(), user));
        all.filter(|(_, user)| user.follows)
    }

    /// Everybody, for changes.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = (&str, &mut Follower)> {
        self.users.iter_mut().map(|(id, user)| (id.as_str(), user))
    }

    /// Open ids after `next`, of those that `wanted` wants; 40003 where `next` is nobody.
    pub(crate) fn page(
        &self,
        next: Option<&str>,
        size: usize,
        wanted: impl Fn(&Follower) -> bool,
    ) -> Result<Vec<&str>, Refusal> {
        let start = match next {
            None => Bound::Unbounded,
            Some(next) => {
                self.find(next)?;
                Bound::Excluded(next)
            }
        };
        Ok(self
            .users
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, user)| wanted(user))
            .map(|(id, _)| id.as_str())
            .take(size)
            .collect())
    }

    /// Lets a user follow, from now on or again.
    pub(crate) fn follow(
        &mut self,
        new: NewFollower,
        now_seconds: u64,
    ) -> Result<&mut Follower, &'static str> {
        let known = self.users.contains_key(new.open_id.as_str());
        if !known && self.users.len() >= MAX_USERS {
            return Err("too many users");
        }
        let user = self.users.entry(new.open_id.to_string()).or_default();
        if !user.follows {
            user.follows = true;
            user.followed_at = now_seconds;
            user.scene = new
                .subscribe_scene
                .unwrap_or_else(|| "ADD_SCENE_SEARCH".to_owned());
            user.qr_scene = new.qr_scene;
            user.qr_scene_text = new.qr_scene_str;
        }
        user.union_id = new.union_id.or(user.union_id.take());
        Ok(user)
    }

    /// A user stops following. Their tags, remark and allowance go; what they accepted stays.
    pub(crate) fn unfollow(&mut self, open_id: &str) -> Result<(), &'static str> {
        let user = self.users.get_mut(open_id).ok_or("no such user")?;
        user.follows = false;
        user.tags.clear();
        user.remark.clear();
        user.allowance.close();
        Ok(())
    }

    /// A user does something that allows messages. Who was never met follows from now on.
    pub(crate) fn interact(
        &mut self,
        open_id: &OpenId,
        scene: Scene,
        now_ms: u64,
        messages: u32,
    ) -> Result<u32, &'static str> {
        let known = self.users.contains_key(open_id.as_str());
        if !known || scene == Scene::Follow {
            self.follow(NewFollower::named(open_id.clone()), now_ms / 1000)?;
        }
        let user = self.users.get_mut(open_id.as_str()).ok_or("no such user")?;
        if !user.follows && scene != Scene::Pay {
            return Err("the user does not follow");
        }
        user.allowance.open(scene, now_ms, messages);
        Ok(user.allowance.left(now_ms))
    }

    /// A user accepts `count` notices of a template.
    pub(crate) fn accept(
        &mut self,
        open_id: &str,
        template_id: &str,
        count: u32,
    ) -> Result<(), &'static str> {
        let user = self.users.get_mut(open_id).ok_or("no such user")?;
        if user.accepted.len() >= MAX_ACCEPTED && !user.accepted.contains_key(template_id) {
            return Err("too many templates");
        }
        let accepted = user.accepted.entry(template_id.to_owned()).or_default();
        *accepted = accepted.saturating_add(count);
        Ok(())
    }

    /// How many there are, followers or not.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether a page of `size` more users could be added.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.users.len() + size <= MAX_USERS
    }
}
