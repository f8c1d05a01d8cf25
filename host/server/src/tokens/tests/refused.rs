//! Tokens that WeChat's API refuses, rightly or by mistake, and forced ones that WeChat refuses to give.

use super::super::testing::redis;
use super::*;
use crate::store::{Redis, keys};

/// WeChat's API says that a token is bad, so often, whatever the token is.
fn refuse_calls(bed: &Bed, count: Option<u64>) {
    bed.fault(json!({
        "kind": "errcode", "errcode": 40001, "path_prefix": "/cgi-bin/getcallbackip", "count": count,
    }));
}

/// The day's forced tokens are used up, as WeChat counts them.
async fn use_forces_up(bed: &Bed) {
    for _ in 0..20 {
        bed.neighbour_fetches(Stable).await;
    }
}

#[tokio::test]
async fn a_false_refusal_costs_neither_a_forced_token_nor_a_token_of_the_classic_line() {
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let host = bed.alone().await;
        let held = host.token().await.unwrap();
        refuse_calls(&bed, Some(1));
        ask(&host).await.unwrap();
        assert_eq!(host.held().unwrap().hash, held.hash, "{line:?}");
        assert_eq!(
            (bed.count("forced"), bed.count("classic_fetches") <= 1),
            (0, true)
        );
    }
}

#[tokio::test]
async fn a_force_that_wechat_refuses_does_not_throw_the_token_in_hand_away() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    use_forces_up(&bed).await;
    let held = host.token().await.unwrap();
    refuse_calls(&bed, Some(2));
    match ask(&host).await {
        Ok(()) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(host.token().await.unwrap().hash, held.hash);
    ask(&host).await.unwrap();
    // Nor does anybody try to force one again today.
    refuse_calls(&bed, Some(2));
    let asked = bed.count("refused_fetches");
    let _ = ask(&host).await;
    assert_eq!(bed.count("refused_fetches"), asked);
    assert_eq!(host.token().await.unwrap().hash, held.hash);
}

#[tokio::test]
async fn an_operators_force_that_wechat_refuses_stops_nothing() {
    let shared = redis();
    let bed = Bed::new(Stable, 7200).await;
    use_forces_up(&bed).await;
    let host = match &shared {
        Some(redis) => bed.sharing(redis).await,
        None => bed.alone().await,
    };
    let held = host.token().await.unwrap();
    match host.tokens.force_refresh(&host.account(), soon()).await {
        Err(TokenError::Refused(refusal)) => assert!(refusal.errcode.is_daily_limit()),
        other => panic!("{other:?}"),
    }
    assert_eq!(host.token().await.unwrap().fence, held.fence);
    let account = host.account();
    let slot = account.slots.of(Credential::AccessToken);
    assert!(
        slot.pause().is_none(),
        "it would not be renewed for an hour"
    );
    // A host that comes now gets the token.
    if let Some(redis) = &shared {
        let other = bed.sharing(redis).await;
        other.tokens.expire(&other.account(), &held).await;
        assert_eq!(other.token().await.unwrap().hash, held.hash);
        forces_are_paused(redis, &bed.app_id).await;
    }
}

async fn forces_are_paused(redis: &Redis, app_id: &str) {
    redis.permit_force(app_id, 20).await.unwrap().unwrap_err();
    redis.delete_for_test(&keys::forced(app_id)).await;
}

#[tokio::test]
async fn the_hash_of_a_refused_token_gets_a_newer_one_and_that_of_an_older_one_nothing() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let old = host.token().await.unwrap();
    bed.neighbour_fetches(Stable).await;
    host.tokens.expire_hash(&host.account(), &old.hash).await;
    let new = host.token().await.unwrap();
    assert_ne!(new.hash, old.hash);
    for hash in [&*old.hash, "", &new.hash[..8]] {
        host.tokens.expire_hash(&host.account(), hash).await;
        assert_eq!(host.token().await.unwrap().fence, new.fence, "{hash:?}");
    }
}

#[tokio::test]
async fn hosts_share_the_classic_lines_budget() {
    let Some(redis) = redis() else { return };
    let app_id = format!("wx{}", hex::encode(&crate::random::sixteen()[..8]));
    let period = Duration::from_secs(60);
    let mut permitted = 0;
    for _ in 0..50 {
        permitted += u32::from(redis.permit_fetch(&app_id, period, 20).await.unwrap());
    }
    assert_eq!(permitted, 20, "at once, for all hosts");
    redis.delete_for_test(&keys::fetches(&app_id)).await;
    assert!(redis.permit_fetch(&app_id, period, 20).await.unwrap());
}

#[tokio::test]
async fn a_cleared_quota_lets_all_hosts_ask_again() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    let (one, other) = (bed.sharing(&redis).await, bed.sharing(&redis).await);
    bed.change(json!({"quotas": {"/cgi-bin/stable_token": 0}}));
    for host in [&one, &other] {
        assert!(matches!(host.token().await, Err(TokenError::Refused(_))));
    }
    bed.change(json!({"quotas": {}}));
    one.tokens.clear_quota_pause(&one.account()).await;
    one.token().await.unwrap();
    other.tokens.clear_backoff(&other.account());
    other.token().await.unwrap();
}
