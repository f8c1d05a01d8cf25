//! One call of a plugin through `wxhost_runtime`, beside the floor in the same run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use wasmtime::Engine;
use wxhost_runtime::{
    AccountInfo, CacheError, Call, CallLimits, Capabilities, Compiler, KvEntry, KvError, KvPage,
    Plugin, Runtime, RuntimeSettings, TenantPermits, account, callback, contacts, egress,
    engine_config, money, orders, pay, reply, wechat_api,
};
use wxhost_tests::plugin;

use crate::floor::{Floor, Parts};
use crate::settings::size;
use crate::table::{Table, median};

/// Rounds of each, taking turns.
const ROUNDS: usize = 60;
/// Calls of a round.
const CALLS: usize = 5_000;

/// What is called: a name, a sample plugin, and the text that it gets.
const CASES: [(&str, plugin::Plugin, &str); 2] = [
    ("a text answered (hello)", plugin::Plugin::Hello, "hi"),
    // A read of the cache and a write to it: two ways through the sandbox's wall.
    (
        "a text answered, two host calls (rogue)",
        plugin::Plugin::Rogue,
        "remember x",
    ),
];

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure_all())
}

async fn measure_all() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = RuntimeSettings::new(
        directory.path().join("native"),
        [7; 32],
        Compiler::InProcess,
    );
    let bare_engine = Engine::new(&engine_config(settings.max_concurrent_calls)).map_err(plain)?;
    let runtime = Runtime::new(settings)?;

    let mut costs = Table::new(&[
        "fresh store, instance and call",
        "floor µs",
        "wxhost µs",
        "ratio",
    ]);
    let mut parts = Table::new(&[
        "parts of the floor",
        "store µs",
        "instantiate µs",
        "call µs",
        "drop µs",
    ]);
    for (name, sample, text) in CASES {
        let component = sample.component()?;
        let floor = Floor::new(&bare_engine, &component, text).map_err(plain)?;
        let digest = runtime.check(component, "bench").await?.digest;
        let plugin = runtime
            .loaded(&digest)
            .context("a plugin that was just checked")?;
        let (bare, ours) = compare(&floor, &runtime, &plugin, text).await?;
        costs.row(&[
            &name,
            &format!("{bare:.2}"),
            &format!("{ours:.2}"),
            &format!("{:.2}", ours / bare),
        ]);
        let [store, instantiate, call, drop] =
            parts_of(&floor).await?.map(|part| format!("{part:.2}"));
        parts.row(&[&name, &store, &instantiate, &call, &drop]);
    }
    costs.print();
    parts.print();
    runtime.shutdown();
    Ok(())
}

/// Medians over interleaved rounds, in microseconds a call: the floor, and the runtime.
async fn compare(
    floor: &Floor,
    runtime: &Runtime,
    plugin: &Plugin,
    text: &str,
) -> Result<(f64, f64)> {
    let tenant = Arc::new(TenantPermits::new(16, 16));
    let event = event(text);
    let floor_round = async || -> Result<f64> {
        let started = Instant::now();
        for _ in 0..calls() {
            floor.call().await.map_err(plain)?;
        }
        Ok(micros_a_call(started))
    };
    let our_round = async || -> Result<f64> {
        let started = Instant::now();
        for _ in 0..calls() {
            let call = Call {
                tenant: Arc::clone(&tenant),
                capabilities: Arc::new(Nothing),
                limits: CallLimits::default(),
                deadline: tokio::time::Instant::now() + Duration::from_secs(14),
            };
            let report = runtime.call_callback(plugin, call, &event).await;
            let outcome = report
                .result
                .map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
            anyhow::ensure!(
                matches!(outcome.reply, Some(reply::Reply::Text(_))),
                "no text"
            );
        }
        Ok(micros_a_call(started))
    };
    // Warms up both pools.
    floor_round().await?;
    our_round().await?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..size("BENCH_ROUNDS", ROUNDS) {
        // Who goes first changes, so that it favours nobody.
        if round % 2 == 0 {
            bare.push(floor_round().await?);
            ours.push(our_round().await?);
        } else {
            ours.push(our_round().await?);
            bare.push(floor_round().await?);
        }
    }
    Ok((median(bare), median(ours)))
}

/// Medians over rounds, in microseconds a call: store, instantiate, call, drop.
async fn parts_of(floor: &Floor) -> Result<[f64; 4]> {
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..size("BENCH_ROUNDS", ROUNDS) {
        let mut sum = Parts::default();
        for _ in 0..calls() {
            let parts = floor.call_in_parts().await.map_err(plain)?;
            sum.store += parts.store;
            sum.instantiate += parts.instantiate;
            sum.call += parts.call;
            sum.drop += parts.drop;
        }
        let sums = [sum.store, sum.instantiate, sum.call, sum.drop];
        for (round, part) in rounds.iter_mut().zip(sums) {
            round.push(part.as_secs_f64() * 1e6 / calls() as f64);
        }
    }
    Ok(rounds.map(median))
}

fn calls() -> usize {
    size("BENCH_CALLS", CALLS)
}

fn micros_a_call(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / calls() as f64
}

fn event(text: &str) -> callback::Event {
    callback::Event {
        id: "m:23456789012345678".into(),
        open_id: "oBench0000000000000000000001".into(),
        create_time: 1_700_000_000,
        content: callback::Content::Text(callback::Text {
            content: text.into(),
            menu_id: None,
        }),
        extra: vec![callback::Field {
            path: "MsgId".into(),
            value: "23456789012345678".into(),
        }],
    }
}

/// A world in which there is nothing: what a read costs there is all the sandbox's.
struct Nothing;

#[async_trait]
impl Capabilities for Nothing {
    fn account(&self) -> AccountInfo {
        AccountInfo {
            app_id: String::new(),
            original_id: String::new(),
            name: String::new(),
            mode: account::Mode::Plain,
        }
    }

    fn config(&self) -> &str {
        "{}"
    }

    fn has_secret(&self, _: &str) -> bool {
        false
    }

    async fn kv_get(&self, _: &str) -> Result<Option<KvEntry>, KvError> {
        Ok(None)
    }

    async fn kv_list(&self, _: &str, _: Option<&str>, _: u32) -> Result<KvPage, KvError> {
        Ok(KvPage {
            items: Vec::new(),
            next: None,
        })
    }

    async fn cache_get(&self, _: &str) -> Result<Option<Vec<u8>>, CacheError> {
        Ok(None)
    }

    async fn cache_set(&self, _: &str, _: Vec<u8>, _: u32) -> Result<(), CacheError> {
        Ok(())
    }

    async fn cache_delete(&self, _: &str) -> Result<(), CacheError> {
        Ok(())
    }

    async fn contact(&self, _: &str) -> Result<Option<contacts::Contact>, contacts::Error> {
        Ok(None)
    }

    async fn user_info(&self, _: &str) -> Result<wechat_api::User, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn menu(&self) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn quota(&self, _: &str) -> Result<wechat_api::Quota, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn api_call(&self, _: wechat_api::Request) -> Result<String, wechat_api::Error> {
        Err(wechat_api::Error::Unavailable)
    }

    async fn fetch(&self, _: egress::Request) -> Result<egress::Response, egress::Error> {
        Err(egress::Error::Unreachable)
    }

    async fn create_order(&self, _: pay::OrderRequest) -> Result<pay::Placed, pay::Error> {
        Err(pay::Error::Unavailable)
    }

    async fn query_order(&self, _: &str) -> Result<money::Order, pay::Error> {
        Err(pay::Error::Unavailable)
    }

    async fn order(&self, _: &str) -> Result<Option<money::Order>, orders::Error> {
        Err(orders::Error::Unavailable)
    }

    async fn orders(&self, _: &str, _: u32) -> Result<Vec<money::Order>, orders::Error> {
        Err(orders::Error::Unavailable)
    }

    async fn order_refunds(&self, _: &str) -> Result<Vec<money::Refund>, orders::Error> {
        Err(orders::Error::Unavailable)
    }

    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

/// Wasmtime's error, whose type anyhow does not know, with all that it says.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
