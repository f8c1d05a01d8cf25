//! Real bodies: each parses to the tree that an independent parser found, and no message loses a field.

use std::collections::BTreeSet;
use std::fs;

use wxhost_wechat::body::Format;
use wxhost_wechat::message::{Content, Message};

use crate::data;

/// What a message's own fields tell, so that it is neither in `content` nor in `extra`.
const COMMON: [&str; 5] = [
    "ToUserName",
    "FromUserName",
    "CreateTime",
    "MsgType",
    "Event",
];

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(data::path("samples")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name != "index.json" && name != "expected.json")
        .collect()
}

#[test]
fn every_sample_is_listed() {
    let index = data::json("samples/index.json");
    let index = index.as_array().unwrap().iter();
    let index: BTreeSet<_> = index
        .map(|row| row["file"].as_str().unwrap().to_owned())
        .collect();
    let expected = data::json("samples/expected.json");
    let expected: BTreeSet<_> = expected["samples"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(index, names());
    assert_eq!(expected, names());
}

#[test]
fn every_sample_parses_to_the_expected_tree() {
    let expected = data::json("samples/expected.json");
    for name in names() {
        let body = data::bytes(&format!("samples/{name}"));
        let format = Format::of(&body);
        let sample = &expected["samples"][&name];
        assert_eq!(
            format.to_string(),
            sample["format"].as_str().unwrap(),
            "{name}"
        );
        assert_eq!(
            format.parse(&body).unwrap().to_json(),
            sample["fields"],
            "{name}"
        );
    }
}

#[test]
fn every_sample_of_a_message_is_typed_and_loses_nothing() {
    let mut messages = 0;
    let mut untyped = Vec::new();
    for name in names()
        .iter()
        .filter(|name| name.starts_with("msg-") || name.starts_with("event-"))
    {
        let body = data::bytes(&format!("samples/{name}"));
        let tree = Format::of(&body).parse(&body).unwrap();
        let fields = tree.flatten();
        let message = Message::from_tree(tree).unwrap_or_else(|error| panic!("{name}: {error}"));
        let content = format!("{:?}", message.content);
        for (path, value) in &fields {
            let told = COMMON.contains(&path.as_str());
            let extra = message
                .extra
                .iter()
                .any(|(own, text)| own == path && text == value);
            assert!(
                told || extra || holds(&content, value),
                "{name}: {path} is lost"
            );
            assert!(!(told && extra), "{name}: {path} is told twice");
        }
        if let Content::Other(_) = message.content {
            untyped.push(name.strip_suffix(".xml").unwrap().to_owned());
        }
        messages += 1;
    }
    assert_eq!(messages, 50);
    let families = [
        "submit-invoice-title",
        "user-consume-card",
        "user-get-card",
        "user-scan-product",
    ];
    let mut families: Vec<_> = families
        .iter()
        .map(|family| format!("event-{family}"))
        .collect();
    families.push("msg-unknown-type".to_owned());
    assert_eq!(untyped, families);
}

/// Whether a content, printed, shows a value: as text, or as the number that it spells.
fn holds(content: &str, value: &str) -> bool {
    let number = value.parse::<f64>().map(|number| format!("{number:?}"));
    content.contains(&format!("{value:?}"))
        || content.contains(&format!(": {value}"))
        || content.contains(&format!("({value})"))
        || number.is_ok_and(|number| content.contains(&number))
}

#[test]
fn every_sample_of_a_component_is_a_tree_but_no_message() {
    for name in names().iter().filter(|name| name.starts_with("component-")) {
        let body = data::bytes(&format!("samples/{name}"));
        let tree = Format::of(&body).parse(&body).unwrap();
        assert!(tree.text("InfoType").is_some(), "{name}");
        assert_eq!(
            Message::from_tree(tree).unwrap_err().code(),
            "malformed-message",
            "{name}"
        );
    }
}
