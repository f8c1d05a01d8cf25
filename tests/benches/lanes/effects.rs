//! What it costs that effects last: events that read a value and write it, each durable before it is
//! answered, beside a program that does the same with one flush for each event.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use sqlx::{AnyConnection, Connection, Executor};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wxhost_server::db::commit::{
    AnswerWay, Commit, Committed, Expectation, ReadSet, Write, commit,
};
use wxhost_server::db::inbox::CallbackRow;
use wxhost_server::db::personal::PersonalEffects;
use wxhost_server::db::{Database, kv};
use wxhost_server::random;
use wxhost_tests::postgres::{Durability, Postgres};

use crate::load::CONNECTIONS;
use crate::settings::{directory_for_all, size};
use crate::table::{Table, median};

/// Events of a round.
const EVENTS: usize = 2_000;
/// Rounds of each contestant; they take turns.
const ROUNDS: usize = 5;
const APP_ID: &str = "wxbench0123456789";

pub(crate) fn measure() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measure_all())
}

async fn measure_all() -> Result<()> {
    let directory = directory_for_all()?;
    println!(
        "{CONNECTIONS} events at once, {} a round, each reads a value and writes it; median of {} \
         interleaved rounds.\n",
        size("BENCH_EVENTS", EVENTS),
        size("BENCH_ROUNDS", ROUNDS)
    );
    let file = sqlite_url(directory.path(), "host");
    compare("SQLite", &sqlite_url(directory.path(), "bare"), &file).await?;
    let postgres = Postgres::start(directory.path(), Durability::Full).await?;
    postgres.create_database("bare").await?;
    postgres.create_database("host").await?;
    compare("PostgreSQL", &postgres.url("bare"), &postgres.url("host")).await
}

fn sqlite_url(directory: &Path, name: &str) -> String {
    format!("sqlite://{}/{name}.db", directory.display())
}

/// A table: the host's commits, beside one connection that flushes for each event.
async fn compare(database: &str, bare_url: &str, host_url: &str) -> Result<()> {
    // The tables are the same.
    Database::open(bare_url).await?.close().await;
    let bare = Arc::new(Mutex::new(bare_connection(bare_url).await?));
    let host = Database::open(host_url).await?;
    let (mut of_bare, mut of_host) = (Vec::new(), Vec::new());
    for round in 0..=size("BENCH_ROUNDS", ROUNDS) {
        let one_by_one = per_second(|number| {
            let bare = Arc::clone(&bare);
            async move { write_alone(&mut *bare.lock().await, round, number).await }
        })
        .await?;
        let together = per_second(|number| {
            let host = host.clone();
            async move { write_with_others(&host, round, number).await }
        })
        .await?;
        // The first round warms up, and is not counted.
        if round > 0 {
            of_bare.push(one_by_one);
            of_host.push(together);
        }
    }
    host.close().await;
    let (bare, host) = (median(of_bare), median(of_host));
    let mut table = Table::new(&[database, "events/s", "of one flush each"]);
    table.row(&[&"one flush for each event", &format!("{bare:.0}"), &"1.0"]);
    let times = format!("{:.1}", host / bare);
    table.row(&[&"wxhost", &format!("{host:.0}"), &times]);
    table.print();
    Ok(())
}

/// Does the round's events, so many at once.
async fn per_second<F>(event: impl Fn(usize) -> F) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let events = size("BENCH_EVENTS", EVENTS);
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let mut under_way = JoinSet::new();
    loop {
        while under_way.len() < CONNECTIONS {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= events {
                break;
            }
            under_way.spawn(event(number));
        }
        match under_way.join_next().await {
            None => break,
            Some(ended) => ended??,
        }
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

async fn bare_connection(url: &str) -> Result<AnyConnection> {
    let mut connection = AnyConnection::connect(url).await?;
    if url.starts_with("sqlite") {
        connection
            .execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
            .await?;
    }
    Ok(connection)
}

/// Keys that events share now and then.
fn key(number: usize) -> String {
    format!("person:{:05}", number % 1_000)
}

async fn write_alone(connection: &mut AnyConnection, round: usize, number: usize) -> Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "INSERT INTO inbox (app_id, event_id, state, answer, lease_until, attempts, created_at) \
         VALUES ($1, $2, 'done', $3, 0, 0, 1)",
    )
    .bind(APP_ID)
    .bind(format!("m:{round}:{number}"))
    .bind("hello")
    .execute(&mut *transaction)
    .await?;
    let _: Option<(i64,)> = sqlx::query_as("SELECT version FROM kv WHERE app_id = $1 AND key = $2")
        .bind(APP_ID)
        .bind(key(number).as_bytes())
        .fetch_optional(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO kv (app_id, key, value, version, updated_at) VALUES ($1, $2, $3, $4, 1) \
         ON CONFLICT (app_id, key) DO UPDATE SET value = excluded.value, version = excluded.version",
    )
    .bind(APP_ID)
    .bind(key(number).as_bytes())
    .bind(number.to_string().as_bytes())
    .bind(random::version())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn write_with_others(db: &Database, round: usize, number: usize) -> Result<()> {
    let key = key(number);
    let row = CallbackRow {
        answer: "hello".into(),
        late: None,
    };
    let event_id = format!("m:{round}:{number}");
    loop {
        let read = kv::get(db, APP_ID, &key).await?;
        let reads = ReadSet {
            values: vec![(key.clone(), read.map(|entry| entry.version))],
            ..ReadSet::default()
        };
        let writes = [Write {
            key: key.clone(),
            value: Some(number.to_string().into_bytes()),
            expect: Expectation::Any,
        }];
        let request = Commit {
            app_id: APP_ID,
            event_id: &event_id,
            reads: &reads,
            writes: &writes,
            version: random::version(),
            personal: PersonalEffects::default(),
            money: &[],
            trace_id: "",
            now_ms: 1,
        };
        match commit(db, &row, &request).await? {
            Committed::Done(AnswerWay::Passive) => return Ok(()),
            // As in the host: what was read has changed, so it is read again.
            Committed::Conflict { .. } => {}
            other => ensure!(false, "{other:?}"),
        }
    }
}
