//! Human customer service (客服): its accounts and who talks with whom.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::arrival::Arrival;
use crate::api::body::Fields as _;
use crate::api::form::Form;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Accounts of human service.
const MAX_ACCOUNTS: usize = 100;
/// Letters and digits before the `@`.
const MAX_NAME: usize = 10;
/// Characters of a nickname.
const MAX_NICKNAME: usize = 16;
/// Sessions at the same time: the simulator's own limit.
const MAX_SESSIONS: usize = 10_000;
/// Messages of one page of the history.
const MAX_HISTORY: u64 = 10_000;
const DAY_SECONDS: u64 = 24 * 3600;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/customservice/kfaccount/add", add),
    Route::post("/customservice/kfaccount/update", update),
    Route::post("/customservice/kfaccount/del", remove),
    Route::post("/customservice/kfaccount/inviteworker", invite),
    Route::post("/customservice/kfaccount/uploadheadimg", picture),
    Route::get("/cgi-bin/customservice/getkflist", list),
    Route::get("/cgi-bin/customservice/getonlinekflist", online),
    Route::post("/customservice/kfsession/create", begin),
    Route::post("/customservice/kfsession/close", end),
    Route::get("/customservice/kfsession/getsession", session),
    Route::get("/customservice/kfsession/getsessionlist", sessions),
    Route::get("/customservice/kfsession/getwaitcase", waiting),
    Route::post("/customservice/msgrecord/getmsglist", history),
];

#[derive(Debug, Default)]
struct Worker {
    id: u64,
    nickname: String,
    wechat_id: String,
}

/// The human service of one app.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    workers: BTreeMap<String, Worker>,
    issued: u64,
    /// By open id: with whom, and since when in seconds since 1970.
    sessions: BTreeMap<String, (String, u64)>,
}

impl Desk {
    /// Whether there is such an account.
    pub(crate) fn has(&self, account: &str) -> bool {
        self.workers.contains_key(account)
    }

    fn find(&mut self, account: &str) -> Result<&mut Worker, Refusal> {
        let worker = self.workers.get_mut(account);
        worker.ok_or_else(|| Refusal::of(61452))
    }
}

fn check_account(account: &str) -> Result<(), Refusal> {
    let (name, _) = account
        .split_once('@')
        .filter(|(name, of)| !name.is_empty() && !of.is_empty())
        .ok_or_else(|| Refusal::of(61452))?;
    if name.len() > MAX_NAME {
        return Err(Refusal::of(61454));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal::of(61455));
    }
    Ok(())
}

fn nickname(body: &Map<String, Value>) -> Result<&str, Refusal> {
    let nickname = body.text("nickname", 65403)?;
    if nickname.chars().count() > MAX_NICKNAME {
        return Err(Refusal::of(65403));
    }
    Ok(nickname)
}

fn add(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let account = body.text("kf_account", 61452)?;
    check_account(account)?;
    let nickname = nickname(&body)?.to_owned();
    let desk = &mut call.app.desk;
    if desk.has(account) {
        return Err(Refusal::of(61453));
    }
    if desk.workers.len() >= MAX_ACCOUNTS {
        return Err(Refusal::of(61456));
    }
    desk.issued += 1;
    let worker = Worker {
        id: 1000 + desk.issued,
        nickname,
        wechat_id: String::new(),
    };
    desk.workers.insert(account.to_owned(), worker);
    answer::ok()
}

fn update(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let nickname = nickname(&body)?.to_owned();
    call.app
        .desk
        .find(body.text("kf_account", 61452)?)?
        .nickname = nickname;
    answer::ok()
}

fn remove(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let account = body.text("kf_account", 61452)?;
    let desk = &mut call.app.desk;
    desk.find(account)?;
    desk.workers.remove(account);
    desk.sessions.retain(|_, (worker, _)| worker != account);
    answer::ok()
}

fn invite(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let wechat_id = body.text("invite_wx", 65409)?.to_owned();
    let worker = call.app.desk.find(body.text("kf_account", 61452)?)?;
    if !worker.wechat_id.is_empty() {
        return Err(Refusal::because(65407, "kf_account has been bound"));
    }
    worker.wechat_id = wechat_id;
    answer::ok()
}

fn picture(call: &mut Call<'_>) -> Outcome {
    let account = required(call.arrival, "kf_account", 61452)?.to_owned();
    let form = Form::parse(call.arrival)?;
    let picture = form.file("media")?;
    call.app.desk.find(&account)?;
    if !picture.bytes.starts_with(&[0xff, 0xd8]) {
        return Err(Refusal::because(61457, "invalid headimg type"));
    }
    answer::ok()
}

fn list(call: &mut Call<'_>) -> Outcome {
    let workers = call.app.desk.workers.iter();
    let list: Vec<Value> = workers
        .map(|(account, worker)| {
            json!({
                "kf_account": account,
                "kf_nick": worker.nickname,
                "kf_id": worker.id,
                "kf_headimgurl": "http://mmbiz.qpic.example/kf/0",
                "kf_wx": worker.wechat_id,
            })
        })
        .collect();
    answer::data(json!({ "kf_list": list }))
}

/// Whoever is bound to a WeChat id is at the desk.
fn online(call: &mut Call<'_>) -> Outcome {
    let desk = &call.app.desk;
    let bound = desk.workers.iter();
    let bound = bound.filter(|(_, worker)| !worker.wechat_id.is_empty());
    let list: Vec<Value> = bound
        .map(|(account, worker)| {
            let with = |(given, _): &&(String, u64)| given == account;
            let cases = desk.sessions.values().filter(with).count();
            json!({
                "kf_account": account,
                "status": 1,
                "kf_id": worker.id,
                "accepted_case": cases,
            })
        })
        .collect();
    answer::data(json!({ "kf_online_list": list }))
}

fn begin(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let account = body.text("kf_account", 61452)?;
    let open_id = body.text("openid", 40003)?;
    call.app.followers.find(open_id)?;
    let desk = &mut call.app.desk;
    if desk.find(account)?.wechat_id.is_empty() {
        return Err(Refusal::of(65415));
    }
    if desk
        .sessions
        .get(open_id)
        .is_some_and(|(given, _)| given != account)
    {
        return Err(Refusal::of(65414));
    }
    if desk.sessions.len() >= MAX_SESSIONS {
        return Err(Refusal::because(-1, "system error, the simulator is full"));
    }
    let session = (account.to_owned(), call.now_ms / 1000);
    desk.sessions.insert(open_id.to_owned(), session);
    answer::ok()
}

fn end(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let account = body.text("kf_account", 61452)?;
    let open_id = body.text("openid", 40003)?;
    let desk = &mut call.app.desk;
    desk.find(account)?;
    if desk
        .sessions
        .get(open_id)
        .is_none_or(|(given, _)| given != account)
    {
        return Err(Refusal::of(65413));
    }
    desk.sessions.remove(open_id);
    answer::ok()
}

fn session(call: &mut Call<'_>) -> Outcome {
    let open_id = required(call.arrival, "openid", 40003)?;
    call.app.followers.find(open_id)?;
    let (account, since) = match call.app.desk.sessions.get(open_id) {
        Some((account, since)) => (account.as_str(), *since),
        None => ("", 0),
    };
    answer::ok_with(json!({ "kf_account": account, "createtime": since }))
}

fn sessions(call: &mut Call<'_>) -> Outcome {
    let account = required(call.arrival, "kf_account", 61452)?;
    if !call.app.desk.has(account) {
        return Err(Refusal::of(61452));
    }
    let all = call.app.desk.sessions.iter();
    let list: Vec<Value> = all
        .filter(|(_, (given, _))| given == account)
        .map(|(open_id, (_, since))| json!({ "createtime": since, "openid": open_id }))
        .collect();
    answer::data(json!({ "sessionlist": list }))
}

fn waiting(_: &mut Call<'_>) -> Outcome {
    answer::data(json!({ "count": 0, "waitcaselist": [] }))
}

fn history(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let start = body.number("starttime", 65416)?;
    let end = body.number("endtime", 65416)?;
    let first = body.number("msgid", 65416)?;
    let number = body.number("number", 65416)?;
    if end < start || end - start > DAY_SECONDS {
        return Err(Refusal::of(65417));
    }
    if first == 0 || !(1..=MAX_HISTORY).contains(&number) {
        return Err(Refusal::of(65416));
    }
    answer::data(json!({ "recordlist": [], "number": 0, "msgid": first }))
}

fn required<'a>(arrival: &'a Arrival, name: &str, absent: i64) -> Result<&'a str, Refusal> {
    arrival.parameter(name).ok_or_else(|| Refusal::of(absent))
}
