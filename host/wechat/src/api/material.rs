//! Permanent media (永久素材): 100,000 images and articles, 1,000 others.

use serde::{Deserialize, Serialize};

use super::answer;
use super::draft::{Articles, Written};
use super::limit::{self, InvalidCall};
use super::media::{File, Kind};
use super::{Call, Done, Request, json};

/// Most entries of a page.
pub const MAX_COUNT: u32 = 20;

/// `POST /cgi-bin/material/add_material`.
#[derive(Clone, Debug)]
pub struct Add {
    /// What it is.
    pub kind: Kind,
    /// The file.
    pub file: File,
    /// What is shown beside a video; a video must have it, nothing else may.
    pub introduction: Option<Introduction>,
}

/// `POST /cgi-bin/material/get_material`: answers the file of an image or voice, and a document (see
/// [`super::media::is_document`]) for a video or articles.
#[derive(Clone, Debug, Serialize)]
pub struct Get {
    /// The file.
    pub media_id: String,
}

/// `POST /cgi-bin/material/del_material`.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// The file.
    pub media_id: String,
}

/// `POST /cgi-bin/material/batchget_material`: what there is, newest first.
#[derive(Clone, Debug, Serialize)]
pub struct List {
    /// Of which kind.
    #[serde(rename = "type")]
    pub kind: ListKind,
    /// How many to pass over.
    pub offset: u32,
    /// How many to answer, 1 to [`MAX_COUNT`].
    pub count: u32,
}

/// `GET /cgi-bin/material/get_materialcount`.
#[derive(Clone, Copy, Debug)]
pub struct Count;

/// A kind that can be listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListKind {
    /// Images.
    Image,
    /// Videos.
    Video,
    /// Voice messages.
    Voice,
    /// Articles.
    News,
}

/// What is shown beside a video.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Introduction {
    /// The title.
    pub title: String,
    /// The text.
    pub introduction: String,
}

/// A file that was added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Added {
    /// Names it for good.
    pub media_id: String,
    /// An image's address.
    #[serde(default, deserialize_with = "answer::non_empty")]
    pub url: Option<String>,
}

/// A video or articles.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Document {
    /// A video's title.
    pub title: String,
    /// A video's text.
    pub description: String,
    /// A video's address.
    pub down_url: String,
    /// Articles.
    pub news_item: Vec<Written>,
}

/// A page of what there is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Page {
    /// How many there are on all pages.
    #[serde(deserialize_with = "answer::number")]
    pub total_count: u64,
    /// Those of this page.
    #[serde(default, rename = "item")]
    pub items: Vec<Item>,
}

/// One of a page.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Item {
    /// Names it.
    pub media_id: String,
    /// Its file's name; empty for articles.
    #[serde(default)]
    pub name: String,
    /// Unix seconds.
    #[serde(default, deserialize_with = "answer::number")]
    pub update_time: u64,
    /// Its address.
    #[serde(default, deserialize_with = "answer::non_empty")]
    pub url: Option<String>,
    /// Its articles, where it is such.
    #[serde(default)]
    pub content: Articles,
}

/// How many there are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Counts {
    /// Voice messages.
    #[serde(rename = "voice_count", deserialize_with = "answer::number")]
    pub voices: u64,
    /// Videos.
    #[serde(rename = "video_count", deserialize_with = "answer::number")]
    pub videos: u64,
    /// Images.
    #[serde(rename = "image_count", deserialize_with = "answer::number")]
    pub images: u64,
    /// Articles.
    #[serde(rename = "news_count", deserialize_with = "answer::number")]
    pub news: u64,
}

impl Call for Add {
    type Answer = Added;

    fn request(&self) -> Result<Request, InvalidCall> {
        let is_video = self.kind == Kind::Video;
        let fits = is_video == self.introduction.is_some();
        limit::demand(
            fits,
            "description",
            "belongs to a video, and a video needs it",
        )?;
        let mut form = self.kind.form(&self.file)?;
        if let Some(introduction) = &self.introduction {
            limit::given("title", &introduction.title)?;
            form.texts
                .push(("description", json::to_string(introduction)?));
        }
        Ok(
            Request::upload("/cgi-bin/material/add_material", form)
                .with("type", self.kind.as_str()),
        )
    }
}

impl Call for Get {
    type Answer = Document;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Request::ask("/cgi-bin/material/get_material", self)
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Request::post("/cgi-bin/material/del_material", self)
    }
}

impl Call for List {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::range("count", self.count, 1..=MAX_COUNT.into())?;
        Request::ask("/cgi-bin/material/batchget_material", self)
    }
}

impl Call for Count {
    type Answer = Counts;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/material/get_materialcount"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn video(introduction: Option<&str>) -> Add {
        Add {
            kind: Kind::Video,
            file: File {
                name: "a.mp4".into(),
                content_type: "video/mp4".into(),
            },
            introduction: introduction.map(|title| Introduction {
                title: title.into(),
                introduction: "介绍".into(),
            }),
        }
    }

    #[test]
    fn requests_are_the_documents() {
        assert_eq!(
            line(&video(Some("标题"))),
            "POST /cgi-bin/material/add_material?type=video Multipart { field: \"media\", file_name: \
             \"a.mp4\", content_type: \"video/mp4\", max_bytes: 10485760, texts: [(\"description\", \
             \"{\\\"title\\\":\\\"标题\\\",\\\"introduction\\\":\\\"介绍\\\"}\")] }"
        );
        let media_id = "m1".to_owned();
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(
            line(&Get {
                media_id: media_id.clone(),
            }),
            r#"POST /cgi-bin/material/get_material {"media_id":"m1"}"#,
        );
        check(
            line(&Delete { media_id }),
            r#"POST /cgi-bin/material/del_material {"media_id":"m1"}"#,
        );
        check(
            line(&List {
                kind: ListKind::News,
                offset: 20,
                count: 20,
            }),
            r#"POST /cgi-bin/material/batchget_material {"type":"news","offset":20,"count":20}"#,
        );
        check(line(&Count), "GET /cgi-bin/material/get_materialcount");
    }

    #[test]
    fn answers_are_read() {
        let added = answer(&video(Some("标题")), r#"{"media_id":"m1","url":""}"#);
        assert_eq!(
            added,
            Added {
                media_id: "m1".into(),
                url: None
            }
        );
        let list = List {
            kind: ListKind::Image,
            offset: 0,
            count: 1,
        };
        let page = answer(
            &list,
            r#"{"total_count":7,"item_count":1,"item":[
            {"media_id":"m1","name":"a.jpg","update_time":1700000000,"url":"http://a.example"}]}"#,
        );
        assert_eq!((page.total_count, &*page.items[0].name), (7, "a.jpg"));
        let counts = answer(
            &Count,
            r#"{"voice_count":1,"video_count":2,"image_count":3,"news_count":4}"#,
        );
        assert_eq!(
            (counts.voices, counts.videos, counts.images, counts.news),
            (1, 2, 3, 4)
        );
        let document = answer(
            &Get {
                media_id: "m1".into(),
            },
            r#"{"title":"标题","down_url":"http://a"}"#,
        );
        assert_eq!(
            (&*document.title, &*document.down_url),
            ("标题", "http://a")
        );
    }

    #[test]
    fn limits_hold() {
        let check = |refusal: String, expected: &str| assert_eq!(refusal, expected);
        let description = "description belongs to a video, and a video needs it";
        check(refused(&video(None)), description);
        check(
            refused(&Add {
                kind: Kind::Image,
                ..video(Some("标题"))
            }),
            description,
        );
        check(refused(&video(Some(""))), "title is empty");
        let list = |count| List {
            kind: ListKind::Image,
            offset: 0,
            count,
        };
        check(refused(&list(0)), "count is 0, 1 to 20 is allowed");
        check(refused(&list(21)), "count is 21, 1 to 20 is allowed");
    }
}
