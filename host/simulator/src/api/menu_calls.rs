//! `/cgi-bin/menu/…`: the account's menu, and those for some users only.

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::body::{Body, Fields as _};
use crate::api::followers::Follower;
use crate::api::menu;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Individualised menus of an account: the simulator's own limit.
const MAX_CONDITIONAL: usize = 100;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/menu/create", create),
    Route::get("/cgi-bin/menu/get", get),
    Route::get("/cgi-bin/menu/delete", delete),
    Route::get("/cgi-bin/get_current_selfmenu_info", self_menu),
    Route::post("/cgi-bin/menu/addconditional", add_conditional),
    Route::post("/cgi-bin/menu/delconditional", delete_conditional),
    Route::post("/cgi-bin/menu/trymatch", try_match),
];

#[derive(Debug, Clone)]
struct Menu {
    id: u64,
    button: Vec<Value>,
}

/// The menus of one app.
#[derive(Debug, Default)]
pub(crate) struct Menus {
    default: Option<Menu>,
    /// With their match rules, the newest last.
    conditional: Vec<(Menu, Map<String, Value>)>,
}

fn create(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let menu = read(call, &body)?;
    call.app.menus = Menus {
        default: Some(menu),
        conditional: Vec::new(),
    };
    answer::ok()
}

fn read(call: &Call<'_>, body: &Body) -> Result<Menu, Refusal> {
    if body.shown_escaped {
        return Err(Refusal::of(40033));
    }
    menu::check(call.app, &body.fields, call.now_ms)?;
    let mut button = body.fields.list("button", 40016)?.to_vec();
    for button in &mut button {
        if button.get("sub_button").is_none() {
            button["sub_button"] = json!([]);
        }
        let subs = button["sub_button"].as_array_mut();
        for sub in subs.into_iter().flatten() {
            sub["sub_button"] = json!([]);
        }
    }
    Ok(Menu {
        id: call.chance.number(200_000_000, 999_999_999),
        button,
    })
}

fn get(call: &mut Call<'_>) -> Outcome {
    let menus = &call.app.menus;
    let menu = menus.default.as_ref().ok_or_else(|| Refusal::of(46003))?;
    let mut shown = json!({ "menu": { "button": menu.button, "menuid": menu.id } });
    let conditional: Vec<Value> = menus
        .conditional
        .iter()
        .rev()
        .map(|(menu, rule)| json!({ "button": menu.button, "matchrule": rule, "menuid": menu.id }))
        .collect();
    if !conditional.is_empty() {
        shown["conditionalmenu"] = conditional.into();
    }
    answer::data(shown)
}

fn delete(call: &mut Call<'_>) -> Outcome {
    call.app.menus = Menus::default();
    answer::ok()
}

fn self_menu(call: &mut Call<'_>) -> Outcome {
    let Some(menu) = &call.app.menus.default else {
        return answer::data(json!({ "is_menu_open": 0 }));
    };
    let mut button = menu.button.clone();
    for button in &mut button {
        let subs = button["sub_button"].take();
        if subs.as_array().is_some_and(|subs| !subs.is_empty()) {
            button["sub_button"] = json!({ "list": subs });
        } else if let Some(button) = button.as_object_mut() {
            button.remove("sub_button");
        }
    }
    answer::data(json!({ "is_menu_open": 1, "selfmenu_info": { "button": button } }))
}

fn add_conditional(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let menu = read(call, &body)?;
    let rule = body.fields.object("matchrule", 65304)?.clone();
    check_rule(call, &rule)?;
    let menus = &mut call.app.menus;
    if menus.default.is_none() {
        return Err(Refusal::of(65303));
    }
    if menus.conditional.len() >= MAX_CONDITIONAL {
        return Err(Refusal::of(65305));
    }
    let id = menu.id;
    menus.conditional.push((menu, rule));
    answer::data(json!({ "menuid": id.to_string() }))
}

fn check_rule(call: &Call<'_>, rule: &Map<String, Value>) -> Result<(), Refusal> {
    let (tag, platform) = (
        number(rule, "tag_id")?,
        number(rule, "client_platform_type")?,
    );
    if tag.is_none() && platform.is_none() {
        return Err(Refusal::of(65304));
    }
    if tag.is_some_and(|tag| !call.app.tags.contains(tag)) {
        return Err(Refusal::of(45159));
    }
    if platform.is_some_and(|platform| !(1..=3).contains(&platform)) {
        return Err(Refusal::of(40097));
    }
    Ok(())
}

/// A number that may come as one or as text; an empty text is none.
fn number(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, Refusal> {
    match object.get(name) {
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            let number = text.parse();
            number.map(Some).map_err(|_| Refusal::of(40097))
        }
        _ => object.optional_number(name),
    }
}

fn delete_conditional(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = number(&body, "menuid")?.ok_or_else(|| Refusal::of(65301))?;
    let conditional = &mut call.app.menus.conditional;
    let place = conditional.iter().position(|(menu, _)| menu.id == id);
    conditional.remove(place.ok_or_else(|| Refusal::of(65301))?);
    answer::ok()
}

/// The newest menu whose rule matches; clients are taken to be of no known platform.
fn try_match(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let open_id = body.text("user_id", 65302)?;
    let user = call.app.followers.find(open_id);
    let user = user.map_err(|_| Refusal::of(65302))?;
    let menus = &call.app.menus;
    let default = menus.default.as_ref().ok_or_else(|| Refusal::of(46003))?;
    let mut newest_first = menus.conditional.iter().rev();
    let matching = newest_first.find(|(_, rule)| matches(rule, user));
    let menu = matching.map_or(default, |(menu, _)| menu);
    answer::data(json!({ "button": menu.button }))
}

fn matches(rule: &Map<String, Value>, user: &Follower) -> bool {
    let tag = number(rule, "tag_id").ok().flatten();
    let platform = number(rule, "client_platform_type").ok().flatten();
    platform.is_none() && tag.is_none_or(|tag| user.tags.contains(&tag))
}
