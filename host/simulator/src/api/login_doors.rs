//! The page on which a user lets an app know who they are, at `/connect/oauth2/authorize`.
//!
//! A browser outside WeChat is nobody, so the page asks who is in front of it. What it then sends is the form of
//! `/_sim/authorize`, which tests send by themselves.

use axum::body::Body;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response, StatusCode};
use parking_lot::Mutex;
use wxhost_wechat::id::{AppId, OpenId};
use wxhost_wechat::oauth::Scope;

use crate::api::app::AppKind;
use crate::api::arrival::Arrival;
use crate::api::followers;
use crate::api::html::escaped;
use crate::api::login::Consent;
use crate::api::world::World;

const AUTHORIZE: &str = "/connect/oauth2/authorize";
const FORM: &str = "/_sim/authorize";
/// What the address must begin with, in this order.
const PARAMETERS: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
/// What may follow.
const EXTRAS: [&str; 4] = [
    "component_appid",
    "connect_redirect",
    "forcePopup",
    "forceSnapShot",
];
/// Bytes of a state.
const MAX_STATE: usize = 128;
/// Users that the page offers.
const MAX_OFFERED: usize = 20;

/// What an address asks for, once everything about it is right.
struct Asked {
    app_id: AppId,
    redirect_uri: String,
    scope: Scope,
    state: String,
    component: Option<AppId>,
}

/// What the page says where the address is wrong.
struct Wrong {
    code: u32,
    text: &'static str,
}

const fn wrong(code: u32, text: &'static str) -> Wrong {
    Wrong { code, text }
}

/// Answers users; None for everything else.
pub(crate) fn answer(world: &Mutex<World>, arrival: &Arrival) -> Option<Response<Body>> {
    match (&arrival.method, arrival.path.as_str()) {
        (&Method::GET, AUTHORIZE) => Some(page(&world.lock(), &arrival.query)),
        (&Method::POST, FORM) => Some(led(&mut world.lock(), arrival)),
        _ => None,
    }
}

/// Why an address leads nowhere, or what it asks for.
fn asked(world: &World, query: &[(String, String)]) -> Result<Asked, Wrong> {
    let value = |name: &str| {
        let found = query.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let in_order = query
        .iter()
        .take(PARAMETERS.len())
        .map(|(name, _)| name.as_str())
        .eq(PARAMETERS);
    if !in_order {
        for (name, code) in [
            ("scope", 10010),
            ("redirect_uri", 10011),
            ("appid", 10012),
            ("state", 10013),
        ] {
            if value(name).is_empty() {
                return Err(wrong(code, "参数不能为空"));
            }
        }
        return Err(wrong(1, "参数顺序错误"));
    }
    let mut extras = query.iter().skip(PARAMETERS.len());
    if !extras.all(|(name, _)| EXTRAS.contains(&name.as_str())) || value("response_type") != "code"
    {
        return Err(wrong(1, "参数错误"));
    }
    let state = value("state");
    if state.len() > MAX_STATE || !state.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(wrong(10013, "state 参数错误"));
    }
    let app_id = AppId::parse(value("appid")).map_err(|_| wrong(10012, "appid 参数错误"))?;
    if world.components.contains_key(&app_id) {
        return Err(wrong(10016, "不能使用开放平台的 appid"));
    }
    let app = world.apps.get(&app_id);
    let app = app.ok_or(wrong(10012, "appid 参数错误"))?;
    let scope = Scope::of(value("scope")).ok_or(wrong(10005, "该公众号没有这些 scope 的权限"))?;
    if app.settings.kind != AppKind::Service {
        return Err(wrong(10005, "该公众号没有这些 scope 的权限"));
    }
    let component = match value("component_appid") {
        "" => None,
        id => {
            let component = world.components.get(id);
            let standing = component.filter(|component| {
                let authorizer = component.authorizers.get(&app_id);
                authorizer.is_some_and(|authorizer| authorizer.is_standing)
            });
            Some(standing.ok_or(wrong(10015, "公众号未授权第三方平台"))?)
        }
    };
    let domain = match component {
        None => app.settings.oauth_domain.clone(),
        Some(component) => component
            .settings
            .oauth_domain
            .as_ref()
            .map(|domain| domain.replace("$APPID$", app_id.as_str())),
    };
    let redirect_uri = value("redirect_uri");
    let authority = authority_of(redirect_uri);
    if authority.is_none() || authority != domain.as_deref() {
        return Err(wrong(10003, "redirect_uri 域名与后台配置不一致"));
    }
    Ok(Asked {
        redirect_uri: redirect_uri.to_owned(),
        scope,
        state: state.to_owned(),
        component: component.map(|component| component.settings.app_id.clone()),
        app_id,
    })
}

/// Host, and port where there is one: WeChat takes none, so that no domain matches an address with one, unless
/// the simulator's own setting names it.
fn authority_of(address: &str) -> Option<&str> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))?;
    rest.split(['/', '?', '#']).next()
}

fn page(world: &World, query: &[(String, String)]) -> Response<Body> {
    let asked = match asked(world, query) {
        Ok(asked) => asked,
        Err(why) => return refused(&why),
    };
    let app = world.apps.get(&asked.app_id);
    let known = app.into_iter().flat_map(|app| app.followers.following());
    let users: String = known
        .take(MAX_OFFERED)
        .map(|(open_id, _)| option(open_id, open_id))
        .chain([option("", "一个新用户")])
        .collect();
    let wish = match asked.scope {
        Scope::Base => "知道您是谁",
        Scope::UserInfo => "获得您的公开信息（昵称、头像等）",
    };
    let fields: String = query
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escaped(name), escaped(value));
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
        })
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>微信登录</title><link rel=\"icon\" href=\"data:,\"><h1>微信登录</h1>\
         <form method=\"post\" action=\"{FORM}\">{fields}\
         <p>您是 <select name=\"open_id\">{users}</select></p>\
         <p>公众号 {} 想{wish}</p>\
         <p><button name=\"consent\" value=\"allow\">允许</button> \
         <button name=\"consent\" value=\"refuse\">拒绝</button></p></form></html>",
        asked.app_id
    );
    response(StatusCode::OK, html)
}

fn option(value: &str, shown: &str) -> String {
    format!(
        "<option value=\"{}\">{}</option>",
        escaped(value),
        escaped(shown)
    )
}

fn refused(why: &Wrong) -> Response<Body> {
    let html = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Oops</title><p>{}</p><p>错误码：{}</p>",
        why.text, why.code
    );
    response(StatusCode::OK, html)
}

/// A user agrees or refuses, and is led back.
fn led(world: &mut World, arrival: &Arrival) -> Response<Body> {
    let bad = |why: &str| response(StatusCode::BAD_REQUEST, why.to_owned());
    let mut query = arrival.form();
    let mut take = |name: &str| {
        let at = query.iter().position(|(given, _)| given == name);
        at.map(|at| query.remove(at).1).unwrap_or_default()
    };
    let (open_id, consent) = (take("open_id"), take("consent"));
    let asked = match asked(world, &query) {
        Ok(asked) => asked,
        Err(why) => return refused(&why),
    };
    let (now_ms, chance) = (world.now_ms(), std::sync::Arc::clone(&world.environment));
    let is_snapshot = consent == "snapshot";
    let open_id = match &*open_id {
        known if is_snapshot || known.is_empty() => followers::fresh_open_id(&*chance),
        known => match OpenId::parse(known) {
            Ok(open_id) => open_id,
            Err(_) => return bad("open_id is none"),
        },
    };
    let Some(app) = world.apps.get_mut(&asked.app_id) else {
        return bad("no such app");
    };
    let mut more = match &*consent {
        "allow" | "snapshot" => {
            let consent = Consent {
                open_id: open_id.to_string(),
                scope: asked.scope,
                component: asked.component.clone(),
                is_snapshot,
            };
            format!("code={}&", app.logins.make_code(consent, now_ms, &*chance))
        }
        // As an older client does it.
        "refuse" => String::new(),
        _ => return bad("consent is not allow, refuse or snapshot"),
    };
    more.push_str(&format!("state={}", asked.state));
    if asked.component.is_some() {
        more.push_str(&format!("&appid={}", asked.app_id));
    }
    let joint = if asked.redirect_uri.contains('?') {
        '&'
    } else {
        '?'
    };
    let mut led = response(StatusCode::FOUND, String::new());
    let location = format!("{}{joint}{more}", asked.redirect_uri);
    if let Ok(location) = HeaderValue::from_str(&location) {
        led.headers_mut().insert(LOCATION, location);
    }
    led
}

fn response(status: StatusCode, html: String) -> Response<Body> {
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
