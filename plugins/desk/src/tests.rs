//! The desk with its example settings.

use super::Desk;
use wxhost_sdk::testing::{TestHost, click, image, scan, subscribe, subscribe_by, text};
use wxhost_sdk::{Event, Fault, Reply};

fn example() -> serde_json::Value {
    serde_json::from_str(include_str!("../example.json")).expect("the example is JSON")
}

fn host() -> TestHost {
    TestHost::new().config(&example())
}

/// Delivers events in turn and expects a reply that begins with these words; `None` for no reply.
fn check(mut host: TestHost, exchanges: &[(Event, Option<&str>)]) -> TestHost {
    for (event, expected) in exchanges {
        let run = host.deliver::<Desk>(event);
        match (run.reply_text(), expected) {
            (Some(reply), Some(expected)) => assert!(reply.starts_with(expected), "{reply}"),
            (reply, expected) => assert_eq!(reply, *expected, "{event:?}"),
        }
        assert!(run.committed, "{run:?}");
    }
    host
}

#[test]
fn the_example_keeps_to_the_schema_and_nonsense_does_not() {
    let schema = serde_json::from_str(include_str!("../schema.json")).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is a JSON Schema");
    assert!(schema.is_valid(&example()));
    assert!(schema.is_valid(&serde_json::json!({})));
    for nonsense in [
        serde_json::json!({ "topics": [{ "name": "no reply" }] }),
        serde_json::json!({ "welcome": "" }),
        serde_json::json!({ "greeting": "misspelt" }),
        serde_json::json!({ "fallback": "x".repeat(2049) }),
    ] {
        assert!(!schema.is_valid(&nonsense), "{nonsense}");
    }
}

#[test]
fn keywords_and_menu_keys_lead_to_topics() {
    check(
        host(),
        &[
            (text("What are your HOURS?"), Some("We are open")),
            (text("请问营业时间"), Some("We are open")),
            (click("MENU"), Some("Today:")),
            (click("hours"), None),
            (text("parking"), Some("Sorry")),
            (image("MEDIA"), None),
        ],
    );
}

#[test]
fn followers_are_greeted_by_the_code_that_they_came_by() {
    check(
        host(),
        &[
            (subscribe(), Some("Welcome to the Tea House")),
            (subscribe_by("table-7"), Some("Welcome to table 7")),
            (subscribe_by("unknown"), Some("Welcome to the Tea House")),
            (scan("table-7"), Some("Welcome to table 7")),
            (scan("unknown"), None),
        ],
    );
}

#[test]
fn the_last_topic_is_remembered_for_each_user() {
    let anna = |content| text(content).from_user("oAnna");
    let bert = |content| text(content).from_user("oBert");
    let host = check(
        host(),
        &[
            (anna("more"), Some("Sorry")),
            (anna("hours"), Some("We are open")),
            (bert("tea"), Some("Today:")),
            (anna("tell me more"), Some("On public holidays")),
            (bert("更多"), Some("A pot of Longjing")),
        ],
    );
    assert_eq!(host.text("topic/oAnna"), Some("hours"));
    assert_eq!(
        (host.text("visits/oAnna"), host.text("visits/oBert")),
        (Some("3"), Some("2"))
    );
}

#[test]
fn a_person_takes_over_on_request() {
    let mut settings = example();
    let mut host = host();
    assert_eq!(
        host.run::<Desk>(&text("转人工")).reply(),
        Some(&Reply::customer_service())
    );
    assert_eq!(
        host.run::<Desk>(&click("HUMAN")).reply(),
        Some(&Reply::customer_service())
    );
    settings["human"]["account"] = "test1@test".into();
    let mut host = TestHost::new().config(&settings);
    let agent = Reply::customer_service_agent("test1@test");
    assert_eq!(host.deliver::<Desk>(&text("agent")).reply(), Some(&agent));
    assert_eq!(host.text("visits/oUser"), Some("1"));
}

#[test]
fn without_settings_the_desk_keeps_quiet() {
    let events = [text("hours"), subscribe(), scan("table-7"), click("MENU")];
    check(TestHost::new(), &events.map(|event| (event, None)));
}

#[test]
fn failures_name_whose_fault_they_are() {
    let check = |mut host: TestHost, fault| {
        let run = host.deliver::<Desk>(&text("hours"));
        assert_eq!(run.error().map(wxhost_sdk::Error::fault), Some(fault));
    };
    check(
        TestHost::new().config(&serde_json::json!({ "topics": 1 })),
        Fault::Config,
    );
    check(host().unavailable(), Fault::Dependency);
    check(host().value("visits/oUser", "many"), Fault::Bug);
}
