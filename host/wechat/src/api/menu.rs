//! Menus (自定义菜单): the buttons below a chat, for everyone or for some (个性化菜单).
//!
//! A menu has up to three buttons, each of them an action or a list of up to five more. Clients show a
//! change after some minutes.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::limit::{self, InvalidCall};
use super::{Call, Done, LongId, Request};

mod shown;

pub use shown::{Menu, MenuInForce, Menus, Shown};

/// Most buttons of a menu.
pub const MAX_BUTTONS: usize = 3;
/// Most buttons of a list.
pub const MAX_SUB_BUTTONS: usize = 5;
/// Most bytes of a button's name.
pub const MAX_NAME_BYTES: usize = 16;
/// Most bytes of the name of a button in a list.
pub const MAX_SUB_NAME_BYTES: usize = 60;
/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 128;
/// Most bytes of an address.
pub const MAX_URL_BYTES: usize = 1024;

/// `POST /cgi-bin/menu/create`: replaces the menu. 1,000 a day.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The buttons, [`MAX_BUTTONS`] at most.
    #[serde(rename = "button")]
    pub buttons: Vec<Button>,
}

/// `POST /cgi-bin/menu/addconditional`: a menu for those whom a rule fits. Of several that fit, the
/// newest is shown. There must be a menu for everyone (65303).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AddConditional {
    /// The buttons, [`MAX_BUTTONS`] at most.
    #[serde(rename = "button")]
    pub buttons: Vec<Button>,
    /// For whom.
    #[serde(rename = "matchrule")]
    pub rule: MatchRule,
}

/// `POST /cgi-bin/menu/delconditional`.
#[derive(Clone, Debug)]
pub struct DeleteConditional {
    /// Which.
    pub menu_id: LongId,
}

/// `POST /cgi-bin/menu/trymatch`: the menu that a user sees.
#[derive(Clone, Debug, Serialize)]
pub struct TryMatch {
    /// An open id, or a WeChat id.
    pub user_id: String,
}

/// `GET /cgi-bin/menu/get`: the menus that were made by API; 46003 where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Get;

/// `GET /cgi-bin/menu/delete`: removes all menus, those with rules, too.
#[derive(Clone, Copy, Debug)]
pub struct Delete;

/// `GET /cgi-bin/get_current_selfmenu_info`: the menu in force, made by API or in WeChat's console.
#[derive(Clone, Copy, Debug)]
pub struct InForce;

/// A button of a menu.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Button {
    /// One that opens a list.
    List {
        /// What is shown, [`MAX_NAME_BYTES`] at most.
        name: String,
        /// The list, [`MAX_SUB_BUTTONS`] at most.
        sub_button: Vec<Entry>,
    },
    /// One that does something.
    Entry(Entry),
}

/// A button that does something.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// What is shown: [`MAX_NAME_BYTES`] at most in the menu, [`MAX_SUB_NAME_BYTES`] in a list.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
}

/// What a button does, by its type. A key comes back in the callback.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the fields are WeChat's and each says what it is"
)]
pub enum Action {
    /// Tells the account.
    Click { key: String },
    /// Opens a page.
    View { url: String },
    /// Scans a code, shows what it holds and tells the account.
    ScancodePush { key: String },
    /// Scans a code, tells the account and waits for its message.
    ScancodeWaitmsg { key: String },
    /// Takes pictures and sends them.
    PicSysphoto { key: String },
    /// Takes pictures or picks some, and sends them.
    PicPhotoOrAlbum { key: String },
    /// Picks pictures from WeChat's album and sends them.
    PicWeixin { key: String },
    /// Picks a place and sends it.
    LocationSelect { key: String },
    /// Sends a permanent medium.
    MediaId { media_id: String },
    /// Opens articles, as accounts from before publishing may still do.
    ViewLimited { media_id: String },
    /// Sends a published article.
    ArticleId { article_id: String },
    /// Opens a published article.
    ArticleViewLimited { article_id: String },
    /// Opens a mini program; old clients open `url`.
    Miniprogram {
        url: String,
        appid: String,
        pagepath: String,
    },
}

/// For whom a menu is: everything that is named must fit, and something must be named. A rule that
/// WeChat has withdrawn (sex, country, language) is refused: dropped, it would show the menu to others.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MatchRule {
    /// Those with this tag; its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_id: Option<String>,
    /// Those on this system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_platform_type: Option<Platform>,
}

/// A system that WeChat runs on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Platform {
    /// iOS.
    #[serde(rename = "1")]
    Ios,
    /// Android.
    #[serde(rename = "2")]
    Android,
    /// Any other.
    #[serde(rename = "3")]
    Other,
}

/// A menu with a rule that was made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Added {
    /// Its id.
    #[serde(rename = "menuid")]
    pub menu_id: LongId,
}

fn check_buttons(buttons: &[Button]) -> Result<(), InvalidCall> {
    limit::items("button", buttons, 1..=MAX_BUTTONS)?;
    buttons.iter().try_for_each(Button::check)
}

impl Button {
    fn check(&self) -> Result<(), InvalidCall> {
        match self {
            Button::Entry(entry) => {
                limit::bytes("button.name", &entry.name, 1..=MAX_NAME_BYTES)?;
                entry.action.check()
            }
            Button::List { name, sub_button } => {
                limit::bytes("button.name", name, 1..=MAX_NAME_BYTES)?;
                limit::items("button.sub_button", sub_button, 1..=MAX_SUB_BUTTONS)?;
                sub_button.iter().try_for_each(|entry| {
                    limit::bytes(
                        "button.sub_button.name",
                        &entry.name,
                        1..=MAX_SUB_NAME_BYTES,
                    )?;
                    entry.action.check()
                })
            }
        }
    }
}

// Serde can't refuse unknown fields of what it flattens, so the name is taken out first.
impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::<String, Value>::deserialize(deserializer)?;
        let name = match members.remove("name") {
            Some(Value::String(name)) => name,
            _ => return Err(D::Error::missing_field("name")),
        };
        // Menus as WeChat shows them have an empty list in each button.
        if members.get("sub_button") == Some(&Value::Array(Vec::new())) {
            members.remove("sub_button");
        }
        let action = Action::deserialize(Value::Object(members)).map_err(D::Error::custom)?;
        Ok(Self { name, action })
    }
}

impl Action {
    fn check(&self) -> Result<(), InvalidCall> {
        match self {
            Action::Click { key }
            | Action::ScancodePush { key }
            | Action::ScancodeWaitmsg { key }
            | Action::PicSysphoto { key }
            | Action::PicPhotoOrAlbum { key }
            | Action::PicWeixin { key }
            | Action::LocationSelect { key } => limit::bytes("button.key", key, 1..=MAX_KEY_BYTES),
            Action::View { url } => limit::bytes("button.url", url, 1..=MAX_URL_BYTES),
            Action::MediaId { media_id } | Action::ViewLimited { media_id } => {
                limit::given("button.media_id", media_id)
            }
            Action::ArticleId { article_id } | Action::ArticleViewLimited { article_id } => {
                limit::given("button.article_id", article_id)
            }
            Action::Miniprogram {
                url,
                appid,
                pagepath,
            } => {
                limit::bytes("button.url", url, 1..=MAX_URL_BYTES)?;
                limit::given("button.appid", appid)?;
                limit::given("button.pagepath", pagepath)
            }
        }
    }
}

impl Call for Create {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_buttons(&self.buttons)?;
        Request::ask("/cgi-bin/menu/create", self)
    }
}

impl Call for AddConditional {
    type Answer = Added;

    fn request(&self) -> Result<Request, InvalidCall> {
        check_buttons(&self.buttons)?;
        let names_someone = self.rule != MatchRule::default();
        limit::demand(names_someone, "matchrule", "is empty")?;
        Request::post("/cgi-bin/menu/addconditional", self)
    }
}

impl Call for DeleteConditional {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        // A text in WeChat's document, though a number when it was answered.
        let menuid = self.menu_id.to_string();
        Request::post("/cgi-bin/menu/delconditional", &MenuId { menuid })
    }
}

impl Call for TryMatch {
    type Answer = Menu;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("user_id", &self.user_id)?;
        Request::ask("/cgi-bin/menu/trymatch", self)
    }
}

impl Call for Get {
    type Answer = Menus;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/menu/get"))
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/menu/delete"))
    }
}

impl Call for InForce {
    type Answer = MenuInForce;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/get_current_selfmenu_info"))
    }
}

#[derive(Serialize)]
struct MenuId {
    menuid: String,
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn entry(name: &str, action: Action) -> Entry {
        Entry {
            name: name.into(),
            action,
        }
    }

    fn click(name: &str) -> Entry {
        entry(
            name,
            Action::Click {
                key: "V1001".into(),
            },
        )
    }

    fn one(action: Action) -> Create {
        Create {
            buttons: vec![Button::Entry(entry("名", action))],
        }
    }

    fn list(sub_button: Vec<Entry>) -> Create {
        Create {
            buttons: vec![Button::List {
                name: "菜单".into(),
                sub_button,
            }],
        }
    }

    #[test]
    fn menu_is_the_documents() {
        let view = entry(
            "搜索",
            Action::View {
                url: "http://www.soso.com/".into(),
            },
        );
        let menu = Create {
            buttons: vec![
                Button::Entry(click("今日歌曲")),
                Button::List {
                    name: "菜单".into(),
                    sub_button: vec![view, click("赞一下我们")],
                },
            ],
        };
        let expected = r#"{"button":[{"name":"今日歌曲","type":"click","key":"V1001"},{"name":"菜单","sub_button":[{"name":"搜索","type":"view","url":"http://www.soso.com/"},{"name":"赞一下我们","type":"click","key":"V1001"}]}]}"#;
        assert_eq!(line(&menu), format!("POST /cgi-bin/menu/create {expected}"));
        assert_eq!(serde_json::from_str::<Create>(expected).unwrap(), menu);
        let conditional = AddConditional {
            buttons: vec![Button::Entry(click("今日歌曲"))],
            rule: MatchRule {
                tag_id: Some("2".into()),
                client_platform_type: Some(Platform::Android),
            },
        };
        assert_eq!(
            line(&conditional),
            r#"POST /cgi-bin/menu/addconditional {"button":[{"name":"今日歌曲","type":"click","key":"V1001"}],"matchrule":{"tag_id":"2","client_platform_type":"2"}}"#
        );
    }

    #[test]
    fn unknown_field_is_refused_and_not_dropped() {
        let button = r#"{"name":"a","type":"click","key":"k"}"#;
        let rule = |rule: &str| format!(r#"{{"button":[{button}],"matchrule":{rule}}}"#);
        let read = |body: &str| serde_json::from_str::<AddConditional>(body).is_ok();
        assert!(read(&rule(r#"{"tag_id":"2"}"#)));
        // Dropped, either would show the menu to everybody with the tag.
        assert!(!read(&rule(r#"{"tag_id":"2","sex":"1"}"#)));
        assert!(!read(&rule(r#"{"tag_id":"2","country":"中国"}"#)));
        for button in [
            r#"{"name":"a","type":"click","key":"k","url":"http://a"}"#,
            r#"{"name":"a","type":"click","key":"k","colour":"red"}"#,
            r#"{"name":"a","sub_button":[],"type":"click","key":"k","x":1}"#,
            r#"{"name":"a","sub_button":[{"name":"b","type":"view","url":"u","x":1}]}"#,
            r#"{"name":"a","type":"click"}"#,
            r#"{"type":"click","key":"k"}"#,
        ] {
            let menu = format!(r#"{{"button":[{button}]}}"#);
            assert!(serde_json::from_str::<Create>(&menu).is_err(), "{button}");
        }
        let shown = r#"{"button":[{"name":"a","type":"click","key":"k","sub_button":[]}]}"#;
        assert_eq!(
            serde_json::from_str::<Create>(shown).unwrap(),
            one_named("a")
        );
    }

    fn one_named(name: &str) -> Create {
        let action = Action::Click { key: "k".into() };
        Create {
            buttons: vec![Button::Entry(entry(name, action))],
        }
    }

    #[test]
    fn every_type_is_the_documents() {
        let check = |action: Action, expected: &str| {
            let expected = format!(
                r#"POST /cgi-bin/menu/create {{"button":[{{"name":"名","type":{expected}}}]}}"#
            );
            assert_eq!(line(&one(action)), expected);
        };
        let key = || "k".to_owned();
        check(Action::Click { key: key() }, r#""click","key":"k""#);
        check(
            Action::ScancodePush { key: key() },
            r#""scancode_push","key":"k""#,
        );
        check(
            Action::ScancodeWaitmsg { key: key() },
            r#""scancode_waitmsg","key":"k""#,
        );
        check(
            Action::PicSysphoto { key: key() },
            r#""pic_sysphoto","key":"k""#,
        );
        check(
            Action::PicPhotoOrAlbum { key: key() },
            r#""pic_photo_or_album","key":"k""#,
        );
        check(
            Action::PicWeixin { key: key() },
            r#""pic_weixin","key":"k""#,
        );
        check(
            Action::LocationSelect { key: key() },
            r#""location_select","key":"k""#,
        );
        check(Action::View { url: key() }, r#""view","url":"k""#);
        check(
            Action::MediaId { media_id: key() },
            r#""media_id","media_id":"k""#,
        );
        check(
            Action::ViewLimited { media_id: key() },
            r#""view_limited","media_id":"k""#,
        );
        check(
            Action::ArticleId { article_id: key() },
            r#""article_id","article_id":"k""#,
        );
        check(
            Action::ArticleViewLimited { article_id: key() },
            r#""article_view_limited","article_id":"k""#,
        );
        check(
            Action::Miniprogram {
                url: key(),
                appid: key(),
                pagepath: key(),
            },
            r#""miniprogram","url":"k","appid":"k","pagepath":"k""#,
        );
    }

    #[test]
    fn other_requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(
            line(&DeleteConditional {
                menu_id: LongId(208_396_938),
            }),
            r#"POST /cgi-bin/menu/delconditional {"menuid":"208396938"}"#,
        );
        check(
            line(&TryMatch {
                user_id: "weixin".into(),
            }),
            r#"POST /cgi-bin/menu/trymatch {"user_id":"weixin"}"#,
        );
        check(line(&Get), "GET /cgi-bin/menu/get");
        check(line(&Delete), "GET /cgi-bin/menu/delete");
        check(line(&InForce), "GET /cgi-bin/get_current_selfmenu_info");
    }

    #[test]
    fn answers_are_read() {
        let menus = answer(
            &Get,
            r#"{"menu":{"button":[{"type":"click","name":"今日歌曲","key":"V1","sub_button":[]},
            {"name":"菜单","sub_button":[{"type":"new_type","name":"新","sub_button":[]}]}],"menuid":208396938},
            "conditionalmenu":[{"button":[],"matchrule":{"group_id":2},"menuid":"208396993"}]}"#,
        );
        assert_eq!(menus.menu.buttons[0].key, "V1");
        assert_eq!(menus.menu.buttons[1].sub_button[0].kind, "new_type");
        assert_eq!(menus.conditional[0].menu_id, Some(LongId(208_396_993)));
        let in_force = answer(
            &InForce,
            r#"{"is_menu_open":1,"selfmenu_info":{"button":[{"name":"button","sub_button":{"list":
            [{"type":"text","name":"text","value":"文字"}]}},{"type":"click","name":"a","key":"k"}]}}"#,
        );
        assert!(in_force.is_open);
        assert_eq!(
            in_force.menu.unwrap().buttons[0].sub_button[0].value,
            "文字"
        );
        let closed = answer(&InForce, r#"{"is_menu_open":0}"#);
        assert_eq!((closed.is_open, closed.menu), (false, None));
        let added = AddConditional {
            buttons: Vec::new(),
            rule: MatchRule::default(),
        };
        assert_eq!(
            answer(&added, r#"{"menuid":"208379533"}"#).menu_id,
            LongId(208_379_533)
        );
    }

    #[test]
    fn limits_hold() {
        let check = |menu: Create, expected: &str| assert_eq!(refused(&menu), expected);
        let buttons = |count| Create {
            buttons: vec![Button::Entry(click("a")); count],
        };
        check(buttons(0), "button has 0 items, 1 to 3 are allowed");
        check(buttons(4), "button has 4 items, 1 to 3 are allowed");
        check(
            list(vec![]),
            "button.sub_button has 0 items, 1 to 5 are allowed",
        );
        check(
            list(vec![click("a"); 6]),
            "button.sub_button has 6 items, 1 to 5 are allowed",
        );
        check(
            list(vec![click(&"字".repeat(21))]),
            "button.sub_button.name has 63 bytes, 1 to 60 are allowed",
        );
        assert!(list(vec![click(&"字".repeat(20)); 5]).request().is_ok());
        let name = Create {
            buttons: vec![Button::Entry(click("今日的新歌"))],
        };
        assert!(name.request().is_ok());
        let name = Create {
            buttons: vec![Button::Entry(click("今日的新歌曲"))],
        };
        check(name, "button.name has 18 bytes, 1 to 16 are allowed");
        check(
            one(Action::Click {
                key: "k".repeat(129),
            }),
            "button.key has 129 bytes, 1 to 128 are allowed",
        );
        check(
            one(Action::View {
                url: "u".repeat(1025),
            }),
            "button.url has 1025 bytes, 1 to 1024 are allowed",
        );
        check(
            one(Action::MediaId {
                media_id: String::new(),
            }),
            "button.media_id is empty",
        );
        check(
            one(Action::ArticleId {
                article_id: String::new(),
            }),
            "button.article_id is empty",
        );
        let conditional = AddConditional {
            buttons: vec![Button::Entry(click("a"))],
            rule: MatchRule::default(),
        };
        assert_eq!(refused(&conditional), "matchrule is empty");
    }
}
