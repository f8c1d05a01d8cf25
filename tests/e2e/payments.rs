//! People pay and get money back: each fen is accounted for once, whatever is told, repeated, lost or made up.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::wait;

use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::{Terms, Till};

scenarios! {
    BOTH: a_payment_is_told_once_however_often_it_is_told, a_notice_that_got_lost_is_found_by_asking,
        what_wechat_pay_did_not_say_is_not_believed, what_contradicts_an_order_is_kept_and_never_applied,
        money_goes_back_and_never_more_than_was_paid, an_order_of_one_number_is_one_order,
        a_merchant_changes_every_key_while_people_pay;
}

async fn a_payment_is_told_once_however_often_it_is_told(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    let placed = till.order(&host, "order-000001", 1990).await?;
    ensure!(
        placed["state"] == "unpaid" && placed["invocation"]["signType"] == "RSA",
        "{placed}"
    );
    let page = format!("{}/pay/{}/order-000001", host.base(), till.account.app_id());
    ensure!(placed["page_url"] == page, "{placed}");
    let plan = json!({"repeat": 6, "scale": 1000});
    till.api.pay(Method::PUT, "/notice-plan", &plan).await?;
    let transaction = till.pay("order-000001").await?;
    let paid = till.expect(&host, "order-000001", "paid").await?;
    ensure!(
        paid["transaction_id"] == transaction
            && paid["total_fen"] == 1990
            && paid["open_id"] == placed["open_id"]
            && paid["paid_at"].is_i64(),
        "{paid}"
    );
    let books = wait::until("a notice that was taken", wait::SOON, async || {
        let books = till.books().await?;
        let tries = books["notices"][0]["tries"].as_u64();
        Ok((tries >= Some(7)).then_some(books))
    })
    .await?;
    ensure!(books["notices"][0]["accepted"] == true, "{books}");
    // Seven came; one was applied.
    let events = wait::until("an event that is seen to", wait::SOON, async || {
        let events = till.events(&host).await?;
        Ok((events[0]["state"] == "done").then_some(events))
    })
    .await?;
    ensure!(
        events.len() == 1 && events[0]["kind"] == "paid",
        "{events:?}"
    );
    till.expect_books(&host).await?;
    let of = format!(
        "/api/v1/accounts/{}/ledger-history?merchant={}&subject=order/order-000001",
        till.account.app_id(),
        till.mch_id
    );
    let turns = host.admin().get(&of).await?;
    let states: Vec<_> = turns["turns"]
        .as_array()
        .context("turns")?
        .iter()
        .map(|turn| &turn["to"])
        .collect();
    ensure!(states == ["new", "unpaid", "paid"], "{turns}");
    stage.expect_sealed_in_redis(&till.site).await
}

async fn a_notice_that_got_lost_is_found_by_asking(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    till.api
        .pay(Method::PUT, "/notice-plan", &json!({"lose": 1}))
        .await?;
    till.order(&host, "order-000001", 500).await?;
    till.pay("order-000001").await?;
    // A tenant that can't wait asks by itself.
    let path = "orders/order-000001/query";
    let (status, asked) = till.call(&host, (Method::POST, path), None).await?;
    ensure!(
        status == 200 && asked["state"] == "paid",
        "{status}: {asked}"
    );
    // One that waits is told after a few seconds.
    till.api
        .pay(Method::PUT, "/notice-plan", &json!({"lose": 1}))
        .await?;
    till.order(&host, "order-000002", 500).await?;
    till.pay("order-000002").await?;
    till.expect(&host, "order-000002", "paid").await?;
    // One that nobody pays is closed on request, and can't be paid any more.
    till.order(&host, "order-000003", 500).await?;
    let close = (Method::POST, "orders/order-000003/close");
    let (status, closing) = till.call(&host, close, None).await?;
    ensure!(status == 202, "{status}: {closing}");
    till.expect(&host, "order-000003", "closed").await?;
    ensure!(
        till.pay("order-000003").await.is_err(),
        "a closed order was paid"
    );
    let again = till.jsapi("order-000003", 500)?;
    let (status, refused) = till
        .call(&host, (Method::POST, "orders"), Some(&again))
        .await?;
    ensure!(status == 409, "{status}: {refused}");
    let kinds = wait::until("three events", wait::SOON, async || {
        let events = till.events(&host).await?;
        let mut kinds: Vec<_> = events
            .iter()
            .filter_map(|event| event["kind"].as_str())
            .map(str::to_owned)
            .collect();
        kinds.sort_unstable();
        Ok((kinds.len() == 3).then_some(kinds))
    })
    .await?;
    ensure!(kinds == ["closed", "paid", "paid"], "{kinds:?}");
    till.expect_books(&host).await
}

async fn what_wechat_pay_did_not_say_is_not_believed(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    till.order(&host, "order-000001", 100).await?;
    for (kind, status, code) in [
        ("forged", 401, "notice-forged"),
        ("signtest", 401, "notice-forged"),
        ("unsigned", 401, "notice-unsigned"),
        ("stale", 401, "notice-stale"),
        ("truncated", 400, "notice-unreadable"),
        ("wrong-key", 400, "notice-unreadable"),
        ("negative-amount", 200, "成功"),
        ("fractional-amount", 400, "notice-unreadable"),
    ] {
        let told = till.forge("order-000001", kind).await?;
        let body = told["body"].as_str().unwrap_or_default();
        ensure!(
            told["status"] == status && body.contains(code),
            "{kind}: {told}"
        );
        let order = till.ledger(&host, "order-000001").await?;
        ensure!(order["state"] == "unpaid", "{kind}: {order}");
    }
    // Nobody is told whether there is such an account or merchant.
    for path in ["wx0000000000000000/1900000001", "shared"] {
        let url = format!("{}/notify/{path}", host.base());
        let answer = host.http().post(url).body("{}").send().await?;
        ensure!(
            matches!(answer.status().as_u16(), 401 | 404),
            "{}",
            answer.status()
        );
    }
    let url = format!(
        "{}/notify/{}/{}",
        host.base(),
        till.account.app_id(),
        till.mch_id
    );
    let large = host
        .http()
        .post(url)
        .body("x".repeat(300 << 10))
        .send()
        .await?;
    ensure!(large.status() == 413, "{}", large.status());
    till.expect_books(&host).await
}

async fn what_contradicts_an_order_is_kept_and_never_applied(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    till.order(&host, "order-000001", 100).await?;
    for (kind, code) in [
        ("wrong-app", "wrong-app"),
        ("wrong-merchant", "wrong-merchant"),
        ("wrong-amount", "wrong-amount"),
        ("wrong-currency", "wrong-currency"),
        ("unknown-order", "unknown-order"),
    ] {
        let told = till.forge("order-000001", kind).await?;
        ensure!(told["status"] == 200, "{kind}: {told}");
        let flagged = till.flagged(&host).await?;
        let reason = flagged[0]["reason"].as_str().unwrap_or_default();
        ensure!(
            flagged.len() == 1 && reason.starts_with(code),
            "{kind}: {flagged:?}"
        );
        let order = till.ledger(&host, "order-000001").await?;
        ensure!(order["state"] == "unpaid", "{kind}: {order}");
    }
    ensure!(host.metric("wxhost_pay_flagged_total").await? >= 5.0);
    // The genuine one is believed all the same.
    till.pay("order-000001").await?;
    till.expect(&host, "order-000001", "paid").await?;
    let told = till.forge("order-000001", "replayed").await?;
    ensure!(told["status"] == 200, "{told}");
    let kinds = till.events(&host).await?.len();
    ensure!(kinds == 1, "{kinds} events");
    till.expect_books(&host).await
}

async fn money_goes_back_and_never_more_than_was_paid(stage: Stage) -> Result<()> {
    let terms = Terms {
        grants: json!({"refunds": true, "approve_refunds_above_fen": 500}),
        ..Terms::default()
    };
    let (till, host) = Till::open_on(&stage, terms).await?;
    till.order(&host, "order-000001", 1000).await?;
    let refund = json!({"out_refund_no": "r1", "amount_fen": 400, "reason": "少了一两"});
    let (status, refused) = till.refund(&host, "order-000001", &refund).await?;
    ensure!(
        status == 409 && refused["error"]["code"] == "order-not-paid",
        "{refused}"
    );
    till.pay("order-000001").await?;
    till.expect(&host, "order-000001", "paid").await?;
    for (number, body, code) in [
        (
            "order-000001",
            json!({"out_refund_no": "r1", "amount_fen": 1001}),
            "refund-too-much",
        ),
        (
            "order-000001",
            json!({"out_refund_no": "r1", "amount_fen": 0}),
            "invalid-field",
        ),
        (
            "order-000001",
            json!({"out_refund_no": "r1", "amount_fen": -1}),
            "invalid-field",
        ),
        (
            "order-000001",
            json!({"out_refund_no": "r 1", "amount_fen": 1}),
            "invalid-field",
        ),
        (
            "order-000001",
            json!({"out_refund_no": "r1", "amount_fen": 1.5}),
            "invalid-body",
        ),
        (
            "order-000009",
            json!({"out_refund_no": "r1", "amount_fen": 1}),
            "not-found",
        ),
    ] {
        let (_, refused) = till.refund(&host, number, &body).await?;
        ensure!(refused["error"]["code"] == code, "{body}: {refused}");
    }
    let (status, asked) = till.refund(&host, "order-000001", &refund).await?;
    ensure!(
        status == 202 && asked["state"] == "asked",
        "{status}: {asked}"
    );
    let (status, again) = till.refund(&host, "order-000001", &refund).await?;
    ensure!(
        status == 202 && again["out_refund_no"] == "r1",
        "{status}: {again}"
    );
    let other = json!({"out_refund_no": "r1", "amount_fen": 300});
    let (status, differs) = till.refund(&host, "order-000001", &other).await?;
    ensure!(
        status == 409 && differs["error"]["code"] == "refund-differs",
        "{differs}"
    );
    let succeeded = async |number: &str| till.expect_refund(&host, number, "succeeded").await;
    succeeded("r1").await?;
    let (status, none) = till
        .refund(
            &host,
            "order-000001",
            &json!({"out_refund_no": "r2", "amount_fen": 601}),
        )
        .await?;
    ensure!(
        status == 409 && none["error"]["code"] == "refund-too-much",
        "{none}"
    );
    // Above the operator's threshold somebody has to approve it.
    let sell = async |number: &str, fen| {
        till.order(&host, number, fen).await?;
        till.pay(number).await?;
        till.expect(&host, number, "paid").await
    };
    sell("order-000002", 900).await?;
    let (status, held) = till
        .refund(&host, "order-000002", &json!({"out_refund_no": "r3"}))
        .await?;
    ensure!(
        status == 202 && held["state"] == "held" && held["amount_fen"] == 900,
        "{held}"
    );
    let decision = format!(
        "/api/v1/accounts/{}/refunds/r3/decision",
        till.account.app_id()
    );
    let decide = json!({"approve": true});
    let approved = host.admin().post(&decision, &decide).await?;
    ensure!(approved["state"] == "asked", "{approved}");
    let (status, _) = host
        .admin()
        .try_call(Method::POST, &decision, Some(&decide))
        .await?;
    ensure!(status == 409, "it is decided");
    succeeded("r3").await?;
    let order = till.ledger(&host, "order-000002").await?;
    ensure!(order["refunded_fen"] == 900, "{order}");

    // A card that does not take the money, and one that takes it later.
    sell("order-000003", 300).await?;
    sell("order-000004", 300).await?;
    let outcome = |word: &str| json!({"mch_id": till.mch_id, "outcome": word});
    till.api
        .pay(Method::PUT, "/refunds", &outcome("abnormal"))
        .await?;
    till.refund(
        &host,
        "order-000003",
        &json!({"out_refund_no": "r4", "amount_fen": 100}),
    )
    .await?;
    till.expect_refund(&host, "r4", "abnormal").await?;
    till.api
        .pay(Method::POST, "/refunds/r4/finish", &outcome("success"))
        .await?;
    succeeded("r4").await?;
    till.api
        .pay(Method::PUT, "/refunds", &outcome("closed"))
        .await?;
    till.refund(
        &host,
        "order-000004",
        &json!({"out_refund_no": "r5", "amount_fen": 200}),
    )
    .await?;
    let failed = till.expect_refund(&host, "r5", "failed").await?;
    ensure!(failed["error"].is_string(), "{failed}");
    let order = till.ledger(&host, "order-000004").await?;
    ensure!(
        order["refunded_fen"] == 0,
        "its money is free again: {order}"
    );
    till.expect_books(&host).await
}

async fn an_order_of_one_number_is_one_order(stage: Stage) -> Result<()> {
    let terms = Terms {
        grants: json!({"order_fen": 1000, "person_day_fen": 1500, "day_fen": 3000}),
        ..Terms::default()
    };
    let (till, host) = Till::open_on(&stage, terms).await?;
    let order = till.jsapi("order-000001", 900)?;
    let make = async |order: &Value| {
        till.call(&host, (Method::POST, "orders"), Some(order))
            .await
    };
    let (_, first) = make(&order).await?;
    let (status, same) = make(&order).await?;
    ensure!(
        status == 200 && same["invocation"]["package"] == first["invocation"]["package"],
        "{first} {same}"
    );
    for (name, value) in [
        ("total_fen", json!(901)),
        ("description", json!("别的")),
        ("attach", json!("x")),
        ("scene", json!({"kind": "native"})),
    ] {
        let mut other = order.clone();
        other[name] = value;
        let (status, refused) = make(&other).await?;
        ensure!(
            status == 409 && refused["error"]["code"] == "order-differs",
            "{name}: {status}: {refused}"
        );
    }
    for (change, status, code) in [
        (json!({"total_fen": 1001}), 403, "over-limit"),
        (json!({"total_fen": 0}), 400, "invalid-field"),
        (json!({"total_fen": -5}), 400, "invalid-field"),
        (
            json!({"total_fen": 9_223_372_036_854_775_807_i64}),
            400,
            "invalid-field",
        ),
        (json!({"total_fen": 1.5}), 422, "invalid-body"),
        (json!({"out_trade_no": "a b c d e f"}), 400, "invalid-field"),
        (json!({"out_trade_no": "short"}), 400, "invalid-field"),
        (json!({"description": ""}), 400, "invalid-order"),
        (json!({"attach": "长".repeat(129)}), 400, "invalid-order"),
        (json!({"expires_at": 1}), 409, "order-closed"),
        (json!({"merchant": "1999999999"}), 409, "no-merchant"),
    ] {
        let mut bad = till.jsapi("order-000002", 100)?;
        for (name, value) in change.as_object().context("a change")? {
            bad[name] = value.clone();
        }
        let (given, refused) = make(&bad).await?;
        ensure!(
            given == status && refused["error"]["code"] == code,
            "{change}: {given}: {refused}"
        );
    }
    // The same person, over the day's sum.
    let mut second = till.jsapi("order-000003", 700)?;
    second["scene"] = order["scene"].clone();
    let (status, over) = make(&second).await?;
    ensure!(
        status == 403
            && over["error"]["message"]
                .to_string()
                .contains("person_day_fen of 1500"),
        "{status}: {over}"
    );
    // No refunds, where none are granted.
    till.pay("order-000001").await?;
    till.expect(&host, "order-000001", "paid").await?;
    let refund = json!({"out_refund_no": "r1"});
    let (status, refused) = till.refund(&host, "order-000001", &refund).await?;
    ensure!(
        status == 403 && refused["error"]["code"] == "refunds-not-granted",
        "{refused}"
    );
    // An answer that got lost: the same number again is the same order.
    let drop = json!({"kind": "drop", "performed": true, "count": 1, "path_prefix": "/v3/pay"});
    till.api.fault(&drop)?;
    let lost = till.jsapi("order-000004", 100)?;
    let (status, unsure) = make(&lost).await?;
    ensure!(
        status == 504 && unsure["error"]["code"] == "wechat-pay-unavailable",
        "{status}: {unsure}"
    );
    let (status, found) = make(&lost).await?;
    ensure!(
        status == 200 && found["state"] == "unpaid",
        "{status}: {found}"
    );
    // Its money counts for the day: each order once.
    let books = till.books().await?;
    let orders = books["orders"].as_array().context("orders")?.len();
    ensure!(orders == 2, "{books}");
    let scenes = [
        (json!({"kind": "native"}), "code_url"),
        (json!({"kind": "app"}), "invocation"),
        (
            json!({"kind": "h5", "payer_client_ip": "203.0.113.7", "browser": "Wap"}),
            "h5_url",
        ),
    ];
    for (position, (scene, gives)) in scenes.into_iter().enumerate() {
        let mut order = till.jsapi(&format!("scene|000*{position}"), 10)?;
        order["scene"] = scene;
        let (status, placed) = make(&order).await?;
        ensure!(
            status == 200 && !placed[gives].is_null(),
            "{status}: {placed}"
        );
    }
    till.expect_books(&host).await
}

async fn a_merchant_changes_every_key_while_people_pay(stage: Stage) -> Result<()> {
    let terms = Terms {
        signs_by: "certificate",
        ..Terms::default()
    };
    let (till, host) = Till::open_on(&stage, terms).await?;
    let plan = json!({"scale": 1000});
    till.api.pay(Method::PUT, "/notice-plan", &plan).await?;
    let mut number = 0;
    let mut sell = async || {
        number += 1;
        let number = format!("order-{number:06}");
        till.order(&host, &number, 100).await?;
        till.pay(&number).await?;
        till.expect(&host, &number, "paid").await
    };
    // The host has read WeChat Pay's platform certificates by itself.
    sell().await?;
    let merchant = format!("/merchants/{}", till.mch_id);
    let ours = format!("/api/v1{merchant}");
    let api = async |method, path: &str, body: &Value| {
        till.api
            .pay(method, &format!("{merchant}/{path}"), body)
            .await
    };
    // WeChat Pay signs with a new certificate: nothing is to be done.
    api(Method::POST, "platform-certificate", &Value::Null).await?;
    sell().await?;
    // The merchant's own certificate: the new one signs, the old one may go.
    let console = api(Method::POST, "certificate", &Value::Null).await?;
    crate::till::remember(&console);
    let certificate = json!({
        "private_key": console["private_key"], "certificate": console["certificate"],
    });
    let shown = host
        .admin()
        .post(&format!("{ours}/certificates"), &certificate)
        .await?;
    ensure!(
        shown["certificates"][0]["serial"] == console["serial"],
        "{shown}"
    );
    let old = shown["certificates"][1]["serial"]
        .as_str()
        .context("an old one")?
        .to_owned();
    api(Method::DELETE, &format!("certificates/{old}"), &Value::Null).await?;
    sell().await?;
    host.admin()
        .call(Method::DELETE, &format!("{ours}/certificates/{old}"), None)
        .await?;
    // The APIv3 key: staged here, then changed there, then settled here.
    let next = json!({"v3_key": "abcdefghijklmnopqrstuvwxyz012345"});
    host.admin()
        .call(Method::PUT, &format!("{ours}/v3-key"), Some(&next))
        .await?;
    sell().await?;
    api(Method::PUT, "v3-key", &next).await?;
    sell().await?;
    host.admin()
        .call(Method::DELETE, &format!("{ours}/v3-key"), None)
        .await?;
    sell().await?;
    // From platform certificates to WeChat Pay's public key and back: both are believed.
    let console = api(Method::POST, "public-key", &Value::Null).await?;
    let key = &console["public_key"];
    let keys = format!("{ours}/platform-keys");
    let shown = host.admin().post(&keys, key).await?;
    ensure!(shown["answers_by"] == key["id"], "{shown}");
    for notifications in ["certificate", "public-key", "certificate"] {
        let signing = json!({"notifications": notifications});
        api(Method::PUT, "signing", &signing).await?;
        sell().await?;
    }
    for (path, body, field) in [
        ("v3-key", json!({"v3_key": "short"}), "v3_key"),
        ("v3-key", json!({"v3_key": "!".repeat(32)}), "v3_key"),
    ] {
        let path = format!("{ours}/{path}");
        let answered = host.admin().try_call(Method::PUT, &path, Some(&body));
        let (status, refused) = answered.await?;
        ensure!(
            status == 400 && refused["error"]["message"].to_string().contains(field),
            "{status}: {refused}"
        );
    }
    till.expect_books(&host).await
}
