//! The templates of subscription notices (订阅通知模板): those of WeChat's library, and the account's own.

use serde::{Deserialize, Serialize};

use crate::api::limit::{self, InvalidCall};
use crate::api::{Call, Done, Request, answer};

/// `GET /wxaapi/newtmpl/getcategory`: the account's categories.
#[derive(Clone, Copy, Debug)]
pub struct Categories;

/// `GET /wxaapi/newtmpl/getpubtemplatetitles`: the library's templates of some categories.
#[derive(Clone, Debug)]
pub struct LibraryTitles {
    /// The categories.
    pub category_ids: Vec<u64>,
    /// How many to pass over.
    pub start: u32,
    /// How many to answer.
    pub limit: u32,
}

/// `GET /wxaapi/newtmpl/getpubtemplatekeywords`: the fields of one of the library's templates.
#[derive(Clone, Debug)]
pub struct LibraryKeywords {
    /// The template.
    pub tid: String,
}

/// `POST /wxaapi/newtmpl/addtemplate`: takes one of the library's templates for the account.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// The template.
    pub tid: String,
    /// The fields, in order.
    #[serde(rename = "kidList")]
    pub keyword_ids: Vec<u64>,
    /// What it is used for.
    #[serde(rename = "sceneDesc")]
    pub purpose: String,
}

/// `GET /wxaapi/newtmpl/gettemplate`: the account's templates.
#[derive(Clone, Copy, Debug)]
pub struct List;

/// `POST /wxaapi/newtmpl/deltemplate`.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// Which.
    #[serde(rename = "priTmplId")]
    pub template_id: String,
}

/// An answer whose content is under `data`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Listed<T> {
    /// The entries.
    #[serde(rename = "data")]
    pub entries: Vec<T>,
}

/// A category.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Category {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// A template of the library.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct LibraryTitle {
    /// Its id.
    #[serde(deserialize_with = "answer::number")]
    pub tid: u64,
    /// Its title.
    pub title: String,
    /// For how long an agreement lasts.
    #[serde(rename = "type")]
    pub term: Term,
    /// Its category.
    #[serde(rename = "categoryId", deserialize_with = "answer::number")]
    pub category_id: u64,
}

/// A field of a template of the library.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Keyword {
    /// Its id.
    #[serde(rename = "kid", deserialize_with = "answer::number")]
    pub id: u64,
    /// Its name.
    pub name: String,
    /// A value.
    #[serde(default)]
    pub example: String,
    /// What its value may be, such as `thing`.
    #[serde(default)]
    pub rule: String,
}

/// A template that was added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Added {
    /// Its id in the account.
    #[serde(rename = "priTmplId")]
    pub template_id: String,
}

/// A template of the account's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Template {
    /// Its id in the account.
    #[serde(rename = "priTmplId")]
    pub template_id: String,
    /// Its title.
    pub title: String,
    /// Its text, with `{{name.DATA}}` for each field.
    pub content: String,
    /// The text with values.
    #[serde(default)]
    pub example: String,
    /// For how long an agreement lasts.
    #[serde(rename = "type")]
    pub term: Term,
}

/// For how long an agreement lasts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "u64")]
pub enum Term {
    /// For one message (2).
    Once,
    /// For good (3): government, medicine and the like.
    Long,
    /// A term that is not known here.
    Other(u64),
}

impl From<u64> for Term {
    fn from(term: u64) -> Self {
        match term {
            2 => Term::Once,
            3 => Term::Long,
            other => Term::Other(other),
        }
    }
}

impl Call for Categories {
    type Answer = Listed<Category>;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/wxaapi/newtmpl/getcategory"))
    }
}

impl Call for LibraryTitles {
    type Answer = Listed<LibraryTitle>;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::filled("ids", &self.category_ids)?;
        let ids: Vec<_> = self.category_ids.iter().map(u64::to_string).collect();
        Ok(Request::get("/wxaapi/newtmpl/getpubtemplatetitles")
            .with("ids", ids.join(","))
            .with("start", self.start.to_string())
            .with("limit", self.limit.to_string()))
    }
}

impl Call for LibraryKeywords {
    type Answer = Listed<Keyword>;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("tid", &self.tid)?;
        Ok(Request::get("/wxaapi/newtmpl/getpubtemplatekeywords").with("tid", &self.tid))
    }
}

impl Call for Add {
    type Answer = Added;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("tid", &self.tid)?;
        limit::filled("kidList", &self.keyword_ids)?;
        Request::post("/wxaapi/newtmpl/addtemplate", self)
    }
}

impl Call for List {
    type Answer = Listed<Template>;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/wxaapi/newtmpl/gettemplate"))
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("priTmplId", &self.template_id)?;
        Request::post("/wxaapi/newtmpl/deltemplate", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::{answer, line, refused};

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(line(&Categories), "GET /wxaapi/newtmpl/getcategory");
        check(
            line(&LibraryTitles {
                category_ids: vec![2, 616],
                start: 0,
                limit: 1,
            }),
            "GET /wxaapi/newtmpl/getpubtemplatetitles?ids=2,616&start=0&limit=1",
        );
        check(
            line(&LibraryKeywords { tid: "99".into() }),
            "GET /wxaapi/newtmpl/getpubtemplatekeywords?tid=99",
        );
        check(
            line(&Add {
                tid: "401".into(),
                keyword_ids: vec![1, 2],
                purpose: "测试数据".into(),
            }),
            r#"POST /wxaapi/newtmpl/addtemplate {"tid":"401","kidList":[1,2],"sceneDesc":"测试数据"}"#,
        );
        check(line(&List), "GET /wxaapi/newtmpl/gettemplate");
        check(
            line(&Delete {
                template_id: "t1".into(),
            }),
            r#"POST /wxaapi/newtmpl/deltemplate {"priTmplId":"t1"}"#,
        );
    }

    #[test]
    fn answers_are_read() {
        let templates = answer(
            &List,
            r#"{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"t1","title":"报名结果通知",
            "content":"会议时间:{{date2.DATA}}","example":"会议时间:2016年8月8日","type":2}]}"#,
        );
        assert_eq!(templates.entries[0].term, Term::Once);
        let titles = LibraryTitles {
            category_ids: vec![616],
            start: 0,
            limit: 1,
        };
        let titles = answer(
            &titles,
            r#"{"count":55,"data":[{"tid":99,"title":"付款成功通知","type":3,"categoryId":"616"}]}"#,
        );
        assert_eq!(
            (titles.entries[0].term, titles.entries[0].category_id),
            (Term::Long, 616)
        );
        let keywords = LibraryKeywords { tid: "99".into() };
        let keywords = answer(
            &keywords,
            r#"{"data":[{"kid":1,"name":"物品名称","example":"名称","rule":"thing"}]}"#,
        );
        assert_eq!(keywords.entries[0].rule, "thing");
    }

    #[test]
    fn limits_hold() {
        let none = LibraryTitles {
            category_ids: Vec::new(),
            start: 0,
            limit: 1,
        };
        assert_eq!(refused(&none), "ids is empty");
        let none = Add {
            tid: "401".into(),
            keyword_ids: Vec::new(),
            purpose: String::new(),
        };
        assert_eq!(refused(&none), "kidList is empty");
    }
}
