//! The names of everything that wxhost keeps in Redis.
//!
//! | key | type | holds | lives |
//! |---|---|---|---|
//! | `wxhost:{<app id>}:event:<event id>` | hash | `state` running or answered, `owner`, `deliveries`, `watched`, `answer` | 5 s under way (renewed), 60 s answered |
//! | `wxhost:{<app id>}:nonce:<timestamp>:<nonce>` | string | hash of the body that came with it | twice the account's window |
//! | `wxhost:{<app id>}:cache:<key>` | string | a plugin's cached value | as the plugin says |
//! | `wxhost:{<id of an API key>}:rate` | string | requests of the key in this minute, a counter | 60 s from the first request |
//!
//! The braces make a Redis Cluster keep all keys of an account in one slot. Channels:
//! `wxhost:settled` (the key of an event that was answered or given up while another host waits for
//! it) and `wxhost:changed` (an account or deployment was changed; empty message).

/// Channel: an event that another host waits for was settled.
pub const SETTLED: &str = "wxhost:settled";
/// Channel: look at the database for changed accounts.
pub const CHANGED: &str = "wxhost:changed";

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
