//! The audit, as an operator reads it.

use wxhost_wechat::id::AppId;

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

/// What each GET of the document shows of people, by the word of the audit; nothing where it shows
/// nothing of them.
const LOOKS: [(&str, Option<&str>); 35] = [
    ("/api/v1/accounts", None),
    ("/api/v1/accounts/{app_id}", None),
    ("/api/v1/accounts/{app_id}/books", None),
    ("/api/v1/accounts/{app_id}/calls", Some("calls.read")),
    ("/api/v1/accounts/{app_id}/contacts", Some("contacts.read")),
    ("/api/v1/accounts/{app_id}/contacts/import", None),
    (
        "/api/v1/accounts/{app_id}/contacts/{open_id}",
        Some("contacts.read oUser"),
    ),
    ("/api/v1/accounts/{app_id}/deployments", None),
    ("/api/v1/accounts/{app_id}/events", None),
    ("/api/v1/accounts/{app_id}/kv", Some("kv.read")),
    ("/api/v1/accounts/{app_id}/kv/{key}", Some("kv.read points")),
    ("/api/v1/accounts/{app_id}/ledger-history", None),
    ("/api/v1/accounts/{app_id}/open-account", None),
    ("/api/v1/accounts/{app_id}/outbox", Some("outbox.read")),
    ("/api/v1/accounts/{app_id}/outbox/pauses", None),
    ("/api/v1/accounts/{app_id}/pay-events", None),
    ("/api/v1/accounts/{app_id}/pay-notices/flagged", None),
    ("/api/v1/accounts/{app_id}/quotas", None),
    ("/api/v1/accounts/{app_id}/refunds", Some("orders.read")),
    ("/api/v1/accounts/{app_id}/rids/{rid}", None),
    ("/api/v1/audit", None),
    ("/api/v1/calls/{id}", Some("calls.read call")),
    ("/api/v1/keys", None),
    ("/api/v1/merchants", None),
    ("/api/v1/merchants/{mch_id}", None),
    ("/api/v1/platforms", None),
    ("/api/v1/platforms/{platform}", None),
    ("/api/v1/platforms/{platform}/authorizers", None),
    ("/api/v1/platforms/{platform}/authorizers/{app_id}", None),
    ("/api/v1/platforms/{platform}/events", None),
    ("/api/v1/platforms/{platform}/import", None),
    ("/api/v1/platforms/{platform}/invitations", None),
    ("/api/v1/tenants", None),
    ("/api/v1/tenants/{id}", None),
    ("/api/v1/tenants/{id}/quotas", None),
];

/// The entries of the audit, oldest first: action, object and result.
async fn entries(api: &Api) -> Vec<String> {
    let (_, page) = api.get("/api/v1/audit?limit=200").await;
    let entries = page["entries"].as_array().unwrap().iter().rev();
    let words = ["action", "object", "result"];
    let shown = entries.map(|entry| {
        let words = words.map(|word| entry[word].as_str().unwrap());
        words.join(" ").replace("  ", " ")
    });
    shown.collect()
}

#[tokio::test]
async fn no_look_at_what_people_wrote_goes_without_an_entry() {
    let api = Api::with_account(sqlite().await).await;
    let document = serde_json::to_value(described().split_for_parts().1).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let gets = paths.filter(|(_, operations)| operations["get"].is_object());
    let mut gets: Vec<_> = gets.map(|(path, _)| path.as_str()).collect();
    gets.sort_unstable();
    // A new one has to be thought about.
    assert_eq!(gets, LOOKS.map(|(path, _)| path));
    let call = written_call(&api).await;
    let before = entries(&api).await.len();
    let mut expected = Vec::new();
    for (path, look) in LOOKS {
        let path = path
            .replace("{app_id}", "wx01")
            .replace("{open_id}", "oUser")
            .replace("{key}", "points")
            .replace("/calls/{id}", &format!("/calls/{call}"))
            .replace("{id}", "acme");
        let (status, answer) = api.get(&path).await;
        assert!(status.as_u16() < 500, "{answer}");
        expected
            .extend(look.map(|look| format!("{} ok", look.replace(" call", &format!(" {call}")))));
    }
    let mut noted = entries(&api).await.split_off(before);
    // A question to WeChat is noted before and after.
    let traced = noted.extract_if(.., |entry| entry.starts_with("rid.trace"));
    assert_eq!(traced.count(), 2);
    // Within one millisecond there is no order.
    noted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(noted, expected);
}

/// A call of `wx01`'s plugin, by its id.
async fn written_call(api: &Api) -> String {
    use crate::db::calls::{self, CallFilter, Callee, Entry, Record};
    let callee = Callee {
        app_id: AppId::parse("wx01").unwrap(),
        digest: Some(wxhost_runtime::Digest::of(b"a component")),
        version: 1,
    };
    let entry = Entry {
        event_id: "m:1".into(),
        event_kind: "text".into(),
        outcome: "replied".into(),
        error: None,
        log: None,
        duration_us: 1,
        runs: 1,
        trace_id: "t".into(),
        created_at: 1_700_000_000_000,
    };
    let db = &api.services.db;
    let record = Record::new(callee, "replied".into(), &entry);
    calls::write(db, &[record]).await.unwrap();
    let filter = CallFilter {
        app_id: "wx01",
        outcome: None,
        before: None,
        limit: 1,
    };
    calls::list(db, &filter).await.unwrap().remove(0).id
}

#[tokio::test]
async fn who_has_no_good_credentials_is_noted() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let request = Request::get("/api/v1/accounts/wx01/contacts?cursor=hush")
            .header(header::AUTHORIZATION, "Bearer wrong-token")
            .body(Body::empty());
        Api::expect(&api.send(request.unwrap()).await, 401, "unauthorized", "");
        let (_, page) = api.get("/api/v1/audit?actor=unknown").await;
        let entry = &page["entries"][0];
        assert_eq!(entry["action"], "sign-in");
        assert_eq!(entry["object"], "GET /api/v1/accounts/wx01/contacts");
        assert_eq!(entry["result"], "refused");
        assert!(!page.to_string().contains("wrong-token"), "{page}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_noted_before_it_is_done() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let account = "/api/v1/accounts/wx01";
        let before = entries(&api).await.len();
        api.post(&format!("{account}/access-token/refresh"), &json!({}))
            .await;
        api.post(&format!("{account}/contacts/import"), &json!({}))
            .await;
        let mut noted = entries(&api).await.split_off(before);
        // Within one millisecond there is no order.
        noted.sort_unstable();
        assert_eq!(
            noted,
            [
                "contacts.import asked",
                "token.refresh asked",
                "token.refresh no-secret",
            ]
        );
    }
}
