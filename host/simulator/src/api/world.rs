//! All that the pretend WeChat knows, and how it answers one request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use wxhost_wechat::component::permission;
use wxhost_wechat::id::AppId;

use crate::Environment;
use crate::api::answer::{self, Answer, Outcome};
use crate::api::app::{App, AppSettings};
use crate::api::arrival::Arrival;
use crate::api::component::{Component, ComponentSettings};
use crate::api::component_calls::{ComponentCall, SECRET_CALLS};
use crate::api::fault::Faults;
use crate::api::login_calls::NAMING_CALLS;
use crate::api::pay::Pay;
use crate::api::record::Records;
use crate::api::refusal::Refusal;
use crate::api::rid::{self, MAX_KEPT_BODY, Refused, Rids};
use crate::api::routes::{self, Call, Entry, Route, SecretCall};
use crate::api::token_calls::{CLEAR_QUOTA_V2, STABLE_TOKEN, TOKEN};
use crate::api::tokens::{self, Line, Validity};

/// Apps at the same time.
const MAX_APPS: usize = 20_000;

/// All that the pretend WeChat knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) environment: Arc<dyn Environment>,
    /// How far the clock was moved ahead of the environment.
    pub(crate) advanced: Duration,
    pub(crate) apps: HashMap<AppId, App>,
    pub(crate) components: HashMap<AppId, Component>,
    pub(crate) faults: Faults,
    pub(crate) records: Records,
    pub(crate) rids: Rids,
    pub(crate) pay: Pay,
    /// Uses of tokens that are nobody's.
    pub(crate) unknown_token_uses: u64,
    /// Whose a token is.
    owners: HashMap<String, Owner>,
}

#[derive(Debug, Clone)]
struct Owner {
    app_id: AppId,
    line: Line,
    serial: u64,
}

/// Who a request says it is from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub(crate) app_id: Option<AppId>,
    /// `stable#3`, `unknown`, or none.
    pub(crate) token: Option<String>,
    owner: Option<Owner>,
    /// The third-party platform whose own token it is.
    component: Option<AppId>,
}

/// An answer as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) status: StatusCode,
    pub(crate) content_type: String,
    pub(crate) disposition: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) errcode: Option<i64>,
    pub(crate) rid: Option<String>,
    pub(crate) shown_escaped: bool,
}

impl World {
    pub(crate) fn new(environment: Arc<dyn Environment>) -> Self {
        Self {
            environment,
            advanced: Duration::ZERO,
            apps: HashMap::new(),
            components: HashMap::new(),
            faults: Faults::default(),
            records: Records::default(),
            rids: Rids::default(),
            pay: Pay::default(),
            unknown_token_uses: 0,
            owners: HashMap::new(),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let now = self.environment.now() + self.advanced;
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Adds an app, or changes one; or says what is wrong.
    pub(crate) fn put_app(&mut self, settings: AppSettings) -> Result<(), &'static str> {
        if let Some(flaw) = settings.flaw() {
            return Err(flaw);
        }
        let now_ms = self.now_ms();
        if let Some(app) = self.apps.get_mut(&settings.app_id) {
            app.change(settings, now_ms);
            return Ok(());
        }
        if self.apps.len() == MAX_APPS {
            return Err("too many apps");
        }
        self.apps
            .insert(settings.app_id.clone(), App::new(settings));
        Ok(())
    }

    /// Adds a third-party platform, or changes the settings of one.
    pub(crate) fn put_component(&mut self, settings: ComponentSettings) {
        if let Some(component) = self.components.get_mut(&settings.app_id) {
            component.settings = settings;
            return;
        }
        let app_id = settings.app_id.clone();
        self.components.insert(app_id, Component::new(settings));
    }

    /// Who a request says it is from: by its token, or by the app id that it names.
    pub(crate) fn caller(&self, arrival: &Arrival) -> Caller {
        let named = match arrival.path.as_str() {
            path if path == TOKEN || NAMING_CALLS.contains(&path) => {
                arrival.parameter("appid").map(str::to_owned)
            }
            STABLE_TOKEN | CLEAR_QUOTA_V2 => app_id_in(&arrival.body, "appid"),
            path if SECRET_CALLS.contains(&path) => app_id_in(&arrival.body, "component_appid"),
            _ => return self.owner_of_token(arrival),
        };
        Caller {
            app_id: named.and_then(|named| AppId::parse(&named).ok()),
            ..Caller::default()
        }
    }

    fn owner_of_token(&self, arrival: &Arrival) -> Caller {
        let newer = arrival.parameter("access_token");
        let Some(token) = newer.or_else(|| arrival.parameter("component_access_token")) else {
            return Caller::default();
        };
        let components = &self.components;
        let component = components
            .values()
            .find(|component| component.tokens.values().any(|value| value == token));
        if let Some(component) = component {
            return Caller {
                app_id: Some(component.settings.app_id.clone()),
                token: Some("component".to_owned()),
                component: Some(component.settings.app_id.clone()),
                ..Caller::default()
            };
        }
        match self.owners.get(token) {
            Some(owner) => Caller {
                app_id: Some(owner.app_id.clone()),
                token: Some(format!("{}#{}", owner.line.name(), owner.serial)),
                owner: Some(owner.clone()),
                component: None,
            },
            None => {
                let mut apps = self.apps.values();
                let user_of = apps.find(|app| app.logins.find(token).is_some());
                let token = if user_of.is_some() { "user" } else { "unknown" };
                Caller {
                    app_id: user_of.map(|app| app.settings.app_id.clone()),
                    token: Some(token.to_owned()),
                    ..Caller::default()
                }
            }
        }
    }

    /// Carries a call out and answers it.
    pub(crate) fn perform(&mut self, arrival: &Arrival, caller: &Caller) -> Sent {
        let mut shown_escaped = false;
        let outcome = match routes::find(&arrival.path) {
            None => Err(Refusal::of(40066)),
            Some(route) if route.method != arrival.method => {
                let wants_get = route.method == http::Method::GET;
                Err(Refusal::of(if wants_get { 43001 } else { 43002 }))
            }
            Some(route) => match route.call {
                Entry::Secret(_) if self.names_component(caller) => Err(Refusal::of(61024)),
                Entry::Secret(run) => self.perform_with_secret(run, route, arrival, caller),
                Entry::Component(run) => self.perform_for_component(run, arrival, caller),
                Entry::Token(_) if caller.component.is_some() => {
                    self.perform_by_component(route.path, arrival, caller)
                }
                Entry::Token(run) => self.open(route, arrival, caller).and_then(|owner| {
                    self.perform_with_token(run, arrival, &owner, &mut shown_escaped)
                }),
            },
        };
        let mut sent = match outcome {
            Ok(answer) => answered(answer),
            Err(refusal) => self.refuse(&refusal, arrival, caller),
        };
        sent.shown_escaped = shown_escaped;
        sent
    }

    fn perform_with_secret(
        &mut self,
        run: fn(&mut SecretCall<'_>) -> Outcome,
        route: &'static Route,
        arrival: &Arrival,
        caller: &Caller,
    ) -> Outcome {
        let now_ms = self.now_ms();
        let outcome = run(&mut SecretCall {
            apps: &mut self.apps,
            path: route.path,
            arrival,
            now_ms,
            chance: &*self.environment,
        });
        if let Some(app_id) = &caller.app_id {
            self.index_tokens(app_id);
        }
        outcome
    }

    /// Brings the index of tokens up to date with an app's newest ones.
    fn index_tokens(&mut self, app_id: &AppId) {
        let Some(app) = self.apps.get_mut(app_id) else {
            return;
        };
        for value in app.tokens.take_forgotten() {
            self.owners.remove(&value);
        }
        for line in [Line::Classic, Line::Stable, Line::Component] {
            if let Some(newest) = app.tokens.newest(line)
                && !self.owners.contains_key(&newest.value)
            {
                let owner = Owner {
                    app_id: app_id.clone(),
                    line,
                    serial: newest.serial,
                };
                self.owners.insert(newest.value.clone(), owner);
            }
        }
    }

    /// Whose token opens this call, once it is counted: 41001, 40014, 40001, 42001, 45009, 45011.
    fn open(
        &mut self,
        route: &'static Route,
        arrival: &Arrival,
        caller: &Caller,
    ) -> Result<AppId, Refusal> {
        let now_ms = self.now_ms();
        let value = arrival.parameter("access_token");
        let value = value.ok_or_else(|| Refusal::of(41001))?;
        if let Some(owner) = &caller.owner {
            let ip = self.client_ip(arrival, caller);
            self.expect_granted(owner, route.path, &ip)?;
        }
        let owned = caller.owner.as_ref().and_then(|owner| {
            let app = self.apps.get_mut(&owner.app_id)?;
            let validity = app.tokens.find(owner.line, owner.serial)?.validity(now_ms);
            Some((owner, app, validity))
        });
        let Some((owner, app, validity)) = owned else {
            self.unknown_token_uses += 1;
            let well_formed = tokens::is_well_formed(value);
            return Err(Refusal::of(if well_formed { 40001 } else { 40014 }));
        };
        match validity {
            Validity::Valid => app.quota.spend(route.path, &app.settings, now_ms)?,
            Validity::Expired | Validity::Superseded => {
                app.tokens.count_invalid_use(route.path);
                let expired = validity == Validity::Expired;
                return Err(Refusal::of(if expired { 42001 } else { 40001 }));
            }
        }
        Ok(owner.app_id.clone())
    }

    fn names_component(&self, caller: &Caller) -> bool {
        let named = caller.app_id.as_ref();
        named.is_some_and(|app_id| self.components.contains_key(app_id))
    }

    /// Carries a call of a platform out: 41001, 61014, 40001, 40014, 42001, 40013, 61004.
    fn perform_for_component(
        &mut self,
        run: fn(&mut ComponentCall<'_>) -> Outcome,
        arrival: &Arrival,
        caller: &Caller,
    ) -> Outcome {
        let now_ms = self.now_ms();
        let ip = self.client_ip(arrival, caller);
        if !SECRET_CALLS.contains(&arrival.path.as_str()) {
            self.expect_component_token(arrival, caller, now_ms)?;
        }
        let named = caller.app_id.as_ref();
        let component = named.and_then(|app_id| self.components.get_mut(app_id));
        let component = component.ok_or_else(|| Refusal::of(40013))?;
        let allowed = component.settings.allowed_ips.as_ref();
        if allowed.is_some_and(|allowed| !allowed.contains(&ip)) {
            return Err(Refusal::of(61004));
        }
        let outcome = run(&mut ComponentCall {
            component,
            apps: &mut self.apps,
            arrival,
            now_ms,
            chance: &*self.environment,
        });
        if let Ok(Answer::Json(body)) = &outcome {
            let named = body["authorization_info"]["authorizer_appid"].as_str();
            let named = named
                .map(str::to_owned)
                .or_else(|| app_id_in(&arrival.body, "authorizer_appid"));
            if let Some(app_id) = named.and_then(|named| AppId::parse(&named).ok()) {
                self.index_tokens(&app_id);
            }
        }
        outcome
    }

    fn expect_component_token(
        &self,
        arrival: &Arrival,
        caller: &Caller,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let newer = arrival.parameter("access_token");
        let value = newer.or_else(|| arrival.parameter("component_access_token"));
        let value = value.ok_or_else(|| Refusal::of(41001))?;
        if caller.owner.is_some() {
            return Err(Refusal::of(61014));
        }
        let component = caller
            .component
            .as_ref()
            .and_then(|id| self.components.get(id));
        let Some(component) = component else {
            let well_formed = tokens::is_well_formed(value);
            return Err(Refusal::of(if well_formed { 40001 } else { 40014 }));
        };
        match component.tokens.validity_of(value, now_ms) {
            Validity::Valid => Ok(()),
            Validity::Expired => Err(Refusal::of(42001)),
            Validity::Superseded => Err(Refusal::of(40001)),
        }
    }

    /// A platform's token opens next to nothing of what accounts call.
    fn perform_by_component(&mut self, path: &str, arrival: &Arrival, caller: &Caller) -> Outcome {
        let id = caller.component.clone().ok_or_else(|| Refusal::of(61015))?;
        self.expect_component_token(arrival, caller, self.now_ms())?;
        match path {
            "/cgi-bin/clear_quota"
                if app_id_in(&arrival.body, "appid").as_deref() == Some(id.as_str()) =>
            {
                answer::ok()
            }
            "/cgi-bin/getcallbackip" => {
                answer::data(serde_json::json!({ "ip_list": ["127.0.0.1"] }))
            }
            _ => Err(Refusal::of(61015)),
        }
    }

    /// Whether what an account has granted covers a call with a token that a platform holds: 61003, 61004,
    /// 61007.
    fn expect_granted(&self, owner: &Owner, path: &str, ip: &str) -> Result<(), Refusal> {
        if owner.line != Line::Component {
            return Ok(());
        }
        let standing = self.components.values().find_map(|component| {
            let authorizer = component.authorizers.get(&owner.app_id)?;
            authorizer.is_standing.then_some((component, authorizer))
        });
        let (component, authorizer) = standing.ok_or_else(|| Refusal::of(61003))?;
        let allowed = component.settings.allowed_ips.as_ref();
        if allowed.is_some_and(|allowed| !allowed.iter().any(|given| given == ip)) {
            return Err(Refusal::of(61004));
        }
        match permission::missing(path, &authorizer.sets) {
            None => Ok(()),
            Some(_) => Err(Refusal::of(61007)),
        }
    }

    fn perform_with_token(
        &mut self,
        run: fn(&mut Call<'_>) -> Outcome,
        arrival: &Arrival,
        owner: &AppId,
        shown_escaped: &mut bool,
    ) -> Outcome {
        let now_ms = self.now_ms();
        // It was there a moment ago, when its token was found.
        let app = self.apps.get_mut(owner).ok_or_else(|| Refusal::of(-1))?;
        let mut call = Call {
            app,
            rids: &self.rids,
            arrival,
            now_ms,
            chance: &*self.environment,
            shown_escaped: false,
        };
        let outcome = run(&mut call);
        *shown_escaped = call.shown_escaped;
        outcome
    }

    /// Answers with a refusal and keeps its rid.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, arrival: &Arrival, caller: &Caller) -> Sent {
        let now_ms = self.now_ms();
        let rid = rid::fresh(now_ms, &*self.environment);
        let body = refusal.body(&rid).to_string();
        self.rids.keep(Refused {
            rid: rid.clone(),
            app_id: caller.app_id.clone(),
            at_ms: now_ms,
            url: format!(
                "https://api.weixin.qq.com{}?{}",
                arrival.path,
                arrival.shown_query()
            ),
            request_body: shown_body(arrival).map_or_else(String::new, |body| {
                body.chars().take(MAX_KEPT_BODY / 4).collect()
            }),
            response_body: body.clone(),
            client_ip: self.client_ip(arrival, caller),
        });
        Sent {
            status: StatusCode::OK,
            content_type: error_type(&arrival.path).to_owned(),
            disposition: None,
            body: body.into(),
            errcode: Some(refusal.errcode),
            rid: Some(rid),
            shown_escaped: false,
        }
    }

    /// The address that a request seems to come from.
    pub(crate) fn client_ip(&self, arrival: &Arrival, caller: &Caller) -> String {
        let app = caller.app_id.as_ref().and_then(|id| self.apps.get(id));
        match app {
            Some(app) => app.settings.client_ip(arrival),
            None => arrival
                .claimed_ip
                .clone()
                .unwrap_or_else(|| arrival.peer.to_string()),
        }
    }
}

/// The body as it may be shown: text only, without a secret.
pub(crate) fn shown_body(arrival: &Arrival) -> Option<String> {
    let text = std::str::from_utf8(&arrival.body).ok()?;
    let path = arrival.path.as_str();
    let holds_secrets = path.starts_with("/cgi-bin/component/");
    if !holds_secrets && !matches!(path, STABLE_TOKEN | CLEAR_QUOTA_V2) {
        return Some(text.to_owned());
    }
    let Ok(mut body) = serde_json::from_str::<Value>(text) else {
        return None;
    };
    for name in SECRET_FIELDS {
        if let Some(secret) = body.get_mut(name) {
            *secret = "***".into();
        }
    }
    Some(body.to_string())
}

/// Fields of bodies that are never shown.
const SECRET_FIELDS: [&str; 7] = [
    "secret",
    "appsecret",
    "component_appsecret",
    "component_secret",
    "component_verify_ticket",
    "authorization_code",
    "authorizer_refresh_token",
];

fn app_id_in(body: &[u8], name: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get(name)?.as_str()?.to_owned())
}

/// Answers that are usually files, and the older calls, name their errors plain text.
fn error_type(path: &str) -> &'static str {
    match path {
        "/cgi-bin/media/get" | "/cgi-bin/media/get/jssdk" | "/cgi-bin/material/get_material" => {
            "text/plain"
        }
        _ => "application/json; encoding=utf-8",
    }
}

fn answered(answer: Answer) -> Sent {
    let (content_type, disposition, body, errcode) = match answer {
        Answer::Json(body) => (
            "application/json; encoding=utf-8".to_owned(),
            None,
            body.to_string().into(),
            Some(0),
        ),
        Answer::File {
            content_type,
            name,
            bytes,
        } => {
            let disposition = format!("attachment; filename=\"{name}\"");
            (content_type, Some(disposition), bytes, None)
        }
    };
    Sent {
        status: StatusCode::OK,
        content_type,
        disposition,
        body,
        errcode,
        rid: None,
        shown_escaped: false,
    }
}
