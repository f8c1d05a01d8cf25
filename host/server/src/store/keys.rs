//! The names of everything that wxhost keeps in Redis.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `wxhost:{<app id>}:event:<event id>` | hash | `state` running or answered, `owner`, `deliveries`, `watched`, `answer` | 5 s under way (renewed), 60 s answered |
//! | `wxhost:{<app id>}:nonce:<timestamp>:<nonce>` | string | hash of the body that came with it | twice the account's window |
//! | `wxhost:{<app id>}:cache:<key>` | string | a plugin's cached value | as the plugin says |
//! | `wxhost:{<id of an API key>}:rate` | string | requests of the key in this minute, a counter | 60 s from the first request |
//! | `wxhost:{<app id>}:token:<credential>` | hash | `value` (sealed under the master key), `hash` of it, `fence`, `fetched_at`, `lifetime`; `failed` once WeChat refused it | as long as the token |
//! | `wxhost:{<app id>}:lease:<credential>` | string | who fetches: a name that comes only once | 3 s (renewed) |
//! | `wxhost:{<app id>}:fence:<credential>` | string | the last fencing number given out | for ever |
//! | `wxhost:{<app id>}:pause:<credential>` | string | WeChat's code for "not now": 45009, 45011 | until WeChat may be asked again |
//! | `wxhost:{<app id>}:forced` | string | a token was forced lately | 31 s |
//! | `wxhost:{<app id>}:forces` | string | how many were forced | 24 h from the first |
//! | `wxhost:{<component appid>}:ticket` | hash | `value` (sealed), `told_at`: the newest ticket that WeChat pushed to a platform | 12 h |
//! | `wxhost:{<app id>}:fetches` | string | when the classic line's budget is full again, Unix milliseconds | until then |
//!
//! `<credential>` is `access-token`, `jsapi-ticket`, `card-ticket`, or `component-token` of a platform. A fencing number is larger than all
//! before it: one more than the last, or Redis' clock in microseconds if that is more, so that it goes
//! on rising after everything was wiped.
//!
//! The braces make a Redis Cluster keep all keys of an account in one slot. Channels:
//! `wxhost:settled` (the key of an event that was answered or given up while another host waits for
//! it), `wxhost:changed` (an account or deployment was changed; empty message) and `wxhost:token`
//! (`<app id> <credential>`: there is news of it; the same and `wanted`: a host whose address WeChat
//! refuses wants it to be fetched).

/// Channel: an event that another host waits for was settled.
pub const SETTLED: &str = "wxhost:settled";
/// Channel: look at the database for changed accounts.
pub const CHANGED: &str = "wxhost:changed";
/// Channel: a token or ticket was renewed, refused or given up.
pub const TOKEN: &str = "wxhost:token";

/// Last word of a message on [`TOKEN`] that asks for a token.
pub const WANTED: &str = "wanted";

/// Key of an event under way or answered.
pub fn event(app_id: &str, event_id: &str) -> String {
    format!("wxhost:{{{app_id}}}:event:{event_id}")
}

/// Key of a nonce that was used.
pub fn nonce(app_id: &str, timestamp: &str, nonce: &str) -> String {
    format!("wxhost:{{{app_id}}}:nonce:{timestamp}:{nonce}")
}

/// Key of a plugin's cached value.
pub fn cache(app_id: &str, key: &str) -> String {
    format!("wxhost:{{{app_id}}}:cache:{key}")
}

/// Key of the requests that an API key has made in this minute.
pub fn rate(key_id: &str) -> String {
    format!("wxhost:{{{key_id}}}:rate")
}

/// Key of a nonce that a request was signed with.
pub fn signed_nonce(key_id: &str, nonce: &str) -> String {
    format!("wxhost:{{{key_id}}}:signed:{nonce}")
}

/// Key of a token or ticket.
pub fn token(app_id: &str, credential: &str) -> String {
    format!("wxhost:{{{app_id}}}:token:{credential}")
}

/// Key of the lease on fetching it.
pub fn lease(app_id: &str, credential: &str) -> String {
    format!("wxhost:{{{app_id}}}:lease:{credential}")
}

/// Key of its last fencing number.
pub fn fence(app_id: &str, credential: &str) -> String {
    format!("wxhost:{{{app_id}}}:fence:{credential}")
}

/// Key that says that WeChat wants no questions for it now.
pub fn pause(app_id: &str, credential: &str) -> String {
    format!("wxhost:{{{app_id}}}:pause:{credential}")
}

/// Key that is there for a while after a token was forced.
pub fn forced(app_id: &str) -> String {
    format!("wxhost:{{{app_id}}}:forced")
}

/// Key of the number of forced tokens.
pub fn forces(app_id: &str) -> String {
    format!("wxhost:{{{app_id}}}:forces")
}

/// Key of the newest ticket of a platform.
pub fn ticket(platform: &str) -> String {
    format!("wxhost:{{{platform}}}:ticket")
}

/// Key of the budget of fetches on the classic line.
pub fn fetches(app_id: &str) -> String {
    format!("wxhost:{{{app_id}}}:fetches")
}

/// Message on [`TOKEN`].
pub fn token_news(app_id: &str, credential: &str) -> String {
    format!("{app_id} {credential}")
}
