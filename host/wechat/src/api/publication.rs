//! Publishing (发布能力): a draft becomes articles with lasting addresses.
//!
//! Publishing takes a while; a callback (`PUBLISHJOBFINISH`) tells how it ended.

use serde::{Deserialize, Serialize};

use super::draft::{Articles, MAX_ARTICLES, MAX_COUNT, Page};
use super::limit::{self, InvalidCall};
use super::{Call, Done, LongId, Request, answer};

/// `POST /cgi-bin/freepublish/submit`.
#[derive(Clone, Debug, Serialize)]
pub struct Submit {
    /// The draft.
    pub media_id: String,
}

/// `POST /cgi-bin/freepublish/get`: how far it is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The task, as [`Submitted::publish_id`] names it.
    pub publish_id: String,
}

/// `POST /cgi-bin/freepublish/delete`: takes articles back, for good.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// The publication.
    pub article_id: String,
    /// The place of one article, from 1; 0 for all.
    pub index: u8,
}

/// `POST /cgi-bin/freepublish/getarticle`.
#[derive(Clone, Debug, Serialize)]
pub struct Get {
    /// The publication.
    pub article_id: String,
}

/// `POST /cgi-bin/freepublish/batchget`.
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

/// A task that was taken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Submitted {
    /// Comes back when it has ended.
    #[serde(deserialize_with = "answer::label")]
    pub publish_id: String,
    /// For the statistics of articles.
    #[serde(default)]
    pub msg_data_id: Option<LongId>,
}

/// How far a task is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Progress {
    /// The task.
    #[serde(deserialize_with = "answer::label")]
    pub publish_id: String,
    /// 0 published, 1 under way, 2 not the account's own work, 3 failed, 4 refused, 5 taken back by the
    /// account, 6 banned.
    #[serde(rename = "publish_status")]
    pub status: u32,
    /// The publication, once it is one.
    #[serde(default, deserialize_with = "answer::non_empty")]
    pub article_id: Option<String>,
    /// Its articles.
    #[serde(default)]
    pub article_detail: Detail,
    /// Places of the articles that failed, from 1.
    #[serde(default)]
    pub fail_idx: Vec<u32>,
}

/// Where articles are.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Detail {
    /// In order.
    #[serde(default, rename = "item")]
    pub items: Vec<Place>,
}

/// Where an article is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Place {
    /// Its place, from 1.
    pub idx: u32,
    /// Its address.
    pub article_url: String,
}

impl Call for Submit {
    type Answer = Submitted;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("media_id", &self.media_id)?;
        Request::post("/cgi-bin/freepublish/submit", self)
    }
}

impl Call for Status {
    type Answer = Progress;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("publish_id", &self.publish_id)?;
        Request::ask("/cgi-bin/freepublish/get", self)
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("article_id", &self.article_id)?;
        limit::range("index", self.index, 0..=MAX_ARTICLES as u64)?;
        Request::post("/cgi-bin/freepublish/delete", self)
    }
}

impl Call for Get {
    type Answer = Articles;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("article_id", &self.article_id)?;
        Request::ask("/cgi-bin/freepublish/getarticle", self)
    }
}

impl Call for List {
    type Answer = Page;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::range("count", self.count, 1..=MAX_COUNT.into())?;
        Request::ask("/cgi-bin/freepublish/batchget", self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, line, refused};
    use super::*;

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let article_id = || "a1".to_owned();
        check(
            line(&Submit {
                media_id: "d1".into(),
            }),
            r#"POST /cgi-bin/freepublish/submit {"media_id":"d1"}"#,
        );
        check(
            line(&Status {
                publish_id: "100000001".into(),
            }),
            r#"POST /cgi-bin/freepublish/get {"publish_id":"100000001"}"#,
        );
        check(
            line(&Delete {
                article_id: article_id(),
                index: 1,
            }),
            r#"POST /cgi-bin/freepublish/delete {"article_id":"a1","index":1}"#,
        );
        check(
            line(&Get {
                article_id: article_id(),
            }),
            r#"POST /cgi-bin/freepublish/getarticle {"article_id":"a1"}"#,
        );
        check(
            line(&List {
                offset: 0,
                count: 1,
                no_content: false,
            }),
            r#"POST /cgi-bin/freepublish/batchget {"offset":0,"count":1,"no_content":0}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let submit = Submit {
            media_id: "d1".into(),
        };
        let submitted = answer(
            &submit,
            r#"{"errcode":0,"errmsg":"ok","publish_id":100000001}"#,
        );
        assert_eq!(submitted.publish_id, "100000001");
        let submitted = answer(
            &submit,
            r#"{"publish_id":"100000001","msg_data_id":"2247483650"}"#,
        );
        assert_eq!(submitted.msg_data_id, Some(LongId(2_247_483_650)));
        let status = Status {
            publish_id: "100000001".into(),
        };
        let done = answer(
            &status,
            r#"{"publish_id":"100000001","publish_status":0,"article_id":"a1",
            "article_detail":{"count":1,"item":[{"idx":1,"article_url":"http://a"}]},"fail_idx":[]}"#,
        );
        assert_eq!((done.status, done.article_id.as_deref()), (0, Some("a1")));
        assert_eq!(done.article_detail.items[0].article_url, "http://a");
        let waits = answer(
            &status,
            r#"{"publish_id":"100000001","publish_status":1,"fail_idx":[]}"#,
        );
        assert_eq!((waits.status, waits.article_id), (1, None));
        let failed = answer(
            &status,
            r#"{"publish_id":"1","publish_status":2,"fail_idx":[1,2]}"#,
        );
        assert_eq!(failed.fail_idx, [1, 2]);
        let list = List {
            offset: 0,
            count: 1,
            no_content: false,
        };
        let page = answer(
            &list,
            r#"{"total_count":1,"item_count":1,"item":[{"article_id":"a1","content":{"news_item":
            [{"title":"标题","is_deleted":true}]},"update_time":1700000000}]}"#,
        );
        assert_eq!(page.items[0].id, "a1");
        assert!(page.items[0].content.articles[0].is_deleted);
    }

    #[test]
    fn limits_hold() {
        let delete = Delete {
            article_id: "a1".into(),
            index: 9,
        };
        assert_eq!(refused(&delete), "index is 9, 0 to 8 is allowed");
        assert_eq!(
            refused(&Submit {
                media_id: String::new()
            }),
            "media_id is empty"
        );
        let list = List {
            offset: 0,
            count: 0,
            no_content: false,
        };
        assert_eq!(refused(&list), "count is 0, 1 to 20 is allowed");
    }
}
