//! Mass messages (群发): what may be sent to many, how often, and what became of it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::app::{App, AppKind};
use crate::api::body::{Body, Fields as _};
use crate::api::customer_calls::{at_most, check_card};
use crate::api::media::MediaKind;
use crate::api::quota;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};
use crate::api::shown::ShownMessage;

/// Open ids of one call.
const MIN_USERS: usize = 2;
const MAX_USERS: usize = 10_000;
/// Bytes of a text and of a clientmsgid. Older documents allow 64 for the latter.
const MAX_TEXT_BYTES: usize = 2048;
const MAX_CLIENT_ID_BYTES: usize = 32;
/// How soon a repeat is too soon, rather than known.
const TOO_SOON_MS: u64 = 60_000;
/// Mass messages that a user gets a month from a service account, and that go to all.
const PER_MONTH: u32 = 4;
/// Jobs that are remembered per app.
const MAX_JOBS: usize = 2_000;
/// Users for whom a mass message is kept as shown.
const MAX_SHOWN: usize = 1_000;
/// Messages a minute by speed, in units of ten thousand.
const SPEEDS: [u64; 5] = [80, 60, 45, 30, 10];

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/message/mass/sendall", send_all),
    Route::post("/cgi-bin/message/mass/send", send),
    Route::post("/cgi-bin/message/mass/preview", preview),
    Route::post("/cgi-bin/message/mass/delete", delete),
    Route::post("/cgi-bin/message/mass/get", status),
    Route::post("/cgi-bin/message/mass/speed/get", speed),
    Route::post("/cgi-bin/message/mass/speed/set", set_speed),
];

#[derive(Debug)]
struct Job {
    msg_id: u64,
    at_ms: u64,
    key: String,
    deleted: bool,
}

/// The mass messages of one app.
#[derive(Debug, Default)]
pub(crate) struct MassMessages {
    jobs: VecDeque<Job>,
    /// The day and the month, with the calls that used up a right.
    today: (u64, u32),
    this_month: (u64, u32),
    speed: usize,
}

impl MassMessages {
    fn find(&mut self, msg_id: u64) -> Result<&mut Job, Refusal> {
        let mut jobs = self.jobs.iter_mut();
        let found = jobs.find(|job| job.msg_id == msg_id);
        found.ok_or_else(|| Refusal::of(40059))
    }

    /// Whether this was sent already: 45066 within a minute, 45065 afterwards.
    fn check_repeat(&self, key: &str, now_ms: u64) -> Result<(), Refusal> {
        match self.jobs.iter().find(|job| job.key == key) {
            None => Ok(()),
            Some(job) if now_ms < job.at_ms + TOO_SOON_MS => Err(Refusal::of(45066)),
            Some(job) => Err(Refusal::of(45065).with("msg_id", job.msg_id)),
        }
    }

    /// Uses one of the rights of a day and a month: 45028 where there is none left.
    fn spend(&mut self, per_day: u32, per_month: u32, now_ms: u64) -> Result<(), Refusal> {
        let used = |(at, count): (u64, u32), now: u64| if at == now { count } else { 0 };
        let (day, month) = (quota::day(now_ms), quota::month(now_ms));
        let (today, this_month) = (used(self.today, day), used(self.this_month, month));
        if today >= per_day || this_month >= per_month {
            return Err(Refusal::of(45028));
        }
        self.today = (day, today + 1);
        self.this_month = (month, this_month + 1);
        Ok(())
    }
}

fn send_all(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let filter = body.fields.object("filter", 40035)?;
    let to_all = filter.optional_flag("is_to_all")?.unwrap_or(false);
    let tag = if to_all {
        None
    } else {
        let tag = filter.number("tag_id", 40050)?;
        if !call.app.tags.contains(tag) {
            return Err(Refusal::of(40050));
        }
        Some(tag)
    };
    let key = check(call, &body)?;
    let following = call.app.followers.following();
    let users: Vec<String> = following
        .filter(|(_, user)| tag.is_none_or(|tag| user.tags.contains(&tag)))
        .map(|(open_id, _)| open_id.to_owned())
        .collect();
    submit(call, body, key, users, to_all)
}

fn send(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let users = body.fields.texts("touser", 40031)?;
    if users.len() < MIN_USERS {
        return Err(Refusal::of(40130));
    }
    if users.len() > MAX_USERS {
        return Err(Refusal::of(40032));
    }
    for open_id in &users {
        call.app.followers.find(open_id)?;
    }
    let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
    let key = check(call, &body)?;
    submit(call, body, key, users, false)
}

/// Checks everything but whom it goes to; answers by what a repeat is known.
fn check(call: &Call<'_>, body: &Body) -> Result<String, Refusal> {
    check_content(call.app, &body.fields, call.now_ms)?;
    let client_id = body.fields.optional_text("clientmsgid")?.unwrap_or("");
    at_most(client_id, MAX_CLIENT_ID_BYTES, 45067)?;
    let ignore_reprint = body.fields.optional_number("send_ignore_reprint")?;
    if ignore_reprint.is_some_and(|ignore| ignore > 1) {
        return Err(Refusal::of(40035));
    }
    let key = if client_id.is_empty() {
        // WeChat makes one of content and target.
        let mut hasher = DefaultHasher::new();
        call.arrival.body.hash(&mut hasher);
        format!("made:{:016x}", hasher.finish())
    } else {
        format!("given:{client_id}")
    };
    call.app.mass.check_repeat(&key, call.now_ms)?;
    Ok(key)
}

fn check_content(app: &App, body: &Map<String, Value>, now_ms: u64) -> Result<(), Refusal> {
    let kind = body.text("msgtype", 40008)?;
    let media = |kinds: &[MediaKind]| {
        let id = body.object(kind, 41006)?.text("media_id", 41006)?;
        app.media.check(id, kinds, now_ms)
    };
    match kind {
        "text" => {
            let text = body.object("text", 44004)?.text("content", 44004)?;
            at_most(text, MAX_TEXT_BYTES, 45002)
        }
        "mpnews" => {
            let id = body.object("mpnews", 41006)?.text("media_id", 41006)?;
            app.articles.check_draft(id)
        }
        "voice" => media(&[MediaKind::Voice]),
        "mpvideo" => media(&[MediaKind::Video]),
        "image" if body.contains_key("images") => {
            let ids = body.object("images", 41006)?.texts("media_ids", 41006)?;
            if ids.is_empty() {
                return Err(Refusal::of(41006));
            }
            ids.iter()
                .try_for_each(|id| app.media.check(id, &[MediaKind::Image], now_ms))
        }
        "image" => media(&[MediaKind::Image]),
        "wxcard" => {
            let id = body.object("wxcard", 40073)?.text("card_id", 40073)?;
            check_card(app, id)
        }
        _ => Err(Refusal::of(40008)),
    }
}

fn submit(
    call: &mut Call<'_>,
    body: Body,
    key: String,
    users: Vec<String>,
    to_all: bool,
) -> Outcome {
    match call.app.settings.kind {
        AppKind::Subscription => call.app.mass.spend(1, u32::MAX, call.now_ms)?,
        AppKind::Service if to_all => call.app.mass.spend(1, PER_MONTH, call.now_ms)?,
        AppKind::Service => {}
    }
    let msg_id = call.chance.msg_id();
    deliver(call, &body, msg_id, &users);
    let jobs = &mut call.app.mass.jobs;
    if jobs.len() == MAX_JOBS {
        jobs.pop_front();
    }
    jobs.push_back(Job {
        msg_id,
        at_ms: call.now_ms,
        key,
        deleted: false,
    });
    let mut answer = json!({
        "errcode": 0,
        "errmsg": "send job submission success",
        "msg_id": msg_id,
    });
    if body.fields.get("msgtype").and_then(Value::as_str) == Some("mpnews") {
        answer["msg_data_id"] = call.chance.msg_id().into();
    }
    answer::data(answer)
}

/// Shows the message to whoever follows, is not blacklisted and has not had enough this month.
fn deliver(call: &mut Call<'_>, body: &Body, msg_id: u64, users: &[String]) {
    let month = quota::month(call.now_ms);
    let mut message = body.fields.clone();
    message.remove("touser");
    let mut shown = 0;
    for open_id in users {
        let Ok(user) = call.app.followers.find_mut(open_id) else {
            continue;
        };
        let (at, count) = user.mass_messages;
        let count = if at == month { count } else { 0 };
        let has_enough = call.app.settings.kind == AppKind::Service && count >= PER_MONTH;
        if !user.follows || user.blacklisted || has_enough {
            continue;
        }
        user.mass_messages = (month, count + 1);
        if shown < MAX_SHOWN {
            shown += 1;
            call.app.shown.keep(ShownMessage {
                at_ms: call.now_ms,
                way: "mass",
                open_id: open_id.clone(),
                msg_id,
                message: Value::Object(message.clone()),
                shown_escaped: body.shown_escaped,
            });
        }
    }
}

fn preview(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let open_id = match body.fields.optional_text("towxname")? {
        Some("") => return Err(Refusal::of(40132)),
        // Nobody's WeChat id is known; the message goes where it is asked to.
        Some(_) => None,
        None => Some(body.fields.text("touser", 40003)?.to_owned()),
    };
    check_content(call.app, &body.fields, call.now_ms)?;
    let msg_id = call.chance.msg_id();
    if let Some(open_id) = open_id {
        if !call.app.followers.find(&open_id)?.follows {
            return Err(Refusal::of(43004));
        }
        call.app.shown.keep(ShownMessage {
            at_ms: call.now_ms,
            way: "preview",
            open_id,
            msg_id,
            message: Value::Object(body.fields),
            shown_escaped: body.shown_escaped,
        });
    }
    answer::data(json!({ "errcode": 0, "errmsg": "preview success", "msg_id": msg_id }))
}

/// A msg_id, which may come as a number or as text.
fn msg_id(body: &Map<String, Value>) -> Result<u64, Refusal> {
    match body.get("msg_id") {
        Some(Value::String(text)) => text.parse().map_err(|_| Refusal::of(40059)),
        _ => body.number("msg_id", 40059),
    }
}

fn delete(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    if body.get("msg_id").is_none() && body.contains_key("url") {
        // Pages of mass messages have no address here.
        return Err(Refusal::of(40066));
    }
    let place = body.optional_number("article_idx")?.unwrap_or(0);
    if place > 8 {
        return Err(Refusal::of(40060));
    }
    call.app.mass.find(msg_id(&body)?)?.deleted = true;
    answer::ok()
}

fn status(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let job = call.app.mass.find(msg_id(&body)?)?;
    let status = if job.deleted {
        "DELETE"
    } else {
        "SEND_SUCCESS"
    };
    answer::data(json!({ "msg_id": job.msg_id, "msg_status": status }))
}

fn speed(call: &mut Call<'_>) -> Outcome {
    let speed = call.app.mass.speed;
    answer::data(json!({ "speed": speed, "realspeed": SPEEDS[speed] }))
}

fn set_speed(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let speed = body.number("speed", 45084)?;
    let speed = usize::try_from(speed).unwrap_or(usize::MAX);
    if speed >= SPEEDS.len() {
        return Err(Refusal::of(45083));
    }
    call.app.mass.speed = speed;
    answer::ok()
}
