//! Hostile guests, one for each way to fail, and good ones beside them.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::Fault;
use crate::guests::{
    Bench, TENANT, World, bench, call, guest, guest_with, repeat, resourceful_guest, text,
    wasi_guest,
};

const NOTHING: &str = "(i32.const 1024)";

/// Runs a guest and gives the code of its failure, or `ok`.
async fn code(bench: &Bench, body: &str) -> String {
    verdict(&bench.run(guest(body)).await)
}

fn verdict<T>(report: &CallReport<T>) -> String {
    match &report.result {
        Ok(_) => "ok".into(),
        Err(failure) => failure.code.to_string(),
    }
}

#[tokio::test]
async fn a_good_guest_answers() {
    let report = bench().run(guest(NOTHING)).await;
    let outcome = report.result.unwrap();
    assert!(outcome.reply.is_none() && outcome.effects.is_empty());
    assert!(report.log.is_empty());
    // Its memory, and the nine elements of the table that `wit-component` adds.
    assert_eq!(report.memory_peak, (32 << 16) + 72);
}

#[tokio::test]
async fn a_reply_comes_back() {
    // ok, some, text, 5 bytes at 2048.
    let body = r#"(i32.store8 (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1036) (i32.const 2048))
        (i32.store (i32.const 1040) (i32.const 5))
        (i32.store (i32.const 2048) (i32.const 0x6c6c6568))
        (i32.store8 (i32.const 2052) (i32.const 0x6f))
        (i32.const 1024)"#;
    let outcome = bench().run(guest(body)).await.result.unwrap();
    assert!(
        matches!(&outcome.reply, Some(crate::reply::Reply::Text(text)) if text == "hello"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_loop_without_end_is_stopped_by_its_cpu_budget() {
    let mut call = call(World::default());
    call.limits.cpu_ms = 50;
    let report = bench()
        .run_with(guest("(loop $l (br $l)) (i32.const 0)"), call)
        .await;
    let failure = report.result.unwrap_err();
    assert_eq!(failure.code, FailureCode::Timeout);
    assert_eq!(failure.message, "the plugin used up its 50 ms of CPU time");
    assert!(failure.backtrace.unwrap().contains("handle"));
}

#[tokio::test]
async fn a_loop_without_end_is_stopped_at_the_deadline() {
    let mut call = call(World::default());
    call.deadline = Instant::now() + Duration::from_millis(500);
    let report = bench()
        .run_with(guest("(loop $l (br $l)) (i32.const 0)"), call)
        .await;
    assert_eq!(verdict(&report), "timeout");
}

#[tokio::test]
async fn a_start_function_without_end_is_stopped() {
    let mut call = call(World::default());
    call.limits.cpu_ms = 50;
    let fields = "(func $start (loop $l (br $l))) (start $start)";
    let report = bench().run_with(guest_with(fields, NOTHING), call).await;
    assert_eq!(verdict(&report), "timeout");
}

#[tokio::test]
async fn a_loop_lets_neighbours_answer_on_the_same_thread() {
    let bench = bench();
    let spinning = bench.run(guest("(loop $l (br $l)) (i32.const 0)"));
    let good = bench.run(guest(NOTHING));
    tokio::select! {
        report = good => assert_eq!(verdict(&report), "ok"),
        report = spinning => panic!("the loop ended first: {report:?}"),
    }
}

#[tokio::test]
async fn a_guest_that_waits_for_the_host_is_stopped_at_the_deadline() {
    let world = World {
        silent: true,
        ..World::default()
    };
    let bench = bench();
    let mut call = call(world);
    call.deadline = Instant::now() + Duration::from_millis(500);
    let body = "(call $kv_get (i32.const 0) (i32.const 1) (i32.const 2048)) (i32.const 1024)";
    let mut module = guest_with(r#"(data (i32.const 0) "k")"#, body);
    let report = bench.run_with(std::mem::take(&mut module), call).await;
    assert_eq!(verdict(&report), "timeout");
    // The pool and the permits are free again.
    assert_eq!(verdict(&bench.run(guest(NOTHING)).await), "ok");
}

#[tokio::test]
async fn memory_without_end_is_its_own_failure() {
    let body = "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (i32.const 0)";
    let report = bench().run(guest(body)).await;
    assert_eq!(verdict(&report), "memory-limit");
    assert!(report.memory_peak <= 64 << 20, "{}", report.memory_peak);
}

#[tokio::test]
async fn a_guest_larger_than_its_limit_does_not_start() {
    let mut call = call(World::default());
    call.limits.memory_bytes = 1 << 20;
    let report = bench().run_with(guest(NOTHING), call).await;
    assert_eq!(verdict(&report), "memory-limit");
}

#[tokio::test]
async fn recursion_without_end_is_a_stack_overflow() {
    let module = guest_with(
        "(func $deep (call $deep) (call $deep))",
        "(call $deep) (i32.const 0)",
    );
    let report = bench().run(module).await;
    assert_eq!(verdict(&report), "stack-overflow");
}

#[tokio::test]
async fn a_panic_is_a_trap_with_the_plugins_frames() {
    let module = guest_with("(func $boom unreachable)", "(call $boom) (i32.const 0)");
    let failure = bench().run(module).await.result.unwrap_err();
    assert_eq!(failure.code, FailureCode::Trap);
    assert_eq!(
        failure.message,
        "wasm trap: wasm `unreachable` instruction executed"
    );
    let backtrace = failure.backtrace.unwrap();
    let frames: Vec<_> = backtrace.lines().collect();
    assert!(frames[0].ends_with("!boom"), "{backtrace}");
    assert!(frames[1].contains("handle"), "{backtrace}");
}

#[tokio::test]
async fn a_name_that_stands_for_gigabytes_is_shown_as_it_is() {
    // As a C++ name it says pair<pair<…>, pair<…>> over sixteen steps; some more would fill any memory.
    let steps: String = (0..16)
        .map(|step| format!("S_IS{step:X}_S{step:X}_E"))
        .collect();
    let name = format!("_Z1fSt4pairIiiE{steps}");
    let fields = format!("(func ${name} unreachable)");
    let body = format!("(call ${name}) (i32.const 0)");
    let failure = bench()
        .run(guest_with(&fields, &body))
        .await
        .result
        .unwrap_err();
    let backtrace = failure.backtrace.unwrap();
    assert!(backtrace.contains(&name), "{backtrace}");
    let long = "x".repeat(1 << 20);
    let fields = format!("(func ${long} unreachable)");
    let body = format!("(call ${long}) (i32.const 0)");
    let failure = bench()
        .run(guest_with(&fields, &body))
        .await
        .result
        .unwrap_err();
    let backtrace = failure.backtrace.unwrap();
    assert!(backtrace.len() < 1024, "{} bytes", backtrace.len());
    assert!(
        backtrace.contains("handle"),
        "the next frame has room: {backtrace}"
    );
}

#[tokio::test]
async fn what_an_instance_takes_without_asking_is_counted() {
    // A passive segment of 100,000 elements: 1.6 MB in each instance, in no memory and no table.
    let elements = "$boom ".repeat(100_000);
    let fields = format!("(func $boom) (elem func {elements})");
    let module = guest_with(&fields, NOTHING);
    let bench = bench();
    let report = bench.run(module.clone()).await;
    assert_eq!(verdict(&report), "ok");
    assert!(report.memory_peak > (32 << 16) + 1_600_000);
    let mut call = call(World::default());
    call.limits.memory_bytes = 3 << 20;
    assert_eq!(verdict(&bench.run_with(module, call).await), "memory-limit");
}

#[tokio::test]
async fn work_of_the_host_is_the_guests_time() {
    let world = World {
        toil: Duration::from_millis(40),
        ..World::default()
    };
    let mut call = call(world);
    call.limits.cpu_ms = 400;
    // Each read takes the host 40 ms of processor time, in one go.
    let action = "(call $kv_get (i32.const 0) (i32.const 1) (i32.const 2048))";
    let module = guest_with(r#"(data (i32.const 0) "k")"#, &repeat(200, action));
    let report = bench().run_with(module, call).await;
    assert_eq!(verdict(&report), "timeout");
}

#[tokio::test]
async fn whoever_runs_over_many_ticks_in_one_go_waits_for_as_many_turns() {
    const READS: u32 = 10;
    let world = World {
        toil: Duration::from_millis(60),
        ..World::default()
    };
    // Nobody can interrupt a read, as nobody can a large copy.
    let action = "(call $kv_get (i32.const 0) (i32.const 1) (i32.const 2048))";
    let module = guest_with(r#"(data (i32.const 0) "k")"#, &repeat(READS, action));
    let bench = bench();
    let checked = bench.runtime.check(module, TENANT).await.unwrap();
    let plugin = bench.runtime.loaded(&checked.digest).unwrap();
    let event = text("hello");
    let running = bench.runtime.call_callback(&plugin, call(world), &event);
    let mut turns = 0;
    let neighbour = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    let report = tokio::select! {
        biased;
        report = running => report,
        () = neighbour => unreachable!(),
    };
    assert_eq!(verdict(&report), "ok");
    // Six ticks each, of which the clock may have missed some.
    assert!(turns > 3 * READS, "{turns} turns in {READS} reads");
}

#[tokio::test]
async fn an_answer_outside_of_memory_is_a_trap() {
    assert_eq!(code(&bench(), "(i32.const -8)").await, "trap");
}

#[tokio::test]
async fn a_flood_of_log_lines_is_bounded() {
    let body = repeat(
        10_000,
        "(call $log (i32.const 1) (i32.const 1024) (i32.const 8))",
    );
    let report = bench().run(guest(&body)).await;
    assert_eq!(verdict(&report), "ok");
    assert_eq!(
        (report.log.lines().len(), report.log.dropped()),
        (200, 9_800)
    );
}

#[tokio::test]
async fn a_monstrous_log_line_is_a_host_limit() {
    let body = repeat(
        1,
        "(call $log (i32.const 1) (i32.const 1024) (i32.const 1100000))",
    );
    assert_eq!(code(&bench(), &body).await, "host-limit:call-bytes");
}

#[tokio::test]
async fn reads_without_end_are_a_host_limit() {
    let read = |function: &str, times| {
        let action = format!("(call ${function} (i32.const 0) (i32.const 0) (i32.const 2048))");
        repeat(times, &action)
    };
    let bench = bench();
    assert_eq!(code(&bench, &read("kv_get", 256)).await, "ok");
    assert_eq!(
        code(&bench, &read("kv_get", 257)).await,
        "host-limit:kv-reads"
    );
    assert_eq!(
        code(&bench, &read("cache_get", 257)).await,
        "host-limit:cache-calls"
    );
}

#[tokio::test]
async fn values_listed_without_end_are_a_host_limit() {
    // A page of 100 of them, each time at the same place.
    let page = "(global.set $next (i32.const 65536))
        (call $kv_list (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const -1) (i32.const 2048))";
    let bench = bench();
    assert_eq!(code(&bench, &repeat(20, page)).await, "ok");
    let report = bench.run(guest(&repeat(21, page))).await;
    assert_eq!(verdict(&report), "host-limit:listed-values");
    let message = report.result.unwrap_err().message;
    assert!(
        message.ends_with("listed-values, 2000 at most"),
        "{message}"
    );
}

#[tokio::test]
async fn large_values_read_without_end_are_a_host_limit() {
    let world = World {
        value_bytes: 64 << 10,
        ..World::default()
    };
    // Each value lands at the same place, so that the guest's own memory lasts.
    let action = "(global.set $next (i32.const 65536))
        (call $kv_get (i32.const 0) (i32.const 1) (i32.const 2048))";
    let module = guest_with(r#"(data (i32.const 0) "k")"#, &repeat(65, action));
    let report = bench().run_with(module, call(world)).await;
    assert_eq!(verdict(&report), "host-limit:host-bytes");
}

#[tokio::test]
async fn random_bytes_without_end_are_clamped() {
    let world = World::default();
    let asked = Arc::clone(&world.random_bytes);
    let body = "(call $random (i32.const -1) (i32.const 2048)) (i32.const 1024)";
    let report = bench().run_with(guest(body), call(world)).await;
    assert_eq!(verdict(&report), "ok");
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 4096);
}

#[tokio::test]
async fn handles_without_end_are_a_host_limit() {
    let bench = bench();
    for (times, expected) in [(1000, "ok"), (1001, "host-limit:handles")] {
        let mine = resourceful_guest(&repeat(times, "(drop (call $make (i32.const 0)))"));
        assert_eq!(verdict(&bench.run(mine).await), expected);
        let hosts = wasi_guest(&repeat(times, "(drop (call $stdout))"));
        assert_eq!(verdict(&bench.run(hosts).await), expected);
    }
}

#[tokio::test]
async fn effects_beyond_the_limits_are_refused() {
    // An outcome whose list of effects begins at 4096, all zeros: puts with an empty key.
    let effects = |count: u32| {
        format!(
            "(i32.store (i32.const 1076) (i32.const 65536))
             (i32.store (i32.const 1080) (i32.const {count}))
             (i32.const 1024)"
        )
    };
    let bench = bench();
    assert_eq!(code(&bench, &effects(0)).await, "ok");
    assert_eq!(code(&bench, &effects(1)).await, "host-limit:effect-key");
    assert_eq!(code(&bench, &effects(65)).await, "host-limit:effects");
    assert_eq!(
        code(&bench, &effects(20_000)).await,
        "host-limit:call-bytes"
    );
}

#[tokio::test]
async fn what_the_plugin_says_itself_is_a_plugin_error() {
    // err, fault 1, 4 bytes at 2048.
    let body = r#"(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 4))
        (i32.store (i32.const 2048) (i32.const 0x79617761))
        (i32.const 1024)"#;
    let failure = bench().run(guest(body)).await.result.unwrap_err();
    assert_eq!(failure.code, FailureCode::PluginError(Fault::Dependency));
    assert_eq!(
        (failure.code.as_str().as_ref(), failure.message.as_str()),
        ("plugin-error", "away")
    );
    assert_eq!(failure.backtrace, None);
}

#[tokio::test]
async fn nothing_of_one_event_is_seen_by_the_next() {
    let bench = bench();
    let module = guest(
        "(if (i32.load (i32.const 262144)) (then unreachable))
         (i32.store (i32.const 262144) (i32.const 1))
         (i32.const 1024)",
    );
    for _ in 0..5 {
        assert_eq!(verdict(&bench.run(module.clone()).await), "ok");
    }
}

#[tokio::test]
async fn a_tenant_without_a_permit_is_told_so() {
    let mut call = call(World::default());
    call.tenant = Arc::new(TenantPermits::new(0, 0));
    let report = bench().run_with(guest(NOTHING), call).await;
    assert_eq!(verdict(&report), "overloaded");
    assert_eq!(report.ran, Duration::ZERO);
}

#[tokio::test]
async fn more_calls_than_the_pool_has_room_for_wait_their_turn() {
    let bench = bench();
    let digest = bench
        .runtime
        .check(guest(NOTHING), TENANT)
        .await
        .unwrap()
        .digest;
    let plugin = bench.runtime.loaded(&digest).unwrap();
    let event = text("hello");
    let tenant = Arc::new(TenantPermits::new(64, 0));
    let calls = (0..64).map(|_| {
        let mut call = call(World::default());
        call.tenant = Arc::clone(&tenant);
        bench.runtime.call_callback(&plugin, call, &event)
    });
    for report in futures::future::join_all(calls).await {
        assert_eq!(verdict(&report), "ok");
    }
}

#[tokio::test]
async fn what_a_wasi_guest_prints_is_in_its_log() {
    let body = "(call $print (call $stdout) (i32.const 0) (i32.const 7) (i32.const 2048))
        (call $log (i32.const 3) (i32.const 0) (i32.const 3))
        (i32.const 1024)";
    let report = bench().run(wasi_guest(body)).await;
    assert_eq!(verdict(&report), "ok");
    assert_eq!(report.log.to_string(), "info: one\nerror: one\ninfo: two\n");
}

#[tokio::test]
async fn a_wasi_guest_sees_no_environment_and_no_directory() {
    let body = "(call $environment (i32.const 2048))
        (if (i32.load (i32.const 2052)) (then unreachable))
        (call $directories (i32.const 2048))
        (if (i32.load (i32.const 2052)) (then unreachable))
        (i32.const 1024)";
    assert_eq!(verdict(&bench().run(wasi_guest(body)).await), "ok");
}

#[tokio::test]
async fn a_wasi_guest_that_prints_without_end_loses_lines_not_its_life() {
    let body = repeat(
        20_000,
        "(call $print (call $stdout) (i32.const 0) (i32.const 4) (i32.const 2048))",
    );
    let mut call = call(World::default());
    call.limits.cpu_ms = 10_000;
    let report = bench().run_with(wasi_guest(&body), call).await;
    // Each call of `get-stdout` makes a handle that this guest never drops.
    assert_eq!(verdict(&report), "host-limit:handles");
    assert!(report.log.lines().len() <= 200);
    assert!(report.log.dropped() > 0);
}

#[tokio::test]
async fn random_bytes_of_wasi_are_drawn_in_one_go() {
    let world = World::default();
    let (most, draws) = (
        Arc::clone(&world.random_bytes),
        Arc::clone(&world.random_draws),
    );
    let body = "(call $wasi_random (i64.const 65536) (i32.const 2048)) (i32.const 1024)";
    let report = bench().run_with(wasi_guest(body), call(world)).await;
    assert_eq!(verdict(&report), "ok");
    let loaded =
        |number: &std::sync::atomic::AtomicU32| number.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((loaded(&most), loaded(&draws)), (65536, 1));
    let body = "(call $wasi_random (i64.const 65537) (i32.const 2048)) (i32.const 1024)";
    assert_eq!(
        verdict(&bench().run(wasi_guest(body)).await),
        "host-limit:random-bytes"
    );
}

#[tokio::test]
async fn a_guest_that_sleeps_is_woken_by_its_limit() {
    // An hour.
    let body = "(call $block (call $timer (i64.const 3600000000000))) (i32.const 1024)";
    let report = bench().run(wasi_guest(body)).await;
    assert_eq!(verdict(&report), "host-limit:sleep-ms");
    let body = "(call $block (call $timer (i64.const 1000000))) (i32.const 1024)";
    assert_eq!(verdict(&bench().run(wasi_guest(body)).await), "ok");
}

#[tokio::test]
async fn a_wasi_guest_gets_no_socket_and_no_address() {
    // Both answer with an error: access-denied.
    let body = "(call $tcp (i32.const 0) (i32.const 2048))
        (if (i32.ne (i32.load8_u (i32.const 2048)) (i32.const 1)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.const 2052)) (i32.const 1)) (then unreachable))
        (call $resolve (call $network) (i32.const 0) (i32.const 3) (i32.const 2048))
        (if (i32.ne (i32.load8_u (i32.const 2048)) (i32.const 1)) (then unreachable))
        (i32.const 1024)";
    assert_eq!(verdict(&bench().run(wasi_guest(body)).await), "ok");
}

#[tokio::test]
async fn an_exit_is_a_trap_that_says_so() {
    let report = bench()
        .run(wasi_guest("(call $exit (i32.const 1)) (i32.const 1024)"))
        .await;
    let failure = report.result.unwrap_err();
    assert_eq!(failure.code, FailureCode::Trap);
    assert_eq!(failure.message, "the plugin exited with status 1");
}

#[tokio::test]
async fn reads_of_contacts_without_end_are_a_host_limit() {
    let module = |times| {
        let action = "(call $contact (i32.const 0) (i32.const 2) (i32.const 2048))";
        guest_with(r#"(data (i32.const 0) "o1")"#, &repeat(times, action))
    };
    let bench = bench();
    assert_eq!(verdict(&bench.run(module(256)).await), "ok");
    let report = bench.run(module(257)).await;
    assert_eq!(verdict(&report), "host-limit:kv-reads");
}

/// A call of WeChat's API and a fetch, both with arguments that are empty.
const EMPTY_CALL: &str = "(call $api (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))";
const EMPTY_FETCH: &str = "(call $fetch (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))";
const MENU: &str = "(call $menu (i32.const 2048))";

#[tokio::test]
async fn calls_that_leave_the_host_without_end_are_a_host_limit() {
    let bench = bench();
    let both = format!("{MENU} {EMPTY_CALL}");
    for (body, expected) in [
        (repeat(16, MENU), "ok"),
        (repeat(17, MENU), "host-limit:api-calls"),
        // All functions are counted together, refused ones too.
        (repeat(8, &both), "ok"),
        (repeat(9, &both), "host-limit:api-calls"),
        (repeat(16, EMPTY_FETCH), "ok"),
        (repeat(17, EMPTY_FETCH), "host-limit:fetches"),
    ] {
        assert_eq!(code(&bench, &body).await, expected, "{body}");
    }
}

#[tokio::test]
async fn large_answers_without_end_are_a_host_limit() {
    let bench = bench();
    // Each answer lands at the same place, so that the guest's own memory lasts.
    let action = format!("(global.set $next (i32.const 65536)) {MENU}");
    for (times, expected) in [(4, "ok"), (5, "host-limit:host-bytes")] {
        let world = World {
            answer_bytes: 1 << 20,
            ..World::default()
        };
        let report = bench
            .run_with(guest(&repeat(times, &action)), call(world))
            .await;
        assert_eq!(verdict(&report), expected);
    }
}

#[tokio::test]
async fn waiting_for_the_host_is_not_cpu_time() {
    let world = World {
        delay: Duration::from_millis(15),
        ..World::default()
    };
    let mut call = call(world);
    call.limits.cpu_ms = 50;
    let action = "(call $kv_get (i32.const 0) (i32.const 1) (i32.const 2048))";
    let module = guest_with(r#"(data (i32.const 0) "k")"#, &repeat(20, action));
    let report = bench().run_with(module, call).await;
    assert_eq!(verdict(&report), "ok");
    assert!(report.ran >= Duration::from_millis(300), "{:?}", report.ran);
}
