//! Drafts (草稿箱): articles before they are published or sent to many.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
use super::{Call, Done, Request, answer};

/// Most articles of a draft.
pub const MAX_ARTICLES: usize = 8;
/// Most bytes of an article's text; it has less than 1 MiB.
pub const MAX_CONTENT_BYTES: usize = 1024 * 1024 - 1;
/// Most entries of a page.
pub const MAX_COUNT: u32 = 20;

/// `POST /cgi-bin/draft/add`.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// The articles, [`MAX_ARTICLES`] at most.
    pub articles: Vec<Article>,
}

/// `POST /cgi-bin/draft/get`.
#[derive(Clone, Debug, Serialize)]
pub struct Get {
    /// The draft.
    pub media_id: String,
}

/// `POST /cgi-bin/draft/delete`.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// The draft.
    pub media_id: String,
}

/// `POST /cgi-bin/draft/update`: replaces one article.
#[derive(Clone, Debug, Serialize)]
pub struct Update {
    /// The draft.
    pub media_id: String,
    /// The article's place, from 0.
    pub index: u8,
    /// What comes there.
    #[serde(rename = "articles")]
    pub article: Article,
}

/// `GET /cgi-bin/draft/count`.
#[derive(Clone, Copy, Debug)]
pub struct Count;

/// `POST /cgi-bin/draft/batchget`.
#[derive(Clone, Debug, Serialize)]
pub struct List {
    /// How many to pass over.
    pub offset: u32,
    /// How many to answer, 1 to [`MAX_COUNT`].
    pub count: u32,
    /// Leaves the texts out.
    #[serde(serialize_with = "answer::as_number")]
    pub no_content: bool,
}

/// An article to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "article_type", rename_all = "lowercase")]
pub enum Article {
    /// Text with a cover.
    News(News),
    /// Pictures with a text.
    NewsPic(Pictures),
}

/// Text with a cover.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// The headline.
    pub title: String,
    /// The author; may be empty.
    #[serde(default)]
    pub author: String,
    /// The summary of a single article; where it is empty, WeChat takes the text's beginning.
    #[serde(default)]
    pub digest: String,
    /// The text in HTML, [`MAX_CONTENT_BYTES`] at most; pictures by the addresses that
    /// [`super::media::UploadPicture`] gives.
    pub content: String,
    /// Where "read more" leads; may be empty.
    #[serde(default)]
    pub content_source_url: String,
    /// Permanent media id of the cover.
    pub thumb_media_id: String,
    /// Whether users may comment: 1 or 0.
    #[serde(default)]
    pub need_open_comment: u8,
    /// Whether only followers may comment: 1 or 0.
    #[serde(default)]
    pub only_fans_can_comment: u8,
}

/// Pictures with a text.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    /// The headline.
    pub title: String,
    /// The text, without HTML.
    pub content: String,
    /// The pictures.
    pub image_info: ImageInfo,
}

/// A list of pictures.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInfo {
    /// The pictures; the first is the cover.
    pub image_list: Vec<Image>,
}

/// A picture of an article.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its permanent media id.
    pub image_media_id: String,
}

/// A draft that was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Added {
    /// Names it.
    pub media_id: String,
}

/// How many drafts there are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Total {
    /// Their number.
    #[serde(deserialize_with = "answer::number")]
    pub total_count: u64,
}

/// The articles of a draft, a publication or a permanent medium.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Articles {
    /// In order.
    #[serde(default, rename = "news_item")]
    pub articles: Vec<Written>,
}

/// An article as WeChat has it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Written {
    /// The headline.
    pub title: String,
    /// The author.
    pub author: String,
    /// The summary.
    pub digest: String,
    /// The text in HTML; empty where it was not asked for.
    pub content: String,
    /// Where "read more" leads.
    pub content_source_url: String,
    /// Media id of the cover.
    pub thumb_media_id: String,
    /// Its address; of a draft a temporary one.
    pub url: String,
    /// Whether it was taken back after it was published.
    pub is_deleted: bool,
}

/// A page of drafts or publications.
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
    /// Names it: a draft's media id, a publication's article id.
    #[serde(alias = "media_id", rename = "article_id")]
    pub id: String,
    /// Its articles.
    #[serde(default)]
    pub content: Articles,
    /// Unix seconds.
    #[serde(default, deserialize_with = "answer::number")]
    pub update_time: u64,
}

impl Article {
    fn check(&self) -> Result<(), InvalidCall> {
        match self {
            Article::News(news) => {
                limit::given("articles.title", &news.title)?;
                limit::bytes("articles.content", &news.content, 1..=MAX_CONTENT_BYTES)?;
                limit::given("articles.thumb_media_id", &news.thumb_media_id)
            }
            Article::NewsPic(pictures) => {
                limit::given("articles.title", &pictures.title)?;
                limit::bytes("articles.content", &pictures.content, 1..=MAX_CONTENT_BYTES)?;
                limit::filled("articles.image_list", &pictures.image_info.image_list)
            }
        }
    }
}

impl Call for Add {
    type Answer = Added;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::items("articles", &self.articles, 1..=MAX_ARTICLES)?;
        self.articles.iter().try_for_each(Article::check)?;
        Request::post("/cgi-bin/draft/add", self)
    }
}

impl Call for Get {
    type Answer = Articles;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Request::ask("/cgi-bin/draft/get", self)
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Request::post("/cgi-bin/draft/delete", self)
    }
}

impl Call for Update {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        limit::range("index", self.index, 0..=MAX_ARTICLES as u64 - 1)?;
        self.article.check()?;
        Request::ask("/cgi-bin/draft/update", self)
    }
}

impl Call for Count {
    type Answer = Total;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/draft/count"))
    }
}

impl Call for List {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::range("count", self.count, 1..=MAX_COUNT.into())?;
        Request::ask("/cgi-bin/draft/batchget", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn news() -> News {
        News {
            title: "标题".into(),
            content: "<p>正文</p>".into(),
            thumb_media_id: "t1".into(),
            ..News::default()
        }
    }

    fn pictures(count: usize) -> Article {
        let image = Image {
            image_media_id: "m1".into(),
        };
        Article::NewsPic(Pictures {
            title: "标题".into(),
            content: "正文".into(),
            image_info: ImageInfo {
                image_list: vec![image; count],
            },
        })
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let news_json = r#"{"article_type":"news","title":"标题","author":"","digest":"","content":"<p>正文</p>","content_source_url":"","thumb_media_id":"t1","need_open_comment":0,"only_fans_can_comment":0}"#;
        let pictures_json = r#"{"article_type":"newspic","title":"标题","content":"正文","image_info":{"image_list":[{"image_media_id":"m1"}]}}"#;
        check(
            line(&Add {
                articles: vec![Article::News(news()), pictures(1)],
            }),
            &format!(r#"POST /cgi-bin/draft/add {{"articles":[{news_json},{pictures_json}]}}"#),
        );
        let media_id = || "d1".to_owned();
        check(
            line(&Update {
                media_id: media_id(),
                index: 7,
                article: pictures(1),
            }),
            &format!(
                r#"POST /cgi-bin/draft/update {{"media_id":"d1","index":7,"articles":{pictures_json}}}"#
            ),
        );
        check(
            line(&Get {
                media_id: media_id(),
            }),
            r#"POST /cgi-bin/draft/get {"media_id":"d1"}"#,
        );
        check(
            line(&Delete {
                media_id: media_id(),
            }),
            r#"POST /cgi-bin/draft/delete {"media_id":"d1"}"#,
        );
        check(line(&Count), "GET /cgi-bin/draft/count");
        check(
            line(&List {
                offset: 0,
                count: 20,
                no_content: true,
            }),
            r#"POST /cgi-bin/draft/batchget {"offset":0,"count":20,"no_content":1}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let get = Get {
            media_id: "d1".into(),
        };
        let draft = answer(
            &get,
            r#"{"news_item":[{"title":"标题","need_open_comment":0,"url":"http://a"}]}"#,
        );
        assert_eq!(
            (&*draft.articles[0].title, &*draft.articles[0].url),
            ("标题", "http://a")
        );
        let list = List {
            offset: 0,
            count: 1,
            no_content: false,
        };
        let page = answer(
            &list,
            r#"{"total_count":3,"item_count":1,"item":[{"media_id":"d1","content":{"news_item":[{"title":"标题"}]},
            "update_time":1700000000}]}"#,
        );
        assert_eq!((page.total_count, &*page.items[0].id), (3, "d1"));
        assert_eq!(page.items[0].content.articles.len(), 1);
        assert_eq!(answer(&Count, r#"{"total_count":3}"#).total_count, 3);
    }

    #[test]
    fn limits_hold() {
        let add = |articles| refused(&Add { articles });
        assert_eq!(
            add(vec![pictures(1); 9]),
            "articles has 9 items, 1 to 8 are allowed"
        );
        assert_eq!(add(vec![]), "articles has 0 items, 1 to 8 are allowed");
        assert_eq!(add(vec![pictures(0)]), "articles.image_list is empty");
        let with = |change: fn(&mut News)| {
            let mut news = news();
            change(&mut news);
            add(vec![Article::News(news)])
        };
        assert_eq!(with(|news| news.title.clear()), "articles.title is empty");
        assert_eq!(
            with(|news| news.thumb_media_id.clear()),
            "articles.thumb_media_id is empty"
        );
        assert_eq!(
            with(|news| news.content = "x".repeat(1 << 20)),
            "articles.content has 1048576 bytes, 1 to 1048575 are allowed"
        );
        let update = Update {
            media_id: "d1".into(),
            index: 8,
            article: pictures(1),
        };
        assert_eq!(refused(&update), "index is 8, 0 to 7 is allowed");
        let list = List {
            offset: 0,
            count: 21,
            no_content: false,
        };
        assert_eq!(refused(&list), "count is 21, 1 to 20 is allowed");
    }
}
