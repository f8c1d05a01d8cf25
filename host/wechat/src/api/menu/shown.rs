//! Menus as WeChat has them, also those that its console made.

use serde::{Deserialize, Deserializer};

use crate::api::{LongId, answer};

/// The menus that were made by API.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Menus {
    /// The one for everyone.
    pub menu: Menu,
    /// Those with rules, newest first.
    #[serde(default, rename = "conditionalmenu")]
    pub conditional: Vec<Menu>,
}

/// A menu as WeChat has it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Menu {
    /// Its buttons.
    #[serde(rename = "button")]
    pub buttons: Vec<Shown>,
    /// Its id, where there are menus with rules.
    #[serde(default, rename = "menuid")]
    pub menu_id: Option<LongId>,
    /// Its rule, as WeChat describes it.
    #[serde(default, rename = "matchrule")]
    pub rule: Option<serde_json::Value>,
}

/// The menu in force.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct MenuInForce {
    /// Whether it is shown.
    #[serde(rename = "is_menu_open", deserialize_with = "answer::truth")]
    pub is_open: bool,
    /// Its buttons.
    #[serde(default, rename = "selfmenu_info")]
    pub menu: Option<Menu>,
}

/// A button as WeChat has it: also of types that only its console makes. What a type does not have is
/// empty.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Shown {
    /// What is shown.
    pub name: String,
    /// WeChat's type; empty for one that opens a list.
    #[serde(rename = "type")]
    pub kind: String,
    /// The key of its callback.
    pub key: String,
    /// The page.
    pub url: String,
    /// The medium.
    pub media_id: String,
    /// The article.
    pub article_id: String,
    /// The mini program.
    #[serde(rename = "appid")]
    pub app_id: String,
    /// The mini program's page.
    #[serde(rename = "pagepath")]
    pub page_path: String,
    /// The text or medium of a button that the console made.
    pub value: String,
    /// The list.
    #[serde(deserialize_with = "either_list")]
    pub sub_button: Vec<Shown>,
}

/// Buttons are listed plainly, or under `list` as the console's are.
fn either_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Shown>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Plain(Vec<Shown>),
        Under { list: Vec<Shown> },
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Plain(list) | Either::Under { list } => list,
    })
}
