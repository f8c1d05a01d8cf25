//! What happens between WeChat, an account's administrator and a third-party platform: events that are pushed
//! to the platform's event URL, and the pages on which the administrator agrees.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::id::AppId;
use wxhost_wechat::secret::{CallbackToken, EncodingAesKey};
use wxhost_wechat::signature;

use crate::api::app::AppSettings;
use crate::api::arrival::Arrival;
use crate::api::component::{AUTH_CODE_MS, ComponentSettings, Description};
use crate::api::control::{Control, ControlError};
use crate::api::html::escaped;
use crate::api::staging::parsed;
use crate::api::world::World;
use crate::{SimulatedComponent, Stamp};

/// WeChat waits so long for the answer to an event.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where the control surface of platforms begins.
const CONTROL: &str = "/_sim/components/";
/// Pages on which an administrator agrees: in a browser, in WeChat, and in WeChat as it was.
const PAGES: [&str; 3] = [
    "/cgi-bin/componentloginpage",
    "/wxaopen/safe/bindcomponent",
    "/safe/bindcomponent",
];

/// An event that is to be pushed.
struct Event {
    info_type: String,
    fields: Vec<(String, String)>,
    create_time: Option<u64>,
}

/// What an administrator agrees to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreement {
    app_id: AppId,
    original_id: String,
    #[serde(default)]
    nick_name: String,
    #[serde(default)]
    principal_name: String,
    #[serde(default = "service")]
    service_type: u64,
    #[serde(default)]
    verify_type: i64,
    #[serde(default)]
    mini_program: bool,
    permission_sets: Option<Vec<u32>>,
    pre_auth_code: Option<String>,
    #[serde(default = "yes")]
    push: bool,
}

fn service() -> u64 {
    2
}

fn yes() -> bool {
    true
}

impl Control {
    /// Adds a third-party platform with WeChat's own defaults.
    ///
    /// # Errors
    /// What the control surface would answer with a status other than 200.
    pub fn put_component(&self, component: &SimulatedComponent) -> Result<(), ControlError> {
        let settings = json!({
            "app_id": component.app_id,
            "secret": component.secret.expose(),
            "token": component.token.expose(),
            "aes_key": component.aes_key.expose(),
            "event_url": component.event_url,
            "message_url": component.message_url,
        });
        self.ask(Method::POST, "/components", &settings).map(drop)
    }

    /// Does what `POST /_sim/components/ID/{what}` does, and waits until the platform has answered what is
    /// pushed to it: `ticket`, `authorize`, `unauthorize`, `push`.
    ///
    /// # Errors
    /// What the control surface would answer with a status other than 200.
    pub async fn tell(
        &self,
        component: &AppId,
        what: &str,
        body: &Value,
    ) -> Result<Value, ControlError> {
        obey(
            &self.world,
            component.as_str(),
            what,
            body.to_string().as_bytes(),
        )
        .await
    }
}

/// Answers what is asked of platforms and by administrators; None for everything else.
pub(crate) async fn answer(world: &Arc<Mutex<World>>, arrival: &Arrival) -> Option<Response<Body>> {
    if arrival.method == Method::GET && PAGES.contains(&arrival.path.as_str()) {
        return Some(page(&world.lock(), arrival));
    }
    let rest = arrival.path.strip_prefix(CONTROL)?;
    let (id, what) = rest.split_once('/')?;
    if what == "scan" {
        return Some(scan(world, id, arrival).await);
    }
    let (status, body) = match obey(world, id, what, &arrival.body).await {
        Ok(value) => (StatusCode::OK, value),
        Err(error) => (error.status, json!({ "error": error.message })),
    };
    Some(response(status, "application/json", body.to_string()))
}

async fn obey(
    world: &Arc<Mutex<World>>,
    id: &str,
    what: &str,
    body: &[u8],
) -> Result<Value, ControlError> {
    match what {
        "ticket" => ticket(world, id, body).await,
        "authorize" => {
            let agreement: Agreement = parsed(body)?;
            let push = agreement.push;
            let (mut told, event) = agree(&mut world.lock(), id, agreement)?;
            if let Some(event) = event.filter(|_| push) {
                told["push"] = send(world, id, event).await?;
            }
            Ok(told)
        }
        "unauthorize" => unauthorize(world, id, body).await,
        "push" => push(world, id, body).await,
        _ => Err(ControlError::absent("control; GET /_sim lists them")),
    }
}

async fn ticket(world: &Arc<Mutex<World>>, id: &str, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[serde(default = "yes")]
        push: bool,
        create_time: Option<u64>,
    }
    let wanted: Wanted = parsed(body)?;
    let ticket = {
        let mut world = world.lock();
        let (now_ms, chance) = (world.now_ms(), Arc::clone(&world.environment));
        let component = world.components.get_mut(id);
        let component = component.ok_or_else(|| ControlError::absent("component"))?;
        component.make_ticket(now_ms, &*chance)
    };
    let event = Event {
        info_type: "component_verify_ticket".to_owned(),
        fields: vec![("ComponentVerifyTicket".to_owned(), ticket.clone())],
        create_time: wanted.create_time,
    };
    let mut told = json!({ "ticket": ticket });
    if wanted.push {
        told["push"] = send(world, id, event).await?;
    }
    Ok(told)
}

/// An administrator agrees: the code, and the event that tells of it.
fn agree(
    world: &mut World,
    id: &str,
    agreement: Agreement,
) -> Result<(Value, Option<Event>), ControlError> {
    let (now_ms, chance) = (world.now_ms(), Arc::clone(&world.environment));
    let app_id = agreement.app_id;
    if !world.apps.contains_key(&app_id) {
        let settings = AppSettings::new(app_id.clone(), chance.letters(32));
        world.put_app(settings).map_err(ControlError::bad)?;
    }
    let component = world.components.get_mut(id);
    let component = component.ok_or_else(|| ControlError::absent("component"))?;
    let sets = agreement.permission_sets;
    let sets = sets.unwrap_or_else(|| component.settings.permission_sets.clone());
    let pre_auth_code = match agreement.pre_auth_code {
        Some(code) => code,
        None => component.make_pre_auth_code(now_ms, &*chance),
    };
    let description = Description {
        original_id: agreement.original_id,
        nick_name: agreement.nick_name,
        principal_name: agreement.principal_name,
        service_type: agreement.service_type,
        verify_type: agreement.verify_type,
        mini_program: agreement.mini_program,
    };
    let agreed = component.authorize(
        (&app_id, description),
        (Some(&pre_auth_code), sets),
        now_ms,
        &*chance,
    );
    let Some((code, is_update)) = agreed else {
        return Ok((json!({ "unchanged": true }), None));
    };
    if is_update && let Some(app) = world.apps.get_mut(&app_id) {
        app.tokens.end_authorizers(now_ms);
    }
    let info_type = if is_update {
        "updateauthorized"
    } else {
        "authorized"
    };
    let expires = now_ms / 1000 + AUTH_CODE_MS / 1000;
    let fields = [
        ("AuthorizerAppid", app_id.to_string()),
        ("AuthorizationCode", code.clone()),
        ("AuthorizationCodeExpiredTime", expires.to_string()),
        ("PreAuthCode", pre_auth_code.clone()),
    ];
    let event = Event {
        info_type: info_type.to_owned(),
        fields: fields
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        create_time: None,
    };
    let told = json!({
        "auth_code": code,
        "expires_in": AUTH_CODE_MS / 1000,
        "pre_auth_code": pre_auth_code,
    });
    Ok((told, Some(event)))
}

async fn unauthorize(
    world: &Arc<Mutex<World>>,
    id: &str,
    body: &[u8],
) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        app_id: AppId,
        #[serde(default = "yes")]
        push: bool,
    }
    let wanted: Wanted = parsed(body)?;
    {
        let mut world = world.lock();
        let now_ms = world.now_ms();
        let component = world.components.get_mut(id);
        let component = component.ok_or_else(|| ControlError::absent("component"))?;
        let authorizer = component.authorizers.get_mut(&wanted.app_id);
        let authorizer = authorizer.ok_or_else(|| ControlError::absent("authorizer"))?;
        authorizer.is_standing = false;
        authorizer.refresh_token = None;
        if let Some(app) = world.apps.get_mut(&wanted.app_id) {
            app.tokens.end_authorizers(now_ms);
        }
    }
    if !wanted.push {
        return Ok(json!({}));
    }
    let event = Event {
        info_type: "unauthorized".to_owned(),
        fields: vec![("AuthorizerAppid".to_owned(), wanted.app_id.to_string())],
        create_time: None,
    };
    Ok(json!({ "push": send(world, id, event).await? }))
}

async fn push(world: &Arc<Mutex<World>>, id: &str, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        info_type: String,
        #[serde(default)]
        fields: Map<String, Value>,
        create_time: Option<u64>,
        #[serde(default = "once")]
        repeat: usize,
    }
    fn once() -> usize {
        1
    }
    let wanted: Wanted = parsed(body)?;
    let create_time = match wanted.create_time {
        Some(time) => time,
        None => world.lock().now_ms() / 1000,
    };
    let mut pushes = Vec::new();
    for _ in 0..wanted.repeat {
        let fields = wanted.fields.iter().map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), value)
        });
        let event = Event {
            info_type: wanted.info_type.clone(),
            fields: fields.collect(),
            create_time: Some(create_time),
        };
        pushes.push(send(world, id, event).await?);
    }
    Ok(json!({ "pushes": pushes }))
}

/// Pushes an event once, and keeps what came of it.
async fn send(world: &Arc<Mutex<World>>, id: &str, event: Event) -> Result<Value, ControlError> {
    let (url, query, body) = {
        let world = world.lock();
        let component = world.components.get(id);
        let component = component.ok_or_else(|| ControlError::absent("component"))?;
        sealed(&world, &component.settings, &event).map_err(ControlError::bad)?
    };
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .build();
    let http = http.map_err(|error| ControlError::bad(error.to_string()))?;
    let request = http
        .post(url)
        .query(&query)
        .header(CONTENT_TYPE, "text/xml")
        .body(body);
    let answered = match request.send().await {
        Err(error) => Err(error.to_string()),
        Ok(response) => {
            let status = response.status().as_u16();
            let text = response.text().await;
            text.map(|text| (status, text))
                .map_err(|error| error.to_string())
        }
    };
    let push = match answered {
        Err(error) => json!({ "info_type": event.info_type, "ok": false, "error": error }),
        Ok((status, text)) => json!({
            "info_type": event.info_type,
            "ok": status == 200 && text == "success",
            "status": status,
            "answer": text,
        }),
    };
    if let Some(component) = world.lock().components.get_mut(id) {
        component.keep_push(push.clone());
    }
    Ok(push)
}

type Request = (String, Vec<(&'static str, String)>, String);

fn sealed(
    world: &World,
    settings: &ComponentSettings,
    event: &Event,
) -> Result<Request, &'static str> {
    let token = CallbackToken::parse(&settings.token).map_err(|_| "token is none")?;
    let key = EncodingAesKey::parse(&settings.aes_key).map_err(|_| "aes_key is none")?;
    let chance = &*world.environment;
    let stamp = Stamp::fresh(chance);
    let create_time = event.create_time.unwrap_or(world.now_ms() / 1000);
    let mut clear = format!(
        "<xml><AppId><![CDATA[{}]]></AppId><CreateTime>{create_time}</CreateTime>\
         <InfoType><![CDATA[{}]]></InfoType>",
        settings.app_id, event.info_type
    );
    for (name, value) in &event.fields {
        clear.push_str(&format!("<{name}><![CDATA[{value}]]></{name}>"));
    }
    clear.push_str("</xml>");
    let app_id = settings.app_id.as_str();
    let head = chance.envelope_head();
    let encrypt = MessageCipher::new(&key).encrypt(head, clear.as_bytes(), app_id);
    let (timestamp, nonce) = (&stamp.timestamp, &stamp.nonce);
    let query = vec![
        (
            "signature",
            signature::callback_signature(&token, timestamp, nonce),
        ),
        ("timestamp", timestamp.clone()),
        ("nonce", nonce.clone()),
        ("encrypt_type", "aes".to_owned()),
        (
            "msg_signature",
            signature::message_signature(&token, timestamp, nonce, &encrypt),
        ),
    ];
    let body = format!(
        "<xml><AppId><![CDATA[{app_id}]]></AppId><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    );
    Ok((settings.event_url.clone(), query, body))
}

/// The page on which an administrator chooses an account and agrees.
fn page(world: &World, arrival: &Arrival) -> Response<Body> {
    let parameter = |name: &str| arrival.parameter(name).unwrap_or_default();
    let refused = |why: &str| {
        let html = format!("<!doctype html><meta charset=\"utf-8\"><title>授权</title><p>{why}");
        response(StatusCode::OK, "text/html; charset=utf-8", html)
    };
    let id = parameter("component_appid");
    let Some(component) = world.components.get(id) else {
        return refused("参数错误：没有这个第三方平台");
    };
    let code = parameter("pre_auth_code");
    if !component.may_begin(code, world.now_ms()) {
        return refused("预授权码无效或已过期，请返回重试");
    }
    let only = arrival.parameter("biz_appid");
    let mut apps: Vec<_> = world.apps.keys().map(AppId::as_str).collect();
    apps.retain(|app_id| only.is_none_or(|only| only == *app_id));
    apps.sort_unstable();
    let buttons: String = apps
        .iter()
        .map(|app_id| {
            format!("<p><button name=\"app_id\" value=\"{app_id}\">{app_id}</button></p>")
        })
        .collect();
    let is_pc = arrival.path == PAGES[0];
    let box_ = match is_pc {
        true => "<p style=\"width:9em;height:9em;border:8px dotted\">请使用微信扫描二维码</p>",
        false => "",
    };
    let html = format!(
        "<!doctype html><html lang=\"zh-CN\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>公众号授权</title><link rel=\"icon\" href=\"data:,\"><h1>公众号授权</h1>{box_}<p>选择要授权给 {id} 的公众号：</p>\
         <form method=\"post\" action=\"{CONTROL}{id}/scan\">\
         <input type=\"hidden\" name=\"pre_auth_code\" value=\"{}\">\
         <input type=\"hidden\" name=\"redirect_uri\" value=\"{}\">{buttons}</form></html>",
        escaped(code),
        escaped(parameter("redirect_uri")),
    );
    response(StatusCode::OK, "text/html; charset=utf-8", html)
}

/// The administrator agrees on that page, and is led back.
async fn scan(world: &Arc<Mutex<World>>, id: &str, arrival: &Arrival) -> Response<Body> {
    let bad = |why: &str| response(StatusCode::BAD_REQUEST, "text/plain", why.to_owned());
    let form = arrival.form();
    let field = |name: &str| {
        let found = form.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let Ok(app_id) = AppId::parse(&field("app_id")) else {
        return bad("no app_id");
    };
    let agreement = Agreement {
        original_id: format!(
            "gh_{}",
            &app_id.as_str()[2..].chars().take(12).collect::<String>()
        ),
        nick_name: format!("公众号{}", &app_id.as_str()[2..6]),
        app_id,
        principal_name: "某某公司".to_owned(),
        service_type: service(),
        verify_type: 0,
        mini_program: false,
        permission_sets: None,
        pre_auth_code: Some(field("pre_auth_code")),
        push: true,
    };
    let (told, event, event_first) = {
        let mut world = world.lock();
        let now_ms = world.now_ms();
        let component = world.components.get(id);
        let begins = |code: &str| component.is_some_and(|this| this.may_begin(code, now_ms));
        if !begins(&field("pre_auth_code")) {
            return bad("the pre_auth_code is not good");
        }
        let event_first = component.is_some_and(|this| this.settings.event_first);
        match agree(&mut world, id, agreement) {
            Ok((told, event)) => (told, event, event_first),
            Err(error) => return bad(&error.message),
        }
    };
    if let Some(event) = event {
        if event_first {
            // What came of it is among the pushes.
            let _ = send(world, id, event).await;
        } else {
            let (world, id) = (Arc::clone(world), id.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = send(&world, &id, event).await;
            });
        }
    }
    let back = field("redirect_uri");
    let joint = if back.contains('?') { '&' } else { '?' };
    let code = told["auth_code"]
        .as_str()
        .unwrap_or_default()
        .replace('@', "%40");
    let mut response = response(StatusCode::FOUND, "text/plain", String::new());
    let location = format!(
        "{back}{joint}auth_code={code}&expires_in={}",
        AUTH_CODE_MS / 1000
    );
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
