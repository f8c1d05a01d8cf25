//! The test host keeps the promises of the real one.

use super::{TestHost, click, event, subscribe, text};
use crate::prelude::*;
use crate::{Expectation, Fault, random, time};

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
            "secret" => Reply::text(config::secret("api-key")?).into(),
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
    let mut host = TestHost::new()
        .config(&serde_json::json!(["a", "b"]))
        .secret("api-key");
    assert_eq!(
        host.run::<Puppet>(&text("settings")).reply_text(),
        Some("ab")
    );
    assert_eq!(
        host.run::<Puppet>(&text("secret")).reply_text(),
        Some("secret:api-key")
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
