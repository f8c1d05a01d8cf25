//! Several hosts at one ledger: whichever is told, asked or killed, each fen moves once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use wxhost_tests::admin::Bundle;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::wait;

use crate::crashes::kill_process;
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::Till;

scenarios! {
    SHARED: what_is_told_to_any_host_moves_money_once_though_hosts_are_killed,
        refunds_from_three_hosts_never_take_more_than_was_paid;
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
