//! Template messages (模板消息): notices to followers, whose wording WeChat has approved.
//!
//! An account has 25 templates and sends 100,000 messages a day. Whether a message arrived is told by a
//! callback (`TEMPLATESENDJOBFINISH`) with the id that sending answered.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
pub use super::notice::{Data, MiniProgram};
use super::{Call, Done, LongId, Request};
use crate::id::OpenId;

/// `POST /cgi-bin/message/template/send`.
#[derive(Clone, Debug, Serialize)]
pub struct Send {
    /// To whom, a follower.
    #[serde(rename = "touser")]
    pub open_id: OpenId,
    /// Which template of the account's.
    pub template_id: String,
    /// Where a tap leads; None for nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Wins over `url`, which stays for old clients.
    #[serde(rename = "miniprogram", skip_serializing_if = "Option::is_none")]
    pub mini_program: Option<MiniProgram>,
    /// The template's fields.
    pub data: Data,
    /// A repetition to the same user under the same id within ten minutes is not sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_msg_id: Option<String>,
}

/// `POST /cgi-bin/template/api_add_template`: takes a template of WeChat's library for the account.
#[derive(Clone, Debug, Serialize)]
pub struct Add {
    /// Its number in the library, such as `TM00015`.
    #[serde(rename = "template_id_short")]
    pub library_id: String,
    /// The fields wanted, for a template of the account's category.
    #[serde(rename = "keyword_name_list", skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
}

/// `GET /cgi-bin/template/get_all_private_template`: the account's templates.
#[derive(Clone, Copy, Debug)]
pub struct List;

/// `POST /cgi-bin/template/del_private_template`.
#[derive(Clone, Debug, Serialize)]
pub struct Delete {
    /// Which.
    pub template_id: String,
}

/// `POST /cgi-bin/template/api_set_industry`: once a month.
#[derive(Clone, Debug, Serialize)]
pub struct SetIndustries {
    /// The number of the first industry, such as `1`.
    #[serde(rename = "industry_id1")]
    pub first: String,
    /// The number of the second.
    #[serde(rename = "industry_id2")]
    pub second: String,
}

/// `GET /cgi-bin/template/get_industry`.
#[derive(Clone, Copy, Debug)]
pub struct Industries;

/// A message that was taken.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Sent {
    /// Comes back when it has arrived, or not.
    #[serde(rename = "msgid")]
    pub msg_id: LongId,
}

/// A template that was added.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Added {
    /// Its id in the account.
    pub template_id: String,
}

/// The account's templates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Templates {
    /// The templates.
    #[serde(rename = "template_list")]
    pub templates: Vec<Template>,
}

/// A template.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Template {
    /// Its id in the account.
    pub template_id: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Its industry; empty for a template of a category.
    #[serde(default)]
    pub primary_industry: String,
    /// Its branch of that industry.
    #[serde(default)]
    pub deputy_industry: String,
    /// Its text, with `{{name.DATA}}` for each field.
    pub content: String,
    /// The text with values.
    #[serde(default)]
    pub example: String,
}

impl Template {
    /// The names of its fields, as [`Data`] wants them.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let holes = self.content.split("{{").skip(1);
        holes.filter_map(|rest| rest.split_once("}}")?.0.strip_suffix(".DATA"))
    }
}

/// The account's industries.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct IndustryPair {
    /// The first.
    #[serde(rename = "primary_industry")]
    pub first: Industry,
    /// The second.
    #[serde(rename = "secondary_industry")]
    pub second: Industry,
}

/// An industry.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Industry {
    /// Its name.
    pub first_class: String,
    /// Its branch.
    pub second_class: String,
}

impl Call for Send {
    type Answer = Sent;

    fn request(&self) -> Result<Request, InvalidCall> {
        const PATH: &str = "/cgi-bin/message/template/send";
        limit::given("template_id", &self.template_id)?;
        self.data.check()?;
        match &self.client_msg_id {
            None => Request::post(PATH, self),
            Some(id) => {
                limit::given("client_msg_id", id)?;
                Request::ask(PATH, self)
            }
        }
    }
}

impl Call for Add {
    type Answer = Added;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("template_id_short", &self.library_id)?;
        Request::post("/cgi-bin/template/api_add_template", self)
    }
}

impl Call for List {
    type Answer = Templates;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/template/get_all_private_template"))
    }
}

impl Call for Delete {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("template_id", &self.template_id)?;
        Request::post("/cgi-bin/template/del_private_template", self)
    }
}

impl Call for SetIndustries {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("industry_id1", &self.first)?;
        limit::given("industry_id2", &self.second)?;
        Request::post("/cgi-bin/template/api_set_industry", self)
    }
}

impl Call for Industries {
    type Answer = IndustryPair;

    fn request(&self) -> Result<Request, InvalidCall> {
        Ok(Request::get("/cgi-bin/template/get_industry"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::data;
    use super::super::testing::{answer, line, refused};
    use super::*;
    use crate::id::AppId;

    fn send(fields: &[(&str, &str)]) -> Send {
        Send {
            open_id: OpenId::parse("oA").unwrap(),
            template_id: "t1".into(),
            url: None,
            mini_program: None,
            data: data(fields),
            client_msg_id: None,
        }
    }

    #[test]
    fn requests_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        check(
            line(&send(&[
                ("first", "恭喜你购买成功！"),
                ("keyword1", "39.8元"),
            ])),
            r#"POST /cgi-bin/message/template/send {"touser":"oA","template_id":"t1","data":{"first":{"value":"恭喜你购买成功！"},"keyword1":{"value":"39.8元"}}}"#,
        );
        let full = Send {
            url: Some("http://a.example/?a=1&b=2".into()),
            mini_program: Some(MiniProgram {
                app_id: AppId::parse("wx02").unwrap(),
                page_path: "index?foo=bar".into(),
            }),
            client_msg_id: Some("MSG_000001".into()),
            ..send(&[])
        };
        check(
            line(&full),
            r#"POST /cgi-bin/message/template/send {"touser":"oA","template_id":"t1","url":"http://a.example/?a=1&b=2","miniprogram":{"appid":"wx02","pagepath":"index?foo=bar"},"data":{},"client_msg_id":"MSG_000001"}"#,
        );
        assert!(full.request().unwrap().idempotent && !send(&[]).request().unwrap().idempotent);
        let template_id = "t1".to_owned();
        check(
            line(&Add {
                library_id: "TM00015".into(),
                keywords: vec!["物品名称".into()],
            }),
            r#"POST /cgi-bin/template/api_add_template {"template_id_short":"TM00015","keyword_name_list":["物品名称"]}"#,
        );
        check(
            line(&List),
            "GET /cgi-bin/template/get_all_private_template",
        );
        check(
            line(&Delete { template_id }),
            r#"POST /cgi-bin/template/del_private_template {"template_id":"t1"}"#,
        );
        check(
            line(&SetIndustries {
                first: "1".into(),
                second: "4".into(),
            }),
            r#"POST /cgi-bin/template/api_set_industry {"industry_id1":"1","industry_id2":"4"}"#,
        );
        check(line(&Industries), "GET /cgi-bin/template/get_industry");
    }

    #[test]
    fn answers_are_read() {
        let sent = answer(
            &send(&[]),
            r#"{"errcode":0,"errmsg":"ok","msgid":3087465838541471745}"#,
        );
        assert_eq!(sent.msg_id, LongId(3_087_465_838_541_471_745));
        let templates = answer(
            &List,
            r#"{"template_list":[{"template_id":"t1","title":"领取奖金提醒","primary_industry":"IT科技",
            "deputy_industry":"互联网|电子商务","content":"{ {result.DATA} }\n\n领奖金额:{{withdrawMoney.DATA}}\n{{remark.DATA}}\n{{odd}}{{open.DATA",
            "example":"您已提交领奖申请"}]}"#,
        )
        .templates;
        assert_eq!(
            templates[0].fields().collect::<Vec<_>>(),
            ["withdrawMoney", "remark"]
        );
        let pair = answer(
            &Industries,
            r#"{"primary_industry":{"first_class":"运输与仓储","second_class":"快递"},
            "secondary_industry":{"first_class":"IT科技","second_class":"互联网|电子商务"}}"#,
        );
        assert_eq!(pair.second.first_class, "IT科技");
    }

    #[test]
    fn limits_hold() {
        let check = |fields: &[(&str, &str)], expected: &str| {
            assert_eq!(refused(&send(fields)), expected);
        };
        check(
            &[("first.DATA", "a")],
            "data names a field with .DATA, which only templates do",
        );
        check(
            &[("first", "a"), ("first", "b")],
            "data names a field twice",
        );
        check(&[("", "a")], "data is empty");
        let no_template = Send {
            template_id: String::new(),
            ..send(&[])
        };
        assert_eq!(refused(&no_template), "template_id is empty");
        let no_id = Send {
            client_msg_id: Some(String::new()),
            ..send(&[])
        };
        assert_eq!(refused(&no_id), "client_msg_id is empty");
    }
}
