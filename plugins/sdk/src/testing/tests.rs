//! The test host keeps the promises of the real one.

use super::{TestHost, click, event, subscribe, text, user};
use crate::egress::{Part, Request, Response};
use crate::message::{CustomerMessage, TemplateMessage};
use crate::prelude::*;
use crate::{Expectation, Fault, random, time, wechat_api};
use std::collections::BTreeMap;

/// Does what the text says.
struct Puppet;

impl CallbackHandler for Puppet {
    fn on_text(event: &Event, text: &Text) -> Result {
        match text.content.as_str() {
            "count" => {
                let count = kv::get_json::<u64>("count")?.unwrap_or(0) + 1;
                Outcome::reply(Reply::text(count.to_string())).put_json("count", &count)
            }
            "once" => Ok(Outcome::none()
                .put("other", "x")
                .put_new("first", &*event.open_id)),
            "list" => {
                let keys: Result<Vec<_>, _> = kv::items("k/")
                    .map(|item| item.map(|item| item.key))
                    .collect();
                Reply::text(keys?.join(",")).into()
            }
            "log" => {
                log::warn("odd");
                Ok(Outcome::none())
            }
            "cache" => {
                let before = cache::get_json::<u64>("seen")?;
                cache::set_json("seen", &time::now_ms(), 60)?;
                Reply::text(format!("{before:?}")).into()
            }
            "random" => Reply::text(format!("{} {:?}", random::number(), random::bytes(2))).into(),
            "secret" => {
                let request = Request::get("https://erp.example.com/")
                    .header_of("x-key", [Part::secret("api-key")]);
                Reply::text(request.send()?.text()?).into()
            }
            "note" => {
                let contact = contacts::get(&event.open_id)?;
                let known: BTreeMap<String, u32> = match contact {
                    Some(contact) => contact.attributes()?,
                    None => BTreeMap::new(),
                };
                let visits = known.get("visits").unwrap_or(&0) + 1;
                Outcome::reply(Reply::text(visits.to_string()))
                    .tag(&event.open_id, [7])
                    .remark(&event.open_id, "VIP")
                    .attributes(&event.open_id, &BTreeMap::from([("visits", visits)]))
            }
            "send" => Ok(Outcome::none()
                .send(CustomerMessage::text(&event.open_id, "hello"))
                .send(TemplateMessage::new(&event.open_id, "T").field("first", "hello"))),
            "stop" => Ok(Outcome::none().opt_out(&event.open_id, true)),
            "tags" => {
                let tags: serde_json::Value = wechat_api::get("/cgi-bin/tags/get", &[])?;
                Reply::text(tags["tags"][0]["name"].as_str().unwrap_or("none")).into()
            }
            "user" => Reply::text(wechat_api::user_info(&event.open_id)?.subscribe_scene).into(),
            "order" => {
                let order = serde_json::json!({"id": event.id});
                let answer =
                    Request::post_json("https://erp.example.com/orders", &order)?.send()?;
                Reply::text(answer.text()?).into()
            }
            _ => {
                let settings: Vec<String> = config::parse()?;
                Reply::text(settings.concat()).into()
            }
        }
    }

    fn otherwise(event: &Event) -> Result {
        Reply::text(format!("other {}", event.field("MsgId").unwrap_or("none"))).into()
    }
}

#[test]
fn effects_of_one_event_are_read_by_the_next() {
    let mut host = TestHost::new();
    assert_eq!(host.run::<Puppet>(&text("count")).reply_text(), Some("1"));
    assert_eq!(host.text("count"), None, "run commits nothing");
    assert!(host.deliver::<Puppet>(&text("count")).committed);
    assert_eq!(
        host.deliver::<Puppet>(&text("count")).reply_text(),
        Some("2")
    );
    assert_eq!(host.text("count"), Some("2"));
}

#[test]
fn a_broken_expectation_commits_nothing_of_the_outcome() {
    let mut host = TestHost::new().value("first", "oAnna");
    let run = host.deliver::<Puppet>(&text("once").from_user("oBert"));
    assert!(!run.committed);
    assert_eq!(
        (host.text("first"), host.text("other")),
        (Some("oAnna"), None)
    );
    assert!(matches!(
        run.effects(),
        [_, crate::Effect::KvPut(put)] if put.expect == Expectation::Absent
    ));
}

#[test]
fn a_listing_goes_over_all_pages_in_byte_order() {
    let keys: Vec<_> = (0..250).map(|n| format!("k/{n:03}")).collect();
    let mut host = TestHost::new().value("j", "").value("l", "");
    for key in keys.iter().rev() {
        host = host.value(key, "");
    }
    assert_eq!(
        host.run::<Puppet>(&text("list")).reply_text(),
        Some(&*keys.join(","))
    );
}

#[test]
fn cached_values_expire() {
    let mut host = TestHost::new().at_ms(5);
    assert_eq!(
        host.run::<Puppet>(&text("cache")).reply_text(),
        Some("None")
    );
    host.advance_ms(59_999);
    assert_eq!(
        host.run::<Puppet>(&text("cache")).reply_text(),
        Some("Some(5)")
    );
    host.advance_ms(60_000);
    assert_eq!(
        host.run::<Puppet>(&text("cache")).reply_text(),
        Some("None")
    );
}

#[test]
fn errors_tell_whose_fault_they_are() {
    let check = |mut host: TestHost, content: &str, fault: Fault| {
        let run = host.deliver::<Puppet>(&text(content));
        assert_eq!(run.error().map(Error::fault), Some(fault), "{run:?}");
        assert!(!run.committed);
    };
    check(TestHost::new().unavailable(), "count", Fault::Dependency);
    check(TestHost::new().value("count", "x"), "count", Fault::Bug);
    check(TestHost::new(), "secret", Fault::Config);
    check(TestHost::new(), "settings", Fault::Config);
}

#[test]
fn settings_secrets_log_and_random_numbers_are_answered() {
    let answer = Response {
        status: 200,
        headers: Vec::new(),
        body: b"known".to_vec(),
    };
    let mut host = TestHost::new()
        .config(&serde_json::json!(["a", "b"]))
        .secret("api-key")
        .web("https://erp.example.com/", Ok(answer));
    assert_eq!(
        host.run::<Puppet>(&text("settings")).reply_text(),
        Some("ab")
    );
    assert_eq!(
        host.run::<Puppet>(&text("secret")).reply_text(),
        Some("known")
    );
    let run = host.run::<Puppet>(&text("log"));
    assert_eq!(run.log, [(log::Level::Warn, "odd".to_owned())]);
    let first = host.run::<Puppet>(&text("random")).result;
    assert_ne!(host.run::<Puppet>(&text("random")).result, first);
    assert_eq!(TestHost::new().run::<Puppet>(&text("random")).result, first);
}

#[test]
fn kinds_without_a_method_end_in_otherwise() {
    let mut host = TestHost::new();
    for event in [click("KEY"), subscribe(), event(Content::Unsubscribe)] {
        assert_eq!(host.run::<Puppet>(&event).reply_text(), Some("other none"));
    }
}

#[test]
fn what_is_noted_of_a_contact_is_read_by_the_next_event() {
    let mut host = TestHost::new();
    host.deliver::<Puppet>(&text("note"));
    let run = host.deliver::<Puppet>(&text("note"));
    assert_eq!(run.reply_text(), Some("2"));
    let contact = host.contact_of("oUser").unwrap();
    assert_eq!(contact.tags, [7]);
    assert_eq!(
        (contact.remark.as_str(), contact.attributes.as_str()),
        ("VIP", r#"{"visits":2}"#)
    );
}

#[test]
fn messages_go_out_unless_the_person_opted_out() {
    let mut host = TestHost::new();
    host.deliver::<Puppet>(&text("send"));
    assert_eq!(host.sent().len(), 2);
    host.deliver::<Puppet>(&text("stop"));
    assert!(host.deliver::<Puppet>(&text("send")).committed);
    assert_eq!(host.sent().len(), 2);
}

#[test]
fn what_is_not_set_up_is_not_granted() {
    let mut host = TestHost::new();
    for content in ["tags", "order"] {
        let run = host.run::<Puppet>(&text(content));
        assert_eq!(
            run.error().map(Error::fault),
            Some(Fault::Config),
            "{run:?}"
        );
    }
    let run = host.run::<Puppet>(&text("user"));
    assert_eq!(run.error().map(Error::fault), Some(Fault::Dependency));
}

#[test]
fn wechat_and_other_systems_answer_as_they_were_told() {
    let answer = Response {
        status: 201,
        headers: Vec::new(),
        body: b"taken".to_vec(),
    };
    let tags = serde_json::json!({"tags": [{"id": 7, "name": "VIP"}]});
    let mut host = TestHost::new()
        .user(user("oUser"))
        .api("/cgi-bin/tags/get", Ok(tags))
        .web("https://erp.example.com/orders", Ok(answer));
    for (content, reply) in [
        ("tags", "VIP"),
        ("user", "ADD_SCENE_SEARCH"),
        ("order", "taken"),
    ] {
        let run = host.run::<Puppet>(&text(content));
        assert_eq!(run.reply_text(), Some(reply), "{run:?}");
    }
    assert_eq!(host.api_calls().len(), 1);
    let sent = Part::Bytes(br#"{"id":"m:1"}"#.to_vec());
    assert_eq!(host.fetches()[0].body, [sent]);
}
