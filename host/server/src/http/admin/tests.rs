//! The admin API from outside: requests in, answers out, over a real database and a real sandbox.

mod audit;
mod bodies;
mod deployments;
mod keys;
mod manifests;
mod quotas;
mod tokens;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::ServiceExt;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::*;
use crate::{
    db::testing::{TestDatabase, databases, sqlite},
    services::testing::{NOWHERE, TestServices, services},
};

const TOKEN: &str = "0123456789abcdef";

/// A host's admin API.
struct Api {
    router: Router,
    services: TestServices,
    _db: TestDatabase,
}

impl Api {
    async fn on(db: TestDatabase) -> Self {
        let (services, _) = services(&db, NOWHERE).await;
        Self {
            router: routes(Arc::clone(&services), SecretString::from(TOKEN)),
            services,
            _db: db,
        }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, body).await
    }

    #[track_caller]
    fn expect(answer: &(StatusCode, Value), status: u16, code: &str, part: &str) {
        let error = &answer.1["error"];
        assert_eq!(answer.0, status, "{error}");
        assert_eq!(error["code"], code, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
        assert_eq!(error["request_id"].as_str().unwrap().len(), 32);
    }

    /// A tenant `acme` with a safe-mode account `wx01`.
    async fn with_account(db: TestDatabase) -> Self {
        let api = Self::on(db).await;
        let (status, tenant) = api.post("/api/v1/tenants", &json!({"id": "acme"})).await;
        assert_eq!(status, StatusCode::CREATED, "{tenant}");
        let (status, account) = api.post("/api/v1/accounts", &new_account("wx01")).await;
        assert_eq!(status, StatusCode::CREATED, "{account}");
        api
    }

    async fn deploy(&self, plugin: &[u8], config: &Value) -> (StatusCode, Value) {
        let body = json!({
            "component_base64": BASE64_STANDARD.encode(plugin),
            "config": config,
            "secrets": {"api-key": "s3cr3t-of-acme"},
        });
        self.post("/api/v1/accounts/wx01/deployments", &body).await
    }

    fn active_version(&self) -> Option<i64> {
        let account = self.services.accounts.get("wx01").unwrap();
        account.plugin.deployment.as_ref().map(|d| d.version)
    }
}

fn new_account(app_id: &str) -> Value {
    json!({
        "app_id": app_id,
        "tenant_id": "acme",
        "original_id": "gh_1",
        "mode": "safe",
        "token": "tokenOfAcme",
        "encoding_aes_key": "k".repeat(43),
    })
}

/// A plugin that answers nothing, with a schema for its settings.
fn plugin(schema: &str) -> Vec<u8> {
    plugin_with("wxhost:config-schema", schema)
}

/// A plugin that answers nothing, with a custom section.
fn plugin_with(section: &str, content: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          (func (export "wxhost:plugin/callback-handler@0.1.0#handle") (param i32) (result i32)
            (i32.const 1024))
          (@custom "{section}" "{}"))"#,
        content.replace('"', "\\\"").replace('\n', "\\n")
    );
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve
        .select_world(&[package], Some("callback-plugin"))
        .unwrap();
    let mut module = wat::parse_str(text).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

#[tokio::test]
async fn nothing_is_reached_without_the_token() {
    let api = Api::on(sqlite().await).await;
    let document = described().split_for_parts().1;
    let document = serde_json::to_value(&document).unwrap();
    let mut routes = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            for token in [
                None,
                Some("Bearer"),
                Some("Bearer wrong"),
                Some("Basic 0123456789abcdef"),
            ] {
                let mut request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(path.replace(['{', '}'], ""));
                if let Some(token) = token {
                    request = request.header(header::AUTHORIZATION, token);
                }
                let answer = api.send(request.body(Body::empty()).unwrap()).await;
                Api::expect(&answer, 401, "unauthorized", "Authorization: Bearer");
            }
            routes += 1;
        }
    }
    assert_eq!(routes, 80);
}

#[tokio::test]
async fn the_document_describes_every_route_and_is_served() {
    let api = Api::on(sqlite().await).await;
    let (status, document) = api.get("/api/v1/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(document, serde_json::to_value(super::document()).unwrap());
    // Every described path is routed: with the token, none is unknown to the router.
    let (_, described) = described().split_for_parts();
    let described = serde_json::to_value(&described).unwrap();
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let path = path.replace(['{', '}'], "");
            let (_, answer) = api.call(method, &path, &json!({})).await;
            let code = answer["error"]["code"].as_str().unwrap_or_default();
            assert!(
                !["no-such-route", "wrong-method"].contains(&code),
                "{path}: {answer}"
            );
        }
    }
    // Every reference in the document leads somewhere in it.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_told() {
    let api = Api::on(sqlite().await).await;
    Api::expect(
        &api.get("/api/v1/nothing").await,
        404,
        "no-such-route",
        "openapi.json",
    );
    let answer = api
        .call(Method::DELETE, "/api/v1/tenants", &Value::Null)
        .await;
    Api::expect(&answer, 405, "wrong-method", "method");
}

#[tokio::test]
async fn tenants_and_accounts_are_added_shown_and_changed() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (_, tenants) = api.get("/api/v1/tenants").await;
        assert_eq!(tenants["tenants"][0]["id"], "acme");
        let (_, tenant) = api.get("/api/v1/tenants/acme").await;
        assert_eq!(tenant["max_concurrent_calls"], 64);

        let (status, account) = api.get("/api/v1/accounts/wx01").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(account["callback_path"], "/callback/wx01");
        assert_eq!(account["has_encoding_aes_key"], true);
        assert_eq!(account["window_seconds"], 300);
        let shown = account.to_string();
        assert!(
            !shown.contains("tokenOfAcme") && !shown.contains("kkkk"),
            "{shown}"
        );
        assert!(!shown.contains("sealed"), "{shown}");

        // In effect at once on this host.
        assert!(api.services.accounts.get("wx01").unwrap().is_active());
        let change = json!({"status": "disabled", "fallback_text": "稍后再试"});
        let (status, account) = api
            .call(Method::PATCH, "/api/v1/accounts/wx01", &change)
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(account["fallback_text"], "稍后再试");
        assert!(!api.services.accounts.get("wx01").unwrap().is_active());
        let change = json!({"fallback_text": null});
        let (_, account) = api
            .call(Method::PATCH, "/api/v1/accounts/wx01", &change)
            .await;
        assert_eq!(account["fallback_text"], Value::Null);
        assert_eq!(account["status"], "disabled");

        let key = json!({"encoding_aes_key": "n".repeat(43)});
        let (_, account) = api.post("/api/v1/accounts/wx01/rotate-key", &key).await;
        assert_eq!(account["has_previous_encoding_aes_key"], true);

        let (status, _) = api.post("/api/v1/accounts", &new_account("wx02")).await;
        assert_eq!(status, StatusCode::CREATED);
        let (_, page) = api.get("/api/v1/accounts?tenant=acme&limit=1").await;
        assert_eq!(page["next"], "wx01");
        let (_, page) = api.get("/api/v1/accounts?after=wx01&limit=1").await;
        assert_eq!(page["accounts"][0]["app_id"], "wx02");
        assert_eq!(page["next"], Value::Null, "it is the last page");
        let (_, page) = api.get("/api/v1/accounts?after=wx02").await;
        assert_eq!(page["accounts"], json!([]));
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_its_field() {
    let api = Api::with_account(sqlite().await).await;
    let without = |field: &str| {
        let mut body = new_account("wx02");
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let with = |field: &str, value: Value| {
        let mut body = new_account("wx02");
        body[field] = value;
        body
    };
    for (body, status, code, part) in [
        (json!([]), 422, "invalid-body", "expected"),
        (without("app_id"), 422, "invalid-body", "`app_id`"),
        (with("mode", json!(7)), 422, "invalid-body", "mode: "),
        (
            with("surprise", json!(1)),
            422,
            "invalid-body",
            "`surprise`",
        ),
        (
            with("app_id", json!("wx/..")),
            400,
            "invalid-field",
            "app_id: ",
        ),
        (
            with("original_id", json!("")),
            400,
            "invalid-field",
            "original_id: ",
        ),
        (
            with("mode", json!("secure")),
            400,
            "invalid-field",
            "mode: ",
        ),
        (with("token", json!("a!")), 400, "invalid-field", "token: "),
        (
            with("encoding_aes_key", json!("short")),
            400,
            "invalid-field",
            "encoding_aes_key: ",
        ),
        (
            without("encoding_aes_key"),
            400,
            "invalid-field",
            "encoding_aes_key: ",
        ),
        (
            with("window_seconds", json!(5)),
            400,
            "invalid-field",
            "window_seconds: ",
        ),
        (
            with("window_seconds", json!(-5)),
            422,
            "invalid-body",
            "window_seconds: ",
        ),
        (
            with("tenant_id", json!("nobody")),
            400,
            "invalid-field",
            "tenant_id: ",
        ),
        (with("app_id", json!("wx01")), 409, "exists", "wx01"),
        (
            with("name", json!("x".repeat(70_000))),
            413,
            "body-too-large",
            "",
        ),
    ] {
        let answer = api.post("/api/v1/accounts", &body).await;
        Api::expect(&answer, status, code, part);
    }
    for (path, status, code, part) in [
        ("/api/v1/accounts/wx09", 404, "not-found", "account wx09"),
        ("/api/v1/tenants/none", 404, "not-found", "tenant none"),
        ("/api/v1/calls/none", 404, "not-found", "call none"),
        (
            "/api/v1/accounts/wx09/calls",
            404,
            "not-found",
            "account wx09",
        ),
        (
            "/api/v1/accounts/wx01/kv/none",
            404,
            "not-found",
            "key none",
        ),
        (
            "/api/v1/accounts/wx01/calls?limit=0",
            400,
            "invalid-field",
            "limit: ",
        ),
        (
            "/api/v1/accounts/wx01/calls?limit=x",
            400,
            "invalid-field",
            "query: ",
        ),
        (
            "/api/v1/accounts?surprise=1",
            400,
            "invalid-field",
            "surprise",
        ),
        (
            "/api/v1/accounts/wx01/kv?cursor=!",
            400,
            "invalid-field",
            "cursor: ",
        ),
        (
            "/api/v1/accounts/wx01/kv?limit=101",
            400,
            "invalid-field",
            "limit: ",
        ),
    ] {
        Api::expect(&api.get(path).await, status, code, part);
    }
    let nothing = api
        .post("/api/v1/accounts/wx01/rotate-key", &json!({}))
        .await;
    Api::expect(&nothing, 400, "invalid-field", "encoding_aes_key");
}

#[tokio::test]
async fn plugins_are_deployed_listed_and_rolled_back() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let schema = r#"{"properties":{"greeting":{"type":"string"}}}"#;
        let (status, first) = api
            .deploy(&plugin(schema), &json!({"greeting": "hi"}))
            .await;
        assert_eq!(status, StatusCode::CREATED, "{first}");
        assert_eq!(first["version"], 1);
        assert_eq!(first["handlers"], json!(["callback"]));
        assert_eq!(first["config"], json!({"greeting": "hi"}));
        assert_eq!(first["active"], true);
        assert!(!first.to_string().contains("s3cr3t"), "{first}");
        assert_eq!(api.active_version(), Some(1));
        let account = api.services.accounts.get("wx01").unwrap();
        let deployment = account.plugin.deployment.as_ref().unwrap();
        assert!(deployment.secrets.contains("api-key"));
        assert!(!format!("{account:?}").contains("s3cr3t"));
        assert!(api.services.plugins.load(deployment, "t1").await.is_ok());

        // The same component again: another deployment, the same digest.
        let (_, second) = api
            .deploy(&plugin(schema), &json!({"greeting": "ho"}))
            .await;
        assert_eq!(
            (&second["version"], &second["digest"]),
            (&json!(2), &first["digest"])
        );
        let (_, page) = api.get("/api/v1/accounts/wx01/deployments").await;
        assert_eq!(page["deployments"][0]["active"], true);
        assert_eq!(page["deployments"][1]["active"], false);

        let rollback = "/api/v1/accounts/wx01/rollback";
        let (_, back) = api.post(rollback, &json!({})).await;
        assert_eq!(back["version"], 1);
        assert_eq!(api.active_version(), Some(1));
        Api::expect(
            &api.post(rollback, &json!({})).await,
            404,
            "not-found",
            "earlier deployment",
        );

        let activate = "/api/v1/accounts/wx01/deployments/2/activate";
        let (_, again) = api.post(activate, &json!({})).await;
        assert_eq!(again["version"], 2);
        let nine = "/api/v1/accounts/wx01/deployments/9/activate";
        Api::expect(
            &api.post(nine, &json!({})).await,
            404,
            "not-found",
            "deployment 9",
        );
        assert_eq!(api.active_version(), Some(2));
        let (_, account) = api.get("/api/v1/accounts/wx01").await;
        assert_eq!(account["active_version"], 2);
        assert_eq!(account["active_digest"], first["digest"]);
    }
}

#[tokio::test]
async fn what_ran_before_keeps_running_when_a_deployment_is_refused() {
    let api = Api::with_account(sqlite().await).await;
    let schema = r#"{"properties":{"greeting":{"type":"string"}}}"#;
    let good = plugin(schema);
    assert_eq!(api.deploy(&good, &json!({})).await.0, StatusCode::CREATED);

    let answer = api.deploy(b"not wasm", &json!({})).await;
    Api::expect(
        &answer,
        422,
        "plugin-not-wasm",
        "not a WebAssembly component",
    );
    let answer = api.deploy(&good, &json!({"greeting": 7})).await;
    Api::expect(
        &answer,
        422,
        "config-refused",
        "/greeting: value is not of type",
    );
    let answer = api.deploy(&plugin(r##"{"$ref":"#"}"##), &json!({})).await;
    Api::expect(&answer, 422, "config-refused", "refers to itself");
    let answer = api.deploy(&good, &json!("x".repeat(64 << 10))).await;
    Api::expect(&answer, 400, "invalid-field", "config: ");

    let path = "/api/v1/accounts/wx01/deployments";
    let component = BASE64_STANDARD.encode(&good);
    for (body, status, code, part) in [
        (
            json!({"component_base64": "!"}),
            400,
            "invalid-field",
            "component_base64: ",
        ),
        (
            json!({"component_base64": component, "limits": {"memory": 1}}),
            422,
            "invalid-body",
            "limits",
        ),
        (
            json!({"component_base64": component, "secrets": {"a b": "x"}}),
            400,
            "invalid-field",
            "secrets: ",
        ),
        (
            json!({"component_base64": component, "secrets": {"a": "x".repeat(5000)}}),
            400,
            "invalid-field",
            "secrets: ",
        ),
    ] {
        Api::expect(&api.post(path, &body).await, status, code, part);
    }
    let unknown = "/api/v1/accounts/wx09/deployments";
    let answer = api
        .post(unknown, &json!({"component_base64": component}))
        .await;
    Api::expect(&answer, 404, "not-found", "account wx09");

    assert_eq!(api.active_version(), Some(1));
    let (_, page) = api.get(path).await;
    assert_eq!(page["deployments"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_that_is_away_is_told_apart_from_a_failure() {
    let api = Api::with_account(sqlite().await).await;
    api.services.db.close().await;
    let answer = api.get("/api/v1/tenants").await;
    Api::expect(&answer, 503, "unavailable", "try again later");
}
