//! What a menu may hold (自定义菜单创建接口). Buttons and sub-buttons have the same rules with different
//! errcodes.

use serde_json::{Map, Value};

use crate::api::app::App;
use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;

const MAX_BUTTONS: usize = 3;
const MAX_SUB_BUTTONS: usize = 5;
/// Bytes of a button's key and of its address.
const MAX_KEY_BYTES: usize = 128;
const MAX_URL_BYTES: usize = 1024;

/// The limits of one level of a menu, and what it is refused with.
struct Level {
    max_name_bytes: usize,
    wrong_name: i64,
    wrong_type: i64,
    wrong_key: i64,
    wrong_url: i64,
    wrong_domain: i64,
}

const BUTTON: Level = Level {
    max_name_bytes: 16,
    wrong_name: 40018,
    wrong_type: 40017,
    wrong_key: 40019,
    wrong_url: 40020,
    wrong_domain: 40054,
};

const SUB_BUTTON: Level = Level {
    max_name_bytes: 60,
    wrong_name: 40025,
    wrong_type: 40024,
    wrong_key: 40026,
    wrong_url: 40027,
    wrong_domain: 40055,
};

/// Checks the buttons of a menu.
pub(crate) fn check(app: &App, body: &Map<String, Value>, now_ms: u64) -> Result<(), Refusal> {
    let buttons = body.list("button", 40016)?;
    if !(1..=MAX_BUTTONS).contains(&buttons.len()) {
        return Err(Refusal::of(40016));
    }
    for button in buttons {
        let button = button.as_object().ok_or_else(|| Refusal::of(47001))?;
        check_name(button, &BUTTON)?;
        let subs = match button.get("sub_button") {
            None => &[],
            Some(_) => button.list("sub_button", 40023)?,
        };
        let kind = button.optional_text("type")?;
        match (subs.len(), kind) {
            (0, None) => return Err(Refusal::because(65308, "empty button")),
            (0, Some(kind)) => check_action(app, button, kind, &BUTTON, now_ms)?,
            (_, Some(_)) => return Err(Refusal::of(BUTTON.wrong_type)),
            (1..=MAX_SUB_BUTTONS, None) => check_subs(app, subs, now_ms)?,
            (_, None) => return Err(Refusal::of(40023)),
        }
    }
    Ok(())
}

fn check_subs(app: &App, subs: &[Value], now_ms: u64) -> Result<(), Refusal> {
    for sub in subs {
        let sub = sub.as_object().ok_or_else(|| Refusal::of(47001))?;
        check_name(sub, &SUB_BUTTON)?;
        let is_deeper = |subs: &Value| subs.as_array().is_none_or(|subs| !subs.is_empty());
        if sub.get("sub_button").is_some_and(is_deeper) {
            return Err(Refusal::because(40022, "invalid sub menu depth"));
        }
        let kind = sub.text("type", SUB_BUTTON.wrong_type)?;
        check_action(app, sub, kind, &SUB_BUTTON, now_ms)?;
    }
    Ok(())
}

fn check_name(button: &Map<String, Value>, level: &Level) -> Result<(), Refusal> {
    let name = button.text("name", level.wrong_name)?;
    if name.len() > level.max_name_bytes {
        return Err(Refusal::of(level.wrong_name));
    }
    Ok(())
}

fn check_action(
    app: &App,
    button: &Map<String, Value>,
    kind: &str,
    level: &Level,
    now_ms: u64,
) -> Result<(), Refusal> {
    match kind {
        "click" | "scancode_push" | "scancode_waitmsg" | "pic_sysphoto" | "pic_photo_or_album"
        | "pic_weixin" | "location_select" => {
            let key = button.text("key", level.wrong_key)?;
            if key.len() > MAX_KEY_BYTES {
                return Err(Refusal::of(level.wrong_key));
            }
            Ok(())
        }
        "view" => check_url(button, level),
        "media_id" | "view_limited" => {
            let id = button.text("media_id", 40007)?;
            match app.media.find(id, now_ms) {
                Ok(media) if media.is_permanent => Ok(()),
                _ => app.articles.check_draft(id),
            }
        }
        "article_id" | "article_view_limited" => {
            let id = button.text("article_id", 53600)?;
            app.articles.check_published(id)
        }
        "miniprogram" => {
            check_url(button, level)?;
            button.text("pagepath", 40165)?;
            let program = button.text("appid", 40013)?;
            if app.settings.mini_programs.iter().any(|id| id == program) {
                Ok(())
            } else {
                Err(Refusal::because(
                    45064,
                    "no permission to use weapp in menu",
                ))
            }
        }
        _ => Err(Refusal::of(level.wrong_type)),
    }
}

fn check_url(button: &Map<String, Value>, level: &Level) -> Result<(), Refusal> {
    let url = button.text("url", level.wrong_url)?;
    if url.len() > MAX_URL_BYTES {
        return Err(Refusal::of(level.wrong_url));
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Refusal::because(
            level.wrong_domain,
            "invalid button url domain",
        ));
    }
    Ok(())
}
