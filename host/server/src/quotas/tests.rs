//! Room is given out against what the database counts; on both databases.

use super::*;
use crate::db::Database;
use crate::db::commit::{Commit, Expectation, ReadSet, Write, commit};
use crate::db::inbox::CallbackRow;
use crate::db::personal::PersonalEffects;
use crate::db::testing::databases;

const APP: &str = "wx01";

fn holder(id: &str, limits: &[(Quota, i64)]) -> Holder {
    let limits = limits.iter().map(|(quota, most)| (quota.as_str(), *most));
    Holder::new(id, Limits::of(limits), None)
}

fn values(keys: &[&str], bytes: usize) -> Sorted {
    let write = |key: &&str| Write {
        key: (*key).to_owned(),
        value: Some(vec![b'x'; bytes]),
        expect: Expectation::Any,
    };
    Sorted {
        writes: keys.iter().map(write).collect(),
        ..Sorted::default()
    }
}

/// Takes room, commits, and says that the room is used.
async fn put(quotas: &Quotas, holders: Holders<'_>, effects: &Sorted) -> Result<(), OverQuota> {
    let room = quotas.take(holders, effects).await.unwrap()?;
    store(&quotas.db, effects).await;
    room.used();
    Ok(())
}

async fn store(db: &Database, effects: &Sorted) {
    let request = Commit {
        app_id: APP,
        event_id: &crate::random::unique_name(),
        reads: &ReadSet::default(),
        writes: &effects.writes,
        version: crate::random::version(),
        money: &[],
        personal: PersonalEffects::default(),
        trace_id: "t",
        now_ms: 1,
    };
    let row = CallbackRow {
        answer: "".into(),
        late: None,
    };
    commit(db, &row, &request).await.unwrap();
}

#[tokio::test]
async fn effects_get_the_room_that_there_is_and_no_more() {
    for db in databases().await {
        let quotas = Quotas::new((*db).clone(), Limits::default());
        let account = holder(APP, &[(Quota::ValueBytes, 100), (Quota::Values, 3)]);
        let tenant = holder("acme", &[]);
        let holders = Holders {
            account: &account,
            tenant: &tenant,
        };
        put(&quotas, holders, &values(&["a", "b"], 40))
            .await
            .unwrap();
        let over = put(&quotas, holders, &values(&["c"], 40))
            .await
            .unwrap_err();
        assert_eq!(
            over.to_string(),
            "quota value-bytes of the account: 100 at most, 82 in use, 41 more asked for"
        );
        // What replaces as much is no growth, and neither is what replaces and takes away.
        put(&quotas, holders, &values(&["a", "b"], 40))
            .await
            .unwrap();
        put(&quotas, holders, &values(&["a"], 10)).await.unwrap();
        put(&quotas, holders, &values(&["c"], 40)).await.unwrap();
        let over = put(&quotas, holders, &values(&["d"], 1)).await.unwrap_err();
        assert_eq!((over.quota, over.most, over.in_use), (Quota::Values, 3, 3));
    }
}

#[tokio::test]
async fn a_tenants_room_is_shared_by_its_accounts() {
    for db in databases().await {
        let tenant_row = crate::db::tenants::TenantRow {
            id: "acme".into(),
            name: String::new(),
            max_concurrent_calls: 8,
            like_app_id: None,
            created_at: 1,
        };
        crate::db::accounts::tests::add_account(&db, APP).await;
        crate::db::accounts::tests::add_account(&db, "wx02").await;
        store(&db, &values(&["a"], 59)).await;
        let quotas = Quotas::new((*db).clone(), Limits::default());
        let tenant = holder(&tenant_row.id, &[(Quota::ValueBytes, 100)]);
        let other = holder("wx02", &[]);
        let holders = Holders {
            account: &other,
            tenant: &tenant,
        };
        let over = quotas.take(holders, &values(&["b"], 40)).await.unwrap();
        assert_eq!(
            over.unwrap_err().to_string(),
            "quota value-bytes of the tenant: 100 at most, 60 in use, 41 more asked for"
        );
        // What an account could not have because of its tenant is not kept for it.
        assert!(
            quotas
                .take(holders, &values(&["b"], 39))
                .await
                .unwrap()
                .is_ok()
        );
    }
}

#[tokio::test]
async fn what_other_hosts_have_used_is_seen_before_a_limit_is_reached() {
    for db in databases().await {
        let quotas = Quotas::new((*db).clone(), Limits::default());
        let account = holder(APP, &[(Quota::Values, 10)]);
        let tenant = holder("acme", &[]);
        let holders = Holders {
            account: &account,
            tenant: &tenant,
        };
        put(&quotas, holders, &values(&["a"], 1)).await.unwrap();
        // Another host.
        store(&db, &values(&["b", "c", "d", "e", "f", "g", "h", "i"], 1)).await;
        let over = put(
            &quotas,
            holders,
            &values(&["j", "k", "l", "m", "n", "o", "p", "q", "r"], 1),
        )
        .await;
        assert_eq!(over.unwrap_err().in_use, 9);
        // And the loop sees it without being asked.
        store(&db, &values(&["j"], 1)).await;
        quotas
            .look_at_all(&[(account.clone(), tenant.clone())])
            .await
            .unwrap();
        let over = quotas.reserve(
            holders,
            amounts(&Growth {
                values: 1,
                ..Growth::default()
            }),
            Sure::Asked,
        );
        assert_eq!(over.unwrap_err().in_use, 10);
    }
}

#[tokio::test]
async fn a_log_beyond_the_day_is_not_kept() {
    let db = crate::db::testing::sqlite().await;
    let usual = Limits::of([(Quota::LogBytesADay.as_str(), 100)]);
    let quotas = Quotas::new((*db).clone(), usual);
    let (account, tenant) = (holder(APP, &[]), holder("acme", &[]));
    let holders = Holders {
        account: &account,
        tenant: &tenant,
    };
    assert_eq!(quotas.add_log(holders, 100), Ok(()));
    let over = quotas.add_log(holders, 1).unwrap_err();
    assert_eq!(
        over.to_string(),
        "quota log-bytes-a-day of the account: 100 at most, 100 in use, 1 more asked for"
    );
}

#[tokio::test]
async fn a_callback_that_cannot_wait_is_told_whose_rate_it_is() {
    let db = crate::db::testing::sqlite().await;
    let quotas = Quotas::new((*db).clone(), Limits::default());
    let account = holder(APP, &[(Quota::CallbacksASecond, 100)]);
    let tenant = holder("acme", &[(Quota::CallbacksASecond, 2)]);
    let holders = Holders {
        account: &account,
        tenant: &tenant,
    };
    let patience = Instant::now();
    for _ in 0..2 {
        quotas.callback_turn(holders, patience).await.unwrap();
    }
    let over = quotas.callback_turn(holders, patience).await.unwrap_err();
    assert_eq!(
        over.to_string(),
        "quota callbacks-a-second of the tenant: 2 at most, 2 in use, 1 more asked for"
    );
}
