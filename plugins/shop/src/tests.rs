//! The shop with its example settings.

use super::Shop;
use wxhost_sdk::orders::OrderState;
use wxhost_sdk::testing::{TestHost, closed, paid, refund_failed, refunded, text};
use wxhost_sdk::{Effect, Event};

const PUER: u64 = 19_900;

fn example() -> serde_json::Value {
    serde_json::from_str(include_str!("../example.json")).expect("the example is JSON")
}

fn host() -> TestHost {
    TestHost::new().config(&example())
}

fn says(said: &str) -> Event {
    let mut event = text(said).from_user("oAnna");
    event.id = format!("m:{said}");
    event
}

/// The number of an order that was placed by these words.
fn number_of(said: &str) -> String {
    wxhost_sdk::pay::number_of("shop", &format!("m:{said}"))
}

fn answer(host: &mut TestHost, said: &str) -> String {
    let run = host.deliver::<Shop>(&says(said));
    assert!(run.committed, "{run:?}");
    run.reply_text().unwrap_or_default().to_owned()
}

#[test]
fn the_example_keeps_to_the_schema_and_nonsense_does_not() {
    let schema = serde_json::from_str(include_str!("../schema.json")).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is a JSON Schema");
    assert!(schema.is_valid(&example()));
    for nonsense in [
        serde_json::json!({}),
        serde_json::json!({ "items": [] }),
        serde_json::json!({ "items": [{ "key": "a", "name": "A", "price_fen": 0, "stock": 1 }] }),
        serde_json::json!({ "items": [{ "key": "a b", "name": "A", "price_fen": 1, "stock": 1 }] }),
        serde_json::json!({ "items": [{ "key": "a", "name": "A", "price_fen": 1.5, "stock": 1 }] }),
    ] {
        assert!(!schema.is_valid(&nonsense), "{nonsense}");
    }
}

#[test]
fn an_order_keeps_goods_and_leads_to_the_page() {
    let mut host = host();
    assert!(answer(&mut host, "商品").contains("普洱一饼 ¥199.00，还有3件"));
    let said = answer(&mut host, "买 puer x2");
    let number = number_of("买 puer x2");
    assert!(
        said.starts_with("普洱一饼 ×2，共¥398.00。请在30分钟内支付：https://pay.example/pay/"),
        "{said}"
    );
    assert!(said.ends_with(&number), "{said}");
    let order = host.order(&number).expect("an order");
    assert_eq!(
        (order.total, order.open_id.as_deref()),
        (2 * PUER, Some("oAnna"))
    );
    assert!(answer(&mut host, "商品").contains("还有1件"));
    // WeChat delivers it again: the same order, and nothing is kept twice.
    let again = host.run::<Shop>(&says("买 puer x2"));
    assert!(
        again
            .reply_text()
            .is_some_and(|said| said.contains("只剩1件")),
        "{again:?}"
    );
    assert!(answer(&mut host, "买puer x3").contains("只剩1件"));
    for nonsense in ["买", "买 nothing", "买 puer x0", "买 puer x100", "hello"] {
        assert!(
            answer(&mut host, nonsense).starts_with("回复“商品”"),
            "{nonsense}"
        );
    }
}

#[test]
fn who_has_paid_is_told_so() {
    let mut host = host();
    answer(&mut host, "买 puer");
    let number = number_of("买 puer");
    let run = host.pay::<Shop>(&paid(&number, "oAnna", PUER));
    assert!(run.committed);
    let [Effect::SendTemplate(sent)] = host.sent() else {
        panic!("one template message: {:?}", host.sent());
    };
    assert_eq!(sent.open_id, "oAnna");
    assert!(
        sent.data
            .contains(&("amount3".to_owned(), "¥199.00".to_owned())),
        "{sent:?}"
    );
    let mut settings = example();
    settings["paid_template"].take();
    settings
        .as_object_mut()
        .expect("an object")
        .remove("paid_template");
    let mut plain = TestHost::new().config(&settings);
    plain.pay::<Shop>(&paid("shop-000001", "oAnna", 5800));
    assert!(
        matches!(plain.sent(), [Effect::SendMessage(_)]),
        "{:?}",
        plain.sent()
    );
}

#[test]
fn who_does_not_pay_gives_the_goods_back_once() {
    let mut host = host();
    answer(&mut host, "买 puer x3");
    assert!(answer(&mut host, "商品").contains("普洱一饼 ¥199.00，售罄"));
    let number = number_of("买 puer x3");
    for _ in 0..2 {
        let run = host.pay::<Shop>(&closed(&number, "oAnna", 3 * PUER));
        assert!(run.committed);
    }
    assert!(answer(&mut host, "商品").contains("还有3件"));
    assert!(answer(&mut host, "订单").contains("已关闭"));
}

#[test]
fn money_goes_back_to_whose_order_it_is() {
    let mut host = host();
    answer(&mut host, "买 puer");
    let number = number_of("买 puer");
    let wants = format!("退款 {number}");
    assert!(answer(&mut host, &wants).contains("还没有支付"));
    host.pay::<Shop>(&paid(&number, "oAnna", PUER));
    let other = text(&wants).from_user("oBob");
    let run = host.deliver::<Shop>(&other);
    assert!(run.effects().is_empty(), "{run:?}");
    assert!(answer(&mut host, "退款").contains("没有找到"));
    assert!(answer(&mut host, &wants).contains("正在退还¥199.00"));
    assert!(answer(&mut host, &wants).contains("已经在退款了"));
    assert_eq!(host.order(&number).map(|order| order.refunded), Some(PUER));
    let refund = (&*format!("refund-{number}"), PUER);
    host.pay::<Shop>(&refunded(&number, "oAnna", refund));
    assert!(answer(&mut host, "商品").contains("还有3件"));
    let order = host.order(&number).expect("an order");
    assert_eq!(order.state, OrderState::Paid);
    assert!(answer(&mut host, "订单").contains("已退款"));
}

#[test]
fn without_a_ledger_the_failure_is_the_hosts() {
    let mut host = host().unavailable();
    let run = host.deliver::<Shop>(&says("订单"));
    let fault = run.error().map(wxhost_sdk::Error::fault);
    assert_eq!(fault, Some(wxhost_sdk::Fault::Dependency));
}

/// A shop of other goods, which its schema has to take.
fn shop_of(items: serde_json::Value) -> TestHost {
    let settings = serde_json::json!({ "items": items });
    let schema = serde_json::from_str(include_str!("../schema.json")).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is a JSON Schema");
    assert!(schema.is_valid(&settings), "{settings}");
    TestHost::new().config(&settings)
}

#[test]
fn a_key_that_looks_like_a_number_of_things_is_a_key() {
    let mut host = shop_of(serde_json::json!([
        { "key": "box2", "name": "盒子", "price_fen": 100, "stock": 5 },
        { "key": "bo", "name": "别的", "price_fen": 900, "stock": 5 },
    ]));
    for (said, expected) in [
        ("买 box2", "盒子，共¥1.00"),
        ("买 BOX2", "盒子，共¥1.00"),
        ("买 box2 x2", "盒子 ×2，共¥2.00"),
        ("买 bo x3", "别的 ×3，共¥27.00"),
    ] {
        let answered = answer(&mut host, said);
        assert!(answered.starts_with(expected), "{said}: {answered}");
    }
}

#[test]
fn a_long_list_fits_into_a_reply() {
    let items = (0..50).map(|n| {
        serde_json::json!({
            "key": format!("item{n}"), "name": "龙".repeat(40), "price_fen": 10_000_000,
            "stock": 1_000_000,
        })
    });
    let said = answer(&mut shop_of(items.collect()), "商品");
    assert!(said.len() <= 2048, "{} bytes", said.len());
    assert!(said.ends_with("……\n回复“买 编号”下单。"), "{said}");
}

#[test]
fn who_gets_a_part_back_keeps_the_goods() {
    let mut host = host();
    answer(&mut host, "买 puer x2");
    let number = number_of("买 puer x2");
    host.pay::<Shop>(&paid(&number, "oAnna", 2 * PUER));
    host.pay::<Shop>(&refunded(&number, "oAnna", ("discount-1", PUER)));
    assert!(answer(&mut host, "商品").contains("还有1件"));
    host.pay::<Shop>(&refunded(&number, "oAnna", ("discount-2", PUER)));
    assert!(answer(&mut host, "商品").contains("还有3件"));
}

#[test]
fn a_refund_that_failed_can_be_asked_for_again() {
    let mut host = host();
    answer(&mut host, "买 puer");
    let number = number_of("买 puer");
    host.pay::<Shop>(&paid(&number, "oAnna", PUER));
    let wants = format!("退款 {number}");
    assert!(answer(&mut host, &wants).contains("正在退还"));
    let refund = (&*format!("refund-{number}"), PUER);
    host.pay::<Shop>(&refund_failed(&number, "oAnna", refund));
    assert!(
        matches!(host.sent().last(), Some(Effect::SendMessage(_))),
        "{:?}",
        host.sent()
    );
    assert_eq!(host.order(&number).map(|order| order.refunded), Some(0));
    let run = host.deliver::<Shop>(&says(&wants));
    let [Effect::Refund(again)] = run.effects() else {
        panic!("one refund: {run:?}");
    };
    assert_eq!(again.out_refund_no, format!("refund-{number}-1"));
    assert_eq!(host.order(&number).map(|order| order.refunded), Some(PUER));
}

#[test]
fn what_others_sell_to_the_account_is_not_given_back_by_a_word() {
    let mut host = host();
    host.pay::<Shop>(&paid("webshop-000001", "oAnna", 5800));
    let run = host.deliver::<Shop>(&says("退款 webshop-000001"));
    assert!(run.effects().is_empty(), "{run:?}");
    let prose = format!("退款 {}", "什么时候".repeat(30));
    assert!(answer(&mut host, &prose).contains("没有找到"));
}
