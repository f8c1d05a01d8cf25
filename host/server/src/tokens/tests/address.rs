//! Hosts whose address WeChat refuses (IP 白名单).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::super::testing::redis;
use super::*;
use crate::db::addresses::{self, AddressFilter};

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn refused(result: &Result<Arc<Token>, TokenError>) -> i64 {
    match result {
        Err(TokenError::AddressRefused { refusal }) => refusal.errcode,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_address_that_is_refused_blocks_no_account_and_a_held_token_is_used() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let held = host.token().await.unwrap();
    bed.change(json!({"allowed_ips": ["10.1.1.1"]}));
    let forced = host.tokens.force_refresh(&host.account(), soon()).await;
    assert_eq!(refused(&forced), 40164);
    assert_eq!(host.token().await.unwrap().fence, held.fence);
    ask(&host).await.unwrap();
    let account = host.account();
    let refusal = account.slots.address.refusal().unwrap();
    assert_eq!(refusal.address, Some("127.0.0.1".parse().unwrap()));
    host.accounts.refresh().await.unwrap();
    assert_eq!(
        host.account().credentials.attention,
        None,
        "it is not the account's"
    );
}

#[tokio::test]
async fn a_refused_address_is_tried_again_by_time_and_found_to_be_good() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    bed.change(json!({"allowed_ips": ["10.1.1.1"]}));
    assert_eq!(refused(&host.token().await), 40164);
    let fetches = bed.count("refused_fetches");
    assert_eq!(refused(&host.token().await), 40164);
    assert_eq!(
        bed.count("refused_fetches"),
        fetches,
        "WeChat is left alone"
    );
    bed.change(json!({"allowed_ips": null}));
    // As if the time had come.
    host.account().slots.address.probe_now();
    host.tokens.clear_backoff(&host.account());
    host.token().await.unwrap();
    assert_eq!(host.account().slots.address.refusal(), None);
}

#[tokio::test]
async fn a_host_whose_address_is_refused_uses_what_others_fetch_and_asks_them_to() {
    let Some(redis) = redis() else { return };
    let bed = Bed::new(Stable, 7200).await;
    bed.change(json!({"allowed_ips": ["127.0.0.1"]}));
    let good = bed.sharing(&redis).await;
    let lacking = bed.sharing_from(ELSEWHERE, &redis).await;
    // Nobody has asked the good one: the other host does.
    let borrowed = lacking.token().await.unwrap();
    assert_eq!(bed.count("stable_fetches"), 1);
    assert_eq!(good.token().await.unwrap().fence, borrowed.fence);
    let refusal = lacking.account().slots.address.refusal().unwrap();
    assert_eq!(refusal.address, Some(ELSEWHERE.into()));
    assert_eq!(good.account().slots.address.refusal(), None);

    // Also when the token has to be renewed.
    let fetches = bed.count("refused_fetches");
    lacking.tokens.expire(&lacking.account(), &borrowed).await;
    until("news of the refused token", || {
        good.held().is_none().then_some(())
    })
    .await;
    let renewed = lacking.token().await.unwrap();
    assert!(renewed.fence > borrowed.fence);
    assert_eq!(bed.count("refused_fetches"), fetches);
}

#[tokio::test]
async fn a_probe_tells_of_the_address_and_ends_no_token() {
    for line in [Stable, Classic] {
        let bed = Bed::new(line, 7200).await;
        let host = bed.alone().await;
        let held = host.token().await.unwrap();
        let probe = host.tokens.probe(&host.account(), soon()).await;
        assert!(matches!(probe, Probe::Allowed), "{probe:?}");
        bed.change(json!({"allowed_ips": ["10.1.1.1"]}));
        match host.tokens.probe(&host.account(), soon()).await {
            Probe::Refused(refusal) => assert_eq!(refusal.errcode, 40164),
            other => panic!("{other:?}"),
        }
        bed.change(json!({"allowed_ips": null, "secret": "another0another0another0another0"}));
        let probe = host.tokens.probe(&host.account(), soon()).await;
        assert!(matches!(probe, Probe::Unknown { .. }), "{probe:?}");
        assert_eq!(host.account().credentials.attention, None);
        bed.change(json!({"secret": SECRET}));
        assert_eq!(host.token().await.unwrap().fence, held.fence);
    }
}

#[tokio::test]
async fn refusals_are_reported_and_lifted_for_many_accounts_at_once() {
    let bed = Bed::new(Stable, 7200).await;
    let host = bed.alone().await;
    let reports = AddressReports::new(Arc::clone(&host.tokens), bed.db().clone());
    let reported = async || {
        let rows = addresses::between(bed.db(), &bed.app_id, &bed.app_id).await;
        rows.unwrap()
    };
    let mut stored = BTreeMap::new();
    reports.report(&mut stored).await.unwrap();
    assert!(reported().await.is_empty());

    bed.change(json!({"allowed_ips": ["10.1.1.1"]}));
    assert_eq!(refused(&host.token().await), 40164);
    reports.report(&mut stored).await.unwrap();
    let rows = reported().await;
    assert_eq!((rows.len(), &*rows[0].address), (1, "127.0.0.1"));
    assert_eq!(host.tokens.parts.metrics.addresses_refused.get(), 1);

    bed.change(json!({"allowed_ips": null}));
    let mut change = bed.db().change().await.unwrap();
    let all = AddressFilter::default();
    assert_eq!(addresses::lift(&mut change, &all).await.unwrap(), 1);
    change.commit().await.unwrap();
    reports.report(&mut stored).await.unwrap();
    host.token().await.unwrap();
    reports.report(&mut stored).await.unwrap();
    assert!(reported().await.is_empty());
    assert_eq!(host.tokens.parts.metrics.addresses_refused.get(), 0);

    // What is found to be good again is taken back by the host itself.
    bed.change(json!({"allowed_ips": ["10.1.1.1"]}));
    host.tokens.probe(&host.account(), soon()).await;
    reports.report(&mut stored).await.unwrap();
    assert_eq!(reported().await.len(), 1);
    bed.change(json!({"allowed_ips": null}));
    host.tokens.probe(&host.account(), soon()).await;
    reports.report(&mut stored).await.unwrap();
    assert!(reported().await.is_empty());
}
