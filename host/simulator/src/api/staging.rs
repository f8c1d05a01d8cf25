//! What the control surface puts into an app: users and what they do, templates, acceptances, media;
//! and what it shows of them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wxhost_wechat::id::OpenId;

use crate::api::allowance::Scene;
use crate::api::app::App;
use crate::api::arrival::Arrival;
use crate::api::control::ControlError;
use crate::api::followers::{self, NewFollower};
use crate::api::media::MediaKind;
use crate::api::media_calls;
use crate::api::templates::Template;
use crate::api::world::World;

/// Messages that are shown at once; the latest are.
const MAX_SHOWN: usize = 1_000;

/// Does what is asked below `/apps/<app id>/`; None where there is no such thing.
pub(crate) fn obey(
    world: &mut World,
    app_id: &str,
    rest: &[&str],
    arrival: &Arrival,
) -> Option<Result<Value, ControlError>> {
    let now_ms = world.now_ms();
    let environment = std::sync::Arc::clone(&world.environment);
    let Some(app) = world.apps.get_mut(app_id) else {
        return Some(Err(ControlError::absent("app")));
    };
    let body = &arrival.body;
    Some(match (arrival.method.as_str(), rest) {
        ("POST", ["followers"]) => parsed(body).and_then(|crowd: Crowd| {
            let fresh = || followers::fresh_open_id(&*environment);
            crowd.join(app, now_ms / 1000, fresh)
        }),
        ("GET", ["followers", open_id]) => shown_user(app, open_id, now_ms),
        ("POST", ["interactions"]) => {
            parsed(body).and_then(|action: Interaction| action.happen(app, now_ms))
        }
        ("POST", ["acceptances"]) => parsed(body).and_then(|given: Acceptance| given.take(app)),
        ("POST", ["templates"]) => parsed(body).and_then(|template: Template| {
            let added = app.templates.add(template);
            added.map_err(|refusal| ControlError::bad(refusal.text))?;
            Ok(json!({}))
        }),
        ("POST", ["media"]) => parsed(body).and_then(|planted: Planted| {
            let media = media_calls::planted(planted.kind, now_ms, planted.permanent);
            let kept = app.media.keep_as(&planted.media_id, media);
            kept.map_err(|refusal| ControlError::bad(refusal.text))?;
            Ok(json!({}))
        }),
        ("GET", ["messages"]) => {
            app.end_reviews(now_ms);
            let shown: Vec<_> = app.shown.to(arrival.parameter("open_id")).collect();
            let latest = shown.len().saturating_sub(MAX_SHOWN);
            Ok(json!(shown[latest..]))
        }
        _ => return None,
    })
}

/// A JSON body of the control surface.
pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|error| ControlError::bad(error.to_string()))
}

/// Users who follow without having done anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Crowd {
    #[serde(default)]
    open_ids: Vec<OpenId>,
    #[serde(default)]
    followers: Vec<NewFollower>,
    /// So many more, with invented open ids.
    #[serde(default)]
    count: usize,
}

impl Crowd {
    fn join(
        self,
        app: &mut App,
        now_seconds: u64,
        fresh: impl Fn() -> OpenId,
    ) -> Result<Value, ControlError> {
        if !app.followers.has_room(self.count) {
            return Err(ControlError::bad("too many users"));
        }
        let named = self.open_ids.into_iter().map(NewFollower::named);
        let invented: Vec<OpenId> = (0..self.count).map(|_| fresh()).collect();
        let more = invented.iter().cloned().map(NewFollower::named);
        for follower in self.followers.into_iter().chain(named).chain(more) {
            let joined = app.followers.follow(follower, now_seconds);
            joined.map_err(ControlError::bad)?;
        }
        Ok(json!({ "users": app.followers.len(), "open_ids": invented }))
    }
}

fn shown_user(app: &App, open_id: &str, now_ms: u64) -> Result<Value, ControlError> {
    let user = app.followers.find(open_id);
    let user = user.map_err(|_| ControlError::absent("user"))?;
    Ok(json!({
        "info": user.info(open_id),
        "messages_left": user.allowance.left(now_ms),
        "blacklisted": user.blacklisted,
        "typing": now_ms < user.typing_until_ms,
        "accepted": user.accepted,
    }))
}

/// What a user does. It opens an allowance; no callback is sent for it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interaction {
    open_id: OpenId,
    kind: InteractionKind,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum InteractionKind {
    Scene(Scene),
    Leave(Leave),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Leave {
    Unfollow,
}

impl Interaction {
    fn happen(self, app: &mut App, now_ms: u64) -> Result<Value, ControlError> {
        let messages = app.settings.messages_per_interaction;
        let left = match self.kind {
            InteractionKind::Scene(scene) => {
                let followers = &mut app.followers;
                followers.interact(&self.open_id, scene, now_ms, messages)
            }
            InteractionKind::Leave(Leave::Unfollow) => {
                app.followers.unfollow(self.open_id.as_str()).map(|()| 0)
            }
        };
        Ok(json!({ "messages_left": left.map_err(ControlError::bad)? }))
    }
}

/// A user accepts notices of a template.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    open_id: OpenId,
    template_id: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

impl Acceptance {
    fn take(self, app: &mut App) -> Result<Value, ControlError> {
        let open_id = self.open_id.as_str();
        let accepted = app.followers.accept(open_id, &self.template_id, self.count);
        accepted.map_err(ControlError::bad)?;
        Ok(json!({}))
    }
}

/// Media that is there without an upload.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    media_id: String,
    kind: MediaKind,
    #[serde(default)]
    permanent: bool,
}
