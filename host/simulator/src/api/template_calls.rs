//! Template messages (模板消息): sending them, and the account's list of templates.

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::app::{App, AppKind};
use crate::api::body::Fields as _;
use crate::api::customer_calls::{at_most, check_mini_program};
use crate::api::keywords;
use crate::api::quota;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};
use crate::api::shown::ShownMessage;
use crate::api::templates::{HeldMessage, Template, TemplateKind, Templates};

const KINDS: &[TemplateKind] = &[TemplateKind::Template];
/// Bytes of a page's address.
const MAX_URL_BYTES: usize = 1024;
/// Blocked messages that one call lists at most.
const MAX_BLOCKED_LISTED: u64 = 100;
/// Bytes of a client_msg_id.
const MAX_CLIENT_ID_BYTES: usize = 64;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/message/template/send", send),
    Route::post("/cgi-bin/template/api_add_template", add),
    Route::get("/cgi-bin/template/get_all_private_template", list),
    Route::post("/cgi-bin/template/del_private_template", remove),
    Route::post("/cgi-bin/template/api_set_industry", set_industry),
    Route::get("/cgi-bin/template/get_industry", industry),
    Route::post("/wxa/sec/queryblocktmplmsg", list_blocked),
];

fn send(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let body = call.body()?;
    let fields = &body.fields;
    let open_id = fields.text("touser", 40003)?.to_owned();
    let template_id = fields.text("template_id", 40037)?;
    let template_id = template_id.to_owned();
    let template = call.app.templates.find(&template_id, KINDS)?;
    let review = template.review;
    keywords::check(fields.object("data", 47003)?, &template.content)?;
    check_jump(call.app, fields)?;
    let client_msg_id = fields.optional_text("client_msg_id")?;
    at_most(client_msg_id.unwrap_or(""), MAX_CLIENT_ID_BYTES, 45067)?;
    let user = call.app.followers.find(&open_id)?;
    if user.blacklisted {
        return Err(Refusal::of(43019));
    }
    if !user.follows {
        return Err(Refusal::of(43004));
    }
    if let Some(client_msg_id) = client_msg_id {
        let earlier = call
            .app
            .templates
            .repeated(&open_id, client_msg_id, call.now_ms);
        match (earlier, review) {
            (Some(_), Some(_)) => return Err(Refusal::of(40252)),
            (Some(msg_id), None) => return answer::ok_with(json!({ "msgid": msg_id })),
            (None, _) => {}
        }
    }
    let msg_id = call.chance.msg_id();
    if let Some(client_msg_id) = client_msg_id {
        let templates = &mut call.app.templates;
        templates.remember(&open_id, client_msg_id, msg_id, call.now_ms);
    }
    let message = ShownMessage {
        at_ms: call.now_ms,
        way: "template",
        open_id,
        msg_id,
        message: Value::Object(body.fields),
        shown_escaped: body.shown_escaped,
    };
    if let Some(review) = review {
        // It is neither sent nor refused, and no id is told.
        call.app.templates.hold(HeldMessage {
            template_id,
            review,
            message,
        })?;
        return Err(Refusal::of(40252));
    }
    call.app.shown.keep(message);
    answer::ok_with(json!({ "msgid": msg_id }))
}

/// Messages of a template that the review has blocked.
fn list_blocked(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let body = call.body()?.fields;
    let template_id = body.text("tmpl_msg_id", 40037)?;
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let after = number("largest_id").unwrap_or(0);
    let limit = number("limit").unwrap_or(0);
    if !(1..=MAX_BLOCKED_LISTED).contains(&limit) {
        return Err(Refusal::of(40097));
    }
    let now_ms = call.now_ms;
    call.app.end_reviews(now_ms);
    let blocked = call.app.templates.blocked(template_id, after);
    let shown: Vec<Value> = blocked
        .take(usize::try_from(limit).unwrap_or(0))
        .map(|blocked| {
            json!({
                "id": blocked.id.to_string(),
                "tmpl_msg_id": blocked.template_id,
                "title": "",
                "content": blocked.message.message.to_string(),
                "send_timestamp": blocked.message.at_ms / 1000,
                "openid": blocked.message.open_id,
            })
        })
        .collect();
    answer::ok_with(json!({ "msginfo": shown }))
}

/// Where a tap leads: a page, or a mini program that is linked with the account.
pub(crate) fn check_jump(app: &App, fields: &Map<String, Value>) -> Result<(), Refusal> {
    let url = fields.optional_text("url")?.unwrap_or("");
    at_most(url, MAX_URL_BYTES, 40039)?;
    if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Refusal::of(40066));
    }
    match fields.get("miniprogram") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(program)) => {
            program.optional_text("pagepath")?;
            check_mini_program(app, program)
        }
        Some(_) => Err(Refusal::of(47001)),
    }
}

fn require_service(call: &Call<'_>) -> Result<(), Refusal> {
    match call.app.settings.kind {
        AppKind::Service => Ok(()),
        AppKind::Subscription => Err(Refusal::of(48001)),
    }
}

fn add(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let body = call.body()?.fields;
    let short = body.text("template_id_short", 40037)?;
    let names = match body.get("keyword_name_list") {
        None => Vec::new(),
        Some(_) => body.texts("keyword_name_list", 47001)?,
    };
    let lines = names.iter().enumerate();
    let lines: Vec<String> = lines
        .map(|(place, name)| format!("{name}:{{{{keyword{}.DATA}}}}", place + 1))
        .collect();
    let template_id = Templates::fresh_id(call.chance);
    call.app.templates.add(Template {
        template_id: template_id.clone(),
        kind: TemplateKind::Template,
        title: short.to_owned(),
        content: lines.join("\n"),
        review: None,
    })?;
    answer::ok_with(json!({ "template_id": template_id }))
}

fn list(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let templates: Vec<Value> = call.app.templates.of(KINDS).map(shown).collect();
    answer::data(json!({ "template_list": templates }))
}

fn shown(template: &Template) -> Value {
    json!({
        "template_id": template.template_id,
        "title": template.title,
        "primary_industry": "IT科技",
        "deputy_industry": "互联网|电子商务",
        "content": template.content,
        "example": "",
    })
}

fn remove(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let body = call.body()?.fields;
    let id = body.text("template_id", 40037)?;
    call.app.templates.remove(id, KINDS)?;
    answer::ok()
}

fn set_industry(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let body = call.body()?.fields;
    let mut industries = [String::new(), String::new()];
    for (place, name) in ["industry_id1", "industry_id2"].iter().enumerate() {
        body.text(name, 40097)?.clone_into(&mut industries[place]);
    }
    let month = quota::month(call.now_ms);
    if call
        .app
        .industry
        .as_ref()
        .is_some_and(|(set, _)| *set == month)
    {
        return Err(Refusal::because(43100, "change template too frequently"));
    }
    call.app.industry = Some((month, industries));
    answer::ok()
}

fn industry(call: &mut Call<'_>) -> Outcome {
    require_service(call)?;
    let usual = || ["1".to_owned(), "4".to_owned()];
    let industry = call.app.industry.as_ref();
    let [first, second] = industry.map_or_else(usual, |(_, both)| both.clone());
    answer::data(json!({
        "primary_industry": { "first_class": "IT科技", "second_class": first },
        "secondary_industry": { "first_class": "IT科技", "second_class": second },
    }))
}
