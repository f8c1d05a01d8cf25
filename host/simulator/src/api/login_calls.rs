//! `/sns/…`: who has come back with a code, and what they let an app see of them. Tokens of these calls are a
//! user's; the app's own open none of them (40001).

use std::collections::HashMap;

use http::Method;
use serde_json::json;
use wxhost_wechat::id::AppId;
use wxhost_wechat::oauth::Scope;

use crate::api::answer::{self, Outcome};
use crate::api::app::App;
use crate::api::arrival::Arrival;
use crate::api::component_calls::ComponentCall;
use crate::api::login::Grant;
use crate::api::refusal::Refusal;
use crate::api::routes::{Entry, Route, SecretCall};

/// The calls that name their app.
pub(crate) const NAMING_CALLS: [&str; 2] = [EXCHANGE, RENEW];
const EXCHANGE: &str = "/sns/oauth2/access_token";
const RENEW: &str = "/sns/oauth2/refresh_token";

const fn own(path: &'static str, call: fn(&mut SecretCall<'_>) -> Outcome) -> Route {
    Route {
        method: Method::GET,
        path,
        call: Entry::Secret(call),
    }
}

const fn component(path: &'static str, call: fn(&mut ComponentCall<'_>) -> Outcome) -> Route {
    Route {
        method: Method::GET,
        path,
        call: Entry::Component(call),
    }
}

pub(crate) const ROUTES: &[Route] = &[
    own(EXCHANGE, exchange),
    own(RENEW, renew),
    own("/sns/userinfo", user_info),
    own("/sns/auth", check),
    component("/sns/oauth2/component/access_token", component_exchange),
    component("/sns/oauth2/component/refresh_token", component_renew),
];

fn needed<'a>(arrival: &'a Arrival, name: &str, errcode: i64) -> Result<&'a str, Refusal> {
    arrival.parameter(name).ok_or_else(|| Refusal::of(errcode))
}

fn expect_grant_type(arrival: &Arrival, expected: &str) -> Result<(), Refusal> {
    match arrival.parameter("grant_type") == Some(expected) {
        true => Ok(()),
        false => Err(Refusal::of(40002)),
    }
}

fn app<'a>(apps: &'a mut HashMap<AppId, App>, arrival: &Arrival) -> Result<&'a mut App, Refusal> {
    let named = needed(arrival, "appid", 41002)?;
    apps.get_mut(named).ok_or_else(|| Refusal::of(40013))
}

fn exchange(call: &mut SecretCall<'_>) -> Outcome {
    let arrival = call.arrival;
    let app = app(call.apps, arrival)?;
    app.expect_secret(arrival.parameter("secret"), arrival)?;
    expect_grant_type(arrival, "authorization_code")?;
    let code = needed(arrival, "code", 41008)?;
    let moment = (call.now_ms, call.chance);
    let granted = app.logins.exchange(code, None, moment)?;
    answer::data(granted.told(union_id(granted, &app.followers)))
}

fn renew(call: &mut SecretCall<'_>) -> Outcome {
    let arrival = call.arrival;
    let app = app(call.apps, arrival)?;
    expect_grant_type(arrival, "refresh_token")?;
    let refresh_token = needed(arrival, "refresh_token", 41003)?;
    let moment = (call.now_ms, call.chance);
    let granted = app.logins.renew(refresh_token, None, moment)?;
    answer::data(granted.told(None))
}

/// An account of this platform's, on a call that names both as the document has it: 41001, 40013, 61003.
fn authorizer<'a>(call: &'a mut ComponentCall<'_>) -> Result<(&'a mut App, AppId), Refusal> {
    needed(call.arrival, "component_access_token", 41001)?;
    let named = needed(call.arrival, "component_appid", 41002)?;
    let component = call.component.settings.app_id.clone();
    if named != component.as_str() {
        return Err(Refusal::of(40013));
    }
    let app_id = needed(call.arrival, "appid", 41002)?;
    let (app_id, _) = call.component.standing(app_id)?;
    let app = call.apps.get_mut(&app_id);
    Ok((app.ok_or_else(|| Refusal::of(40013))?, component))
}

fn component_exchange(call: &mut ComponentCall<'_>) -> Outcome {
    let (arrival, moment) = (call.arrival, (call.now_ms, call.chance));
    let (app, component) = authorizer(call)?;
    expect_grant_type(arrival, "authorization_code")?;
    let code = needed(arrival, "code", 41008)?;
    let granted = app.logins.exchange(code, Some(&component), moment)?;
    answer::data(granted.told(union_id(granted, &app.followers)))
}

fn component_renew(call: &mut ComponentCall<'_>) -> Outcome {
    let (arrival, moment) = (call.arrival, (call.now_ms, call.chance));
    let (app, component) = authorizer(call)?;
    expect_grant_type(arrival, "refresh_token")?;
    let refresh_token = needed(arrival, "refresh_token", 41003)?;
    let granted = app.logins.renew(refresh_token, Some(&component), moment)?;
    answer::data(granted.told(None))
}

/// Told where the user has granted their profile.
fn union_id<'a>(granted: &Grant, followers: &'a super::followers::Followers) -> Option<&'a str> {
    let consent = &granted.consent;
    if consent.scope != Scope::UserInfo || consent.is_snapshot {
        return None;
    }
    let user = followers.find(&consent.open_id).ok()?;
    user.union_id.as_deref()
}

/// A user's token on a call about that user: 41001, 40001, 42001, 41009, 40003.
fn opened<'a>(call: &'a SecretCall<'_>) -> Result<(&'a App, &'a Grant), Refusal> {
    let token = needed(call.arrival, "access_token", 41001)?;
    let mut found = call
        .apps
        .values()
        .filter_map(|app| Some((app, app.logins.find(token)?)));
    let (app, granted) = found.next().ok_or_else(|| Refusal::of(40001))?;
    granted.expect(needed(call.arrival, "openid", 41009)?, call.now_ms)?;
    Ok((app, granted))
}

fn user_info(call: &mut SecretCall<'_>) -> Outcome {
    let (app, granted) = opened(call)?;
    let consent = &granted.consent;
    if consent.scope != Scope::UserInfo {
        return Err(Refusal::of(48001));
    }
    let open_id = &consent.open_id;
    let nickname = match consent.is_snapshot {
        true => "微信用户".to_owned(),
        false => format!("用户{}", &open_id[open_id.len().saturating_sub(4)..]),
    };
    let mut told = json!({
        "openid": open_id,
        "nickname": nickname,
        "sex": 0,
        "language": "",
        "city": "",
        "province": "",
        "country": "",
        "headimgurl": format!("https://thirdwx.qlogo.cn/mmopen/vi_32/{open_id}/132"),
        "privilege": [],
    });
    if let Some(union_id) = union_id(granted, &app.followers) {
        told["unionid"] = union_id.into();
    }
    answer::data(told)
}

fn check(call: &mut SecretCall<'_>) -> Outcome {
    opened(call)?;
    answer::ok()
}
