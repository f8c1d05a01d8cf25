//! Access tokens and signatures that are given out.

use wxhost_wechat::jssdk;

use super::*;

#[tokio::test]
async fn a_token_is_given_out_in_wechats_words_and_noted() {
    let host = Host::start().await;
    let key = host.key(&["access-token"]).await;
    let path = "/api/v1/accounts/wx01/access-token";
    let answer = host.get(path, &key).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let token = answer.json();
    let names: Vec<_> = token.as_object().unwrap().keys().collect();
    assert_eq!(names, ["access_token", "expires_in"]);
    assert_eq!(token["access_token"], "real-token-1");
    let seconds = token["expires_in"].as_i64().unwrap();
    assert!((7100..=7200).contains(&seconds), "{seconds}");
    // The same again, under the other header.
    let request = Request::get(path).header("x-wxhost-key", &key);
    let again = host.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(again.json()["access_token"], "real-token-1");

    let without = host.key(&["forward", "jssdk-signature"]).await;
    host.get(path, &without).await.expect(403, "not-granted");
    let entries = host.audit().await;
    let results: Vec<_> = entries.iter().map(|entry| entry.result.as_str()).collect();
    assert_eq!(results, ["ok", "ok", "not-granted"]);
    assert!(
        entries
            .iter()
            .all(|e| e.action == "token.export" && e.app_id.as_deref() == Some("wx01"))
    );
    let shown = format!("{entries:?}");
    assert!(
        !shown.contains("real-token") && !shown.contains(&key),
        "{shown}"
    );
}

#[tokio::test]
async fn a_page_of_the_accounts_site_is_signed_for() {
    let host = Host::start().await;
    let key = host.key(&["jssdk-signature"]).await;
    let path = "/api/v1/accounts/wx01/jssdk-signature?url=";
    let page = "https://shop.example/p?id=1&from=a";
    let url = format!("{path}https%3A%2F%2Fshop.example%2Fp%3Fid%3D1%26from%3Da%23%2Froute");
    let answer = host.get(&url, &key).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let signed = answer.json();
    assert_eq!(signed["appId"], "wx01");
    let nonce = signed["nonceStr"].as_str().unwrap();
    let timestamp = signed["timestamp"].as_u64().unwrap();
    let page = jssdk::page_url(page).unwrap();
    let expected = jssdk::signature("real-ticket-1", nonce, timestamp, &page);
    assert_eq!(signed["signature"], expected);
    assert!(!signed.to_string().contains("real-ticket"));

    let without = host.key(&["access-token"]).await;
    host.get(&url, &without).await.expect(403, "not-granted");
    host.get(path, &key).await.expect(400, "invalid-field");
}

/// Addresses that resemble the site's.
#[tokio::test]
async fn nobody_elses_page_is_signed_for() {
    let host = Host::start().await;
    let key = host.key(&["jssdk-signature"]).await;
    for (url, status, code) in [
        ("http://shop.example:8080/", 200, ""),
        ("https://shop.example?x=1", 200, ""),
        ("http://shop.example/", 403, "origin-not-allowed"),
        ("https://shop.example:8443/", 403, "origin-not-allowed"),
        (
            "https://shop.example.evil.example/",
            403,
            "origin-not-allowed",
        ),
        ("https://evil-shop.example/", 403, "origin-not-allowed"),
        ("https://www.shop.example/", 403, "origin-not-allowed"),
        ("https://shop.example./", 403, "origin-not-allowed"),
        ("https://xn--shp-rna.example/", 403, "origin-not-allowed"),
        ("https://shop.example@evil.example/", 400, "invalid-field"),
        (
            "https://evil.example%5C@shop.example/",
            400,
            "invalid-field",
        ),
        (
            "https://shop.example%5C.evil.example/",
            400,
            "invalid-field",
        ),
        ("https://sh%D0%BEp.example/", 400, "invalid-field"),
        ("https://shop%E3%80%82example/", 400, "invalid-field"),
        ("https://shop.example%09/", 400, "invalid-field"),
        (
            "javascript:alert(1)//https://shop.example",
            400,
            "invalid-field",
        ),
        ("//shop.example/", 400, "invalid-field"),
    ] {
        let answer = host
            .get(
                &format!("/api/v1/accounts/wx01/jssdk-signature?url={url}"),
                &key,
            )
            .await;
        match status {
            200 => assert_eq!(answer.status, 200, "{url}: {}", answer.json()),
            _ => answer.expect(status, code),
        }
    }
}

/// A key that stands in a page must be good for nothing else; only then may the page read the answer.
#[tokio::test]
async fn a_page_reads_the_answer_only_with_a_key_that_can_do_nothing_else() {
    let host = Host::start().await;
    let only = host.key(&["jssdk-signature"]).await;
    let more = host.key(&["jssdk-signature", "access-token"]).await;
    let ask = async |key: &str, origin: &'static str| {
        let request =
            Request::get("/api/v1/accounts/wx01/jssdk-signature?url=https://shop.example/")
                .header("x-wxhost-key", key)
                .header(header::ORIGIN, origin);
        let answer = host.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["vary"], "origin");
        let allowed = answer.headers.get("access-control-allow-origin");
        allowed.map(|origin| origin.to_str().unwrap().to_owned())
    };
    let site = "https://shop.example";
    assert_eq!(ask(&only, site).await.as_deref(), Some(site));
    assert_eq!(ask(&only, "https://evil.example").await, None);
    assert_eq!(ask(&only, "null").await, None);
    assert_eq!(ask(&more, site).await, None);

    for app_id in ["wx01", "wx09"] {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(format!("/api/v1/accounts/{app_id}/jssdk-signature"));
        let answer = host.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn a_system_that_was_refused_says_which_token_that_was_and_gets_a_newer_one() {
    use sha2::{Digest, Sha256};
    let host = Host::start().await;
    let key = host.key(&["access-token"]).await;
    let path = "/api/v1/accounts/wx01/access-token";
    let token = async |refused: &str| {
        let answer = host.get(&format!("{path}{refused}"), &key).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    };
    let hash = |token: &str| hex::encode(Sha256::digest(token));
    let first = token("").await;
    assert_eq!(token("").await, first, "nobody has said that it is dead");
    host.wechat.refuse_tokens();
    let second = token(&format!("?refused={}", hash(&first).to_uppercase())).await;
    assert_ne!(second, first);
    // Who is late to say so, or says so of another, ends no fresh one.
    for late in [&hash(&first), &hash(&first)[..16], &hash("another")] {
        assert_eq!(token(&format!("?refused={late}")).await, second);
    }
    for bad in ["", "0123", "x123456789abcdef", &"0".repeat(65)] {
        host.get(&format!("{path}?refused={bad}"), &key)
            .await
            .expect(400, "invalid-field");
    }
    let entries = host.audit().await;
    assert_eq!(entries[2].object, "refused");
}
