//! `/cgi-bin/media/…` and `/cgi-bin/material/…`: files up and down.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::answer::{self, Answer, Outcome};
use crate::api::body::{Body, Fields as _};
use crate::api::form::{Form, FormFile};
use crate::api::media::{Media, MediaKind};
use crate::api::refusal::Refusal;
use crate::api::routes::{Call, Route};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Items of one page of material.
const PAGE: std::ops::RangeInclusive<u64> = 1..=20;

pub(crate) const ROUTES: &[Route] = &[
    Route::post("/cgi-bin/media/upload", upload),
    Route::get("/cgi-bin/media/get", get),
    Route::get("/cgi-bin/media/get/jssdk", get_recording),
    Route::post("/cgi-bin/media/uploadimg", upload_picture),
    Route::post("/cgi-bin/material/add_material", add_material),
    Route::post("/cgi-bin/material/get_material", material),
    Route::post("/cgi-bin/material/del_material", remove_material),
    Route::post("/cgi-bin/material/batchget_material", list_material),
    Route::get("/cgi-bin/material/get_materialcount", count_material),
];

/// A file of a call's form, which fits its kind.
fn file(call: &Call<'_>) -> Result<(MediaKind, Form, FormFile), Refusal> {
    let kind = call.arrival.parameter("type").and_then(MediaKind::parse);
    let kind = kind.ok_or_else(|| Refusal::of(40004))?;
    let form = Form::parse(call.arrival)?;
    let file = form.file("media")?;
    check(kind, &file)?;
    Ok((kind, form, file))
}

fn check(kind: MediaKind, file: &FormFile) -> Result<(), Refusal> {
    let (most, too_large) = match kind {
        MediaKind::Image => (10 * MIB, 40009),
        MediaKind::Voice => (2 * MIB, 40010),
        MediaKind::Video => (10 * MIB, 40011),
        MediaKind::Thumb => (64 * KIB, 40012),
    };
    if file.bytes.len() > most {
        return Err(Refusal::of(too_large));
    }
    let formats: &[&str] = match kind {
        MediaKind::Image => &["bmp", "png", "jpeg", "jpg", "gif"],
        MediaKind::Voice => &["amr", "mp3"],
        MediaKind::Video => &["mp4"],
        MediaKind::Thumb => &["jpg", "jpeg"],
    };
    let extension = file.name.rsplit_once('.').map_or("", |(_, end)| end);
    let extension = extension.to_ascii_lowercase();
    if !formats.contains(&extension.as_str()) {
        return Err(Refusal::of(40005));
    }
    let found = format(&file.bytes);
    if found.is_some_and(|found| formats.contains(&found)) {
        Ok(())
    } else {
        Err(Refusal::of(40005))
    }
}

/// The format by the first bytes.
fn format(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'B', b'M', ..] => Some("bmp"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, ..] => Some("jpg"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'#', b'!', b'A', b'M', b'R', ..] => Some("amr"),
        [b'I', b'D', b'3', ..] => Some("mp3"),
        [0xff, second, ..] if second & 0xe0 == 0xe0 => Some("mp3"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some("mp4"),
        _ => None,
    }
}

fn upload(call: &mut Call<'_>) -> Outcome {
    let (kind, _, file) = file(call)?;
    let media = Media {
        name: file.name,
        content_type: file.content_type,
        bytes: file.bytes,
        ..Media::empty(kind, call.now_ms)
    };
    let media_id = call.app.media.keep(media, call.chance)?;
    let name = match kind {
        MediaKind::Thumb => "thumb_media_id",
        _ => "media_id",
    };
    answer::data(json!({
        "type": kind.name(),
        name: media_id,
        "created_at": call.now_seconds(),
    }))
}

fn get(call: &mut Call<'_>) -> Outcome {
    let id = call.arrival.parameter("media_id");
    let id = id.ok_or_else(|| Refusal::of(41006))?;
    let media = call.app.media.find(id, call.now_ms)?;
    if media.is_permanent {
        return Err(Refusal::of(40007));
    }
    match media.kind {
        MediaKind::Video => {
            let url = format!("http://203.0.113.20/video/{id}");
            answer::data(json!({ "video_url": url }))
        }
        _ => served(media),
    }
}

fn get_recording(call: &mut Call<'_>) -> Outcome {
    let id = call.arrival.parameter("media_id");
    let id = id.ok_or_else(|| Refusal::of(41006))?;
    let media = call.app.media.find(id, call.now_ms)?;
    match media.kind {
        MediaKind::Voice if !media.is_permanent => served(media),
        _ => Err(Refusal::of(40007)),
    }
}

fn served(media: &Media) -> Outcome {
    Ok(Answer::File {
        content_type: media.content_type.clone(),
        name: media.name.replace(['"', '\\', '\r', '\n'], "_"),
        bytes: media.bytes.clone(),
    })
}

fn upload_picture(call: &mut Call<'_>) -> Outcome {
    let file = Form::parse(call.arrival)?.file("media")?;
    if !matches!(format(&file.bytes), Some("png" | "jpg")) {
        return Err(Refusal::of(40005));
    }
    if file.bytes.len() >= MIB {
        return Err(Refusal::of(40009));
    }
    let name = call.chance.letters(40);
    answer::data(json!({ "url": format!("http://mmbiz.qpic.example/mmbiz/{name}/0") }))
}

fn add_material(call: &mut Call<'_>) -> Outcome {
    let (kind, form, file) = file(call)?;
    let mut media = Media {
        name: file.name,
        content_type: file.content_type,
        bytes: file.bytes,
        is_permanent: true,
        ..Media::empty(kind, call.now_ms)
    };
    if kind == MediaKind::Video {
        let description = form.field("description").cloned().unwrap_or_default();
        let description = Body::parse(&description).map_err(|_| Refusal::of(47001))?;
        let text = |name| description.fields.text(name, 47001).map(str::to_owned);
        media.title = text("title")?;
        media.introduction = text("introduction")?;
    }
    let media_id = call.app.media.keep(media, call.chance)?;
    let mut added = json!({ "media_id": media_id });
    if kind == MediaKind::Image {
        added["url"] = picture_url(&media_id).into();
    }
    answer::data(added)
}

fn picture_url(media_id: &str) -> String {
    format!("http://mmbiz.qpic.example/mmbiz/{media_id}/0?wx_fmt=png")
}

fn material(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let id = body.text("media_id", 41006)?;
    let media = call.app.media.find(id, call.now_ms)?;
    match media.kind {
        _ if !media.is_permanent => Err(Refusal::of(40007)),
        MediaKind::Video => answer::data(json!({
            "title": media.title,
            "description": media.introduction,
            "down_url": format!("http://203.0.113.20/video/{id}"),
        })),
        _ => served(media),
    }
}

fn remove_material(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    call.app.media.forget(body.text("media_id", 41006)?)?;
    answer::ok()
}

fn list_material(call: &mut Call<'_>) -> Outcome {
    let body = call.body()?.fields;
    let kind = body.text("type", 40004)?;
    let (offset, count) = (body.number("offset", 40097)?, body.number("count", 40097)?);
    if !PAGE.contains(&count) {
        return Err(Refusal::of(40097));
    }
    let kind = match kind {
        // Articles live in the draft box since 2022.
        "news" => None,
        "image" | "voice" | "video" => MediaKind::parse(kind),
        _ => return Err(Refusal::of(40004)),
    };
    let all: Vec<(&str, &Media)> = match kind {
        Some(kind) => call.app.media.permanent(kind).collect(),
        None => Vec::new(),
    };
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let items: Vec<Value> = all
        .iter()
        .skip(skipped)
        .take(usize::try_from(count).unwrap_or(0))
        .map(|(id, media)| {
            json!({
                "media_id": id,
                "name": media.name,
                "update_time": media.created_at_ms / 1000,
                "url": picture_url(id),
            })
        })
        .collect();
    answer::data(json!({
        "total_count": all.len(),
        "item_count": items.len(),
        "item": items,
    }))
}

fn count_material(call: &mut Call<'_>) -> Outcome {
    let count = |kind| call.app.media.permanent(kind).count();
    answer::data(json!({
        "voice_count": count(MediaKind::Voice),
        "video_count": count(MediaKind::Video),
        "image_count": count(MediaKind::Image),
        "news_count": 0,
    }))
}

/// For the control surface: media that is there without an upload.
pub(crate) fn planted(kind: MediaKind, now_ms: u64, permanent: bool) -> Media {
    Media {
        bytes: Bytes::from_static(b"planted"),
        is_permanent: permanent,
        ..Media::empty(kind, now_ms)
    }
}
