//! How many customer-service messages a user's actions allow (客服消息下发条数限制).
//!
//! Each scene has its own count and time. They are not added together: a message counts against every
//! scene that is open, and is allowed as long as one of them has something left.

use serde::{Deserialize, Serialize};

const MINUTE_MS: u64 = 60_000;
const TWO_DAYS_MS: u64 = 48 * 3600 * 1000;
/// Messages that a menu click, a follow or a scan allows.
const BRIEF_COUNT: u32 = 3;
/// Messages that a payment allows. The newest document has no limit, older ones say 20.
const PAYMENT_COUNT: u32 = 20;
const SCENES: usize = 5;

/// What a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scene {
    /// Sent a message.
    Message,
    /// Tapped a menu button of type click, scancode_push or scancode_waitmsg.
    Menu,
    /// Followed.
    Follow,
    /// Scanned a QR code of the account.
    Scan,
    /// Paid.
    Pay,
}

/// Why no message may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unallowed {
    /// 45015: no scene is open.
    Closed,
    /// 45047: those that are open are used up.
    UsedUp,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    until_ms: u64,
    left: u32,
}

/// What one user's actions allow.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    windows: [Option<Window>; SCENES],
    last_message_ms: Option<u64>,
}

impl Allowance {
    /// The user did something. The scene begins anew, with its whole count.
    pub(crate) fn open(&mut self, scene: Scene, now_ms: u64, messages: u32) {
        let (left, time) = match scene {
            Scene::Message => (messages, TWO_DAYS_MS),
            Scene::Menu | Scene::Follow | Scene::Scan => (BRIEF_COUNT, MINUTE_MS),
            Scene::Pay => (PAYMENT_COUNT, TWO_DAYS_MS),
        };
        self.windows[scene as usize] = Some(Window {
            until_ms: now_ms + time,
            left,
        });
        if scene == Scene::Message {
            self.last_message_ms = Some(now_ms);
        }
    }

    /// The user stopped following.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    /// Counts a message, where one may be sent.
    pub(crate) fn spend(&mut self, now_ms: u64) -> Result<(), Unallowed> {
        let mut open: Vec<&mut Window> = self
            .windows
            .iter_mut()
            .flatten()
            .filter(|window| now_ms < window.until_ms)
            .collect();
        if open.is_empty() {
            return Err(Unallowed::Closed);
        }
        if open.iter().all(|window| window.left == 0) {
            return Err(Unallowed::UsedUp);
        }
        for window in &mut open {
            window.left = window.left.saturating_sub(1);
        }
        Ok(())
    }

    /// How many messages may be sent now.
    pub(crate) fn left(&self, now_ms: u64) -> u32 {
        let open = self.windows.iter().flatten();
        let open = open.filter(|window| now_ms < window.until_ms);
        open.map(|window| window.left).max().unwrap_or(0)
    }

    /// When the user last sent a message, in milliseconds since 1970.
    pub(crate) fn last_message_ms(&self) -> Option<u64> {
        self.last_message_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_not_added_together() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.spend(0), Err(Unallowed::Closed));
        allowance.open(Scene::Message, 0, 5);
        allowance.open(Scene::Menu, 0, 5);
        assert_eq!(allowance.left(0), 5);
        for _ in 0..5 {
            allowance.spend(0).unwrap();
        }
        assert_eq!(allowance.spend(0), Err(Unallowed::UsedUp));
        allowance.open(Scene::Scan, 1, 5);
        for _ in 0..3 {
            allowance.spend(1).unwrap();
        }
        assert_eq!(allowance.spend(1), Err(Unallowed::UsedUp));
        allowance.open(Scene::Message, 2, 5);
        assert_eq!(allowance.left(2), 5, "a new message restores it");
    }

    #[test]
    fn each_scene_ends_in_its_time() {
        for (scene, time) in [
            (Scene::Message, TWO_DAYS_MS),
            (Scene::Pay, TWO_DAYS_MS),
            (Scene::Menu, MINUTE_MS),
            (Scene::Follow, MINUTE_MS),
            (Scene::Scan, MINUTE_MS),
        ] {
            let mut allowance = Allowance::default();
            allowance.open(scene, 10, 5);
            assert_eq!(allowance.spend(10 + time - 1), Ok(()));
            assert_eq!(allowance.spend(10 + time), Err(Unallowed::Closed));
        }
    }
}
