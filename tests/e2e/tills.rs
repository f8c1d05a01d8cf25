//! Several hosts at one ledger: whichever is told, asked or killed, each fen moves once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use wxhost_tests::admin::Bundle;
use wxhost_tests::command::command;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::wait;

use crate::crashes::kill_process;
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::{Till, remember};

scenarios! {
    SHARED: what_is_told_to_any_host_moves_money_once_though_hosts_are_killed,
        refunds_from_three_hosts_never_take_more_than_was_paid;
    EMBEDDED: an_operator_keeps_a_till_by_the_command_line;
}

/// Orders that are paid while hosts are killed.
const ORDERS: usize = 90;
/// Refunds that are asked for at the same time.
const REFUNDS: usize = 120;

async fn what_is_told_to_any_host_moves_money_once_though_hosts_are_killed(
    stage: Stage,
) -> Result<()> {
    let (till, first) = Till::open(&stage).await?;
    let rogue = Bundle::of(Plugin::Rogue.component()?);
    first.admin().deploy(&till.account, &rogue).await?;
    let mut hosts = vec![first, till.site.host().await?, till.site.host().await?];
    let balancer = Balancer::over(&hosts).await?;
    let merchant = format!("/api/v1/merchants/{}", till.mch_id);
    let change = json!({"public_url": balancer.base});
    let admin = hosts[0].admin();
    admin.call(Method::PATCH, &merchant, Some(&change)).await?;
    for host in &hosts {
        till.expect_known(host).await?;
    }
    let plan = json!({"repeat": 3, "scale": 1000});
    till.api.pay(Method::PUT, "/notice-plan", &plan).await?;
    for (round, kill) in [true, true, false].into_iter().enumerate() {
        let sold = AtomicUsize::new(0);
        let sell = async |position: usize| -> Result<()> {
            let number = format!("order-{round}-{position:04}");
            till.order(&hosts[0], &number, 100).await?;
            till.pay(&number).await?;
            sold.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let selling = futures::stream::iter(0..ORDERS / 3).map(sell);
        let selling = selling.buffer_unordered(8).try_collect::<Vec<()>>();
        let murder = async {
            while kill && sold.load(Ordering::Relaxed) < ORDERS / 9 {
                tokio::task::yield_now().await;
            }
            match kill {
                true => kill_process(hosts[1].pid()),
                false => Ok(()),
            }
        };
        let (sold, murdered) = futures::join!(selling, murder);
        sold?;
        murdered?;
        if kill {
            hosts[1] = till.site.host().await?;
            balancer.now_over(&hosts);
        }
    }
    // What was paid there is paid here, each by one event of the plugin's.
    let books = till.books().await?;
    let orders = books["orders"].as_array().context("orders")?;
    ensure!(orders.len() == ORDERS, "{} orders", orders.len());
    for order in orders {
        let number = order["out_trade_no"].as_str().context("a number")?;
        till.expect(&hosts[2], number, "paid").await?;
    }
    for order in orders {
        let number = order["out_trade_no"].as_str().context("a number")?;
        let key = format!("paid%2F{number}");
        let count = wait::until("a fact that was told", wait::SOON, async || {
            hosts[2].admin().kv(&till.account, &key).await
        })
        .await?;
        ensure!(count == b"1", "{number}: {count:?}");
    }
    till.expect_books(&hosts[2]).await
}

async fn refunds_from_three_hosts_never_take_more_than_was_paid(stage: Stage) -> Result<()> {
    let (till, first) = Till::open(&stage).await?;
    let hosts = [first, till.site.host().await?, till.site.host().await?];
    for host in &hosts {
        till.expect_known(host).await?;
    }
    till.order(&hosts[0], "order-000001", 1000).await?;
    till.pay("order-000001").await?;
    till.expect(&hosts[0], "order-000001", "paid").await?;
    let asked = (0..REFUNDS).map(async |position| {
        let refund = json!({"out_refund_no": format!("r{position}"), "amount_fen": 30});
        till.refund(&hosts[position % 3], "order-000001", &refund)
            .await
    });
    let mut made = 0;
    for answer in join_all(asked).await {
        let (status, refund) = answer?;
        match status {
            202 => made += 1,
            _ => ensure!(
                status == 409 && refund["error"]["code"] == "refund-too-much",
                "{status}: {refund}"
            ),
        }
    }
    ensure!(made == 33, "{made} refunds of 30 fen of 1000");
    let order = till.ledger(&hosts[1], "order-000001").await?;
    ensure!(order["refunded_fen"] == 990, "{order}");
    let theirs = till.books().await?;
    let given: i64 = theirs["refunds"]
        .as_array()
        .context("refunds")?
        .iter()
        .filter_map(|refund| refund["amount"].as_i64())
        .sum();
    ensure!(given <= 990, "{theirs}");
    let path = format!("/api/v1/accounts/{}/books", till.account.app_id());
    let ours = hosts[2].admin().get(&path).await?;
    ensure!(
        ours["books"][0]["flaw"].is_null() && ours["books"][0]["kept_fen"].as_i64() >= Some(10),
        "{ours}"
    );
    Ok(())
}

/// Leads each connection to one of the hosts that live.
struct Balancer {
    base: String,
    ports: Arc<Mutex<Vec<u16>>>,
}

impl Balancer {
    async fn over(hosts: &[Host]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let ports: Arc<Mutex<Vec<u16>>> = Arc::default();
        let led = Arc::clone(&ports);
        tokio::spawn(async move {
            let turn = AtomicUsize::new(0);
            while let Ok((mut near, _)) = listener.accept().await {
                let ports = led.lock().clone();
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    for step in 0..ports.len() {
                        let port = ports[(turn + step) % ports.len()];
                        if let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await {
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                            return;
                        }
                    }
                });
            }
        });
        let balancer = Self { base, ports };
        balancer.now_over(hosts);
        Ok(balancer)
    }

    fn now_over(&self, hosts: &[Host]) {
        *self.ports.lock() = hosts.iter().map(Host::port).collect();
    }
}

impl Till {
    /// Waits until a host has heard of the merchant and the key.
    async fn expect_known(&self, host: &Host) -> Result<()> {
        wait::until("a host that knows the till", wait::SOON, async || {
            let (status, answer) = self
                .call(host, (Method::GET, "orders/order-unknown"), None)
                .await?;
            Ok((status == 404 && answer["error"]["code"] == "not-found").then_some(()))
        })
        .await
    }
}

async fn an_operator_keeps_a_till_by_the_command_line(stage: Stage) -> Result<()> {
    let (mut till, host) = Till::open(&stage).await?;
    let app_id = till.account.app_id().to_owned();
    let run = async |arguments: &[&str]| command(&host, arguments).await;
    let ask = async |arguments: &[&str]| -> Result<Value> {
        let arguments = [&["--json"], arguments].concat();
        Ok(serde_json::from_str(&command(&host, &arguments).await?)?)
    };
    // A second merchant takes the place of the first.
    let merchant = json!({"mch_id": "1900000002", "app_ids": [app_id], "refund_gap": false});
    let console = till.api.pay(Method::POST, "/merchants", &merchant).await?;
    remember(&console);
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &Value| -> Result<String> {
        let path = directory.path().join(name);
        std::fs::write(&path, text.as_str().context("a text")?)?;
        Ok(format!("@{}", path.display()))
    };
    let v3_key = file("v3", &console["v3_key"])?;
    let private_key = file("apiclient_key.pem", &console["private_key"])?;
    let certificate = file("apiclient_cert.pem", &console["certificate"])?;
    let public_key = file("pub_key.pem", &console["public_key"]["pem"])?;
    let key_id = console["public_key"]["id"].as_str().context("an id")?;
    let added = ask(&[
        "merchant",
        "add",
        "1900000002",
        "--tenant",
        &till.tenant,
        "--name",
        "二号店",
        "--public-url",
        host.base(),
        "--v3-key",
        &v3_key,
        "--private-key",
        &private_key,
        "--certificate",
        &certificate,
        "--public-key",
        &public_key,
        "--public-key-id",
        key_id,
    ])
    .await?;
    let own = added["certificates"][0]["serial"].as_str();
    let own = own.context("a serial number")?;
    ensure!(added["answers_by"] == key_id, "{added}");
    run(&["merchant", "unbind", &till.mch_id, &app_id]).await?;
    let bound = ask(&[
        "merchant",
        "bind",
        "1900000002",
        &app_id,
        "--order-fen",
        "1000",
        "--refunds",
        "--approve-refunds-above-fen",
        "100",
    ])
    .await?;
    let grants = json!({"order_fen": 1000, "refunds": true, "approve_refunds_above_fen": 100});
    ensure!(bound["accounts"][0]["grants"] == grants, "{bound}");
    till.mch_id = String::from("1900000002");
    till.order(&host, "order-000001", 900).await?;
    till.pay("order-000001").await?;
    till.expect(&host, "order-000001", "paid").await?;
    for (number, verb, state) in [("r1", "reject", "failed"), ("r2", "approve", "succeeded")] {
        let refund = json!({"out_refund_no": number, "amount_fen": 500});
        till.refund(&host, "order-000001", &refund).await?;
        let held = run(&["money", "refunds", "--account", &app_id, "--state", "held"]).await?;
        ensure!(held.contains(number) && held.contains("500"), "{held}");
        run(&["money", verb, "--account", &app_id, number]).await?;
        till.expect_refund(&host, number, state).await?;
    }
    let books = ask(&["money", "books", "--account", &app_id]).await?;
    let expected = json!([{
        "merchant": "1900000002", "flaw": null, "kept_fen": 400, "going_back_fen": 0,
    }]);
    ensure!(books["books"] == expected, "{books}");
    let of = ["--account", &app_id, "--merchant", "1900000002"];
    let history = [&["money", "history"], &of[..], &["refund/r2"]].concat();
    let history = run(&history).await?;
    ensure!(history.contains("approved"), "{history}");
    let events = ask(&["money", "events", "--account", &app_id]).await?;
    ensure!(events["events"][0]["kind"] == "refunded", "{events}");
    let flagged = ask(&["money", "flagged", "--account", &app_id]).await?;
    ensure!(flagged["notices"] == json!([]), "{flagged}");
    // Keys by their names, and none of them by its content.
    run(&["merchant", "set", "1900000002", "--name", "三号店"]).await?;
    let next = ["--v3-key", "0123456789ABCDEFGHIJKLMNOPQRSTUV"];
    run(&[&["merchant", "stage-v3-key", "1900000002"], &next[..]].concat()).await?;
    let shown = run(&["merchant", "show", "1900000002"]).await?;
    for part in ["三号店", own, &app_id, "/notify/"] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    let listed = run(&["merchant", "list"]).await?;
    ensure!(listed.contains("三号店"), "{listed}");
    let last = run(&["merchant", "remove-certificate", "1900000002", own]).await;
    let last = last
        .err()
        .context("the last certificate stays")?
        .to_string();
    ensure!(last.contains("certificate"), "{last}");
    Ok(())
}
