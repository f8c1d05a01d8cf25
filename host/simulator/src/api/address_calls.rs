//! `getcallbackip`, `get_api_domain_ip` and `callback/check`: where WeChat is on the network.
//!
//! All addresses are from the blocks that are kept for documentation (RFC 5737).

use serde_json::json;

use crate::api::answer::{self, Outcome};
use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/cgi-bin/getcallbackip", callback_addresses),
    Route::get("/cgi-bin/get_api_domain_ip", api_addresses),
    Route::post("/cgi-bin/callback/check", check),
];

fn callback_addresses(_: &mut Call<'_>) -> Outcome {
    answer::data(json!({ "ip_list": ["203.0.113.7", "203.0.113.64/26"] }))
}

fn api_addresses(_: &mut Call<'_>) -> Outcome {
    answer::data(json!({ "ip_list": ["198.51.100.10", "198.51.100.11"] }))
}

fn check(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let action = body.text("action", 40097)?;
    let operator = body.optional_text("check_operator")?.unwrap_or("DEFAULT");
    if !["CHINANET", "UNICOM", "CAP", "DEFAULT"].contains(&operator) {
        return Err(Refusal::of(40097));
    }
    let dns = json!([{ "ip": "192.0.2.80", "real_operator": operator }]);
    let ping = json!([{
        "ip": "192.0.2.80",
        "from_operator": operator,
        "package_loss": "0%",
        "time": "23.079ms",
    }]);
    match action {
        "dns" => answer::ok_with(json!({ "dns": dns })),
        "ping" => answer::ok_with(json!({ "ping": ping })),
        "all" => answer::ok_with(json!({ "dns": dns, "ping": ping })),
        _ => Err(Refusal::of(40097)),
    }
}
