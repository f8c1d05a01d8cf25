//! Requests that are passed on.

use super::*;

/// The bytes of one request as WeChat got them, head and body.
fn wire(seen: &wechat::Seen) -> String {
    format!(
        "{} {} {:?} {:?}",
        seen.method, seen.uri, seen.headers, seen.body
    )
}

#[tokio::test]
async fn an_sdk_works_with_its_base_address_changed_and_its_key_for_a_secret() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let classic = Request::get(format!(
        "/wechat/wx01/cgi-bin/token?grant_type=client_credential&appid=wx01&secret={key}"
    ));
    let classic = host.send(classic.body(Body::empty()).unwrap()).await;
    let call = json!({"grant_type": "client_credential", "appid": "wx01", "secret": key});
    let stable = host
        .post("/wechat/wx01/cgi-bin/stable_token", call.to_string())
        .await;
    for token in [&classic, &stable] {
        assert_eq!(token.status, 200, "{}", token.json());
        assert_eq!(token.headers["cache-control"], "no-store");
        assert_eq!(
            token.json(),
            json!({"access_token": key, "expires_in": 7200})
        );
    }

    let message = r#"{"touser":"oA","msgtype":"text","text":{"content":"你好 \u4f60"}}"#;
    let path =
        format!("/wechat/wx01/cgi-bin/message/custom/send?a=1%262&access_token={key}&b=%E4%BD%A0");
    let answer = host.post(&path, message).await;
    assert_eq!(answer.status, 200);
    // As WeChat wrote it, numbers beyond 2^53 included.
    assert_eq!(
        answer.body,
        r#"{"errcode":0,"errmsg":"ok","msgid":9007199254740993}"#
    );
    assert_eq!(
        answer.headers["content-type"],
        "application/json; encoding=utf-8"
    );
    assert!(!answer.headers.contains_key("x-wxhost-error"));

    let seen = host.wechat.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].uri.path(), "/cgi-bin/message/custom/send");
    assert_eq!(
        seen[0].uri.query().unwrap(),
        "access_token=real-token-1&a=1%262&b=%E4%BD%A0"
    );
    assert_eq!(seen[0].body, message);
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert!(!wire(&seen[0]).contains(&key), "{}", wire(&seen[0]));

    let entries = host.audit().await;
    let shown: Vec<_> = entries.iter().map(|e| (&*e.object, &*e.result)).collect();
    assert_eq!(
        shown,
        [
            ("GET /cgi-bin/token", "ok"),
            ("POST /cgi-bin/stable_token", "ok"),
            ("POST /cgi-bin/message/custom/send", "200"),
        ]
    );
    let all = format!("{entries:?}");
    assert!(!all.contains(&key) && !all.contains("real-token"), "{all}");
}

#[tokio::test]
async fn a_key_never_reaches_wechat_wherever_it_stands() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let request = Request::get(format!(
        "/wechat/wx01/cgi-bin/user/get?secret={key}&next_openid=o"
    ))
    .header(header::AUTHORIZATION, format!("Bearer {key}"))
    .header("x-wxhost-key", &key)
    .header(header::COOKIE, format!("key={key}"))
    .header(header::CONNECTION, "x-secret")
    .header("x-secret", &key)
    .header("x-forwarded-for", "10.1.2.3")
    .header(header::USER_AGENT, "WxJava");
    let answer = host.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
    let seen = host.wechat.seen();
    let wire = wire(&seen[0]);
    assert!(!wire.contains(&key) && !wire.contains("10.1.2.3"), "{wire}");
    assert_eq!(
        seen[0].uri.query().unwrap(),
        "access_token=real-token-1&next_openid=o"
    );
    assert_eq!(seen[0].headers["user-agent"], "WxJava");
}

#[tokio::test]
async fn what_wechat_answers_comes_back_untouched() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let answer = host.get("/wechat/wx01/odd", &key).await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.body, vec![0xff; 100_000]);
    assert_eq!(answer.headers["content-type"], "image/jpeg");
    // The mark of the host's own errors can't be forged, and what is not on the list of headers stays.
    for name in ["x-wxhost-error", "keep-alive", "x-odd"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }

    let answer = host.get("/wechat/wx01/quota", &key).await;
    assert_eq!(answer.json()["errcode"], 45009);
    let entries = host.audit().await;
    assert_eq!(entries[0].result, "418");
    assert_eq!(entries[1].result, "200 errcode 45009");
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_made_again() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let path = format!("/wechat/wx01/cgi-bin/menu/create?access_token={key}");
    assert_eq!(host.post(&path, "{}").await.json()["errcode"], 0);
    host.wechat.refuse_tokens();
    let answer = host.post(&path, r#"{"button":[]}"#).await;
    assert_eq!(answer.json()["errcode"], 0, "{}", answer.json());
    let seen = host.wechat.seen();
    let tokens: Vec<_> = seen.iter().map(|seen| seen.uri.query().unwrap()).collect();
    // WeChat gives another token out, so that the refused one is not tried again.
    assert_eq!(
        tokens,
        [
            "access_token=real-token-1",
            "access_token=real-token-1",
            "access_token=real-token-2"
        ]
    );
    assert_eq!(seen[1].body, seen[2].body);
}

#[tokio::test]
async fn a_large_body_passes_with_its_length_and_one_that_is_too_large_is_refused() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let path = format!("/wechat/wx01/cgi-bin/media/upload?access_token={key}&type=video");
    let media = vec![7; 3 << 20];
    let answer = host.post(&path, media.clone()).await;
    assert_eq!(answer.status, 200);
    let seen = host.wechat.seen();
    assert_eq!(seen[0].headers["content-length"], media.len().to_string());
    assert!(!seen[0].headers.contains_key("transfer-encoding"));
    assert!(seen[0].body == media);

    let request = Request::post(&path).header(header::CONTENT_LENGTH, (64 << 20) + 1);
    let refused = host.send(request.body(Body::from("x")).unwrap()).await;
    refused.expect(413, "body-too-large");
    let chunked = Request::post(&path).body(Body::from(media)).unwrap();
    host.send(chunked).await.expect(411, "length-required");
    assert_eq!(host.wechat.seen().len(), 1);
}

#[tokio::test]
async fn who_has_no_good_key_is_noted() {
    let host = Host::start().await;
    let path = "/wechat/wx01/cgi-bin/menu/get?access_token=wxk_guessed";
    host.get(path, "wxk_guessed")
        .await
        .expect(401, "unauthorized");
    host.get("/api/v1/accounts/wx01/access-token", "wxk_guessed")
        .await
        .expect(401, "unauthorized");
    let entries = host.audit().await;
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| (&*entry.actor, &*entry.action, &*entry.object))
        .collect();
    assert_eq!(
        shown,
        [
            ("unknown", "sign-in", "GET /wechat/wx01/cgi-bin/menu/get"),
            (
                "unknown",
                "sign-in",
                "GET /api/v1/accounts/wx01/access-token"
            ),
        ]
    );
    assert!(!format!("{entries:?}").contains("guessed"));
}

#[tokio::test]
async fn a_large_body_that_breaks_off_is_its_senders_failure() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let path = format!("/wechat/wx01/cgi-bin/media/upload?access_token={key}&type=video");
    // More often than silence of WeChat's makes an account rest.
    for _ in 0..6 {
        let pieces = [Ok(Bytes::from(vec![7; 1 << 20])), Err("gone")];
        let request = Request::post(&path)
            .header(header::CONTENT_LENGTH, 3 << 20)
            .body(Body::from_stream(futures::stream::iter(pieces)));
        host.send(request.unwrap())
            .await
            .expect(400, "invalid-body");
    }
    let answer = host.post(&path, "{}").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn nothing_that_gives_out_a_secret_is_passed_on() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    for (path, status, code) in [
        ("/sns/oauth2/component/access_token", 403, "path-refused"),
        ("/SNS/oauth2/access_token", 403, "not-granted"),
        ("/cgi-bin/component/api_query_auth", 403, "path-refused"),
        ("/cgi-bin/openapi/rid/get", 403, "path-refused"),
        ("/cgi-bin/ticket/getticket?type=jsapi", 403, "not-granted"),
        ("/cgi-bin/./token", 400, "invalid-field"),
        ("/cgi-bin//token", 400, "invalid-field"),
        ("/cgi-bin/x/../token", 400, "invalid-field"),
        ("/cgi-bin/x/%2e%2e/token", 400, "invalid-field"),
        ("/cgi-bin/token/", 400, "invalid-field"),
        ("/cgi-bin/token;a", 400, "invalid-field"),
        ("/cgi-bin/token%00", 400, "invalid-field"),
        ("/cgi-bin/token%3Fx", 400, "invalid-field"),
        ("/cgi-bin%5Ctoken", 400, "invalid-field"),
    ] {
        host.get(&format!("/wechat/wx01{path}"), &key)
            .await
            .expect(status, code);
    }
    // However it is written, the token that is given out is the key.
    for path in ["/cgi-bin/TOKEN", "/cgi-bin%2Ftoken", "/cgi-bin/t%6Fken"] {
        let answer = host.get(&format!("/wechat/wx01{path}"), &key).await;
        assert_eq!(answer.json()["access_token"], key, "{path}");
    }
    let granted = host.key(&["jsapi-ticket"]).await;
    let path = "/wechat/wx01/cgi-bin/ticket/getticket";
    let ticket = host.get(&format!("{path}?type=jsapi"), &granted).await;
    assert_eq!(ticket.json()["ticket"], "real-ticket-1");
    host.get(path, &granted).await.expect(400, "invalid-field");
    assert!(host.wechat.seen().is_empty());
}

#[tokio::test]
async fn only_granted_paths_pass_and_only_with_a_key() {
    let host = Host::start().await;
    let key = host.key(&["forward:/cgi-bin/user/"]).await;
    let none = host.key(&["access-token"]).await;
    assert_eq!(
        host.get("/wechat/wx01/cgi-bin/user/info", &key)
            .await
            .status,
        200
    );
    for (path, key, status, code) in [
        ("/wechat/wx01/cgi-bin/users", &key, 403, "not-granted"),
        ("/wechat/wx01/cgi-bin/menu/get", &key, 403, "not-granted"),
        ("/wechat/wx01/cgi-bin/user/info", &none, 403, "not-granted"),
        ("/wechat/wx01/cgi-bin/token", &none, 403, "not-granted"),
        ("/wechat/wx02/cgi-bin/user/info", &key, 409, "no-secret"),
        (
            "/wechat/wx01/cgi-bin/token?appid=wx02&secret=x",
            &key,
            400,
            "invalid-field",
        ),
    ] {
        host.get(path, key).await.expect(status, code);
    }
    for path in [
        "/wechat/wx01/cgi-bin/user/info",
        "/wechat/wx01/cgi-bin/user/info?access_token=76_abc",
        &format!("/wechat/wx01/cgi-bin/token?appid=wx01&secret={SECRET}"),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        host.send(request).await.expect(401, "unauthorized");
    }
    assert_eq!(host.wechat.seen().len(), 1);
}

/// `cases/10` and `11`: the refusal comes chunked, or says that it is a picture.
#[tokio::test]
async fn a_refused_token_is_noticed_in_any_framing_and_content_type() {
    for refusal in [
        &include_bytes!("cases/10-forward-40001-chunked.http")[..],
        include_bytes!("cases/11-forward-40001-image.http"),
    ] {
        let base = wechat::refusing_with(refusal).await;
        let host = Host::with(WeChat::start().await, &base).await;
        let key = host.key(&["forward"]).await;
        let answer = host.get("/wechat/wx01/cgi-bin/material/get", &key).await;
        assert_eq!(answer.status, 200);
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(shown, r#"{"errcode":0,"errmsg":"ok"}"#);
    }
}

/// A redirect holds the query with the token in it; so does what a proxy shows of a request.
#[tokio::test]
async fn no_answer_shows_the_real_token() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    let redirect = host.get("/wechat/wx01/redirect", &key).await;
    redirect.expect(502, "redirect-refused");
    assert!(!redirect.headers.contains_key("location"));
    host.get("/wechat/wx01/gzip", &key)
        .await
        .expect(502, "answer-malformed");

    let request = Request::get("/wechat/wx01/echo").header(header::AUTHORIZATION, bearer(&key));
    let request = request.body(Body::empty()).unwrap();
    let response = host.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = format!("{:?}", response.headers());
    assert!(!headers.contains("real-token"), "{headers}");
    let mut pieces = response.into_body().into_data_stream();
    let mut shown = Vec::new();
    let mut broke_off = false;
    while let Some(piece) = futures::StreamExt::next(&mut pieces).await {
        match piece {
            Ok(piece) => shown.extend_from_slice(&piece),
            Err(_) => broke_off = true,
        }
    }
    assert!(broke_off && shown.len() >= 8000, "{}", shown.len());
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(!shown.contains("real-token"), "{shown}");
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[tokio::test]
async fn only_get_and_post_pass() {
    let host = Host::start().await;
    let key = host.key(&["forward"]).await;
    for method in [
        "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "LOOK",
    ] {
        let request = Request::builder()
            .method(method)
            .uri("/wechat/wx01/cgi-bin/user/info")
            .header(header::AUTHORIZATION, bearer(&key));
        let refused = host.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, 405, "{method}");
        assert_eq!(refused.headers["allow"], "GET, POST");
        assert_eq!(refused.headers["x-wxhost-error"], "wrong-method");
    }
    assert!(host.wechat.seen().is_empty());
}
