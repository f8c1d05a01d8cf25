//! Tokens of several hosts that share a Redis.

use futures::future::join_all;

use super::super::testing::{Bed, redis, until};
use super::*;
use crate::accounts::Holder;
use crate::store::StoreAway;
use crate::store::credentials::{CredentialKey, StoredToken, Taken, Written};
use crate::store::{Redis, keys};

fn key(app_id: &str) -> CredentialKey<'_> {
    CredentialKey {
        app_id,
        credential: Credential::AccessToken.as_str(),
    }
}

fn stored(fence: u64, value: &str, left_ms: i64) -> StoredToken {
    StoredToken {
        fence,
        failed: false,
        value: value.into(),
        hash: format!("hash of {value}"),
        fetched_at_ms: 1,
        lifetime_ms: 7_200_000,
        left_ms,
    }
}

async fn leased(redis: &Redis, app_id: &str, owner: &str, have: u64) -> u64 {
    match redis.take_token(key(app_id), owner, have).await {
        Ok(Taken::Leased { fence, .. }) => fence,
        other => panic!("{other:?}"),
    }
}

async fn forget(redis: &Redis, app_id: &str) {
    let word = Credential::AccessToken.as_str();
    for key in [keys::token, keys::lease, keys::fence] {
        redis.delete_for_test(&key(app_id, word)).await;
    }
}

fn any_app() -> String {
    format!("wx{}", random_word())
}

fn random_word() -> String {
    hex::encode(&crate::random::sixteen()[..8])
}

#[tokio::test]
async fn a_lower_fence_and_an_older_token_do_not_overwrite() -> Result<(), StoreAway> {
    let Some(redis) = redis() else { return Ok(()) };
    let app_id = any_app();
    let key = key(&app_id);
    let slept = leased(&redis, &app_id, "a", 0).await;
    forget_lease(&redis, &app_id).await;
    let woke = leased(&redis, &app_id, "b", 0).await;
    assert!(woke > slept);
    let token = stored(woke, "new", 60_000);
    assert_eq!(
        redis.write_token(key, "b", &token, false).await?,
        Written::Stored
    );
    let late = stored(slept, "old", 7_200_000);
    assert_eq!(
        redis.write_token(key, "a", &late, false).await?,
        Written::Fenced
    );
    let older = stored(woke + 1, "older", 10_000);
    assert_eq!(
        redis.write_token(key, "a", &older, false).await?,
        Written::Older
    );
    assert_eq!(redis.read_token(key).await?.unwrap().value, "new");
    // A forced one is newer whatever it says.
    assert_eq!(
        redis.write_token(key, "a", &older, true).await?,
        Written::Stored
    );
    Ok(())
}

async fn forget_lease(redis: &Redis, app_id: &str) {
    let word = Credential::AccessToken.as_str();
    redis.delete_for_test(&keys::lease(app_id, word)).await;
}

#[tokio::test]
async fn a_foreign_owner_neither_releases_nor_renews() -> Result<(), StoreAway> {
    let Some(redis) = redis() else { return Ok(()) };
    let app_id = any_app();
    let key = key(&app_id);
    leased(&redis, &app_id, "a", 0).await;
    let busy = async || {
        let taken = redis.take_token(key, "c", 0).await;
        matches!(taken, Ok(Taken::Busy { left_ms: 1..=3000 }))
    };
    assert!(!redis.release_token_lease(key, "b", None).await?);
    assert!(!redis.renew_token_lease(key, "b").await?);
    // Nor does a write by somebody whose lease it is not.
    redis
        .write_token(key, "b", &stored(1, "t", 1000), false)
        .await?;
    redis.mark_failed(key, 1, "hash of t").await?;
    assert!(busy().await);
    assert!(redis.renew_token_lease(key, "a").await?);
    assert!(redis.release_token_lease(key, "a", None).await?);
    assert!(!busy().await);
    Ok(())
}

#[tokio::test]
async fn only_the_token_that_failed_is_given_up() -> Result<(), StoreAway> {
    let Some(redis) = redis() else { return Ok(()) };
    let app_id = any_app();
    let key = key(&app_id);
    let fence = leased(&redis, &app_id, "a", 0).await;
    redis
        .write_token(key, "a", &stored(fence, "t", 60_000), false)
        .await?;
    assert!(!redis.mark_failed(key, fence - 1, "hash of t").await?);
    assert!(!redis.mark_failed(key, fence, "hash of another").await?);
    assert!(!redis.read_token(key).await?.unwrap().failed);
    assert!(redis.mark_failed(key, fence, "hash of t").await?);
    assert!(!redis.mark_failed(key, fence, "hash of t").await?, "once");
    // It is not put back by a host that has not heard.
    let put_back = redis
        .write_token(key, "", &stored(fence, "t", 60_000), false)
        .await?;
    assert_eq!(put_back, Written::Fenced);
    match redis.take_token(key, "b", fence).await? {
        Taken::Leased { failed_hash, .. } => assert_eq!(failed_hash.unwrap(), "hash of t"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn fences_rise_through_a_wipe() {
    let Some(redis) = redis() else { return };
    let app_id = any_app();
    let before = leased(&redis, &app_id, "a", 0).await;
    forget(&redis, &app_id).await;
    let after = leased(&redis, &app_id, "a", 0).await;
    assert!(after > before);
    // Even where Redis' clock has gone back.
    forget(&redis, &app_id).await;
    let ahead = after + 1_000_000_000;
    assert_eq!(leased(&redis, &app_id, "a", ahead).await, ahead + 1);
}

#[tokio::test]
async fn hosts_that_share_a_redis_fetch_once() {
    let Some(redis) = redis() else { return };
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let mut hosts = Vec::new();
        for _ in 0..3 {
            hosts.push(bed.sharing(&redis).await);
        }
        let tokens = join_all(hosts.iter().flat_map(|host| (0..20).map(|_| host.token()))).await;
        let fences: Vec<_> = tokens
            .into_iter()
            .map(|token| token.unwrap().fence)
            .collect();
        assert!(fences.iter().all(|fence| *fence == fences[0]));
        assert_eq!(
            bed.count("stable_fetches") + bed.count("classic_fetches"),
            1
        );
    }
}

/// The race itself: hosts that renew ahead, callers on all of them, for some lives of their tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_renew_ahead_fetch_once_per_life_and_account() {
    const LIVES: u64 = 3;
    let Some(redis) = redis() else { return };
    let races = (0..8).map(|_| async {
        let bed = Bed::new(Stable, 4).await;
        let mut hosts = Vec::new();
        for _ in 0..3 {
            let host = bed.sharing(&redis).await;
            let (tokens, stop) = (&host.tokens, &host.tokens.parts.stop);
            tokio::spawn(renew_ahead(Arc::clone(tokens), stop.clone()));
            tokio::spawn(confirm(Arc::clone(tokens), stop.clone()));
            hosts.push((host, 0));
        }
        while bed.count("stable_fetches") < LIVES {
            for (host, last) in &mut hosts {
                let token = host.token().await.unwrap();
                assert!(token.fence >= *last, "an older token after a newer one");
                *last = token.fence;
                ask(host).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(bed.count("stable_fetches"), bed.count("stable_issued"));
    });
    join_all(races).await;
}

#[tokio::test]
async fn the_lease_of_a_dead_host_is_taken_over() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.sharing(&redis).await;
    let dead = leased(&redis, &bed.app_id, "dead", 0).await;
    let (token, ()) = tokio::join!(host.token(), async {
        // As if its time was over.
        forget_lease(&redis, &bed.app_id).await;
    });
    assert!(token.unwrap().fence > dead);
}

#[tokio::test]
async fn other_hosts_hear_of_a_forced_token_and_of_a_refused_one() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let (one, other) = (bed.sharing(&redis).await, bed.sharing(&redis).await);
    let old = one.token().await.unwrap();
    assert_eq!(other.token().await.unwrap().fence, old.fence);
    let forced = one
        .tokens
        .force_refresh(&one.account(), soon())
        .await
        .unwrap();
    let heard = || other.held().filter(|token| token.fence == forced.fence);
    until("news of the forced token", heard).await;
    one.tokens.expire(&one.account(), &forced).await;
    until("news of the refused token", || {
        other.held().is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wave_of_refusals_on_every_host_fetches_once() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let (one, other) = (bed.sharing(&redis).await, bed.sharing(&redis).await);
    one.token().await.unwrap();
    other.token().await.unwrap();
    bed.neighbour_fetches(Stable).await;
    let waves = (0..20).flat_map(|_| [ask(&one), ask(&other)]);
    for answer in join_all(waves).await {
        answer.unwrap();
    }
    assert_eq!(bed.count("stable_fetches"), 3);
}

#[tokio::test]
async fn what_redis_forgets_is_put_back_without_a_fetch() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Classic, 7200).await;
    let host = bed.sharing(&redis).await;
    let held = host.token().await.unwrap();
    forget(&redis, &bed.app_id).await;
    assert_eq!(host.token().await.unwrap().fence, held.fence);
    host.tokens
        .look(&Holder::Account(host.account()), Credential::AccessToken)
        .await;
    let newcomer = bed.sharing(&redis).await;
    assert_eq!(newcomer.token().await.unwrap().fence, held.fence);
    assert_eq!(bed.count("classic_fetches"), 1);
}

#[tokio::test]
async fn a_host_that_slept_does_not_go_on_with_an_old_token() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let one = bed.sharing(&redis).await;
    // It hears nothing, as one that sleeps.
    let sleeper = bed.host(Store::Redis(Arc::clone(&redis))).await;
    let old = sleeper.token().await.unwrap();
    let now_ms = sleeper.tokens.parts.clock.now_ms();
    sleeper.tokens.beat_ms.store(now_ms, Ordering::Relaxed);
    let new = one
        .tokens
        .force_refresh(&one.account(), soon())
        .await
        .unwrap();
    assert_eq!(
        sleeper.token().await.unwrap().fence,
        old.fence,
        "it has not heard"
    );
    let long_ago = now_ms - millis(ASLEEP);
    sleeper.tokens.beat_ms.store(long_ago, Ordering::Relaxed);
    assert_eq!(sleeper.token().await.unwrap().fence, new.fence);
}

#[tokio::test]
async fn without_redis_hosts_go_on_with_what_they_hold() {
    // Nobody listens there.
    let away = Redis::open(&"redis://127.0.0.1:1".to_owned().into()).unwrap();
    let away = Store::Redis(Arc::new(away));
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let hosts = [bed.host(away.clone()).await, bed.host(away.clone()).await];
        for host in &hosts {
            let token = host.token().await.unwrap();
            host.tokens.mark_stale();
            assert_eq!(host.token().await.unwrap().fence, token.fence);
            ask(host).await.unwrap();
        }
        // On the stable line both hold the same.
        assert_eq!(
            bed.count("stable_fetches") + bed.count("classic_fetches"),
            2
        );
        let same = hosts[0].held().unwrap().hash == hosts[1].held().unwrap().hash;
        assert_eq!(same, line == Stable);
    }
}

#[tokio::test]
async fn a_lease_is_renewed_while_wechat_takes_longer_than_it_lasts() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    bed.fault(json!({"kind": "slow", "ms": 4500, "path_prefix": "/cgi-bin/stable_token"}));
    let (one, other) = (bed.sharing(&redis).await, bed.sharing(&redis).await);
    let (first, second) = tokio::join!(one.token(), other.token());
    assert_eq!(first.unwrap().fence, second.unwrap().fence);
    assert_eq!(
        bed.count("stable_fetches"),
        1,
        "the second host has asked, too"
    );
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_time_out_and_not_the_token() {
    // It takes connections and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for url in [
        format!("redis://{address}"),
        format!("redis+sentinel://{address}/mymaster"),
        format!("redis+cluster://{address}"),
    ] {
        let hanging = Arc::new(Redis::open(&url.clone().into()).unwrap());
        let bed = Bed::new(Stable, 7200).await;
        let host = bed.host(Store::Redis(Arc::clone(&hanging))).await;
        let tokens = join_all((0..20).map(|_| host.token())).await;
        assert!(tokens.iter().all(Result::is_ok), "{url}: {tokens:?}");
        ask(&host).await.unwrap();
        assert_eq!(bed.count("stable_fetches"), 1, "{url}");
        assert!(hanging.subscription().await.is_err(), "{url}");
    }
}

/// A cold start: one host is asked for everything and queues; the other, idle, must not wait behind it.
#[tokio::test]
async fn an_idle_host_fetches_what_a_busy_one_has_not_come_to() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let (busy, idle) = (bed.sharing(&redis).await, bed.sharing(&redis).await);
    let turns = u32::try_from(FETCHES_AT_ONCE).unwrap();
    let all_turns = busy.tokens.token_turns.acquire_many(turns).await.unwrap();
    let (account, tokens) = (busy.account(), Arc::clone(&busy.tokens));
    let queued = tokio::spawn(async move {
        let token = tokens.get(&account, Credential::AccessToken, soon()).await;
        token.map(|token| token.fence)
    });
    until("a fetch that waits for its turn", || {
        let account = busy.account();
        let slot = account.slots.of(Credential::AccessToken);
        let waits = slot.flight.lock().is_some();
        waits.then_some(())
    })
    .await;
    let fetched = idle.token().await.unwrap();
    // The busy one hears of it and has no need of a turn any more.
    assert_eq!(queued.await.unwrap().unwrap(), fetched.fence);
    drop(all_turns);
    assert_eq!(bed.count("stable_fetches"), 1);
}
