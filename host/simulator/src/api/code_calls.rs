//! QR codes with a scene (带参数二维码) and short keys (短key托管).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Longest life of a code or a key that ends: 30 days.
const MAX_EXPIRE_SECONDS: u64 = 2_592_000;
/// Life of a temporary code that names none.
const DEFAULT_EXPIRE_SECONDS: u64 = 60;
/// Permanent codes of an account, and their highest number.
const MAX_PERMANENT: u64 = 100_000;
/// Bytes that a short key stands for.
const MAX_LONG_BYTES: usize = 4096;
/// Short keys per app: the simulator's own limit.
const MAX_KEYS: usize = 10_000;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/qrcode/create", create),
    Route::post("/cgi-bin/shorten/gen", shorten),
    Route::post("/cgi-bin/shorten/fetch", lengthen),
];

#[derive(Debug)]
struct Short {
    long_data: String,
    created_at: u64,
    expire_seconds: u64,
}

/// The codes and keys of one app.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    permanent: u64,
    keys: BTreeMap<String, Short>,
}

fn create(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let action = body.text("action_name", 40053)?;
    let scene = body.object("action_info", 40053)?.object("scene", 40053)?;
    let is_permanent = match action {
        "QR_SCENE" => {
            let id = scene.number("scene_id", 40169)?;
            require((1..=u64::from(u32::MAX)).contains(&id), 40169)?;
            false
        }
        "QR_STR_SCENE" => {
            check_text_scene(scene)?;
            false
        }
        "QR_LIMIT_SCENE" => {
            let id = scene.number("scene_id", 40169)?;
            require((1..=MAX_PERMANENT).contains(&id), 40169)?;
            true
        }
        "QR_LIMIT_STR_SCENE" => {
            check_text_scene(scene)?;
            true
        }
        _ => return Err(Refusal::of(40053)),
    };
    let expire = body.optional_number("expire_seconds")?;
    let mut bytes = [0; 58];
    call.chance.fill(&mut bytes);
    let ticket = format!("gQ{}==", STANDARD.encode(bytes).trim_end_matches('='));
    let url = format!("http://weixin.qq.example/q/{}", call.chance.letters(22));
    let mut code = json!({ "ticket": ticket, "url": url });
    if is_permanent {
        require(call.app.codes.permanent < MAX_PERMANENT, 45029)?;
        call.app.codes.permanent += 1;
    } else {
        let expire = expire.unwrap_or(DEFAULT_EXPIRE_SECONDS);
        require((1..=MAX_EXPIRE_SECONDS).contains(&expire), 40097)?;
        code["expire_seconds"] = expire.into();
    }
    answer::data(code)
}

fn check_text_scene(scene: &Map<String, Value>) -> Result<(), Refusal> {
    let text = scene.text("scene_str", 40169)?;
    require(text.chars().count() <= 64, 40169)
}

fn require(condition: bool, errcode: i64) -> Result<(), Refusal> {
    if condition {
        Ok(())
    } else {
        Err(Refusal::of(errcode))
    }
}

fn shorten(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let long_data = body.text("long_data", 40097)?;
    require(long_data.len() <= MAX_LONG_BYTES, 40097)?;
    let expire = body.optional_number("expire_seconds")?;
    let expire = expire.unwrap_or(MAX_EXPIRE_SECONDS);
    require((1..=MAX_EXPIRE_SECONDS).contains(&expire), 40097)?;
    let now = call.now_seconds();
    let keys = &mut call.app.codes.keys;
    if keys.len() >= MAX_KEYS {
        keys.retain(|_, short| now < short.created_at + short.expire_seconds);
    }
    if keys.len() >= MAX_KEYS {
        return Err(Refusal::because(-1, "system error, the simulator is full"));
    }
    let key = call.chance.letters(15);
    let short = Short {
        long_data: long_data.to_owned(),
        created_at: now,
        expire_seconds: expire,
    };
    keys.insert(key.clone(), short);
    answer::ok_with(json!({ "short_key": key }))
}

fn lengthen(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let key = body.text("short_key", 40097)?;
    let now = call.now_seconds();
    let short = call.app.codes.keys.get(key);
    let short = short.filter(|short| now < short.created_at + short.expire_seconds);
    let short = short.ok_or_else(|| Refusal::of(40097))?;
    answer::ok_with(json!({
        "long_data": short.long_data,
        "create_time": short.created_at,
        "expire_seconds": short.created_at + short.expire_seconds - now,
    }))
}
