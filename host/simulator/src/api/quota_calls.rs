//! `clear_quota`, `openapi/quota/{get,clear}` and `openapi/rid/get`.

use serde_json::json;

use crate::api::answer::{self, Outcome};
use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;
use crate::api::rid::Unshown;
use crate::api::routes::{self, Call, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/clear_quota", clear_all),
    Route::post("/cgi-bin/openapi/quota/clear", clear_one),
    Route::post("/cgi-bin/openapi/quota/get", quota),
    Route::post("/cgi-bin/openapi/rid/get", rid),
];

fn clear_all(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    if body.text("appid", 41002)? != call.app.settings.app_id.as_str() {
        return Err(Refusal::of(40013));
    }
    call.app.quota.clear(None, call.now_ms)?;
    answer::ok()
}

fn clear_one(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let path = known_path(body.text("cgi_path", 76003)?)?;
    call.app.quota.clear(Some(path), call.now_ms)?;
    answer::ok()
}

fn quota(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let path = known_path(body.text("cgi_path", 76003)?)?;
    let shown = call.app.quota.shown(path, &call.app.settings, call.now_ms);
    answer::ok_with(shown)
}

fn known_path(path: &str) -> Result<&'static str, Refusal> {
    let well_formed = path.starts_with('/') && !path.contains("//") && !path.contains('?');
    if !well_formed {
        return Err(Refusal::of(76003));
    }
    let route = routes::find(path).ok_or_else(|| Refusal::of(76021))?;
    Ok(route.path)
}

fn rid(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let rid = body.text("rid", 76002)?;
    let shown = call
        .rids
        .show(rid, &call.app.settings.app_id, call.now_ms)
        .map_err(|unshown| {
            Refusal::of(match unshown {
                Unshown::Malformed => 76002,
                Unshown::Unknown => 76001,
                Unshown::OtherApp => 76003,
                Unshown::TooOld => 76004,
            })
        })?;
    answer::ok_with(json!({ "request": shown }))
}
