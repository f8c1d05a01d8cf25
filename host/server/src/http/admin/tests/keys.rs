//! Keys, as an operator uses them.

use super::*;

pub(super) fn new_key() -> Value {
    json!({
        "tenant_id": "acme",
        "name": "CRM",
        "app_ids": ["wx01"],
        "grants": ["access-token", "forward:/cgi-bin/user/"],
    })
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_itself_and_revoked() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (status, made) = api.post("/api/v1/keys", &new_key()).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = made["key"].as_str().unwrap();
        assert_eq!(
            made["grants"],
            json!(["access-token", "forward:/cgi-bin/user"])
        );
        assert_eq!(made["rate_per_minute"], 600);
        // In effect at once on this host.
        assert!(api.services.api_keys.find(text).is_some());
        let stored = crate::db::keys::changed_after(&api.services.db, -1)
            .await
            .unwrap();
        assert!(!format!("{stored:?}").contains(text));

        let (_, page) = api.get("/api/v1/keys?tenant=acme").await;
        assert_eq!(page["keys"][0]["id"], made["id"]);
        assert!(!page.to_string().contains(text), "{page}");
        assert_eq!(
            api.get("/api/v1/keys?tenant=other").await.1["keys"],
            json!([])
        );

        let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
        let (status, revoked) = api.call(Method::DELETE, &path, &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        assert!(revoked["revoked_at"].is_i64(), "{revoked}");
        assert!(api.services.api_keys.find(text).is_none());
    }
}

#[tokio::test]
async fn a_key_that_would_be_wrong_is_refused_by_its_field() {
    let api = Api::with_account(sqlite().await).await;
    for (field, value, status, code, part) in [
        (
            "grants",
            json!(["everything"]),
            400,
            "invalid-field",
            "grants: `everything`",
        ),
        (
            "grants",
            json!(["forward:/a/../b"]),
            400,
            "invalid-field",
            "grants: ",
        ),
        ("grants", json!([]), 400, "invalid-field", "grants: "),
        (
            "grants",
            json!("access-token"),
            422,
            "invalid-body",
            "grants: ",
        ),
        ("app_ids", json!(["wx09"]), 400, "invalid-field", "wx09"),
        (
            "tenant_id",
            json!("nobody"),
            400,
            "invalid-field",
            "tenant_id: ",
        ),
        (
            "rate_per_minute",
            json!(0),
            400,
            "invalid-field",
            "rate_per_minute: ",
        ),
        ("surprise", json!(1), 422, "invalid-body", "`surprise`"),
    ] {
        let mut body = new_key();
        body[field] = value;
        Api::expect(&api.post("/api/v1/keys", &body).await, status, code, part);
    }
    let none = api
        .call(Method::DELETE, "/api/v1/keys/key-none", &Value::Null)
        .await;
    Api::expect(&none, 404, "not-found", "key key-none");
}
