//! `/cgi-bin/tags/…`: the account's own tags, and who has which.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::body::Fields as _;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Tags of an account.
const MAX_TAGS: usize = 100;
/// Bytes of a tag's name.
const MAX_NAME_BYTES: usize = 30;
/// Tags of a user.
const MAX_PER_USER: usize = 20;
/// Users of one tagging.
const MAX_TAGGED: usize = 50;
/// Users that a tag may have when it is deleted.
const MAX_FOR_DELETION: usize = 100_000;
/// Ids below are WeChat's own (blacklist, star friends …); ours begin with 100.
const RESERVED: u64 = 3;
const FIRST_ID: u64 = 100;
/// Open ids of a page.
const PAGE: usize = 10_000;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/tags/create", create),
    Route::get("/cgi-bin/tags/get", list),
    Route::post("/cgi-bin/tags/update", rename),
    Route::post("/cgi-bin/tags/delete", delete),
    Route::post("/cgi-bin/user/tag/get", members),
    Route::post("/cgi-bin/tags/members/batchtagging", tag_users),
    Route::post("/cgi-bin/tags/members/batchuntagging", untag_users),
    Route::post("/cgi-bin/tags/getidlist", tags_of),
];

/// The tags of one app, by id.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    names: BTreeMap<u64, String>,
    issued: u64,
}

impl Tags {
    fn known(&self, id: u64) -> Result<u64, Refusal> {
        if self.names.contains_key(&id) {
            Ok(id)
        } else {
            Err(Refusal::of(45159))
        }
    }

    fn changeable(&self, id: u64) -> Result<u64, Refusal> {
        if id < RESERVED {
            return Err(Refusal::of(45058));
        }
        self.known(id)
    }

    /// Whether there is such a tag.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.names.contains_key(&id)
    }

    fn check_name<'a>(&self, name: &'a str) -> Result<&'a str, Refusal> {
        if name.len() > MAX_NAME_BYTES {
            return Err(Refusal::of(45158));
        }
        if self.names.values().any(|given| given == name) {
            return Err(Refusal::of(45157));
        }
        Ok(name)
    }
}

fn create(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let tags = &mut call.app.tags;
    let name = tags.check_name(tag(&body)?.text("name", 45157)?)?;
    if tags.names.len() >= MAX_TAGS {
        return Err(Refusal::of(45056));
    }
    let id = FIRST_ID + tags.issued;
    tags.issued += 1;
    tags.names.insert(id, name.to_owned());
    answer::data(json!({ "tag": { "id": id, "name": name } }))
}

fn list(call: &mut Call<'_>) -> Outcome {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, user) in call.app.followers.following() {
        for tag in &user.tags {
            *counts.entry(*tag).or_default() += 1;
        }
    }
    let names = call.app.tags.names.iter();
    let tags: Vec<Value> = names
        .map(|(id, name)| {
            let count = counts.get(id).copied().unwrap_or(0);
            json!({ "id": id, "name": name, "count": count })
        })
        .collect();
    answer::data(json!({ "tags": tags }))
}

fn rename(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let tag = tag(&body)?;
    let tags = &mut call.app.tags;
    let id = tags.changeable(tag.number("id", 45159)?)?;
    let name = tags.check_name(tag.text("name", 45157)?)?;
    tags.names.insert(id, name.to_owned());
    answer::ok()
}

fn delete(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = tag(&body)?.number("id", 45159)?;
    let id = call.app.tags.changeable(id)?;
    let has = |tags: &[u64]| tags.contains(&id);
    let users = call.app.followers.following();
    if users.filter(|(_, user)| has(&user.tags)).count() > MAX_FOR_DELETION {
        return Err(Refusal::of(45057));
    }
    call.app.tags.names.remove(&id);
    for (_, user) in call.app.followers.all_mut() {
        user.tags.retain(|tag| *tag != id);
    }
    answer::ok()
}

fn tag(body: &Map<String, Value>) -> Result<&Map<String, Value>, Refusal> {
    body.object("tag", 47001)
}

fn members(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = call.app.tags.known(body.number("tagid", 45159)?)?;
    let next = body.optional_text("next_openid")?;
    let next = next.filter(|next| !next.is_empty());
    let tagged = |user: &crate::api::followers::Follower| user.follows && user.tags.contains(&id);
    let open_ids = call.app.followers.page(next, PAGE, tagged)?;
    let last = open_ids.last().copied().unwrap_or("");
    let mut page = json!({ "count": open_ids.len(), "next_openid": last });
    if !open_ids.is_empty() {
        page["data"] = json!({ "openid": open_ids });
    }
    answer::data(page)
}

fn tag_users(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = call.app.tags.known(body.number("tagid", 45159)?)?;
    let open_ids = users(call, body.texts("openid_list", 40031)?)?;
    for open_id in &open_ids {
        let tags = &call.app.followers.find(open_id)?.tags;
        if !tags.contains(&id) && tags.len() >= MAX_PER_USER {
            return Err(Refusal::of(45059));
        }
    }
    for open_id in open_ids {
        let tags = &mut call.app.followers.find_mut(open_id)?.tags;
        if !tags.contains(&id) {
            tags.push(id);
        }
    }
    answer::ok()
}

fn untag_users(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = call.app.tags.known(body.number("tagid", 45159)?)?;
    for open_id in users(call, body.texts("openid_list", 40031)?)? {
        let user = call.app.followers.find_mut(open_id)?;
        user.tags.retain(|tag| *tag != id);
    }
    answer::ok()
}

/// The open ids, where all of them follow: 40032 too many or none, 49003 not of this account.
fn users<'a>(call: &Call<'_>, open_ids: Vec<&'a str>) -> Result<Vec<&'a str>, Refusal> {
    if open_ids.is_empty() || open_ids.len() > MAX_TAGGED {
        return Err(Refusal::of(40032));
    }
    for open_id in &open_ids {
        let user = call.app.followers.find(open_id);
        let user = user.map_err(|_| Refusal::of(49003))?;
        if !user.follows {
            return Err(Refusal::of(43004));
        }
    }
    Ok(open_ids)
}

fn tags_of(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let open_id = body.text("openid", 41009)?;
    let user = call.app.followers.find(open_id);
    let user = user.map_err(|_| Refusal::of(49003))?;
    answer::data(json!({ "tagid_list": user.tags }))
}
