//! The audit, as an operator reads it.

use super::{keys::new_key, *};

#[tokio::test]
async fn changes_are_in_the_audit_with_their_request_and_without_secrets() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (_, made) = api.post("/api/v1/keys", &new_key()).await;
        let (_, page) = api.get("/api/v1/audit?actor=admin&limit=1").await;
        let entry = &page["entries"][0];
        assert_eq!(entry["action"], "key.add");
        assert_eq!(entry["object"], made["id"]);
        assert_eq!(entry["result"], "ok");
        assert_eq!(entry["request_id"].as_str().unwrap().len(), 32);
        assert_eq!(page["next"], entry["id"]);
        let (_, all) = api.get("/api/v1/audit").await;
        assert!(!all.to_string().contains(made["key"].as_str().unwrap()));
        let none = api.get("/api/v1/audit?actor=key-1").await;
        assert_eq!(none.1["entries"], json!([]));
    }
}

/// Every change that an operator can make, by its word, and none of the secrets that went with it.
#[tokio::test]
async fn no_change_goes_without_an_entry() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let account = "/api/v1/accounts/wx01";
        let secret = "0123456789abcdef0123456789abcdef";
        let change = json!({"secret": secret, "fallback_text": "hidden words"});
        let (status, answer) = api.call(Method::PATCH, account, &change).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let same = json!({"fallback_text": "hidden words"});
        api.call(Method::PATCH, account, &same).await;
        let keys = json!({"token": "anotherToken"});
        api.post(&format!("{account}/rotate-key"), &keys).await;
        for _ in 0..2 {
            let (status, answer) = api.deploy(&plugin("{}"), &json!({})).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
        }
        api.post(&format!("{account}/rollback"), &json!({})).await;
        let (_, made) = api.post("/api/v1/keys", &new_key()).await;
        let key = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
        api.call(Method::DELETE, &key, &Value::Null).await;
        // Refused: nothing was done.
        api.post("/api/v1/tenants", &json!({"id": "acme"})).await;

        let (_, page) = api.get("/api/v1/audit").await;
        let entries = page["entries"].as_array().unwrap();
        let mut shown: Vec<_> = entries
            .iter()
            .map(|entry| {
                let object = entry["object"].as_str().unwrap();
                let digits = |word: &&str| word.len() < 32;
                let words: Vec<_> = object.split(' ').filter(digits).collect();
                format!("{} {}", entry["action"].as_str().unwrap(), words.join(" "))
            })
            .collect();
        shown.sort_unstable();
        assert_eq!(
            shown,
            [
                "account.add acme",
                "account.change fallback_text secret",
                "account.rotate-key token",
                "key.add ",
                "key.revoke ",
                "plugin.activate 1",
                "plugin.deploy 1",
                "plugin.deploy 2",
                "tenant.add acme",
            ]
        );
        let text = page.to_string();
        for hidden in [secret, "hidden words", "anotherToken", "s3cr3t-of-acme"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
