//! QR codes with a scene (带参数的二维码): who follows or scans by one is told with its scene.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Request, answer, percent};

/// Longest life of a temporary code: 30 days.
pub const MAX_EXPIRE_SECONDS: u32 = 2_592_000;
/// Largest number of a permanent code; as many there can be.
pub const MAX_PERMANENT_NUMBER: u32 = 100_000;
/// Most characters of a text.
pub const MAX_TEXT_CHARACTERS: usize = 64;

/// `POST /cgi-bin/qrcode/create`. 100,000 a day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Create {
    /// What the callback tells.
    pub scene: Scene,
    /// How long it lives.
    pub life: Life,
}

/// What the callback of a code tells.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub enum Scene {
    /// A number from 1; of a permanent code to [`MAX_PERMANENT_NUMBER`].
    #[serde(rename = "scene_id")]
    Number(u32),
    /// A text of 1 to [`MAX_TEXT_CHARACTERS`] characters.
    #[serde(rename = "scene_str")]
    Text(String),
}

/// How long a code lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// So many seconds, 1 to [`MAX_EXPIRE_SECONDS`].
    Seconds(u32),
    /// For good; an account has 100,000 of them.
    Permanent,
}

/// A code that was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Code {
    /// Its picture's name, see [`Code::picture_address`].
    pub ticket: String,
    /// How long it lives; 0 for good.
    #[serde(default, deserialize_with = "answer::number")]
    pub expire_seconds: u64,
    /// What it says, for a picture of one's own.
    pub url: String,
}

impl Code {
    /// Where its picture is; no token is needed.
    pub fn picture_address(&self) -> String {
        let ticket = percent::encoded(&self.ticket);
        format!("https://mp.weixin.qq.com/cgi-bin/showqrcode?ticket={ticket}")
    }
}

impl Call for Create {
    type Answer = Code;

    fn request(&self) -> Result<Request, InvalidCall> {
        match (&self.scene, self.life) {
            (Scene::Text(text), _) => {
                limit::characters("scene_str", text, 1..=MAX_TEXT_CHARACTERS)?;
            }
            (Scene::Number(number), Life::Seconds(_)) => {
                limit::range("scene_id", *number, 1..=u32::MAX.into())?;
            }
            (Scene::Number(number), Life::Permanent) => {
                limit::range("scene_id", *number, 1..=MAX_PERMANENT_NUMBER.into())?;
            }
        }
        let action_name = match (&self.scene, self.life) {
            (Scene::Number(_), Life::Seconds(_)) => "QR_SCENE",
            (Scene::Text(_), Life::Seconds(_)) => "QR_STR_SCENE",
            (Scene::Number(_), Life::Permanent) => "QR_LIMIT_SCENE",
            (Scene::Text(_), Life::Permanent) => "QR_LIMIT_STR_SCENE",
        };
        let expire_seconds = match self.life {
            Life::Seconds(seconds) => {
                limit::range("expire_seconds", seconds, 1..=MAX_EXPIRE_SECONDS.into())?;
                Some(seconds)
            }
            Life::Permanent => None,
        };
        let body = Body {
            expire_seconds,
            action_name,
            action_info: ActionInfo { scene: &self.scene },
        };
        Request::ask("/cgi-bin/qrcode/create", &body)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_seconds: Option<u32>,
    action_name: &'static str,
    action_info: ActionInfo<'a>,
}

#[derive(Serialize)]
struct ActionInfo<'a> {
    scene: &'a Scene,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn text(characters: usize) -> Scene {
        Scene::Text("景".repeat(characters))
    }

    #[test]
    fn codes_are_the_documents() {
        let check = |scene, life, expected: &str| {
            let expected = format!("POST /cgi-bin/qrcode/create {expected}");
            assert_eq!(line(&Create { scene, life }), expected);
        };
        check(
            Scene::Number(123),
            Life::Seconds(604_800),
            r#"{"expire_seconds":604800,"action_name":"QR_SCENE","action_info":{"scene":{"scene_id":123}}}"#,
        );
        check(
            text(1),
            Life::Seconds(60),
            r#"{"expire_seconds":60,"action_name":"QR_STR_SCENE","action_info":{"scene":{"scene_str":"景"}}}"#,
        );
        check(
            Scene::Number(100_000),
            Life::Permanent,
            r#"{"action_name":"QR_LIMIT_SCENE","action_info":{"scene":{"scene_id":100000}}}"#,
        );
        check(
            text(1),
            Life::Permanent,
            r#"{"action_name":"QR_LIMIT_STR_SCENE","action_info":{"scene":{"scene_str":"景"}}}"#,
        );
    }

    #[test]
    fn answer_is_read() {
        let create = Create {
            scene: text(1),
            life: Life::Permanent,
        };
        let code = answer(
            &create,
            r#"{"ticket":"gQH47joAAAA=/+","url":"http://weixin.qq.com/q/kZg"}"#,
        );
        assert_eq!(
            (code.expire_seconds, &*code.url),
            (0, "http://weixin.qq.com/q/kZg")
        );
        assert_eq!(
            code.picture_address(),
            "https://mp.weixin.qq.com/cgi-bin/showqrcode?ticket=gQH47joAAAA%3D%2F%2B"
        );
    }

    #[test]
    fn limits_hold() {
        let check =
            |scene, life, expected: &str| assert_eq!(refused(&Create { scene, life }), expected);
        let minute = Life::Seconds(60);
        check(
            Scene::Number(0),
            minute,
            "scene_id is 0, 1 to 4294967295 is allowed",
        );
        check(
            Scene::Number(100_001),
            Life::Permanent,
            "scene_id is 100001, 1 to 100000 is allowed",
        );
        check(
            text(65),
            minute,
            "scene_str has 65 characters, 1 to 64 are allowed",
        );
        check(
            text(0),
            Life::Permanent,
            "scene_str has 0 characters, 1 to 64 are allowed",
        );
        let expire = "expire_seconds is 2592001, 1 to 2592000 is allowed";
        check(text(1), Life::Seconds(2_592_001), expire);
        check(
            text(1),
            Life::Seconds(0),
            "expire_seconds is 0, 1 to 2592000 is allowed",
        );
    }
}
