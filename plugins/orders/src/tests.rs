//! What the notices say, and that settings, kinds and schemas fit each other.

use serde_json::{Value, json};
use wxhost_sdk::push::{Composition, Message};
use wxhost_sdk::testing::{TestHost, push, recipient};

use super::Orders;

fn settings() -> Value {
    serde_json::from_str(include_str!("../example.json")).unwrap()
}

fn shipped() -> Value {
    json!({"order": "42", "goods": "{order} tea", "carrier": "SF", "tracking": "SF1"})
}

fn compose(kind: &str, data: &Value) -> Vec<Composition> {
    let mut host = TestHost::new().config(&settings());
    let people = [recipient("oA"), recipient("oB")];
    host.compose::<Orders>(&push(kind, data), &people)
        .result
        .unwrap()
}

#[test]
fn an_order_that_left_is_told_in_the_chat_or_by_template() {
    let composed = compose("order-shipped", &shipped());
    assert_eq!(composed.len(), 2);
    // What a customer's order is called fills nothing in.
    let text = "您的订单 42({order} tea)已由SF发出,运单号 SF1。";
    assert_eq!(composed[0].texts(), [text]);
    let Composition::Send(messages) = &composed[1] else {
        panic!("{composed:?}");
    };
    let Message::Template(template) = &messages[1] else {
        panic!("{messages:?}");
    };
    assert_eq!(template.open_id, "oB");
    assert_eq!(
        template.data[0],
        ("character_string1".into(), "42".to_owned())
    );
    assert_eq!(
        template.url.as_deref(),
        Some("https://shop.example.com/orders/42")
    );
}

#[test]
fn money_is_told_in_yuan() {
    let data = json!({"order": "42", "amount_fen": 1205, "paid": true});
    let composed = compose("payment-result", &data);
    assert_eq!(composed[0].texts(), ["订单 42 支付 12.05 元。"]);
}

#[test]
fn what_is_not_there_is_left_out() {
    let composed = compose("form-result", &json!({"form": "f", "result": "accepted"}));
    assert_eq!(composed[0].texts(), ["您提交的「f」:accepted。"]);
    let mut host = TestHost::new();
    let composed = host.compose::<Orders>(&push("form-result", &json!({})), &[recipient("oA")]);
    let expected = Composition::skip("no-notice-is-set");
    assert_eq!(composed.result.unwrap(), [expected]);
}

#[test]
fn the_example_fits_the_schema_and_each_kind_has_one_of_its_own() {
    let schema: Value = serde_json::from_str(include_str!("../schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&settings()));
    assert!(!validator.is_valid(&json!({"order-shipped": {}})));
    let manifest: toml::Table = include_str!("../plugin.toml").parse().unwrap();
    let kinds = manifest["push"].as_array().unwrap();
    for kind in kinds {
        let schema: Value = serde_json::from_str(kind["schema"].as_str().unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let fits = validator.is_valid(&shipped());
        assert_eq!(fits, kind["kind"].as_str() == Some("order-shipped"));
        assert!(settings().get(kind["kind"].as_str().unwrap()).is_some());
    }
    assert_eq!(kinds.len(), 4);
}
