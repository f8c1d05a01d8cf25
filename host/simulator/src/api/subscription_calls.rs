//! Subscription notices (订阅通知), and the old one-time link's message.

use serde_json::{Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::body::{Body, Fields as _};
use crate::api::keywords;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};
use crate::api::shown::ShownMessage;
use crate::api::template_calls::check_jump;
use crate::api::templates::{Template, TemplateKind, Templates};

const KINDS: &[TemplateKind] = &[TemplateKind::OneTime, TemplateKind::LongTerm];
/// Most that `getpubtemplatetitles` shows at once.
const MAX_TITLES: u64 = 30;
/// Characters of the title of a message by the old link.
const MAX_TITLE: usize = 15;
/// Characters of its content.
const MAX_CONTENT: usize = 200;
/// Highest scene of the old link.
const MAX_SCENE: u64 = 10_000;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/message/subscribe/bizsend", send),
    Route::post("/cgi-bin/message/subscribe/send", |_| {
        Err(Refusal::of(48001))
    }),
    Route::post("/cgi-bin/message/template/subscribe", send_by_link),
    Route::get("/wxaapi/newtmpl/getcategory", categories),
    Route::get("/wxaapi/newtmpl/getpubtemplatetitles", titles),
    Route::get("/wxaapi/newtmpl/getpubtemplatekeywords", public_keywords),
    Route::post("/wxaapi/newtmpl/addtemplate", add),
    Route::get("/wxaapi/newtmpl/gettemplate", list),
    Route::post("/wxaapi/newtmpl/deltemplate", remove),
];

fn send(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let fields = &body.fields;
    let open_id = fields.text("touser", 40003)?.to_owned();
    let template_id = fields.text("template_id", 40037)?.to_owned();
    let template = call.app.templates.find(&template_id, KINDS)?;
    let is_one_time = template.kind == TemplateKind::OneTime;
    keywords::check(fields.object("data", 47003)?, &template.content)?;
    let page = fields.optional_text("page")?.unwrap_or("");
    if !page.is_empty() && !page.starts_with("http") {
        return Err(Refusal::of(41030));
    }
    check_jump(call.app, fields)?;
    let state = fields.optional_text("miniprogram_state")?;
    if !matches!(state, None | Some("developer" | "trial" | "formal")) {
        return Err(Refusal::of(40097));
    }
    use_acceptance(call, &open_id, &template_id, is_one_time)?;
    deliver(call, open_id, body)
}

/// Takes one acceptance: 43101 where there is none.
fn use_acceptance(
    call: &mut Call<'_>,
    open_id: &str,
    template_id: &str,
    is_one_time: bool,
) -> Result<(), Refusal> {
    let user = call.app.followers.find_mut(open_id)?;
    if user.blacklisted {
        return Err(Refusal::of(43019));
    }
    let left = user.accepted.get_mut(template_id);
    let left = left.ok_or_else(|| Refusal::of(43101))?;
    if is_one_time {
        *left -= 1;
    }
    if *left == 0 {
        user.accepted.remove(template_id);
    }
    Ok(())
}

fn deliver(call: &mut Call<'_>, open_id: String, body: Body) -> Outcome {
    let msg_id = call.chance.msg_id();
    call.app.shown.keep(ShownMessage {
        at_ms: call.now_ms,
        way: "subscription",
        open_id,
        msg_id,
        message: Value::Object(body.fields),
        shown_escaped: body.shown_escaped,
    });
    answer::ok_with(json!({ "msgid": msg_id }))
}

fn send_by_link(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let fields = &body.fields;
    let open_id = fields.text("touser", 40003)?.to_owned();
    let template_id = fields.text("template_id", 40037)?.to_owned();
    let scene = fields.text("scene", 40169)?;
    if !scene.parse::<u64>().is_ok_and(|scene| scene <= MAX_SCENE) {
        return Err(Refusal::of(40169));
    }
    if fields.text("title", 47003)?.chars().count() > MAX_TITLE {
        return Err(Refusal::of(45003));
    }
    let content = fields.object("data", 47003)?.object("content", 47003)?;
    if content.text("value", 47003)?.chars().count() > MAX_CONTENT {
        return Err(Refusal::of(45002));
    }
    check_jump(call.app, fields)?;
    use_acceptance(call, &open_id, &template_id, true)?;
    deliver(call, open_id, body)
}

fn categories(_: &mut Call<'_>) -> Outcome {
    answer::ok_with(json!({ "data": [{ "id": 616, "name": "公交" }] }))
}

fn titles(call: &mut Call<'_>) -> Outcome {
    let number = |name: &str| {
        let text = call.arrival.parameter(name);
        text.and_then(|text| text.parse::<u64>().ok())
    };
    let ids = call.arrival.parameter("ids");
    let (start, limit) = (number("start"), number("limit"));
    let asks_well = limit.is_some_and(|limit| (1..=MAX_TITLES).contains(&limit));
    if ids.is_none() || start.is_none() || !asks_well {
        return Err(Refusal::of(40097));
    }
    let title = json!({ "tid": 99, "title": "付款成功通知", "type": 2, "categoryId": "616" });
    let shown = if start == Some(0) {
        vec![title]
    } else {
        Vec::new()
    };
    answer::ok_with(json!({ "count": 1, "data": shown }))
}

fn public_keywords(call: &mut Call<'_>) -> Outcome {
    if call.arrival.parameter("tid") != Some("99") {
        return Err(Refusal::of(40037));
    }
    answer::ok_with(json!({ "count": 2, "data": [
        { "kid": 1, "name": "物品名称", "example": "名称", "rule": "thing" },
        { "kid": 2, "name": "付款金额", "example": "¥10", "rule": "amount" },
    ] }))
}

fn add(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    body.text("tid", 40037)?;
    let kids = body.list("kidList", 40097)?;
    body.optional_text("sceneDesc")?;
    if !(2..=5).contains(&kids.len()) {
        return Err(Refusal::of(40097));
    }
    let mut lines = Vec::new();
    for kid in kids {
        let kid = kid.as_u64().ok_or_else(|| Refusal::of(47001))?;
        let sort = if kid == 2 { "amount" } else { "thing" };
        lines.push(format!("{sort}:{{{{{sort}{kid}.DATA}}}}"));
    }
    let template_id = Templates::fresh_id(call.chance);
    call.app.templates.add(Template {
        template_id: template_id.clone(),
        kind: TemplateKind::OneTime,
        title: "付款成功通知".to_owned(),
        content: lines.join("\n"),
        review: None,
    })?;
    answer::ok_with(json!({ "priTmplId": template_id }))
}

fn list(call: &mut Call<'_>) -> Outcome {
    let templates = call.app.templates.of(KINDS);
    let data: Vec<Value> = templates
        .map(|template| {
            let is_one_time = template.kind == TemplateKind::OneTime;
            json!({
                "priTmplId": template.template_id,
                "title": template.title,
                "content": template.content,
                "example": "",
                "type": if is_one_time { 2 } else { 3 },
            })
        })
        .collect();
    answer::ok_with(json!({ "data": data }))
}

fn remove(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("priTmplId", 40037)?;
    call.app.templates.remove(id, KINDS)?;
    answer::ok()
}
