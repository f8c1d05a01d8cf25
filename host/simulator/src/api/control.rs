//! The control surface: how the pretend WeChat is set up, moved through time, broken and looked at.
//!
//! The same requests in process, by [`Control`], and over HTTP under `/_sim`, where errors have real
//! statuses and say `{"error":"…"}`. [`HELP`] lists them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::app::{App, AppSettings};
use crate::api::arrival::Arrival;
use crate::api::component::{Component, ComponentSettings};
use crate::api::fault::Fault;
use crate::api::pay;
use crate::api::record::Selection;
use crate::api::staging::{self, parsed};
use crate::api::world::World;

/// Where the control surface begins.
const PREFIX: &str = "/_sim";
/// Records that are shown at once, unless the caller wants fewer.
const MAX_SHOWN: usize = 10_000;

/// What `GET /_sim` says.
const HELP: &str = "\
GET    /_sim/clock                         the time, in ms since 1970
POST   /_sim/clock                         {advance_ms}
GET    /_sim/apps                          all apps with their counts
POST   /_sim/apps                          {app_id, secret, kind?, token_lifetime_seconds?,
                                           ticket_lifetime_seconds?, allowed_ips?, client_ip?, frozen?,
                                           quotas?, minute_quotas?, messages_per_interaction?,
                                           mini_programs?, cards?, oauth_domain?}, or a list
GET    /_sim/apps/APPID                    one app: settings, counts, tokens
PATCH  /_sim/apps/APPID                    some of its settings; a new secret ends its tokens
POST   /_sim/apps/APPID/followers          {open_ids?, followers?: [{open_id, union_id?, subscribe_scene?,
                                           qr_scene?, qr_scene_str?}], count?}
GET    /_sim/apps/APPID/followers/OPENID   what is known of a user, and the messages that are left
POST   /_sim/apps/APPID/interactions       {open_id, kind: message|menu|follow|scan|pay|unfollow}
POST   /_sim/apps/APPID/templates          {template_id, content, title?,
                                           kind?: template|one-time|long-term, review?: pass|block}
POST   /_sim/apps/APPID/acceptances        {open_id, template_id, count?}
POST   /_sim/apps/APPID/media              {media_id, kind: image|voice|video|thumb, permanent?}
GET    /_sim/apps/APPID/messages?open_id   what users have been shown
POST   /_sim/components                    {app_id, secret, token, aes_key, event_url, message_url,
                                           permission_sets?, allowed_ips?, rotate_refresh_tokens?,
                                           ticket_valid_seconds?, token_lifetime_seconds?, event_first?,
                                           oauth_domain?}
GET    /_sim/components/ID                 its accounts with their counts, and what was pushed to it
PATCH  /_sim/components/ID                 some of its settings
POST   /_sim/components/ID/ticket          {push?, create_time?} a new ticket
POST   /_sim/components/ID/authorize       {app_id, original_id, nick_name?, principal_name?, service_type?,
                                           verify_type?, mini_program?, permission_sets?, pre_auth_code?,
                                           push?} an account's administrator agrees
POST   /_sim/components/ID/unauthorize     {app_id, push?} and takes it back
POST   /_sim/components/ID/push            {info_type, fields?, create_time?, repeat?} any event
POST   /_sim/authorize                     the form of the page on which a user logs in: its parameters,
                                           open_id, consent: allow|refuse|snapshot
POST   /_sim/merchants                     {mch_id, app_ids, v3_key?, certificates?: public-key|certificate,
                                           balance?, sub_merchants?, refund_gap?} its keys are answered
POST   /_sim/merchants/ID/certificate      another API certificate; DELETE …/certificates/SERIAL revokes one
POST   /_sim/merchants/ID/platform-certificate   WeChat Pay signs with another one
PUT    /_sim/merchants/ID/v3-key           {v3_key} the old one is dead at once
PUT    /_sim/merchants/ID/signing          {notifications: public-key|certificate}
GET    /_sim/merchants/ID/books            orders, refunds, notices, funds
POST   /_sim/pay                           {mch_id, out_trade_no, open_id?, coupon?} a person pays
POST   /_sim/pay/invoke                    what WeixinJSBridge is given, open_id, cancel?
PUT    /_sim/notice-plan                   {lose?, repeat?, scale?, delay_ms?} how WeChat Pay's notices travel
POST   /_sim/notices                       {mch_id, out_trade_no, kind: forged|unsigned|signtest|stale|truncated|
                                           wrong-key|wrong-app|wrong-merchant|wrong-amount|negative-amount|
                                           fractional-amount|wrong-currency|unknown-order|replayed} one at once
PUT    /_sim/refunds                       {mch_id, outcome: success|abnormal|closed|hold} of those to come
POST   /_sim/refunds/NUMBER/finish         {mch_id, outcome} of one that is held
POST   /_sim/components/ID/scan            the form of the page on which an administrator agrees
GET    /_sim/secrets                       every secret, token and ticket there was
GET    /_sim/faults
POST   /_sim/faults                        {kind: slow|busy|drop|errcode|html-502, ms?, errcode?,
                                           performed?, app_id?, path_prefix?, count?, code?, status?}
DELETE /_sim/faults
GET    /_sim/requests?app_id&path&after&limit
DELETE /_sim/requests
GET    /_sim/counters                      what is counted over all apps
";

/// Sets up, moves, breaks and shows a pretend WeChat in this process.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) world: Arc<Mutex<World>>,
}

/// Why the control surface did not do as it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// Its status over HTTP.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
}

impl ControlError {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    pub(crate) fn absent(what: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: format!("no such {what}"),
        }
    }
}

impl Control {
    pub(crate) fn new(world: Arc<Mutex<World>>) -> Self {
        Self { world }
    }

    /// Adds an app, or changes the settings of one.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn put_app(&self, settings: AppSettings) -> Result<(), ControlError> {
        self.world
            .lock()
            .put_app(settings)
            .map_err(ControlError::bad)
    }

    /// Moves the clock ahead.
    pub fn advance(&self, time: Duration) {
        self.world.lock().advanced += time;
    }

    /// Does what the control surface does over HTTP: `path` begins after `/_sim`, such as `/clock`.
    ///
    /// # Errors
    /// What it would answer with a status other than 200.
    pub fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, ControlError> {
        let uri: http::Uri = path
            .parse()
            .map_err(|_| ControlError::bad("path is not a URI"))?;
        let arrival = Arrival::new(
            &method,
            &uri,
            &http::HeaderMap::new(),
            body.to_string().into(),
            std::net::Ipv4Addr::LOCALHOST.into(),
        );
        obey(&mut self.world.lock(), &arrival, uri.path())
    }
}

/// Whether a path belongs to the control surface.
pub(crate) fn owns(path: &str) -> bool {
    path.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request to the control surface.
pub(crate) async fn answer(world: &Arc<Mutex<World>>, arrival: &Arrival) -> Response<Body> {
    let path = arrival.path.strip_prefix(PREFIX).unwrap_or("");
    let obeyed = match pay::obey(world, arrival, path).await {
        Some(obeyed) => obeyed,
        None => obey(&mut world.lock(), arrival, path),
    };
    let (status, content_type, body) = match obeyed {
        Ok(Value::String(text)) => (StatusCode::OK, "text/plain; charset=utf-8", text),
        Ok(value) => (StatusCode::OK, "application/json", value.to_string()),
        Err(error) => {
            let body = json!({ "error": error.message }).to_string();
            (error.status, "application/json", body)
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn obey(world: &mut World, arrival: &Arrival, path: &str) -> Result<Value, ControlError> {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match (arrival.method.as_str(), segments.as_slice()) {
        ("GET", []) => Ok(HELP.into()),
        ("GET", ["clock"]) => Ok(json!({ "now_ms": world.now_ms() })),
        ("POST", ["clock"]) => advance(world, &arrival.body),
        ("GET", ["apps"]) => Ok(world.apps.values().map(app_counts).collect()),
        ("POST", ["apps"]) => put_apps(world, &arrival.body),
        ("GET", ["apps", app_id]) => shown_app(world, app_id),
        ("PATCH", ["apps", app_id]) => change_app(world, app_id, &arrival.body),
        (_, ["apps", app_id, rest @ ..]) => staging::obey(world, app_id, rest, arrival)
            .unwrap_or_else(|| Err(ControlError::absent("control; GET /_sim lists them"))),
        ("POST", ["components"]) => {
            let settings: ComponentSettings = parsed(&arrival.body)?;
            world.put_component(settings);
            Ok(json!({}))
        }
        ("GET", ["components", id]) => match world.components.get(*id) {
            None => Err(ControlError::absent("component")),
            Some(component) => Ok(component.shown()),
        },
        ("PATCH", ["components", id]) => change_component(world, id, &arrival.body),
        ("GET", ["secrets"]) => Ok(secrets(world)),
        ("GET", ["faults"]) => Ok(json!(world.faults.told())),
        ("POST", ["faults"]) => {
            let fault: Fault = parsed(&arrival.body)?;
            world.faults.add(fault).map_err(ControlError::bad)?;
            Ok(json!({}))
        }
        ("DELETE", ["faults"]) => {
            world.faults.clear();
            Ok(json!({}))
        }
        ("GET", ["requests"]) => requests(world, arrival),
        ("DELETE", ["requests"]) => {
            world.records.clear();
            Ok(json!({}))
        }
        ("GET", ["counters"]) => Ok(json!({
            "requests": world.records.received(),
            "unknown_token_uses": world.unknown_token_uses,
            "apps": world.apps.len(),
        })),
        _ => Err(ControlError::absent("control; GET /_sim lists them")),
    }
}

fn advance(world: &mut World, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Step {
        advance_ms: u64,
    }
    let step: Step = parsed(body)?;
    // A century: what is longer is a slip, and would overflow in the end.
    if step.advance_ms > 100 * 366 * 24 * 3600 * 1000 {
        return Err(ControlError::bad("advance_ms is more than a century"));
    }
    world.advanced += Duration::from_millis(step.advance_ms);
    Ok(json!({ "now_ms": world.now_ms() }))
}

fn put_apps(world: &mut World, body: &[u8]) -> Result<Value, ControlError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Apps {
        Many(Vec<AppSettings>),
        One(Box<AppSettings>),
    }
    let apps = match parsed(body) {
        Ok(Apps::Many(apps)) => apps,
        Ok(Apps::One(app)) => vec![*app],
        // For the reason: that of an untagged enum says nothing.
        Err(_) => vec![parsed::<AppSettings>(body)?],
    };
    let count = apps.len();
    for settings in apps {
        world.put_app(settings).map_err(ControlError::bad)?;
    }
    Ok(json!({ "apps": count }))
}

fn app<'a>(world: &'a World, app_id: &str) -> Result<&'a App, ControlError> {
    world
        .apps
        .get(app_id)
        .ok_or_else(|| ControlError::absent("app"))
}

fn change_app(world: &mut World, app_id: &str, body: &[u8]) -> Result<Value, ControlError> {
    let changes: Value = parsed(body)?;
    let Value::Object(changes) = changes else {
        return Err(ControlError::bad("not an object"));
    };
    let mut settings = json!(app(world, app_id)?.settings);
    for (name, value) in changes {
        settings[name.as_str()] = value;
    }
    settings["app_id"] = app_id.into();
    let settings: AppSettings = parsed(settings.to_string().as_bytes())?;
    world.put_app(settings).map_err(ControlError::bad)?;
    shown_app(world, app_id)
}

fn change_component(world: &mut World, id: &str, body: &[u8]) -> Result<Value, ControlError> {
    let changes: serde_json::Map<String, Value> = parsed(body)?;
    let component = world.components.get_mut(id);
    let component = component.ok_or_else(|| ControlError::absent("component"))?;
    let mut settings = json!(component.settings);
    for (name, value) in changes {
        settings[name.as_str()] = value;
    }
    component.settings = parsed(settings.to_string().as_bytes())?;
    Ok(json!({}))
}

fn app_counts(app: &App) -> Value {
    let mut shown = app.tokens.counts();
    shown["app_id"] = json!(app.settings.app_id);
    shown["tickets"] = app.tickets.counts();
    shown
}

fn shown_app(world: &World, app_id: &str) -> Result<Value, ControlError> {
    let app = app(world, app_id)?;
    let mut shown = app_counts(app);
    let mut settings = json!(app.settings);
    settings["secret"] = "***".into();
    shown["settings"] = settings;
    shown["tokens"] = app.tokens.shown().into();
    shown["used_today"] = app.quota.used_today();
    shown["logins"] = app.logins.shown();
    Ok(shown)
}

/// For tests that look for them where they must not be.
fn secrets(world: &World) -> Value {
    let of_components = world.components.values().flat_map(Component::secrets);
    let values = world.apps.values().flat_map(|app| {
        std::iter::once(app.settings.secret.as_str())
            .chain(app.tokens.values())
            .chain(app.tickets.values())
            .chain(app.logins.secrets())
    });
    let of_merchants = world.pay.secrets();
    values.chain(of_components).chain(of_merchants).collect()
}

fn requests(world: &World, arrival: &Arrival) -> Result<Value, ControlError> {
    let number = |name: &str| match arrival.parameter(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| ControlError::bad(format!("{name} is not a number"))),
    };
    let limit = number("limit")?.and_then(|limit| usize::try_from(limit).ok());
    let selection = Selection {
        app_id: arrival.parameter("app_id"),
        path: arrival.parameter("path"),
        after: number("after")?.unwrap_or(0),
        limit: limit.unwrap_or(MAX_SHOWN).min(MAX_SHOWN),
    };
    let shown: Vec<_> = world.records.select(&selection).collect();
    Ok(json!(shown))
}
