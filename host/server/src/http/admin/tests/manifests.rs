//! What a plugin asks for, as an operator sees it.

use super::*;
use crate::grants::ApiPath;

fn asking(grants: &str) -> Vec<u8> {
    let manifest = format!("name = 'shop'\nversion = '1.4.0'\n[grants]\n{grants}");
    plugin_with("wxhost:plugin", &manifest)
}

#[tokio::test]
async fn what_a_plugin_asks_for_and_does_not_get_is_shown() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let shop = asking("api = ['/cgi-bin/tags/']\negress = ['https://erp.example']");
        let (status, deployed) = api.deploy(&shop, &json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{deployed}");
        assert_eq!(deployed["manifest"]["name"], "shop");
        assert_eq!(deployed["manifest"]["version"], "1.4.0");
        let asked = json!({"api": ["/cgi-bin/tags/"], "egress": ["https://erp.example"]});
        assert_eq!(deployed["manifest"]["grants"], asked);
        assert_eq!(deployed["not_granted"], asked);

        let grants = json!({"grants": {"api": ["/cgi-bin/tags"], "egress": []}});
        let (status, _) = api
            .call(Method::PATCH, "/api/v1/accounts/wx01", &grants)
            .await;
        assert_eq!(status, StatusCode::OK);
        let (_, page) = api.get("/api/v1/accounts/wx01/deployments").await;
        let missing = json!({"api": [], "egress": ["https://erp.example"]});
        assert_eq!(page["deployments"][0]["not_granted"], missing);
        let account = api.services.accounts.get("wx01").unwrap();
        let wanted = &account.plugin.deployment.as_ref().unwrap().wanted;
        let path = ApiPath::parse("/cgi-bin/tags/get").unwrap();
        assert!(account.plugin.grants.allows_api(wanted, &path));

        let (_, silent) = api.deploy(&plugin("{}"), &json!({})).await;
        assert_eq!(silent["manifest"], Value::Null);
        assert_eq!(silent["not_granted"], json!({"api": [], "egress": []}));
    }
}

#[tokio::test]
async fn nobody_asks_for_or_grants_what_returns_a_token() {
    let api = Api::with_account(sqlite().await).await;
    let greedy = asking("api = ['/cgi-bin/tags/', '/cgi-bin/stable_token']");
    let answer = api.deploy(&greedy, &json!({})).await;
    Api::expect(
        &answer,
        422,
        "bad-manifest",
        "/cgi-bin/stable_token can't be granted",
    );
    let grants = json!({"grants": {"api": ["/sns/oauth2/"]}});
    let answer = api
        .call(Method::PATCH, "/api/v1/accounts/wx01", &grants)
        .await;
    Api::expect(
        &answer,
        400,
        "invalid-field",
        "/sns/oauth2/ can't be granted",
    );
}

#[tokio::test]
async fn a_manifest_that_is_wrong_is_refused_by_name() {
    let api = Api::with_account(sqlite().await).await;
    let answer = api.deploy(&asking("hosts = ['a']"), &json!({})).await;
    Api::expect(&answer, 422, "bad-manifest", "unknown field `hosts`");
    let answer = api.deploy(&asking("api = ['/a/../b']"), &json!({})).await;
    Api::expect(&answer, 422, "bad-manifest", "/a/../b");
}
