//! Customer-service messages (客服消息): what they may hold, and whom they may reach.

use serde_json::{Map, Value};

use crate::api::allowance::Unallowed;
use crate::api::answer::{self, Outcome};
use crate::api::app::App;
use crate::api::body::Fields as _;
use crate::api::media::MediaKind;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};
use crate::api::shown::ShownMessage;

/// Bytes of a text.
const MAX_TEXT_BYTES: usize = 2048;
/// Bytes of an address.
const MAX_URL_BYTES: usize = 1024;
/// How long before typing shows a message must have come at most.
const TYPING_AFTER_MS: u64 = 30_000;
/// How long typing shows.
const TYPING_MS: u64 = 15_000;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/message/custom/send", send),
    Route::post("/cgi-bin/message/custom/typing", typing),
];

type Object = Map<String, Value>;

fn send(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    let open_id = body.fields.text("touser", 40003)?.to_owned();
    let kind = body.fields.text("msgtype", 40008)?;
    check_content(call.app, kind, &body.fields, call.now_ms)?;
    if let Some(from) = body.fields.get("customservice") {
        let from = from.as_object().ok_or_else(|| Refusal::of(47001))?;
        let account = from.text("kf_account", 61452)?;
        if !call.app.desk.has(account) {
            return Err(Refusal::of(61452));
        }
    }
    let user = call.app.followers.find_mut(&open_id)?;
    if user.blacklisted {
        return Err(Refusal::of(43019));
    }
    let spent = if user.follows {
        user.allowance.spend(call.now_ms)
    } else {
        Err(Unallowed::Closed)
    };
    spent.map_err(|unallowed| {
        Refusal::of(match unallowed {
            Unallowed::Closed => 45015,
            Unallowed::UsedUp => 45047,
        })
    })?;
    user.typing_until_ms = 0;
    call.app.shown.keep(ShownMessage {
        at_ms: call.now_ms,
        way: "customer-message",
        open_id,
        msg_id: 0,
        message: Value::Object(body.fields),
        shown_escaped: body.shown_escaped,
    });
    answer::ok()
}

fn check_content(app: &App, kind: &str, body: &Object, now_ms: u64) -> Result<(), Refusal> {
    let content = |absent| body.object(kind, absent);
    let media = |object: &Object, name: &str, kinds: &[MediaKind]| {
        let id = object.text(name, 41006)?;
        app.media.check(id, kinds, now_ms)
    };
    let thumb = |object: &Object| {
        let kinds = [MediaKind::Thumb, MediaKind::Image];
        media(object, "thumb_media_id", &kinds)
    };
    match kind {
        "text" => {
            let text = content(44004)?.text("content", 44004)?;
            at_most(text, MAX_TEXT_BYTES, 45002)
        }
        "image" => media(content(41006)?, "media_id", &[MediaKind::Image]),
        "voice" => media(content(41006)?, "media_id", &[MediaKind::Voice]),
        "video" => {
            let video = content(41006)?;
            media(video, "media_id", &[MediaKind::Video])?;
            optional_texts(video, &["title", "description"])?;
            thumb(video)
        }
        "music" => {
            let music = content(41006)?;
            optional_texts(music, &["title", "description"])?;
            for name in ["musicurl", "hqmusicurl"] {
                at_most(music.text(name, 40066)?, MAX_URL_BYTES, 45005)?;
            }
            thumb(music)
        }
        "news" => check_articles(content(44003)?),
        "mpnews" => app
            .articles
            .check_draft(content(41006)?.text("media_id", 41006)?),
        "mpnewsarticle" => {
            let article = content(53600)?;
            app.articles
                .check_published(article.text("article_id", 53600)?)
        }
        "msgmenu" => check_menu(content(44004)?),
        "wxcard" => {
            let card = content(40073)?;
            check_card(app, card.text("card_id", 40073)?)
        }
        "miniprogrampage" => {
            let page = content(40165)?;
            page.text("title", 44004)?;
            check_mini_program(app, page)?;
            page.text("pagepath", 40165)?;
            thumb(page)
        }
        _ => Err(Refusal::of(40008)),
    }
}

fn check_articles(news: &Object) -> Result<(), Refusal> {
    let articles = news.list("articles", 44003)?;
    match articles {
        [] => Err(Refusal::of(44003)),
        [article] => {
            let article = article.as_object().ok_or_else(|| Refusal::of(47001))?;
            article.text("title", 44003)?;
            optional_texts(article, &["description"])?;
            at_most(article.text("url", 40066)?, MAX_URL_BYTES, 45005)?;
            let picture = article.optional_text("picurl")?.unwrap_or("");
            at_most(picture, MAX_URL_BYTES, 45006)
        }
        _ => Err(Refusal::of(45008)),
    }
}

fn check_menu(menu: &Object) -> Result<(), Refusal> {
    menu.text("head_content", 44004)?;
    optional_texts(menu, &["tail_content"])?;
    let list = menu.list("list", 44005)?;
    if list.is_empty() {
        return Err(Refusal::of(44005));
    }
    for entry in list {
        let entry = entry.as_object().ok_or_else(|| Refusal::of(47001))?;
        entry.text("id", 47001)?;
        entry.text("content", 44004)?;
    }
    Ok(())
}

/// A card of the account's: 40073 otherwise.
pub(crate) fn check_card(app: &App, card_id: &str) -> Result<(), Refusal> {
    if app.settings.cards.iter().any(|given| given == card_id) {
        Ok(())
    } else {
        Err(Refusal::of(40073))
    }
}

/// A mini program that is linked with the account: 40013 otherwise.
pub(crate) fn check_mini_program(app: &App, object: &Object) -> Result<(), Refusal> {
    let id = object.text("appid", 40013)?;
    if app.settings.mini_programs.iter().any(|given| given == id) {
        Ok(())
    } else {
        Err(Refusal::of(40013))
    }
}

pub(crate) fn at_most(text: &str, bytes: usize, errcode: i64) -> Result<(), Refusal> {
    if text.len() > bytes {
        Err(Refusal::of(errcode))
    } else {
        Ok(())
    }
}

fn optional_texts(object: &Object, names: &[&str]) -> Result<(), Refusal> {
    names
        .iter()
        .try_for_each(|name| object.optional_text(name).map(|_| ()))
}

fn typing(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let open_id = body.text("touser", 40003)?;
    let command = body.text("command", 45072)?;
    let now_ms = call.now_ms;
    let user = call.app.followers.find_mut(open_id)?;
    let is_recent = |last: u64| now_ms.saturating_sub(last) <= TYPING_AFTER_MS;
    if !matches!(command, "Typing" | "CancelTyping") {
        return Err(Refusal::of(45072));
    }
    if !user.follows || !user.allowance.last_message_ms().is_some_and(is_recent) {
        return Err(Refusal::of(45080));
    }
    let shows = now_ms < user.typing_until_ms;
    let shall_show = command == "Typing";
    if shows == shall_show {
        return Err(Refusal::of(45081));
    }
    user.typing_until_ms = if shall_show { now_ms + TYPING_MS } else { 0 };
    answer::ok()
}
