//! Logins to begin with.

use crate::login::{Login, Scope};

/// A login of this user, who has granted no more than who they are, on the way to `https://shop.example/`.
#[must_use]
pub fn login(open_id: &str) -> Login {
    Login {
        id: "0123456789abcdef".to_owned(),
        open_id: open_id.to_owned(),
        union_id: None,
        scope: Scope::Identity,
        nickname: None,
        picture_url: None,
        snapshot_user: false,
        return_to: "https://shop.example/".to_owned(),
        contact: None,
    }
}
