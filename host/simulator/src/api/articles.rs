//! The draft box (草稿箱) and what was published from it (发布).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::answer::{self, Outcome};
use crate::api::app::App;
use crate::api::body::Fields as _;
use crate::api::media::MediaStore;
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

/// Articles of a draft.
const MAX_ARTICLES: usize = 8;
/// Characters of a title, of an author and of a digest.
const MAX_TITLE: usize = 64;
const MAX_AUTHOR: usize = 16;
const MAX_DIGEST: usize = 120;
/// Characters of a body; it has less than 1 MiB too.
const MAX_CONTENT: usize = 20_000;
const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Drafts, and publications, per app: the simulator's own limit.
const MAX_KEPT: usize = 2_000;
/// Items of one page.
const PAGE: std::ops::RangeInclusive<u64> = 1..=20;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/draft/add", add),
    Route::post("/cgi-bin/draft/get", get),
    Route::post("/cgi-bin/draft/delete", remove),
    Route::post("/cgi-bin/draft/update", update),
    Route::get("/cgi-bin/draft/count", count),
    Route::post("/cgi-bin/draft/batchget", list),
    Route::post("/cgi-bin/freepublish/submit", publish),
    Route::post("/cgi-bin/freepublish/get", publication),
    Route::post("/cgi-bin/freepublish/delete", withdraw),
    Route::post("/cgi-bin/freepublish/getarticle", published),
    Route::post("/cgi-bin/freepublish/batchget", list_published),
];

/// Some articles that belong together.
#[derive(Debug, Clone)]
struct Issue {
    articles: Vec<Value>,
    at_seconds: u64,
}

/// The articles of one app.
#[derive(Debug, Default)]
pub(crate) struct Articles {
    /// By media id.
    drafts: BTreeMap<String, Issue>,
    /// By article id.
    published: BTreeMap<String, Issue>,
    /// Article ids by publish id.
    publications: BTreeMap<String, String>,
}

impl Articles {
    /// Whether there is such a draft: 40007 otherwise.
    pub(crate) fn check_draft(&self, media_id: &str) -> Result<(), Refusal> {
        self.draft(media_id).map(|_| ())
    }

    /// Whether there is such a published article: 53600 otherwise.
    pub(crate) fn check_published(&self, article_id: &str) -> Result<(), Refusal> {
        if self.published.contains_key(article_id) {
            Ok(())
        } else {
            Err(Refusal::of(53600))
        }
    }

    fn draft(&self, media_id: &str) -> Result<&Issue, Refusal> {
        self.drafts.get(media_id).ok_or_else(|| Refusal::of(40007))
    }
}

fn check(app: &App, article: &Value, now_ms: u64) -> Result<(), Refusal> {
    let article = article.as_object().ok_or_else(|| Refusal::of(47001))?;
    let within = |name: &str, most: usize, errcode: i64| {
        let text = article.optional_text(name)?.unwrap_or("");
        if text.chars().count() > most {
            return Err(Refusal::of(errcode));
        }
        Ok(())
    };
    article.text("title", 44003)?;
    within("title", MAX_TITLE, 45003)?;
    within("author", MAX_AUTHOR, 45110)?;
    within("digest", MAX_DIGEST, 45004)?;
    let content = article.text("content", 44004)?;
    if content.chars().count() >= MAX_CONTENT || content.len() >= MAX_CONTENT_BYTES {
        return Err(Refusal::of(45002));
    }
    within("content_source_url", 1024, 45005)?;
    match article.optional_text("article_type")? {
        None | Some("news") => {
            check_cover(&app.media, article.text("thumb_media_id", 41006)?, now_ms)
        }
        Some("newspic") => check_pictures(&app.media, article, now_ms),
        Some(_) => Err(Refusal::of(40097)),
    }
}

fn check_cover(media: &MediaStore, id: &str, now_ms: u64) -> Result<(), Refusal> {
    if media.find(id, now_ms)?.is_permanent {
        Ok(())
    } else {
        Err(Refusal::of(40007))
    }
}

fn check_pictures(
    media: &MediaStore,
    article: &Map<String, Value>,
    now_ms: u64,
) -> Result<(), Refusal> {
    let pictures = article
        .object("image_info", 41006)?
        .list("image_list", 41006)?;
    if !(1..=20).contains(&pictures.len()) {
        return Err(Refusal::of(40097));
    }
    for picture in pictures {
        let picture = picture.as_object().ok_or_else(|| Refusal::of(47001))?;
        check_cover(media, picture.text("image_media_id", 41006)?, now_ms)?;
    }
    Ok(())
}

fn add(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?;
    if body.shown_escaped {
        return Err(Refusal::of(40033));
    }
    let articles = body.fields.list("articles", 44003)?;
    if articles.is_empty() {
        return Err(Refusal::of(44003));
    }
    if articles.len() > MAX_ARTICLES {
        return Err(Refusal::of(45008));
    }
    for article in articles {
        check(call.app, article, call.now_ms)?;
    }
    let issue = Issue {
        articles: articles.to_vec(),
        at_seconds: call.now_seconds(),
    };
    if call.app.articles.drafts.len() >= MAX_KEPT {
        return Err(Refusal::because(-1, "system error, the simulator is full"));
    }
    let media_id = call.chance.letters(64);
    call.app.articles.drafts.insert(media_id.clone(), issue);
    answer::data(json!({ "media_id": media_id }))
}

fn get(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let draft = call.app.articles.draft(body.text("media_id", 41006)?)?;
    answer::data(content(draft))
}

fn content(issue: &Issue) -> Value {
    json!({
        "news_item": issue.articles,
        "create_time": issue.at_seconds,
        "update_time": issue.at_seconds,
    })
}

fn remove(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("media_id", 41006)?;
    let removed = call.app.articles.drafts.remove(id);
    removed.ok_or_else(|| Refusal::of(40007))?;
    answer::ok()
}

fn update(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("media_id", 41006)?;
    let place = usize::try_from(body.number("index", 40097)?).unwrap_or(usize::MAX);
    let article = Value::Object(body.object("articles", 44003)?.clone());
    call.app.articles.check_draft(id)?;
    check(call.app, &article, call.now_ms)?;
    let draft = call.app.articles.drafts.get_mut(id);
    let draft = draft.ok_or_else(|| Refusal::of(40007))?;
    let former = draft.articles.get_mut(place);
    *former.ok_or_else(|| Refusal::of(40097))? = article;
    answer::ok()
}

fn count(call: &mut Call<'_>) -> Outcome {
    answer::data(json!({ "total_count": call.app.articles.drafts.len() }))
}

fn list(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    page(&body, "media_id", &call.app.articles.drafts)
}

fn page(body: &Map<String, Value>, id_name: &str, all: &BTreeMap<String, Issue>) -> Outcome {
    let offset = body.number("offset", 40097)?;
    let count = body.number("count", 40097)?;
    let no_content = match body.optional_number("no_content")?.unwrap_or(0) {
        0 => false,
        1 => true,
        _ => return Err(Refusal::of(40097)),
    };
    if !PAGE.contains(&count) {
        return Err(Refusal::of(40097));
    }
    let items: Vec<Value> = all
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(usize::try_from(count).unwrap_or(0))
        .map(|(id, issue)| {
            let mut content = content(issue);
            if no_content && let Some(articles) = content["news_item"].as_array_mut() {
                for article in articles {
                    article["content"] = "".into();
                }
            }
            json!({ id_name: id, "content": content, "update_time": issue.at_seconds })
        })
        .collect();
    answer::data(json!({
        "total_count": all.len(),
        "item_count": items.len(),
        "item": items,
    }))
}

fn publish(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("media_id", 41006)?;
    let issue = call.app.articles.draft(id)?.clone();
    let articles = &mut call.app.articles;
    if articles.publications.len() >= MAX_KEPT {
        return Err(Refusal::because(-1, "system error, the simulator is full"));
    }
    // A draft leaves the box when it is published.
    articles.drafts.remove(id);
    let publish_id = call.chance.msg_id().to_string();
    let article_id = call.chance.letters(43);
    articles.published.insert(article_id.clone(), issue);
    articles.publications.insert(publish_id.clone(), article_id);
    answer::ok_with(json!({
        "publish_id": publish_id,
        "msg_data_id": call.chance.msg_id(),
    }))
}

fn publication(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let publish_id = body.text("publish_id", 53502)?;
    let articles = &call.app.articles;
    let article_id = articles.publications.get(publish_id);
    let article_id = article_id.ok_or_else(|| Refusal::because(53502, "invalid publish id"))?;
    let Some(issue) = articles.published.get(article_id) else {
        // 5: all of it was withdrawn afterwards.
        return answer::data(json!({ "publish_id": publish_id, "publish_status": 5 }));
    };
    let items: Vec<Value> = (1..=issue.articles.len())
        .map(|place| json!({ "idx": place, "article_url": article_url(article_id, place) }))
        .collect();
    answer::data(json!({
        "publish_id": publish_id,
        "publish_status": 0,
        "article_id": article_id,
        "article_detail": { "count": items.len(), "item": items },
        "fail_idx": [],
    }))
}

fn article_url(article_id: &str, place: usize) -> String {
    format!("http://mp.weixin.qq.example/s?id={article_id}&idx={place}")
}

fn withdraw(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("article_id", 53600)?;
    let place = body.optional_number("index")?.unwrap_or(0);
    call.app.articles.check_published(id)?;
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    if place == 0 {
        call.app.articles.published.remove(id);
        return answer::ok();
    }
    let issue = call.app.articles.published.get_mut(id);
    let issue = issue.filter(|issue| place <= issue.articles.len());
    let issue = issue.ok_or_else(|| Refusal::of(53600))?;
    issue.articles[place - 1]["is_deleted"] = true.into();
    answer::ok()
}

fn published(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("article_id", 53600)?;
    let issue = call.app.articles.published.get(id);
    answer::data(content(issue.ok_or_else(|| Refusal::of(53600))?))
}

fn list_published(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    page(&body, "article_id", &call.app.articles.published)
}
