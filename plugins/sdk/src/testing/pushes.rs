//! Pushes to begin with.

use crate::push::Push;

/// A push of this kind with these data, which came at 1,700,000,000 seconds and is over a day later.
#[must_use]
pub fn push(kind: &str, data: &serde_json::Value) -> Push {
    const CAME_AT_MS: u64 = 1_700_000_000_000;
    Push {
        id: "0123456789abcdef".to_owned(),
        kind: kind.to_owned(),
        data: data.to_string(),
        created_at: CAME_AT_MS,
        expires_at: CAME_AT_MS + 86_400_000,
    }
}
