//! Quotas by API: shown with their use, changed live, and in the audit.

use super::*;
use crate::db::commit::{Commit, Expectation, ReadSet, Write, commit};
use crate::db::inbox::CallbackRow;
use crate::db::personal::PersonalEffects;

fn named<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let mut quotas = answer["quotas"].as_array().unwrap().iter();
    quotas.find(|quota| quota["name"] == name).unwrap()
}

async fn put(api: &Api, key: &str, value: &str) {
    let row = CallbackRow {
        answer: "".into(),
        late: None,
    };
    let writes = [Write {
        key: key.to_owned(),
        value: Some(value.into()),
        expect: Expectation::Any,
    }];
    let request = Commit {
        app_id: "wx01",
        event_id: key,
        reads: &ReadSet::default(),
        writes: &writes,
        version: 1,
        money: &[],
        personal: PersonalEffects::default(),
        trace_id: "t",
        now_ms: 1,
    };
    commit(&api.services.db, &row, &request).await.unwrap();
}

#[tokio::test]
async fn quotas_are_shown_with_their_use_and_changed() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        put(&api, "key", "0123456789").await;
        let path = "/api/v1/accounts/wx01/quotas";
        let (status, quotas) = api.get(path).await;
        assert_eq!(status, StatusCode::OK, "{quotas}");
        let bytes =
            json!({"name": "value-bytes", "most": 268_435_456, "is_set": false, "in_use": 13});
        assert_eq!(named(&quotas, "value-bytes"), &bytes);
        assert_eq!(named(&quotas, "callbacks-a-second").get("in_use"), None);

        let wanted = json!({"value-bytes": 20, "values": 2});
        let (status, quotas) = api.call(Method::PATCH, path, &wanted).await;
        assert_eq!(status, StatusCode::OK, "{quotas}");
        let bytes = json!({"name": "value-bytes", "most": 20, "is_set": true, "in_use": 13});
        assert_eq!(named(&quotas, "value-bytes"), &bytes);
        let (_, quotas) = api
            .call(Method::PATCH, path, &json!({"values": null}))
            .await;
        assert_eq!(named(&quotas, "values")["is_set"], false);
        assert_eq!(named(&quotas, "value-bytes")["most"], 20);

        // A tenant has no limits of its own until it is given some; its use is that of its accounts.
        let path = "/api/v1/tenants/acme/quotas";
        let (_, quotas) = api.get(path).await;
        let values = json!({"name": "values", "is_set": false, "in_use": 1});
        assert_eq!(named(&quotas, "values"), &values);
        let (_, quotas) = api.call(Method::PATCH, path, &json!({"values": 0})).await;
        assert_eq!(named(&quotas, "values")["most"], 0);

        let (_, audit) = api.get("/api/v1/audit").await;
        let entries = audit["entries"].as_array().unwrap().iter();
        let changes = entries.filter(|entry| entry["action"] == "quota.change");
        let objects = changes.map(|entry| entry["object"].as_str().unwrap());
        assert_eq!(
            objects.collect::<Vec<_>>(),
            [
                "values of tenant acme: 0",
                "values: as usual",
                "values: 2",
                "value-bytes: 20"
            ]
        );
    }
}

#[tokio::test]
async fn what_is_no_quota_is_refused_and_nothing_is_changed() {
    let api = Api::with_account(sqlite().await).await;
    let path = "/api/v1/accounts/wx01/quotas";
    for (wanted, part) in [
        (
            json!({"value-bytes": 5, "valeus": 1}),
            "value-bytes, values",
        ),
        (json!({"value-bytes": 5, "values": -1}), "must be 0 or more"),
        (
            json!({"value-bytes": 5, "callbacks-a-second": 0}),
            "must be 1 or more",
        ),
    ] {
        let refused = api.call(Method::PATCH, path, &wanted).await;
        Api::expect(&refused, 400, "invalid-field", part);
        let (_, quotas) = api.get(path).await;
        assert_eq!(named(&quotas, "value-bytes")["is_set"], false);
    }
    let nobody = api.get("/api/v1/accounts/wx99/quotas").await;
    Api::expect(&nobody, 404, "not-found", "wx99");
}
