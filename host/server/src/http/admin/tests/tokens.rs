//! How an account calls WeChat, as an operator sets and sees it.

use wxhost_wechat::secret::AppSecret;

use super::*;
use crate::credentials::Attention;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const WX01: &str = "/api/v1/accounts/wx01";

#[tokio::test]
async fn what_an_account_calls_wechat_with_is_set_and_the_secret_never_shown() {
    for db in databases().await {
        let api = Api::with_account(db).await;
        let (_, before) = api.get(WX01).await;
        assert_eq!(before["has_secret"], false);
        assert_eq!(before["token_line"], "stable");
        assert_eq!(before["grants"], json!({"api": [], "egress": []}));
        let change = json!({
            "secret": SECRET,
            "token_line": "classic",
            "grants": {"api": ["/cgi-bin/menu/"], "egress": ["shop.example"]},
            "jssdk_origins": ["https://shop.example"],
        });
        let (status, changed) = api.call(Method::PATCH, WX01, &change).await;
        assert_eq!(status, StatusCode::OK, "{changed}");
        let (_, shown) = api.get(WX01).await;
        assert_eq!(shown["has_secret"], true);
        for name in ["token_line", "grants", "jssdk_origins"] {
            assert_eq!(shown[name], change[name]);
        }
        assert!(!format!("{changed}{shown}").contains(SECRET));
        let known = api.services.accounts.get("wx01").unwrap();
        assert_eq!(known.credentials.secret.as_ref().unwrap().expose(), SECRET);
        assert!(!format!("{known:?}").contains(SECRET));

        let (_, taken) = api
            .call(Method::PATCH, WX01, &json!({"secret": null}))
            .await;
        assert_eq!(taken["has_secret"], false);
    }
}

#[tokio::test]
async fn bad_settings_are_refused_by_their_field_without_repeating_a_secret() {
    let api = Api::with_account(sqlite().await).await;
    for (field, value) in [
        ("secret", json!("short")),
        ("secret", json!("0123456789abcdef&123456789abcdef")),
        ("token_line", json!("fast")),
        ("grants", json!({"api": ["cgi-bin"]})),
        ("jssdk_origins", json!(["shop.example"])),
    ] {
        let answer = api
            .call(Method::PATCH, WX01, &json!({ field: value }))
            .await;
        Api::expect(&answer, 400, "invalid-field", field);
        assert!(!answer.1.to_string().contains("0123"), "{}", answer.1);
    }
}

#[tokio::test]
async fn a_token_is_not_forced_where_it_cannot_be() {
    let api = Api::with_account(sqlite().await).await;
    let refresh = async |app_id: &str| {
        let path = format!("/api/v1/accounts/{app_id}/access-token/refresh");
        api.post(&path, &json!({})).await
    };
    Api::expect(&refresh("nobody").await, 404, "not-found", "nobody");
    Api::expect(&refresh("wx01").await, 409, "no-secret", "AppSecret");
    api.call(Method::PATCH, WX01, &json!({"secret": SECRET}))
        .await;
    // Nobody listens where its WeChat should be.
    Api::expect(&refresh("wx01").await, 502, "wechat-unreachable", "wechat");
}

#[tokio::test]
async fn what_the_owner_must_mend_is_shown_until_somebody_says_that_it_is() {
    let api = Api::with_account(sqlite().await).await;
    api.call(Method::PATCH, WX01, &json!({"secret": SECRET}))
        .await;
    let attention = Attention {
        errcode: 40125,
        message: "invalid appsecret".into(),
        since_ms: 7,
    };
    let secret = AppSecret::parse(SECRET).unwrap();
    let accounts = &api.services.accounts;
    accounts
        .need_owner("wx01", &secret, &attention)
        .await
        .unwrap();
    accounts.refresh().await.unwrap();
    let (_, shown) = api.get(WX01).await;
    assert_eq!(shown["attention"]["errcode"], 40125);
    assert_eq!(shown["attention"]["since"], 7);
    let path = format!("{WX01}/access-token/refresh");
    let answer = api.post(&path, &json!({})).await;
    Api::expect(&answer, 409, "account-blocked", "appsecret");

    let path = format!("{WX01}/attention");
    let (status, cleared) = api.call(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(cleared["attention"], Value::Null);
    assert_eq!(accounts.get("wx01").unwrap().credentials.attention, None);
}
