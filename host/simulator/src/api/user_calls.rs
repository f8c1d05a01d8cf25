//! `/cgi-bin/user/…`: the list of followers, what is known of each, remarks, and the blacklist.

use serde_json::{Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::body::Fields as _;
use crate::api::followers::Follower;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Open ids of a page.
const PAGE: usize = 10_000;
/// Users of one `batchget`.
const MAX_INFOS: usize = 100;
/// A remark is shorter than this many characters.
const REMARK_END: usize = 30;
/// Open ids of one change of the blacklist.
const MAX_BLACKLISTED: usize = 20;
/// Open ids of one `changeopenid`.
const MAX_CHANGED: usize = 100;

pub(crate) const ROUTES: &[Route] = &[
    Route::get("/cgi-bin/user/get", list),
    Route::get("/cgi-bin/user/info", info),
    Route::post("/cgi-bin/user/info/batchget", infos),
    Route::post("/cgi-bin/user/info/updateremark", remark),
    Route::post("/cgi-bin/changeopenid", change_open_ids),
    Route::post("/cgi-bin/tags/members/getblacklist", blacklist),
    Route::post("/cgi-bin/tags/members/batchblacklist", |call| {
        set_blacklisted(call, true)
    }),
    Route::post("/cgi-bin/tags/members/batchunblacklist", |call| {
        set_blacklisted(call, false)
    }),
];

fn list(call: &mut Call<'_>) -> Outcome {
    let next = call.arrival.parameter("next_openid").map(str::to_owned);
    page(call, next.as_deref(), |user| user.follows)
}

fn blacklist(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let begin = body.optional_text("begin_openid")?;
    let begin = begin.filter(|begin| !begin.is_empty());
    page(call, begin, |user| user.blacklisted)
}

/// A page of open ids. The last one has a next_openid like any other; an empty one has no data.
fn page(call: &Call<'_>, next: Option<&str>, wanted: fn(&Follower) -> bool) -> Outcome {
    let followers = &call.app.followers;
    let total = followers.page(None, usize::MAX, wanted)?.len();
    let open_ids = followers.page(next, PAGE, wanted)?;
    let last = open_ids.last().copied().unwrap_or("");
    let mut page = json!({ "total": total, "count": open_ids.len(), "next_openid": last });
    if !open_ids.is_empty() {
        page["data"] = json!({ "openid": open_ids });
    }
    answer::data(page)
}

fn info(call: &mut Call<'_>) -> Outcome {
    let open_id = call.arrival.parameter("openid");
    let open_id = open_id.ok_or_else(|| Refusal::of(41009))?;
    let user = call.app.followers.find(open_id)?;
    answer::data(user.info(open_id))
}

fn infos(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let asked = body.list("user_list", 40035)?;
    if asked.is_empty() || asked.len() > MAX_INFOS {
        return Err(Refusal::of(40032));
    }
    let mut infos: Vec<Value> = Vec::new();
    for user in asked {
        let user = user.as_object().ok_or_else(|| Refusal::of(47001))?;
        let open_id = user.text("openid", 41009)?;
        infos.push(call.app.followers.find(open_id)?.info(open_id));
    }
    answer::data(json!({ "user_info_list": infos }))
}

fn remark(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let open_id = body.text("openid", 41009)?;
    let remark = body.optional_text("remark")?;
    let remark = remark.ok_or_else(|| Refusal::of(47001))?;
    if remark.chars().count() >= REMARK_END {
        return Err(Refusal::because(40035, "remark is too long"));
    }
    let user = call.app.followers.find_mut(open_id)?;
    if !user.follows {
        return Err(Refusal::of(43004));
    }
    remark.clone_into(&mut user.remark);
    answer::ok()
}

fn change_open_ids(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    body.text("from_appid", 40013)?;
    let open_ids = body.texts("openid_list", 40031)?;
    if open_ids.is_empty() || open_ids.len() > MAX_CHANGED {
        return Err(Refusal::of(40032));
    }
    // No account has moved here, so nobody has an earlier open id.
    let results: Vec<Value> = open_ids
        .into_iter()
        .map(|id| json!({ "ori_openid": id, "err_msg": "ori_openid error" }))
        .collect();
    answer::ok_with(json!({ "result_list": results }))
}

fn set_blacklisted(call: &mut Call<'_>, blacklisted: bool) -> Outcome {
    let body = call.body()?.fields;
    let open_ids = body.texts("openid_list", 40031)?;
    if open_ids.is_empty() || open_ids.len() > MAX_BLACKLISTED {
        return Err(Refusal::of(40032));
    }
    for open_id in &open_ids {
        call.app.followers.find(open_id)?;
    }
    for open_id in open_ids {
        call.app.followers.find_mut(open_id)?.blacklisted = blacklisted;
    }
    answer::ok()
}
