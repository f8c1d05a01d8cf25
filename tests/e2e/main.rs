//! The end-to-end suite: real hosts, real servers, real HTTP, on both pairs of database and store.
//!
//! Scenarios live in the modules below and are listed there; [`stage::Stage`] is what each is given.
//! Arguments are those of `cargo test` (a part of a name, `--list`, `--test-threads` …).

mod agency;
mod browser;
mod office;
mod scenario;
mod shop;
mod stage;
mod webshop;

mod addresses;
mod composing;
mod crashes;
mod delivery;
mod deployments;
mod field;
mod forecasts;
mod hostile;
mod interop;
mod languages;
mod leaks;
mod logins;
mod neighbours;
mod onboarding;
mod outages;
mod payments;
mod platforms;
mod protocol;
mod push;
mod quiet_hours;
mod quotas;
mod redis;
mod refusals;
mod retries;
mod rogues;
mod samples;
mod service;
mod shopping;
mod signing;
mod tidy;
mod till;
mod tills;
mod tokens;
mod toolchains;
mod updates;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::{Handle, Runtime};
use wxhost_tests::secrets;
use wxhost_tests::site::Pair;

use crate::scenario::{Scenario, Steps};
use crate::stage::{Stage, World};

/// A scenario that takes longer hangs. The longest see several lives of tokens pass.
const PATIENCE: Duration = Duration::from_secs(240);

/// Scenarios mostly wait for hosts, so more of them than cores run side by side.
const SIDE_BY_SIDE: usize = 4;

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SIDE_BY_SIDE);

    let runtime = Runtime::new()?;
    let world = Arc::new(World::new()?);
    let trials = scenarios()
        .into_iter()
        .flat_map(|scenario| trials(&scenario, &world, runtime.handle()))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);

    let logs = runtime.block_on(async { expect_clean_logs(&world) });
    let failed = conclusion.has_failed() || logs.is_err();
    if let Err(error) = logs {
        eprintln!("{error:#}");
    }
    if failed {
        keep_logs(&world);
    }
    // Hosts and servers end here, their directories go.
    runtime.block_on(async { drop(world) });
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn scenarios() -> Vec<Scenario> {
    let mut scenarios: Vec<_> = [
        tidy::scenarios(),
        protocol::scenarios(),
        field::scenarios(),
        refusals::scenarios(),
        deployments::scenarios(),
        retries::scenarios(),
        updates::scenarios(),
        composing::scenarios(),
        push::scenarios(),
        forecasts::scenarios(),
        quiet_hours::scenarios(),
        quotas::scenarios(),
        rogues::scenarios(),
        hostile::scenarios(),
        languages::scenarios(),
        crashes::scenarios(),
        onboarding::scenarios(),
        outages::scenarios(),
        platforms::scenarios(),
        service::scenarios(),
        signing::scenarios(),
        interop::scenarios(),
        tokens::scenarios(),
        redis::scenarios(),
        addresses::scenarios(),
        neighbours::scenarios(),
        delivery::scenarios(),
        logins::scenarios(),
        payments::scenarios(),
        shopping::scenarios(),
        tills::scenarios(),
        leaks::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if std::env::var_os(toolchains::WANTED).is_some() {
        scenarios.extend(toolchains::scenarios());
    }
    scenarios
}

/// A trial per pair.
fn trials(scenario: &Scenario, world: &Arc<World>, runtime: &Handle) -> Vec<Trial> {
    let name = scenario.name.trim_start_matches("e2e::");
    let trial = |name: String, pair: Pair| {
        let (world, runtime, play) = (Arc::clone(world), runtime.clone(), scenario.play);
        Trial::test(name, move || {
            play_out(&runtime, play(Stage::new(&world, pair)))
        })
    };
    match scenario.pairs {
        [] => vec![trial(name.to_owned(), Pair::Embedded)],
        pairs => pairs
            .iter()
            .map(|pair| trial(format!("{name}::{}", pair.name()), *pair))
            .collect(),
    }
}

fn play_out(runtime: &Handle, steps: Steps) -> Result<(), Failed> {
    let outcome = runtime.block_on(async { tokio::time::timeout(PATIENCE, steps).await });
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}").into()),
        Err(_) => Err(format!("still running after {PATIENCE:?}").into()),
    }
}

/// No host has printed a secret, and none has panicked, whatever the scenarios did to it.
fn expect_clean_logs(world: &World) -> Result<()> {
    for log in world.host_logs()? {
        let printed = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        secrets::expect_none(&log.display().to_string(), &printed)?;
        if let Some(line) = printed.lines().find(|line| line.contains("panicked at")) {
            anyhow::bail!("a host panicked: {line}");
        }
    }
    Ok(())
}

fn keep_logs(world: &World) {
    let kept = keep_logs_in_target(world).context("the hosts' logs are lost");
    match kept {
        Ok(place) => eprintln!("the hosts' logs are in {}", place.display()),
        Err(error) => eprintln!("{error:#}"),
    }
}

fn keep_logs_in_target(world: &World) -> Result<std::path::PathBuf> {
    let place = wxhost_tests::plugin::target_directory()?.join("e2e-logs");
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    std::fs::create_dir_all(&place)?;
    for log in world.host_logs()? {
        let name: Vec<_> = log
            .iter()
            .rev()
            .take(2)
            .map(|part| part.to_string_lossy())
            .collect();
        std::fs::copy(&log, place.join(format!("{}-{}", name[1], name[0])))?;
    }
    Ok(place)
}
