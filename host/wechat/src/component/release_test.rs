//! What WeChat checks before it releases a platform to everybody (全网发布检测): accounts of its own
//! authorise the platform, write to it, and expect exactly these answers.

use crate::body::Format;

/// WeChat's test accounts, official accounts only. Any one of them may be used.
pub const ACCOUNTS: &[&str] = &[
    "wx570bc396a51b8ff8",
    "wx9252c5e0bb1836fc",
    "wx8e1097c5bc82cde9",
    "wx14550af28c71a144",
    "wxa35b9c23cfe664eb",
];

/// The text that asks for a passive reply.
const TEXT: &str = "TESTCOMPONENT_MSG_TYPE_TEXT";
/// What stands before the code in the text that asks for a customer-service message.
const CODE: &str = "QUERY_AUTH_CODE:";

/// What is expected of the platform.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// A text as the passive reply, at once.
    Reply(String),
    /// No reply, and then a customer-service message with the text [`message`] of this code.
    Message {
        /// The authorisation code, to be exchanged first.
        code: String,
    },
}

/// What a test account's message or event asks for, in clear as it came.
pub fn expected(clear: &[u8]) -> Option<Expected> {
    let tree = Format::of(clear).parse(clear).ok()?;
    match tree.text("MsgType")? {
        "text" => of_text(tree.text("Content")?),
        "event" => Some(of_event(tree.text("Event")?)),
        _ => None,
    }
}

/// What a text asks for.
fn of_text(content: &str) -> Option<Expected> {
    let content = content.trim();
    if content == TEXT {
        return Some(Expected::Reply(format!("{TEXT}_callback")));
    }
    let code = content.strip_prefix(CODE)?.trim();
    (!code.is_empty()).then(|| Expected::Message { code: code.into() })
}

/// What an event asks for.
fn of_event(event: &str) -> Expected {
    Expected::Reply(format!("{event}from_callback"))
}

/// The text of the customer-service message for a code.
pub fn message(code: &str) -> String {
    format!("{code}_from_api")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wechat_demands() {
        let reply = |text: &str| Some(Expected::Reply(text.into()));
        assert_eq!(
            of_text("TESTCOMPONENT_MSG_TYPE_TEXT"),
            reply("TESTCOMPONENT_MSG_TYPE_TEXT_callback")
        );
        assert_eq!(
            of_text("QUERY_AUTH_CODE:queryauthcode@@@1"),
            Some(Expected::Message {
                code: "queryauthcode@@@1".into()
            })
        );
        assert_eq!(of_text("QUERY_AUTH_CODE:"), None);
        assert_eq!(of_text("hello"), None);
        let event = b"<xml><MsgType>event</MsgType><Event>LOCATION</Event></xml>";
        assert_eq!(expected(event), reply("LOCATIONfrom_callback"));
        let image = b"<xml><MsgType>image</MsgType><PicUrl>a</PicUrl></xml>";
        assert_eq!(expected(image), None);
        assert_eq!(message("a"), "a_from_api");
    }
}
