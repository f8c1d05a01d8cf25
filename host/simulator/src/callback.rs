//! What WeChat tells a host: header and fields, written as XML or JSON in clear.
//!
//! A callback is composed once; WeChat's re-sends carry the same one. Signing and encrypting belongs
//! to [`crate::envelope`]. Like WeChat, this escapes nothing inside a CDATA section; what else WeChat
//! writes that no format allows can be given byte by byte ([`Callback::verbatim`]).

use wxhost_wechat::body::Format;
use wxhost_wechat::id::{OpenId, OriginalId};
use wxhost_wechat::message::Message;

use crate::{Environment, SimulatedAccount, UserAction};

/// Events whose reply reaches the user. Replies to other events are accepted and shown to nobody.
const EVENTS_WITH_VISIBLE_REPLY: [&str; 5] =
    ["click", "location", "scan", "scancode_waitmsg", "subscribe"];

/// How many articles a reply to a user's own message may hold.
const MAX_ARTICLES_FOR_A_MESSAGE: usize = 1;

/// How many articles a reply to anything else may hold.
const MAX_ARTICLES_FOR_AN_EVENT: usize = 8;

/// A field of a callback's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Text: a CDATA section in XML, a string in JSON.
    Text(String, String),
    /// A number, by its digits.
    Number(String, String),
    /// Fields inside a field. Equal names next to each other make a list in JSON.
    Group(String, Vec<Field>),
}

impl Field {
    /// A text field.
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self::Text(name.to_owned(), value.into())
    }

    /// A number field.
    pub fn number(name: &str, value: impl ToString) -> Self {
        Self::Number(name.to_owned(), value.to_string())
    }

    /// A field with fields inside.
    pub fn group(name: &str, fields: impl Into<Vec<Self>>) -> Self {
        Self::Group(name.to_owned(), fields.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Text(name, _) | Self::Number(name, _) | Self::Group(name, _) => name,
        }
    }
}

/// A message or an event, as WeChat tells it to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    to: OriginalId,
    from: OpenId,
    create_time: u64,
    fields: Vec<Field>,
    format: Format,
    /// The body in clear, where it is not written from the fields.
    verbatim: Option<Vec<u8>>,
}

impl Callback {
    /// What WeChat tells about `action`: of this user, now, with a new MsgId where it is a message.
    pub fn compose(
        account: &SimulatedAccount,
        user: &OpenId,
        action: &UserAction,
        environment: &dyn Environment,
    ) -> Self {
        let mut fields = action.fields().to_vec();
        let names_itself = fields.iter().any(|field| field.name() == "MsgId");
        if !action.is_event() && !names_itself {
            fields.push(Field::number("MsgId", environment.msg_id()));
        }
        Self {
            to: account.original_id.clone(),
            from: user.clone(),
            create_time: environment.unix_seconds(),
            fields,
            format: account.format,
            verbatim: None,
        }
    }

    /// A callback whose body in clear is exactly this, well-formed or not, as it was seen in the field.
    /// `user` is who sees the answer if nobody can tell from the body.
    pub fn verbatim(account: &SimulatedAccount, user: &OpenId, body: Vec<u8>) -> Self {
        let told = Message::read(&body).ok();
        let is_event = told.as_ref().is_some_and(|told| !told.content.is_message());
        let mut fields = vec![Field::text(
            "MsgType",
            if is_event { "event" } else { "text" },
        )];
        if let Some(told) = told.as_ref().filter(|_| is_event) {
            fields.push(Field::text("Event", told.content.kind()));
        }
        Self {
            to: account.original_id.clone(),
            from: told.as_ref().map_or(user, |told| &told.from_user).clone(),
            create_time: told.as_ref().map_or(0, |told| told.create_time),
            fields,
            format: Format::of(&body),
            verbatim: Some(body),
        }
    }

    /// The same callback, addressed to another account's original id.
    #[must_use]
    pub fn addressed_to(mut self, to: OriginalId) -> Self {
        self.to = to;
        self
    }

    /// The account's original id (ToUserName).
    pub fn to(&self) -> &OriginalId {
        &self.to
    }

    /// The user (FromUserName).
    pub fn from(&self) -> &OpenId {
        &self.from
    }

    /// CreateTime in Unix seconds.
    pub fn create_time(&self) -> u64 {
        self.create_time
    }

    /// The value of a text or number field, by its name.
    pub fn value(&self, wanted: &str) -> Option<&str> {
        self.fields.iter().find_map(|field| match field {
            Field::Text(name, value) | Field::Number(name, value) if name == wanted => {
                Some(value.as_str())
            }
            _ => None,
        })
    }

    /// Whether the user would see a reply.
    pub fn shows_replies(&self) -> bool {
        match self.event() {
            Some(event) => EVENTS_WITH_VISIBLE_REPLY
                .iter()
                .any(|visible| event.eq_ignore_ascii_case(visible)),
            None => true,
        }
    }

    /// How many articles a reply may hold.
    pub fn max_articles(&self) -> usize {
        match self.event() {
            Some(_) => MAX_ARTICLES_FOR_AN_EVENT,
            None => MAX_ARTICLES_FOR_A_MESSAGE,
        }
    }

    /// The body in clear.
    pub fn to_clear(&self) -> Vec<u8> {
        match &self.verbatim {
            Some(body) => body.clone(),
            None => self.write(&self.all_fields()).into_bytes(),
        }
    }

    /// The body that carries `encrypt`: with the fields in clear beside it in compatible mode,
    /// otherwise with ToUserName only.
    pub(crate) fn to_sealed(&self, encrypt: &str, with_clear_fields: bool) -> Vec<u8> {
        if let Some(body) = self.verbatim.as_deref().filter(|_| with_clear_fields) {
            return self.beside(body, encrypt);
        }
        let mut fields = if with_clear_fields {
            self.all_fields()
        } else {
            vec![self.to_field()]
        };
        fields.push(Field::text("Encrypt", encrypt));
        self.write(&fields).into_bytes()
    }

    /// A body with the ciphertext as its last field.
    fn beside(&self, body: &[u8], encrypt: &str) -> Vec<u8> {
        let (end, field) = match self.format {
            Format::Xml => (
                "</xml>",
                format!("<Encrypt><![CDATA[{encrypt}]]></Encrypt>\n</xml>"),
            ),
            Format::Json => ("}", format!(",\"Encrypt\":\"{encrypt}\"}}")),
        };
        let body = body.trim_ascii_end();
        let body = body.strip_suffix(end.as_bytes()).unwrap_or(body);
        [body, field.as_bytes()].concat()
    }

    fn write(&self, fields: &[Field]) -> String {
        let mut body = String::with_capacity(1024);
        match self.format {
            Format::Xml => {
                body.push_str("<xml>");
                write_xml(&mut body, fields);
                body.push_str("</xml>");
            }
            Format::Json => write_json(&mut body, fields),
        }
        body
    }

    fn event(&self) -> Option<&str> {
        let is_event = self
            .value("MsgType")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("event"));
        is_event.then(|| self.value("Event").unwrap_or_default())
    }

    fn to_field(&self) -> Field {
        Field::text("ToUserName", self.to.as_str())
    }

    fn all_fields(&self) -> Vec<Field> {
        let mut all = vec![
            self.to_field(),
            Field::text("FromUserName", self.from.as_str()),
            Field::number("CreateTime", self.create_time),
        ];
        all.extend_from_slice(&self.fields);
        all
    }
}

fn write_xml(body: &mut String, fields: &[Field]) {
    for field in fields {
        let name = field.name();
        body.extend(["<", name, ">"]);
        match field {
            // WeChat does not look for `]]>` in it.
            Field::Text(_, value) => body.extend(["<![CDATA[", value, "]]>"]),
            Field::Number(_, digits) => body.push_str(digits),
            Field::Group(_, inner) => {
                body.push('\n');
                write_xml(body, inner);
            }
        }
        body.extend(["</", name, ">\n"]);
    }
}

fn write_json(body: &mut String, fields: &[Field]) {
    body.push('{');
    let runs = fields.chunk_by(|left, right| left.name() == right.name());
    for (index, run) in runs.enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&quoted(run[0].name()));
        body.push(':');
        match run {
            [field] => write_json_value(body, field),
            list => {
                body.push('[');
                for (index, field) in list.iter().enumerate() {
                    if index > 0 {
                        body.push(',');
                    }
                    write_json_value(body, field);
                }
                body.push(']');
            }
        }
    }
    body.push('}');
}

fn write_json_value(body: &mut String, field: &Field) {
    match field {
        Field::Text(_, value) => body.push_str(&quoted(value)),
        Field::Number(_, digits) => body.push_str(digits),
        Field::Group(_, inner) => write_json(body, inner),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wxhost_wechat::envelope::Mode;

    use super::*;
    use crate::SeededEnvironment;

    fn compose(action: &UserAction, format: Format) -> Callback {
        let stage = SeededEnvironment::new(Duration::from_secs(1_700_000_000), 1);
        let mut account = SimulatedAccount::register("http://host", Mode::Plain, &stage);
        account.original_id = OriginalId::parse("gh_1").unwrap();
        account.format = format;
        let user = OpenId::parse("oUser").unwrap();
        Callback::compose(&account, &user, action, &stage)
    }

    fn clear(callback: &Callback) -> String {
        String::from_utf8(callback.to_clear()).unwrap()
    }

    fn check_xml(action: &UserAction, expected: &str) {
        let body = clear(&compose(action, Format::Xml)).replace('\n', "");
        let header = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\
                      <FromUserName><![CDATA[oUser]]></FromUserName>\
                      <CreateTime>1700000000</CreateTime>";
        let fields = body.strip_prefix(header).expect(&body);
        assert_eq!(fields.strip_suffix("</xml>").expect(&body), expected);
    }

    #[test]
    fn an_event_has_the_fields_of_the_documentation_and_no_msg_id() {
        check_xml(
            &UserAction::follow_by_qr("42", "TICKET"),
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>\
             <EventKey><![CDATA[qrscene_42]]></EventKey><Ticket><![CDATA[TICKET]]></Ticket>",
        );
        check_xml(
            &UserAction::scan_from_menu("6", true, "2"),
            "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[scancode_waitmsg]]></Event>\
             <EventKey><![CDATA[6]]></EventKey><ScanCodeInfo>\
             <ScanType><![CDATA[qrcode]]></ScanType><ScanResult><![CDATA[2]]></ScanResult>\
             </ScanCodeInfo>",
        );
    }

    #[test]
    fn a_message_gets_a_msg_id_unless_it_names_its_own() {
        let id = |action: &UserAction| {
            let callback = compose(action, Format::Xml);
            callback.value("MsgId").map(str::to_owned)
        };
        assert!(id(&UserAction::text("a")).is_some_and(|id| id.parse::<i64>().is_ok()));
        let own = UserAction::raw([Field::text("MsgType", "text"), Field::number("MsgId", 7)]);
        assert_eq!(id(&own).as_deref(), Some("7"));
    }

    #[test]
    fn a_text_stands_in_its_section_as_it_was_typed() {
        let callback = compose(&UserAction::text("a]]><Event>x</Event>"), Format::Xml);
        let written = "<Content><![CDATA[a]]><Event>x</Event>]]></Content>";
        assert!(clear(&callback).contains(written));
    }

    #[test]
    fn a_body_given_by_its_bytes_is_sent_as_it_is_in_each_mode() {
        let stage = SeededEnvironment::new(Duration::from_secs(1_700_000_000), 1);
        let account = SimulatedAccount::register("http://host", Mode::Plain, &stage);
        let user = OpenId::parse("oUser").unwrap();
        let xml = b"<xml><ToUserName>gh_1</ToUserName><FromUserName>oOther</FromUserName>\
            <MsgType>text</MsgType><Content><![CDATA[a\xe4\xbd]]></Content></xml>\n";
        let callback = Callback::verbatim(&account, &user, xml.to_vec());
        assert_eq!(callback.to_clear(), xml);
        assert_eq!(callback.from().as_str(), "oOther");
        let beside = callback.to_sealed("abc=", true);
        assert!(beside.starts_with(&xml[..60]));
        assert!(beside.ends_with(b"<Encrypt><![CDATA[abc=]]></Encrypt>\n</xml>"));
        let json = Callback::verbatim(&account, &user, b"{\"a\":\"\n\"}".to_vec());
        assert_eq!(
            json.to_sealed("e", true),
            b"{\"a\":\"\n\",\"Encrypt\":\"e\"}"
        );
        assert_eq!(json.from(), &user);
    }

    #[test]
    fn json_has_the_same_names_with_lists_for_repeated_fields() {
        let action = UserAction::raw([
            Field::text("MsgType", "event"),
            Field::text("Event", "subscribe_msg_popup_event"),
            Field::group("List", [Field::text("TemplateId", "T\"1")]),
            Field::group("List", [Field::text("TemplateId", "T2")]),
        ]);
        assert_eq!(
            clear(&compose(&action, Format::Json)),
            r#"{"ToUserName":"gh_1","FromUserName":"oUser","CreateTime":1700000000,"#.to_owned()
                + r#""MsgType":"event","Event":"subscribe_msg_popup_event","#
                + r#""List":[{"TemplateId":"T\"1"},{"TemplateId":"T2"}]}"#
        );
    }

    #[test]
    fn only_what_a_user_waits_for_shows_replies() {
        let visible = |action: &UserAction| compose(action, Format::Xml).shows_replies();
        assert!(visible(&UserAction::text("a")) && visible(&UserAction::click("K")));
        assert!(visible(&UserAction::follow()) && visible(&UserAction::scan("1", "T")));
        assert!(
            !visible(&UserAction::unsubscribe())
                && !visible(&UserAction::view("https://x.example"))
        );
        assert!(!visible(&UserAction::template_sent(1, "success")));
    }
}
