//! `/cgi-bin/token`, `/cgi-bin/stable_token`, `/cgi-bin/ticket/getticket`, and
//! `/cgi-bin/clear_quota/v2`, which also goes by app id and secret.
//!
//! The order of the checks: app id, grant type, secret, freeze, address, quota. WeChat is known to look
//! at the app id first; the rest of the order is ours.

use http::Method;
use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::app::App;
use crate::api::arrival::Arrival;
use crate::api::body::{Body, Fields as _};
use crate::api::quota;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Entry, Route, SecretCall};
use crate::api::tickets::TicketKind;
use crate::api::tokens::{Moment, Token};

/// The path of the classic line.
pub(crate) const TOKEN: &str = "/cgi-bin/token";
/// The path of the stable line.
pub(crate) const STABLE_TOKEN: &str = "/cgi-bin/stable_token";
/// The path that clears the counts without a token.
pub(crate) const CLEAR_QUOTA_V2: &str = "/cgi-bin/clear_quota/v2";

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: TOKEN,
        call: Entry::Secret(token),
    },
    Route {
        method: Method::POST,
        path: STABLE_TOKEN,
        call: Entry::Secret(stable_token),
    },
    Route {
        method: Method::POST,
        path: CLEAR_QUOTA_V2,
        call: Entry::Secret(clear_quota),
    },
    Route::get("/cgi-bin/ticket/getticket", ticket),
];

/// What a call shows to prove who it is for.
struct Proof<'a> {
    app_id: Option<&'a str>,
    secret: Option<&'a str>,
    /// None where the call has no grant type.
    grant_type: Option<Option<&'a str>>,
}

fn token(call: &mut SecretCall<'_>) -> Outcome {
    let arrival = call.arrival;
    let proof = Proof {
        app_id: arrival.parameter("appid"),
        secret: arrival.parameter("secret"),
        grant_type: Some(arrival.parameter("grant_type")),
    };
    let (now_ms, chance) = (call.now_ms, call.chance);
    let app = admit(call, &proof)?;
    let moment = Moment {
        now_ms,
        day: quota::day(now_ms),
        lifetime_ms: app.settings.token_lifetime_ms(),
        chance,
    };
    issued(app.tokens.fetch_classic(moment), now_ms)
}

fn stable_token(call: &mut SecretCall<'_>) -> Outcome {
    let body = Body::parse(&call.arrival.body)?.fields;
    let proof = proof_in(&body, "secret", Some(body.optional_text("grant_type")?))?;
    let force = body.optional_flag("force_refresh");
    let (now_ms, chance) = (call.now_ms, call.chance);
    let app = admit(call, &proof)?;
    let moment = Moment {
        now_ms,
        day: quota::day(now_ms),
        lifetime_ms: app.settings.token_lifetime_ms(),
        chance,
    };
    if force?.unwrap_or(false) {
        match app.tokens.force_stable(moment) {
            Ok(token) => issued(token, now_ms),
            Err(_) => Err(Refusal::of(45009)),
        }
    } else {
        issued(app.tokens.fetch_stable(moment), now_ms)
    }
}

fn clear_quota(call: &mut SecretCall<'_>) -> Outcome {
    let body = Body::parse(&call.arrival.body)?.fields;
    let proof = proof_in(&body, "appsecret", None)?;
    let now_ms = call.now_ms;
    let app = admit(call, &proof)?;
    app.quota.clear(None, now_ms)?;
    answer::ok()
}

fn proof_in<'a>(
    body: &'a Map<String, Value>,
    secret: &str,
    grant_type: Option<Option<&'a str>>,
) -> Result<Proof<'a>, Refusal> {
    Ok(Proof {
        app_id: body.optional_text("appid")?,
        secret: body.optional_text(secret)?,
        grant_type,
    })
}

/// The app, where everything about the call is right.
fn admit<'a>(call: &'a mut SecretCall<'_>, proof: &Proof<'_>) -> Result<&'a mut App, Refusal> {
    let app_id = present(proof.app_id).ok_or_else(|| Refusal::of(41002))?;
    let app = call
        .apps
        .get_mut(app_id)
        .ok_or_else(|| Refusal::of(40013))?;
    let checked = check(app, proof, call.arrival).and_then(|()| match call.path {
        // The way out when everything else is used up.
        CLEAR_QUOTA_V2 => Ok(()),
        path => app.quota.spend(path, &app.settings, call.now_ms),
    });
    match checked {
        Ok(()) => Ok(app),
        Err(refusal) => {
            if call.path != CLEAR_QUOTA_V2 {
                app.tokens.count_refused_fetch();
            }
            Err(refusal)
        }
    }
}

fn check(app: &App, proof: &Proof<'_>, arrival: &Arrival) -> Result<(), Refusal> {
    if let Some(grant_type) = proof.grant_type
        && grant_type != Some("client_credential")
    {
        return Err(Refusal::of(40002));
    }
    app.expect_secret(proof.secret, arrival)
}

fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn issued(token: &Token, now_ms: u64) -> Outcome {
    answer::data(json!({
        "access_token": token.value,
        "expires_in": token.expires_in(now_ms),
    }))
}

fn ticket(call: &mut Call<'_>) -> Outcome {
    let kind = call.arrival.parameter("type").and_then(TicketKind::parse);
    let kind = kind.ok_or_else(|| Refusal::of(40097))?;
    let lifetime_ms = call.app.settings.ticket_lifetime_ms();
    let (ticket, expires_in) = call
        .app
        .tickets
        .fetch(kind, call.now_ms, lifetime_ms, call.chance);
    answer::ok_with(json!({ "ticket": ticket, "expires_in": expires_in }))
}
