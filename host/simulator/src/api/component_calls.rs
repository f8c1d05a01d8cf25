//! `/cgi-bin/component/…`: what a third-party platform calls, and `/cgi-bin/open/…`, which its accounts do.

use http::Method;
use serde_json::{Map, Value, json};
use wxhost_wechat::id::AppId;

use crate::Environment;
use crate::api::answer::{self, Outcome};
use crate::api::app::App;
use crate::api::arrival::Arrival;
use crate::api::body::{Body, Fields as _};
use crate::api::component::{Component, PRE_AUTH_MS};
use crate::api::quota;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Entry, Route};
use crate::api::tokens::Moment;

use std::collections::HashMap;

/// The call that gives out a platform's token.
pub(crate) const COMPONENT_TOKEN: &str = "/cgi-bin/component/api_component_token";
/// Calls of a platform that its secret proves.
pub(crate) const SECRET_CALLS: [&str; 3] = [
    COMPONENT_TOKEN,
    "/cgi-bin/component/api_start_push_ticket",
    "/cgi-bin/component/clear_quota/v2",
];

/// Accounts of a page of the list.
const PAGE: std::ops::RangeInclusive<u64> = 1..=500;

/// A call of a platform.
pub(crate) struct ComponentCall<'a> {
    pub(crate) component: &'a mut Component,
    pub(crate) apps: &'a mut HashMap<AppId, App>,
    pub(crate) arrival: &'a Arrival,
    pub(crate) now_ms: u64,
    pub(crate) chance: &'a dyn Environment,
}

const fn post(path: &'static str, call: fn(&mut ComponentCall<'_>) -> Outcome) -> Route {
    Route {
        method: Method::POST,
        path,
        call: Entry::Component(call),
    }
}

pub(crate) const ROUTES: &[Route] = &[
    post(COMPONENT_TOKEN, component_token),
    post("/cgi-bin/component/api_start_push_ticket", start_tickets),
    post("/cgi-bin/component/clear_quota/v2", clear_quota),
    post("/cgi-bin/component/api_create_preauthcode", pre_auth_code),
    post("/cgi-bin/component/api_query_auth", query_auth),
    post("/cgi-bin/component/api_authorizer_token", authorizer_token),
    post(
        "/cgi-bin/component/api_get_authorizer_info",
        authorizer_info,
    ),
    post(
        "/cgi-bin/component/api_get_authorizer_list",
        authorizer_list,
    ),
    post("/cgi-bin/component/api_get_authorizer_option", option),
    post("/cgi-bin/component/api_set_authorizer_option", set_option),
    Route::post("/cgi-bin/open/create", open_create),
    Route::post("/cgi-bin/open/bind", open_bind),
    Route::post("/cgi-bin/open/unbind", open_unbind),
    Route::post("/cgi-bin/open/get", open_get),
];

impl ComponentCall<'_> {
    fn body(&self) -> Result<Map<String, Value>, Refusal> {
        Ok(Body::parse(&self.arrival.body)?.fields)
    }

    /// The body of a call with a token, which must name the token's platform.
    fn own_body(&self) -> Result<Map<String, Value>, Refusal> {
        let body = self.body()?;
        if body.text("component_appid", 41002)? != self.component.settings.app_id.as_str() {
            return Err(Refusal::of(40013));
        }
        Ok(body)
    }

    fn expect_secret(&self, secret: &str) -> Result<(), Refusal> {
        if secret == self.component.settings.secret {
            Ok(())
        } else {
            Err(Refusal::of(40125))
        }
    }

    /// A new access token of an account.
    fn give_token(&mut self, app_id: &AppId) -> Result<(String, u64), Refusal> {
        let moment = Moment {
            now_ms: self.now_ms,
            day: quota::day(self.now_ms),
            lifetime_ms: self.component.lifetime_ms(),
            chance: self.chance,
        };
        let app = self.apps.get_mut(app_id).ok_or_else(|| Refusal::of(-1))?;
        let token = app.tokens.fetch_authorizer(moment);
        Ok((token.value.clone(), token.expires_in(moment.now_ms)))
    }
}

fn component_token(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.body()?;
    call.expect_secret(body.text("component_appsecret", 41004)?)?;
    let ticket = body.text("component_verify_ticket", 61006)?;
    call.component.check_ticket(ticket, call.now_ms)?;
    let moment = Moment {
        now_ms: call.now_ms,
        day: quota::day(call.now_ms),
        lifetime_ms: call.component.lifetime_ms(),
        chance: call.chance,
    };
    let token = call.component.tokens.fetch_classic(moment);
    answer::data(json!({
        "component_access_token": token.value,
        "expires_in": token.expires_in(call.now_ms),
    }))
}

fn start_tickets(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.body()?;
    call.expect_secret(body.text("component_secret", 41004)?)?;
    let was_pushing = std::mem::replace(&mut call.component.is_pushing, true);
    let said = if was_pushing {
        "in a normal state"
    } else {
        "ok"
    };
    answer::data(json!({ "errcode": 0, "errmsg": said }))
}

fn clear_quota(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.body()?;
    call.expect_secret(body.text("appsecret", 41004)?)?;
    call.component.clears += 1;
    if call.component.clears > 10 {
        return Err(Refusal::of(48006));
    }
    answer::ok()
}

fn pre_auth_code(call: &mut ComponentCall<'_>) -> Outcome {
    call.own_body()?;
    let code = call.component.make_pre_auth_code(call.now_ms, call.chance);
    answer::data(json!({ "pre_auth_code": code, "expires_in": PRE_AUTH_MS / 1000 }))
}

fn functions(sets: &[u32]) -> Value {
    let of = |id: &u32| json!({ "funcscope_category": { "id": id, "type": 1, "name": "x" } });
    sets.iter().map(of).collect()
}

fn query_auth(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let code = body.text("authorization_code", 61009)?;
    let app_id = call.component.use_code(code, call.now_ms)?;
    let (_, authorizer) = call.component.standing(app_id.as_str())?;
    authorizer.exchanges += 1;
    let sets = authorizer.sets.clone();
    let refresh_token = call.component.make_refresh_token(&app_id, call.chance);
    let (token, expires_in) = call.give_token(&app_id)?;
    answer::data(json!({ "authorization_info": {
        "authorizer_appid": app_id,
        "authorizer_access_token": token,
        "expires_in": expires_in,
        "authorizer_refresh_token": refresh_token,
        "func_info": functions(&sets),
    }}))
}

fn authorizer_token(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let given = body.text("authorizer_refresh_token", 61023)?.to_owned();
    let (app_id, authorizer) = call
        .component
        .standing(body.text("authorizer_appid", 41002)?)?;
    if authorizer.refresh_token.as_deref() != Some(&given) {
        authorizer.refused_renewals += 1;
        return Err(Refusal::of(61023));
    }
    authorizer.renewals += 1;
    let refresh_token = match call.component.settings.rotate_refresh_tokens {
        true => call.component.make_refresh_token(&app_id, call.chance),
        false => given,
    };
    let (token, expires_in) = call.give_token(&app_id)?;
    answer::data(json!({
        "authorizer_access_token": token,
        "expires_in": expires_in,
        "authorizer_refresh_token": refresh_token,
    }))
}

fn authorizer_info(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let (app_id, authorizer) = call
        .component
        .standing(body.text("authorizer_appid", 41002)?)?;
    let told = &authorizer.description;
    let mut info = json!({
        "nick_name": told.nick_name,
        "head_img": "",
        "service_type_info": { "id": told.service_type },
        "verify_type_info": { "id": told.verify_type },
        "user_name": told.original_id,
        "alias": "",
        "qrcode_url": "",
        "principal_name": told.principal_name,
        "signature": "",
        "account_status": 1,
        "business_info": { "open_pay": 0, "open_shake": 0, "open_scan": 0, "open_card": 0, "open_store": 0 },
    });
    if told.mini_program {
        info["MiniProgramInfo"] = json!({ "network": {}, "categories": [], "visit_status": 0 });
    }
    answer::data(json!({
        "authorizer_info": info,
        "authorization_info": {
            "authorizer_appid": app_id,
            "authorizer_refresh_token": authorizer.refresh_token.as_deref().unwrap_or(""),
            "func_info": functions(&authorizer.sets),
        },
    }))
}

fn authorizer_list(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let offset = body.optional_number("offset")?.unwrap_or(0);
    let count = body.optional_number("count")?.unwrap_or(0);
    if !PAGE.contains(&count) {
        return Err(Refusal::of(40170));
    }
    let authorizers = call.component.authorizers.iter();
    let standing: Vec<_> = authorizers.filter(|(_, this)| this.is_standing).collect();
    let page = standing
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX));
    let page = page
        .take(usize::try_from(count).unwrap_or(0))
        .map(|(id, this)| {
            json!({
                "authorizer_appid": id,
                "refresh_token": this.refresh_token.as_deref().unwrap_or(""),
                "auth_time": this.auth_time,
            })
        });
    answer::data(json!({
        "total_count": standing.len(),
        "list": page.collect::<Vec<_>>(),
    }))
}

/// The permission set that an option needs, and the values that it takes.
fn known_option(name: &str) -> Result<(u32, &'static [&'static str]), Refusal> {
    Ok(match name {
        "location_report" => (2, &["0", "1", "2"]),
        "voice_recognize" => (1, &["0", "1"]),
        "customer_service" => (6, &["0", "1"]),
        _ => return Err(Refusal::of(61012)),
    })
}

fn option(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let name = body.text("option_name", 61012)?;
    let (set, _) = known_option(name)?;
    let (app_id, authorizer) = call
        .component
        .standing(body.text("authorizer_appid", 41002)?)?;
    if !authorizer.sets.contains(&set) {
        return Err(Refusal::of(61007));
    }
    let value = authorizer.options.get(name).map_or("0", String::as_str);
    answer::data(json!({
        "authorizer_appid": app_id,
        "option_name": name,
        "option_value": value,
    }))
}

fn set_option(call: &mut ComponentCall<'_>) -> Outcome {
    let body = call.own_body()?;
    let name = body.text("option_name", 61012)?;
    let (set, values) = known_option(name)?;
    let value = body.text("option_value", 61013)?;
    if !values.contains(&value) {
        return Err(Refusal::of(61013));
    }
    let (_, authorizer) = call
        .component
        .standing(body.text("authorizer_appid", 41002)?)?;
    if !authorizer.sets.contains(&set) {
        return Err(Refusal::of(61007));
    }
    authorizer.options.insert(name.to_owned(), value.to_owned());
    answer::ok()
}

fn open_create(call: &mut Call<'_>) -> Outcome {
    if call.app.open_account.is_some() {
        return Err(Refusal::of(89000));
    }
    let made = format!("wx{}", crate::account::hexadecimal(call.chance, 16));
    call.app.open_account = Some(made.clone());
    answer::ok_with(json!({ "open_appid": made }))
}

fn open_bind(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let wanted = body.text("open_appid", 40013)?;
    if call.app.open_account.is_some() {
        return Err(Refusal::of(89000));
    }
    call.app.open_account = Some(wanted.to_owned());
    answer::ok()
}

fn open_unbind(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let wanted = body.text("open_appid", 40013)?;
    if call.app.open_account.as_deref() != Some(wanted) {
        return Err(Refusal::of(89001));
    }
    call.app.open_account = None;
    answer::ok()
}

fn open_get(call: &mut Call<'_>) -> Outcome {
    match &call.app.open_account {
        None => Err(Refusal::of(89002)),
        Some(bound) => answer::ok_with(json!({ "open_appid": bound })),
    }
}
