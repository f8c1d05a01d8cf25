//! A plugin sells: it makes orders, hears of each fact about money once, and gives back what it may.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use reqwest::header::COOKIE;
use serde_json::{Value, json};
use wxhost_simulator::Outcome;
use wxhost_tests::account::new_user;
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::wait;
use wxhost_wechat::id::OpenId;
use wxhost_wechat::reply::Reply;

use crate::browser::{browser, cookie_of, location};
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::{Terms, Till};
use crate::webshop::agree;

scenarios! {
    BOTH: a_payer_pays_on_the_hosts_page_and_nobody_else_sees_it,
        a_customer_buys_in_the_chat_and_gets_the_money_back,
        who_does_not_pay_gives_the_goods_back, who_has_paid_may_be_written_to,
        a_plugin_that_misbehaves_moves_no_money, a_plugin_does_with_money_what_it_was_granted;
}

async fn open(stage: &Stage, terms: Terms) -> Result<(Till, Host)> {
    let (till, host) = Till::open_on(stage, terms).await?;
    let config = json!({"items": [
        {"key": "tea", "name": "龙井一两", "price_fen": 5800, "stock": 3},
    ]});
    let bundle = Bundle::of(Plugin::Shop.component()?).config(config);
    host.admin().deploy(&till.account, &bundle).await?;
    Ok((till, host))
}

/// What the shop answers; the same event is not delivered twice.
async fn says(till: &Till, host: &Host, user: &OpenId, text: &str) -> Result<String> {
    let app = format!("/apps/{}/interactions", till.account.app_id());
    let interaction = json!({"open_id": user.as_str(), "kind": "message"});
    till.api.ask(Method::POST, &app, &interaction)?;
    till.account.ask(host, user, text).await
}

/// The number at the end of the page's address.
fn number_in(said: &str) -> Result<String> {
    let (_, number) = said.rsplit_once('/').context("an address")?;
    Ok(number.to_owned())
}

async fn a_customer_buys_in_the_chat_and_gets_the_money_back(stage: Stage) -> Result<()> {
    let (till, host) = open(&stage, Terms::default()).await?;
    let user = new_user()?;
    let said = says(&till, &host, &user, "买 tea x2").await?;
    let page = format!("{}/pay/{}/", host.base(), till.account.app_id());
    ensure!(said.contains("共¥116.00") && said.contains(&page), "{said}");
    let number = number_in(&said)?;
    let order = till.ledger(&host, &number).await?;
    ensure!(
        order["state"] == "unpaid"
            && order["open_id"] == user.as_str()
            && order["total_fen"] == 11_600,
        "{order}"
    );
    let left = says(&till, &host, &user, "商品").await?;
    ensure!(left.contains("还有1件"), "{left}");
    till.pay(&number).await?;
    till.expect(&host, &number, "paid").await?;
    // The plugin's effect is sent like any other.
    let thanks = till.shown(&user, "收到您的付款¥116.00").await?;
    ensure!(thanks == 1, "{thanks} thanks");
    let other = new_user()?;
    let refused = says(&till, &host, &other, &format!("退款 {number}")).await?;
    ensure!(refused.contains("没有找到"), "{refused}");
    let going = says(&till, &host, &user, &format!("退款 {number}")).await?;
    ensure!(going.contains("正在退还¥116.00"), "{going}");
    till.shown(&user, "¥116.00已退回").await?;
    let order = till.ledger(&host, &number).await?;
    ensure!(
        order["refunded_fen"] == 11_600 && order["refunds"][0]["state"] == "succeeded",
        "{order}"
    );
    let left = says(&till, &host, &user, "商品").await?;
    ensure!(left.contains("还有3件"), "{left}");
    till.expect_books(&host).await
}

/// A browser in which somebody has logged in on the way to a page; what it keeps.
async fn logged_in(till: &Till, page: &str, open_id: &str) -> Result<String> {
    let sent = browser()?.get(page).send().await?;
    let start = location(&sent)?;
    let begun = browser()?.get(&start).send().await?;
    let back = agree(&till.api, &location(&begun)?, open_id, "allow").await?;
    let request = browser()?.get(back).header(COOKIE, cookie_of(&begun)?);
    let led = request.send().await?;
    ensure!(location(&led)? == page, "{led:?}");
    cookie_of(&led)
}

async fn a_payer_pays_on_the_hosts_page_and_nobody_else_sees_it(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    let placed = till.order(&host, "order-000001", 5800).await?;
    let page = placed["page_url"].as_str().context("a page")?;
    let payer = placed["open_id"].as_str().context("a payer")?;
    let mine = logged_in(&till, page, payer).await?;
    let ask = async |cookie: &str, method: Method, path: &str| -> Result<(u16, String)> {
        let url = format!("{page}{path}");
        let request = browser()?.request(method, url).header(COOKIE, cookie);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    let (status, shown) = ask(&mine, Method::GET, "").await?;
    ensure!(
        status == 200
            && shown.contains("¥58.00")
            && shown.contains("龙井一两")
            && shown.contains("id=\"pay\""),
        "{status}: {shown}"
    );
    let other = logged_in(&till, page, new_user()?.as_str()).await?;
    let forged = format!("{mine}x");
    for (cookie, path, method, expected) in [
        (&*other, "", Method::GET, 404),
        (&other, "/state", Method::GET, 404),
        (&other, "/invocation", Method::POST, 404),
        ("", "/state", Method::GET, 401),
        ("", "/invocation", Method::POST, 401),
        (&forged, "/state", Method::GET, 401),
        (&mine, "/../order-000009/state", Method::GET, 404),
    ] {
        let (status, said) = ask(cookie, method, path).await?;
        ensure!(
            status == expected && !said.contains("prepay_id"),
            "{path}: {status}: {said}"
        );
    }
    let (status, invoked) = ask(&mine, Method::POST, "/invocation").await?;
    let invoked: Value = serde_json::from_str(&invoked)?;
    ensure!(
        status == 200 && invoked["state"] == "unpaid",
        "{status}: {invoked}"
    );
    let mut bridge = invoked["invocation"].clone();
    bridge["open_id"] = json!(payer);
    let mut spoilt = bridge.clone();
    spoilt["package"] = json!("prepay_id=wx1");
    let answer = till.api.pay(Method::POST, "/pay/invoke", &spoilt).await?;
    ensure!(answer["err_msg"].to_string().contains("fail"), "{answer}");
    let answer = till.api.pay(Method::POST, "/pay/invoke", &bridge).await?;
    ensure!(
        answer["err_msg"] == "get_brand_wcpay_request:ok",
        "{answer}"
    );
    till.expect(&host, "order-000001", "paid").await?;
    let (_, state) = ask(&mine, Method::GET, "/state").await?;
    ensure!(state.contains("\"paid\""), "{state}");
    let (_, shown) = ask(&mine, Method::GET, "").await?;
    ensure!(
        shown.contains("支付成功") && !shown.contains("id=\"pay\""),
        "{shown}"
    );
    let (status, _) = ask(&mine, Method::POST, "/invocation").await?;
    ensure!(status == 200, "it says that it is paid: {status}");
    // Who says no to WeChat's page is asked again when they want to be.
    let said_no = browser()?.get(format!("{page}?login_error=refused"));
    let answer = said_no.send().await?;
    let (status, said) = (answer.status().as_u16(), answer.text().await?);
    ensure!(
        status == 401 && said.contains("登录后才能支付"),
        "{status}: {said}"
    );
    // Nobody is led on to a page of the host's that is no order's.
    for elsewhere in ["x/../../admin", "", "a?b=c", "a%2fb"] {
        let back = format!("{}/pay/{}/{elsewhere}", host.base(), till.account.app_id());
        let start = format!("{}/oauth/{}/start", host.base(), till.account.app_id());
        let request = browser()?.get(start).query(&[("return_to", back)]);
        let led = request.send().await?;
        ensure!(led.status() == 400, "{elsewhere}: {}", led.status());
    }
    for script in ["wxhost-pay.js", "page.js"] {
        let url = format!("{}/pay/{script}", host.base());
        let answer = host.http().get(url).send().await?;
        let kind = answer.headers()["content-type"].to_str()?.to_owned();
        ensure!(
            answer.status() == 200 && kind.starts_with("text/javascript"),
            "{kind}"
        );
    }
    Ok(())
}

/// A payment opens WeChat's scene for messages, also to whoever has never written.
async fn who_has_paid_may_be_written_to(stage: Stage) -> Result<()> {
    let (till, host) = open(&stage, Terms::default()).await?;
    let order = till.jsapi("order-000001", 1990)?;
    let payer = OpenId::parse(order["scene"]["open_id"].as_str().context("a payer")?)?;
    let followers = format!("/apps/{}/followers", till.account.app_id());
    let follower = json!({"open_ids": [payer]});
    till.api.ask(Method::POST, &followers, &follower)?;
    let (status, placed) = till
        .call(&host, (Method::POST, "orders"), Some(&order))
        .await?;
    ensure!(status == 200, "{status}: {placed}");
    till.pay("order-000001").await?;
    let thanks = till.shown(&payer, "收到您的付款¥19.90").await?;
    ensure!(thanks == 1, "{thanks} thanks");
    Ok(())
}

async fn who_does_not_pay_gives_the_goods_back(stage: Stage) -> Result<()> {
    let (till, host) = open(&stage, Terms::default()).await?;
    let user = new_user()?;
    let said = says(&till, &host, &user, "买 tea x3").await?;
    let number = number_in(&said)?;
    let sold_out = says(&till, &host, &new_user()?, "买 tea").await?;
    ensure!(sold_out.contains("只剩0件"), "{sold_out}");
    let close = format!("orders/{number}/close");
    till.call(&host, (Method::POST, &close), None).await?;
    till.expect(&host, &number, "closed").await?;
    wait::until("goods that are back", wait::SOON, async || {
        let left = says(&till, &host, &user, "商品").await?;
        Ok(left.contains("还有3件").then_some(()))
    })
    .await?;
    till.expect_books(&host).await
}

async fn a_plugin_that_misbehaves_moves_no_money(stage: Stage) -> Result<()> {
    let (till, host) = Till::open(&stage).await?;
    let rogue = Bundle::of(Plugin::Rogue.component()?);
    host.admin().deploy(&till.account, &rogue).await?;
    let sell = async |number: &str, attach: &str| {
        let mut order = till.jsapi(number, 100)?;
        order["attach"] = json!(attach);
        let (status, placed) = till
            .call(&host, (Method::POST, "orders"), Some(&order))
            .await?;
        ensure!(status == 200, "{status}: {placed}");
        till.pay(number).await?;
        till.expect(&host, number, "paid").await
    };
    sell("order-victim", "").await?;
    for (verb, error) in [
        ("panic", "trap"),
        ("lacking", "plugin-error"),
        ("steal order-unknown", "invalid-effect"),
        ("double", "invalid-effect"),
        ("effects", "host-limit"),
    ] {
        let number = format!("order-{}", verb.split(' ').next().unwrap_or_default());
        sell(&number, verb).await?;
        let event = wait::until("an event that failed", wait::SOON, async || {
            let events = till.events(&host).await?;
            let event = events
                .into_iter()
                .find(|event| event["out_trade_no"] == number);
            Ok(event.filter(|event| event["error"].is_string()))
        })
        .await?;
        ensure!(
            event["state"] == "due" && event["error"].to_string().contains(error),
            "{verb}: {event}"
        );
        let order = till.ledger(&host, &number).await?;
        ensure!(order["refunded_fen"] == 0, "{verb}: {order}");
    }
    // What it did well it did once.
    let count = host
        .admin()
        .kv(&till.account, "paid%2Forder-victim")
        .await?;
    ensure!(count.as_deref() == Some(b"1"), "{count:?}");
    till.expect_books(&host).await
}

async fn a_plugin_does_with_money_what_it_was_granted(stage: Stage) -> Result<()> {
    // No refunds are granted, and orders of 50 yuan at most.
    let terms = Terms {
        grants: json!({"order_fen": 6000}),
        ..Terms::default()
    };
    let (till, host) = open(&stage, terms).await?;
    let user = new_user()?;
    let over = says(&till, &host, &user, "买 tea x2").await?;
    ensure!(over.contains("超过了本店的支付限额"), "{over}");
    let said = says(&till, &host, &user, "买 tea").await?;
    let number = number_in(&said)?;
    till.pay(&number).await?;
    till.expect(&host, &number, "paid").await?;
    let wants = format!("退款 {number}");
    let outcome = till.account.say(&host, &user, &wants).await?;
    ensure!(
        !matches!(outcome, Outcome::Replied(Reply::Text(_))),
        "{outcome:?}"
    );
    let order = till.ledger(&host, &number).await?;
    ensure!(order["refunded_fen"] == 0, "{order}");
    let calls = wait::until("a call that says why", wait::SOON, async || {
        let calls = host.admin().calls(&till.account).await?;
        let refused = calls
            .into_iter()
            .find(|call| call["outcome"] == "invalid-effect");
        Ok(refused)
    })
    .await?;
    ensure!(
        calls["error"]
            .to_string()
            .contains("grants the account no refunds"),
        "{calls}"
    );
    // Another merchant's account is nobody's to sell for.
    let path = format!(
        "/api/v1/merchants/{}/accounts/{}",
        till.mch_id,
        till.account.app_id()
    );
    host.admin().call(Method::DELETE, &path, None).await?;
    let outcome = till.account.say(&host, &user, "买 tea").await?;
    ensure!(
        !matches!(outcome, Outcome::Replied(Reply::Text(_))),
        "{outcome:?}"
    );
    Ok(())
}

impl Till {
    /// Waits until a person has been shown a text that begins so; how often.
    async fn shown(&self, user: &OpenId, beginning: &str) -> Result<usize> {
        let what = format!("{beginning} on a phone");
        wait::until(&what, wait::SOON, async || {
            let app_id = self.account.app_id();
            let path = format!("/apps/{app_id}/messages?open_id={}", user.as_str());
            let shown = self.api.ask(Method::GET, &path, &Value::Null)?;
            let count = shown.to_string().matches(beginning).count();
            Ok((count > 0).then_some(count))
        })
        .await
    }
}
