//! Subscription notices (订阅通知): messages that a user has agreed to, one per agreement.
//!
//! A user agrees in a page or an article; whether the credit is used up is for whoever sends to
//! remember, and WeChat's 43101 to tell.

use serde::{Deserialize, Serialize};

use super::limit::{self, InvalidCall};
pub use super::notice::{Data, MiniProgram};
use super::user::Language;
use super::{Call, Done, LongId, Request, percent};
use crate::id::{AppId, OpenId};

pub mod template;

/// Largest scene of a one-time subscription.
pub const MAX_SCENE: u16 = 10_000;
/// Most characters of a one-time message's title.
pub const MAX_TITLE_CHARACTERS: usize = 15;

/// `POST /cgi-bin/message/subscribe/bizsend`.
#[derive(Clone, Debug, Serialize)]
pub struct Send {
    /// To whom.
    #[serde(rename = "touser")]
    pub open_id: OpenId,
    /// Which template of the account's.
    pub template_id: String,
    /// The web page that a tap opens; None for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Wins over `page`.
    #[serde(rename = "miniprogram", skip_serializing_if = "Option::is_none")]
    pub mini_program: Option<MiniProgram>,
    /// The template's fields. A name such as `thing1` says what its value may be.
    pub data: Data,
    /// Which version of the mini program; None for the published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miniprogram_state: Option<MiniProgramState>,
    /// The language in which the mini program is opened; None for simplified Chinese.
    #[serde(rename = "lang", skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

/// A version of a mini program.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MiniProgramState {
    /// The developers'.
    Developer,
    /// The testers'.
    Trial,
    /// The published one.
    Formal,
}

/// `POST /cgi-bin/message/template/subscribe`: the one message of a one-time subscription (一次性订阅消息).
#[derive(Clone, Debug)]
pub struct SendOnce {
    /// To whom.
    pub open_id: OpenId,
    /// The account's template for such messages.
    pub template_id: String,
    /// Where a tap leads; None for nowhere.
    pub url: Option<String>,
    /// Wins over `url`.
    pub mini_program: Option<MiniProgram>,
    /// The scene of the link that the user agreed by.
    pub scene: u16,
    /// The title, [`MAX_TITLE_CHARACTERS`] at most.
    pub title: String,
    /// The text.
    pub content: String,
    /// Its colour, such as `#173177`.
    pub color: Option<String>,
}

/// A link that asks for a one-time subscription.
#[derive(Clone, Debug)]
pub struct OnceLink {
    /// The account.
    pub app_id: AppId,
    /// Comes back with the agreement; 0 to [`MAX_SCENE`].
    pub scene: u16,
    /// The account's template for such messages.
    pub template_id: String,
    /// The page that follows; its domain must be set in WeChat's console.
    pub redirect_url: String,
    /// Comes back with the agreement, against forged ones.
    pub reserved: String,
}

/// A notice that was taken.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Sent {
    /// Its id, where WeChat gives one.
    #[serde(default, rename = "msgid")]
    pub msg_id: Option<LongId>,
}

impl OnceLink {
    /// The link; it works inside of WeChat.
    ///
    /// # Errors
    ///
    /// A scene over [`MAX_SCENE`].
    pub fn address(&self) -> Result<String, InvalidCall> {
        limit::range("scene", self.scene, 0..=MAX_SCENE.into())?;
        Ok(format!(
            "https://mp.weixin.qq.com/mp/subscribemsg?action=get_confirm&appid={}&scene={}\
             &template_id={}&redirect_url={}&reserved={}#wechat_redirect",
            self.app_id,
            self.scene,
            percent::encoded(&self.template_id),
            percent::encoded(&self.redirect_url),
            percent::encoded(&self.reserved),
        ))
    }
}

impl Call for Send {
    type Answer = Sent;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("template_id", &self.template_id)?;
        self.data.check()?;
        for (name, value) in &self.data.0 {
            check_value(name, value)?;
        }
        Request::post("/cgi-bin/message/subscribe/bizsend", self)
    }
}

impl Call for SendOnce {
    type Answer = Done;

    fn request(&self) -> Result<Request, InvalidCall> {
        limit::given("template_id", &self.template_id)?;
        limit::range("scene", self.scene, 0..=MAX_SCENE.into())?;
        limit::characters("title", &self.title, 1..=MAX_TITLE_CHARACTERS)?;
        let content = OnceContent {
            value: &self.content,
            color: self.color.as_deref(),
        };
        let body = OnceBody {
            touser: &self.open_id,
            template_id: &self.template_id,
            url: self.url.as_deref(),
            miniprogram: self.mini_program.as_ref(),
            scene: self.scene.to_string(),
            title: &self.title,
            data: OnceData { content },
        };
        Request::post("/cgi-bin/message/template/subscribe", &body)
    }
}

/// The rule of a field: its name is the rule's, and a number.
fn check_value(name: &str, value: &str) -> Result<(), InvalidCall> {
    let within = |field, most| limit::characters(field, value, 1..=most);
    match name.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
        "thing" => within("data.thing", 20),
        "number" => within("data.number", 32),
        "letter" => within("data.letter", 32),
        "symbol" => within("data.symbol", 5),
        "character_string" => within("data.character_string", 32),
        "phone_number" => within("data.phone_number", 17),
        "car_number" => within("data.car_number", 8),
        "phrase" => within("data.phrase", 5),
        "name" if value.is_ascii() => within("data.name", 20),
        "name" => within("data.name", 10),
        "amount" => {
            let digits: String = value.chars().filter(char::is_ascii_digit).collect();
            limit::characters("data.amount digits", &digits, 1..=10)
        }
        // Times, dates, and rules that WeChat adds.
        _ => limit::given("data value", value),
    }
}

#[derive(Serialize)]
struct OnceBody<'a> {
    touser: &'a OpenId,
    template_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    miniprogram: Option<&'a MiniProgram>,
    scene: String,
    title: &'a str,
    data: OnceData<'a>,
}

#[derive(Serialize)]
struct OnceData<'a> {
    content: OnceContent<'a>,
}

#[derive(Serialize)]
struct OnceContent<'a> {
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    color: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::super::notice::data;
    use super::super::testing::{answer, line, refused};
    use super::*;

    fn send(fields: &[(&str, &str)]) -> Send {
        Send {
            open_id: OpenId::parse("oA").unwrap(),
            template_id: "t1".into(),
            page: None,
            mini_program: None,
            data: data(fields),
            miniprogram_state: None,
            language: None,
        }
    }

    fn once() -> SendOnce {
        SendOnce {
            open_id: OpenId::parse("oA").unwrap(),
            template_id: "t1".into(),
            url: Some("http://a".into()),
            mini_program: None,
            scene: 1000,
            title: "标题".into(),
            content: "你好".into(),
            color: Some("#173177".into()),
        }
    }

    #[test]
    fn notices_are_the_documents() {
        let check = |line: String, expected: &str| assert_eq!(line, expected);
        let path = "POST /cgi-bin/message/subscribe/bizsend";
        check(
            line(&send(&[("name1", "广州腾讯"), ("thing8", "广州至北京")])),
            &format!(
                r#"{path} {{"touser":"oA","template_id":"t1","data":{{"name1":{{"value":"广州腾讯"}},"thing8":{{"value":"广州至北京"}}}}}}"#
            ),
        );
        let full = Send {
            page: Some("http://a".into()),
            mini_program: Some(MiniProgram {
                app_id: AppId::parse("wx02").unwrap(),
                page_path: "index".into(),
            }),
            miniprogram_state: Some(MiniProgramState::Trial),
            language: Some(Language::Traditional),
            ..send(&[])
        };
        check(
            line(&full),
            &format!(
                r#"{path} {{"touser":"oA","template_id":"t1","page":"http://a","miniprogram":{{"appid":"wx02","pagepath":"index"}},"data":{{}},"miniprogram_state":"trial","lang":"zh_TW"}}"#
            ),
        );
        check(
            line(&once()),
            r##"POST /cgi-bin/message/template/subscribe {"touser":"oA","template_id":"t1","url":"http://a","scene":"1000","title":"标题","data":{"content":{"value":"你好","color":"#173177"}}}"##,
        );
        let link = OnceLink {
            app_id: AppId::parse("wx01").unwrap(),
            scene: 1000,
            template_id: "t1".into(),
            redirect_url: "http://a.example/?b=c".into(),
            reserved: "test".into(),
        };
        check(
            link.address().unwrap(),
            "https://mp.weixin.qq.com/mp/subscribemsg?action=get_confirm&appid=wx01&scene=1000\
             &template_id=t1&redirect_url=http%3A%2F%2Fa.example%2F%3Fb%3Dc&reserved=test#wechat_redirect",
        );
        assert!(
            OnceLink {
                scene: 10_001,
                ..link
            }
            .address()
            .is_err()
        );
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(
            answer(&send(&[]), r#"{"errcode":0,"errmsg":"ok"}"#).msg_id,
            None
        );
        let sent = answer(&send(&[]), r#"{"errcode":0,"msgid":"9007199254740993"}"#);
        assert_eq!(sent.msg_id, Some(LongId(9_007_199_254_740_993)));
    }

    #[test]
    fn values_keep_the_rule_of_their_field() {
        let check = |name: &str, longest: &str, expected: &str| {
            let fields = [(name, longest)];
            assert!(send(&fields).request().is_ok(), "{name}: {longest}");
            let too_long = format!("{longest}1");
            assert_eq!(refused(&send(&[(name, &too_long)])), expected);
            let empty = send(&[(name, "")]).request();
            assert!(empty.is_err(), "{name}");
        };
        let allowed = |field: &str, most: usize| {
            format!(
                "data.{field} has {} characters, 1 to {most} are allowed",
                most + 1
            )
        };
        check("thing1", &"物".repeat(20), &allowed("thing", 20));
        check("number2", &"9".repeat(32), &allowed("number", 32));
        check("letter3", &"a".repeat(32), &allowed("letter", 32));
        check("symbol4", "+-*/=", &allowed("symbol", 5));
        check(
            "character_string5",
            &"x".repeat(32),
            &allowed("character_string", 32),
        );
        check(
            "phone_number6",
            "+86-0766-66888866",
            &allowed("phone_number", 17),
        );
        check("car_number7", "粤A8Z888挂", &allowed("car_number", 8));
        check("phrase8", "配送中心啊", &allowed("phrase", 5));
        check("name9", &"n".repeat(20), &allowed("name", 20));
        check("name10", &"名".repeat(10), &allowed("name", 10));
        check("amount11", "¥12345678.90", &allowed("amount digits", 10));
        assert!(send(&[("date12", "2019年10月1日 15:01")]).request().is_ok());
        assert_eq!(refused(&send(&[("time13", "")])), "data value is empty");
    }

    #[test]
    fn limits_hold() {
        let check = |refusal: String, expected: &str| assert_eq!(refusal, expected);
        check(
            refused(&SendOnce {
                scene: 10_001,
                ..once()
            }),
            "scene is 10001, 0 to 10000 is allowed",
        );
        check(
            refused(&SendOnce {
                title: "题".repeat(16),
                ..once()
            }),
            "title has 16 characters, 1 to 15 are allowed",
        );
        check(
            refused(&send(&[("thing1.DATA", "a")])),
            "data names a field with .DATA, which only templates do",
        );
    }
}
