//! Properties of calls to WeChat: what people write arrives as it is, and nothing that is answered
//! makes us panic.

use proptest::prelude::*;
use serde_json::Value;
use wxhost_wechat::api::{
    Call, customer_message as custom, kf_session, mass, menu, subscription, tag, template, token,
    user,
};
use wxhost_wechat::errcode;
use wxhost_wechat::id::OpenId;

fn person() -> OpenId {
    OpenId::parse("oA").unwrap()
}

/// Every place where people's words go out, with `text` in it.
fn bodies(text: &str) -> Vec<String> {
    let text = text.to_owned();
    let data = template::Data(vec![(text.clone(), text.clone())]);
    let click = menu::Entry {
        name: text.clone(),
        action: menu::Action::Click { key: text.clone() },
    };
    let requests = [
        custom::Send {
            open_id: person(),
            content: custom::Content::Text {
                content: text.clone(),
            },
            kf_account: Some(text.clone()),
        }
        .request(),
        template::Send {
            open_id: person(),
            template_id: text.clone(),
            url: Some(text.clone()),
            mini_program: None,
            data,
            client_msg_id: None,
        }
        .request(),
        subscription::Send {
            open_id: person(),
            template_id: text.clone(),
            page: Some(text.clone()),
            mini_program: None,
            data: subscription::Data(vec![("time1".into(), text.clone())]),
            miniprogram_state: None,
            language: None,
        }
        .request(),
        mass::Preview {
            to: mass::Reviewer::WeChatId(text.clone()),
            content: mass::Content::Text {
                content: text.clone(),
            },
        }
        .request(),
        menu::Create {
            buttons: vec![menu::Button::Entry(click)],
        }
        .request(),
        tag::Create { name: text.clone() }.request(),
        user::SetRemark {
            open_id: person(),
            remark: text,
        }
        .request(),
    ];
    let json = |request: wxhost_wechat::api::Request| request.json().unwrap().to_owned();
    requests
        .into_iter()
        .map(|request| json(request.unwrap()))
        .collect()
}

/// Texts that fit into each of those places.
fn words() -> impl Strategy<Value = String> {
    "[^\\p{Cc}\\\\\"]{1,4}".prop_filter("template data are not named so", |text| {
        !text.ends_with(".DATA")
    })
}

proptest! {
    #[test]
    fn no_printable_character_is_escaped(text in words()) {
        for body in bodies(&text) {
            prop_assert!(!body.contains('\\'), "{}", body);
            prop_assert!(body.contains(&text), "{}", body);
            prop_assert!(serde_json::from_str::<Value>(&body).is_ok(), "{}", body);
        }
    }

    #[test]
    fn text_arrives_without_its_control_characters(text in "[a你\\u{0}-\\u{1f}\"\\\\]{1,300}x") {
        let send = custom::Send {
            open_id: person(),
            content: custom::Content::Text { content: text.clone() },
            kf_account: None,
        };
        let request = send.request().unwrap();
        prop_assert!(!request.json().unwrap().contains("\\u"));
        let body: Value = serde_json::from_str(request.json().unwrap()).unwrap();
        let shown = |character: &char| !character.is_control() || "\t\n\r".contains(*character);
        let expected: String = text.chars().filter(shown).collect();
        prop_assert_eq!(body["text"]["content"].as_str(), Some(&*expected));
    }

    #[test]
    fn every_errcode_is_found_as_a_number_or_a_text(code: i64, errmsg in "\\PC{0,40}") {
        let number = serde_json::json!({ "errcode": code, "errmsg": errmsg }).to_string();
        let text = serde_json::json!({ "errmsg": errmsg, "errcode": code.to_string() }).to_string();
        for body in [number, text] {
            let found = errcode::read(body.as_bytes()).err().map(|error| error.errcode.0);
            prop_assert_eq!(found, (code != 0).then_some(code));
        }
    }

    #[test]
    fn no_answer_makes_a_reader_panic(bytes: Vec<u8>, json in "[\\[\\]{}\":,0-9a\\\\ ]{0,40}") {
        let named = ["errcode", "msgid", "menu", "data", "access_token", "recordlist", "total"];
        let named = named.map(|name| format!("{{\"{name}\":{json}}}").into_bytes());
        for body in named.iter().chain([&bytes]) {
            let _ = errcode::read(body);
            let _ = template::Send::answer(body);
            let _ = menu::Get::answer(body);
            let _ = user::Followers::answer(body);
            let _ = token::Ticket::answer(body);
            let _ = kf_session::History::answer(body);
            let _ = mass::SendToAll::answer(body);
        }
    }
}
