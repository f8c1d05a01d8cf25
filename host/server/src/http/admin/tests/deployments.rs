//! What becomes of deployments and components that are old.

use super::*;
use crate::clock::Clock;

const DAY_MS: i64 = 24 * 3600 * 1000;

async fn versions(api: &Api) -> Vec<i64> {
    let (_, page) = api.get("/api/v1/accounts/wx01/deployments?limit=100").await;
    let deployments = page["deployments"].as_array().unwrap();
    deployments
        .iter()
        .map(|deployment| deployment["version"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn fifty_deployments_are_kept_and_the_one_that_ran_before() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let newer = plugin("{}");
        api.deploy(&plugin(r#"{"type":"object"}"#), &json!({}))
            .await;
        for _ in 2..=52 {
            api.deploy(&newer, &json!({})).await;
        }
        assert_eq!(versions(&api).await, (3..=52).rev().collect::<Vec<_>>());

        // An old one runs when the next is deployed: it stays.
        api.post("/api/v1/accounts/wx01/deployments/3/activate", &json!({}))
            .await;
        api.deploy(&newer, &json!({})).await;
        assert_eq!(versions(&api).await, (3..=53).rev().collect::<Vec<_>>());
        api.deploy(&newer, &json!({})).await;
        assert_eq!(versions(&api).await, (5..=54).rev().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn components_without_deployments_go_after_a_day_with_their_native_code() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let native = || {
            std::fs::read_dir(api.services.native.path())
                .unwrap()
                .count()
        };
        let stored = async || {
            let digests = crate::db::plugins::digests(&api.services.db).await.unwrap();
            digests.len()
        };
        api.deploy(&plugin("{}"), &json!({})).await;
        // Refused, so nothing of it is stored; but it was compiled.
        let strict = plugin(r#"{"required":["greeting"]}"#);
        let (refused, _) = api.deploy(&strict, &json!({})).await;
        assert_eq!(refused, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((stored().await, native()), (1, 2));

        let now_ms = Clock.now_ms();
        for (at, expected) in [(now_ms, (1, 2)), (now_ms + 2 * DAY_MS, (1, 1))] {
            api.services.plugins.forget_unused(at).await.unwrap();
            assert_eq!((stored().await, native()), expected);
        }
    }
}
