//! Users log in to an account's pages: by its own AppSecret or by a third-party platform, in the browser that
//! began it, once.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response, Url};
use serde_json::{Value, json};
use wxhost_tests::account::new_user;
use wxhost_tests::admin::Bundle;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::{secrets, wait};

use crate::agency::Agency;
use crate::browser::{cookie_of, location};
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::webshop::{
    PAGE, SITE, Webshop, agree, come_back, expect_page, let_in, login_key, parameter, return_to,
    value_of,
};

scenarios! {
    BOTH: a_user_logs_in_and_the_back_end_learns_who_it_is, a_login_ends_in_the_browser_that_began_it,
        what_wechat_does_not_take_is_told_and_can_be_begun_anew,
        a_profile_is_read_for_as_long_as_the_user_lets_it, users_of_a_platforms_account_log_in_too,
        a_system_that_logs_in_by_itself_needs_no_secret,
        the_plugin_says_what_a_user_is_or_lets_nobody_in;
    SHARED: a_browser_that_comes_twice_to_two_hosts_is_let_in_once;
}

async fn a_user_logs_in_and_the_back_end_learns_who_it_is(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let user = new_user()?;
    // The shop's page is on another site than the login: its back end gets a ticket.
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    ensure!(
        back.starts_with(&format!("{SITE}/oauth/{}/back?code=", shop.app_id)),
        "{back}"
    );
    let (page, session) = let_in(&host, &back, &going.cookie).await?;
    ensure!(page.as_str().starts_with(PAGE), "{page}");
    let ticket = parameter(&page, "login_ticket").context("a ticket")?;
    // WeChat's client opens the redirect twice: the same again, of one exchange.
    let (again, _) = let_in(&host, &back, &going.cookie).await?;
    ensure!(again == page, "{again}");
    ensure!(shop.counts()?["exchanges"] == 1, "{}", shop.counts()?);

    let (status, who) = shop.ask(&host, &json!({"ticket": ticket})).await?;
    ensure!(
        status == 200
            && who["open_id"] == user.as_str()
            && who["scope"] == "snsapi_base"
            && who["is_snapshot_user"] == false
            && who.get("nickname").is_none(),
        "{status}: {who}"
    );
    let (status, refused) = shop.ask(&host, &json!({"ticket": ticket})).await?;
    ensure!(
        status == 404 && refused["error"]["code"] == "ticket-refused",
        "a second time: {status}: {refused}"
    );
    let cookie = value_of(&session)?;
    let (status, same) = shop.ask(&host, &json!({"cookie": cookie})).await?;
    ensure!(status == 200 && same == who, "{status}: {same}");
    let forged = format!("{}x", cookie);
    let (status, refused) = shop.ask(&host, &json!({"cookie": forged})).await?;
    ensure!(
        status == 404 && refused["error"]["code"] == "session-unknown",
        "{status}: {refused}"
    );

    // A page of the login's own site needs no ticket, unless it wants one.
    let own = format!("{SITE}/cart");
    for (more, expected) in [("", false), ("&give=ticket", true)] {
        let query = format!("{}{more}", return_to(&own));
        let going = shop.begin(&host, &query).await?;
        let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
        let (page, _) = let_in(&host, &back, &going.cookie).await?;
        let has_ticket = parameter(&page, "login_ticket").is_some();
        ensure!(has_ticket == expected, "{more}: {page}");
    }
    // Who only looks at a snapshot of the page is nobody.
    let query = format!("{}&scope=snsapi_userinfo", return_to(PAGE));
    let going = shop.begin(&host, &query).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "snapshot").await?;
    let (_, session) = let_in(&host, &back, &going.cookie).await?;
    let cookie = value_of(&session)?;
    let (_, nobody) = shop.ask(&host, &json!({"cookie": cookie})).await?;
    ensure!(
        nobody["is_snapshot_user"] == true && nobody["open_id"] != user.as_str(),
        "{nobody}"
    );
    stage.expect_sealed_in_redis(&shop.site).await
}

async fn a_login_ends_in_the_browser_that_began_it(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    for elsewhere in [
        "https://evil.example/",
        "https://shop.example/",
        "https://shop.example.evil.example/orders",
        "//evil.example",
        "javascript:alert(1)",
    ] {
        let page = shop.start(&host, &return_to(elsewhere)).await?;
        expect_page(page, 400, "return-address-refused").await?;
    }
    let page = shop.start(&host, "scope=snsapi_base").await?;
    expect_page(page, 400, "invalid-query").await?;
    let query = format!("{}&scope=snsapi_login", return_to(PAGE));
    expect_page(shop.start(&host, &query).await?, 400, "invalid-query").await?;

    let user = new_user()?;
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    // Somebody is sent a stranger's link, to be logged in as the stranger.
    let other = shop.begin(&host, &return_to(PAGE)).await?;
    for cookie in ["", &other.cookie] {
        let page = come_back(&host, &back, cookie).await?;
        expect_page(page, 400, "login-not-begun").await?;
    }
    ensure!(shop.counts()?["exchanges"] == 0, "{}", shop.counts()?);
    let (page, _) = let_in(&host, &back, &going.cookie).await?;
    // The state is used up: no other code comes with it.
    let elsewhere = agree(&shop.api, &going.url, new_user()?.as_str(), "allow").await?;
    let refused = come_back(&host, &elsewhere, &going.cookie).await?;
    expect_page(refused, 400, "login-state-used").await?;
    let (again, _) = let_in(&host, &back, &going.cookie).await?;
    ensure!(again == page, "the first one's stays: {again}");

    // A user who refuses is led back without being known.
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "refuse").await?;
    let led = come_back(&host, &back, &going.cookie).await?;
    ensure!(
        location(&led)? == format!("{PAGE}&login_error=refused") && cookie_of(&led).is_err(),
        "{led:?}"
    );
    // What is no longer on the list is led to no more.
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let path = format!("/api/v1/accounts/{}", shop.app_id);
    let login = json!({"login": {"site_url": SITE, "return_urls": ["https://shop.example/new"]}});
    let admin = host.admin();
    admin.call(Method::PATCH, &path, Some(&login)).await?;
    let refused = come_back(&host, &back, &going.cookie).await?;
    expect_page(refused, 400, "return-address-refused").await?;
    let none = json!({"login": null});
    admin.call(Method::PATCH, &path, Some(&none)).await?;
    let page = shop.start(&host, &return_to(PAGE)).await?;
    expect_page(page, 404, "login-not-set-up").await
}

async fn what_wechat_does_not_take_is_told_and_can_be_begun_anew(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let user = new_user()?;
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let (before, rest) = back.split_once("code=").context("a code")?;
    let (_, state) = rest.split_once('&').context("a state")?;
    let made_up = format!("{before}code=0123456789abcdef0123456789abcdef&{state}");
    for _ in 0..2 {
        let page = come_back(&host, &made_up, &going.cookie).await?;
        expect_page(page, 400, "login-code-refused").await?;
    }
    let requests = shop.requests()?;
    ensure!(requests == 1, "it is asked once: {requests}");

    // WeChat can't be reached for a moment: reloading the page goes on.
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    shop.api
        .fault(&json!({"kind": "drop", "performed": false, "count": 1,
        "path_prefix": "/sns/oauth2/"}))?;
    let page = come_back(&host, &back, &going.cookie).await?;
    expect_page(page, 503, "wechat-unreachable").await?;
    let_in(&host, &back, &going.cookie).await?;

    // An answer that was lost has used the code up: the user begins anew, and that works.
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    shop.api
        .fault(&json!({"kind": "drop", "performed": true, "count": 1,
        "path_prefix": "/sns/oauth2/"}))?;
    let page = come_back(&host, &back, &going.cookie).await?;
    expect_page(page, 503, "wechat-unreachable").await?;
    let page = come_back(&host, &back, &going.cookie).await?;
    expect_page(page, 400, "login-code-refused").await?;
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let_in(&host, &back, &going.cookie).await?;

    // WeChat refuses the host's address: that is the operator's to mend, not the user's.
    shop.api
        .fault(&json!({"kind": "errcode", "errcode": 40164, "count": 1,
        "path_prefix": "/sns/oauth2/"}))?;
    let going = shop.begin(&host, &return_to(PAGE)).await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let page = come_back(&host, &back, &going.cookie).await?;
    expect_page(page, 502, "wechat-refused").await?;
    let path = format!("/api/v1/accounts/{}", shop.app_id);
    wait::until("a refused address that is shown", wait::SOON, async || {
        let shown = host.admin().get(&path).await?;
        let refusal = &shown["address_refusals"][0];
        Ok((refusal["errcode"] == 40164).then_some(()))
    })
    .await?;
    ensure!(
        host.metric("wxhost_logins_total").await? >= 7.0,
        "logins are counted"
    );
    Ok(())
}

async fn a_profile_is_read_for_as_long_as_the_user_lets_it(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let user = new_user()?;
    let follower = json!({"followers": [{"open_id": user, "union_id": "u-1"}]});
    let path = format!("/apps/{}/followers", shop.app_id);
    shop.api.ask(Method::POST, &path, &follower)?;
    let log_in = async |scope: &str| -> Result<Value> {
        let query = format!("{}&scope={scope}", return_to(PAGE));
        let going = shop.begin(&host, &query).await?;
        let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
        let (_, session) = let_in(&host, &back, &going.cookie).await?;
        let (_, who) = shop
            .ask(&host, &json!({"cookie": value_of(&session)?}))
            .await?;
        Ok(who)
    };
    let needs_login = async || -> Result<()> {
        let (status, answer) = shop.profile(&host, user.as_str()).await?;
        ensure!(
            status == 409 && answer["error"]["code"] == "login-needed",
            "{status}: {answer}"
        );
        Ok(())
    };
    log_in("snsapi_base").await?;
    needs_login().await?;
    let who = log_in("snsapi_userinfo").await?;
    ensure!(
        who["union_id"] == "u-1"
            && who["nickname"]
                .as_str()
                .is_some_and(|name| name.starts_with("用户"))
            && who["picture_url"].is_string(),
        "{who}"
    );
    let reads = async || -> Result<()> {
        let (status, profile) = shop.profile(&host, user.as_str()).await?;
        ensure!(
            status == 200
                && profile["open_id"] == user.as_str()
                && profile["nickname"] == who["nickname"],
            "{status}: {profile}"
        );
        Ok(())
    };
    reads().await?;
    ensure!(shop.counts()?["renewals"] == 0, "{}", shop.counts()?);
    // The user's token ends: the next one is fetched, once.
    shop.api.advance_ms(7_201_000)?;
    reads().await?;
    reads().await?;
    ensure!(shop.counts()?["renewals"] == 1, "{}", shop.counts()?);
    // Thirty days later nothing can be fetched any more.
    shop.api.advance_ms(31 * 24 * 3_600_000)?;
    needs_login().await?;
    log_in("snsapi_userinfo").await?;
    reads().await
}

async fn users_of_a_platforms_account_log_in_too(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, _) = agency.newcomer()?;
    agency.claimed(&host, &app_id).await?;
    let domain = host.base().strip_prefix("http://").context("an address")?;
    let path = format!("/components/{}", agency.id());
    let domain = json!({"oauth_domain": domain});
    agency.api.ask(Method::PATCH, &path, &domain)?;
    // The account says where its pages are; where WeChat leads back to is the platform's.
    let path = format!("/api/v1/accounts/{app_id}");
    let login = json!({"login": {"return_urls": ["https://shop.example/orders"]}});
    host.admin()
        .call(Method::PATCH, &path, Some(&login))
        .await?;
    let shop = Webshop {
        key: login_key(&host, &agency.tenant).await?,
        tenant: agency.tenant,
        app_id: app_id.to_string(),
        site: agency.site,
        api: agency.api,
    };
    let user = new_user()?;
    let going = shop
        .begin(&host, &format!("{}&scope=snsapi_userinfo", return_to(PAGE)))
        .await?;
    ensure!(
        going
            .url
            .contains(&format!("&component_appid={}#", agency.component.app_id)),
        "{}",
        going.url
    );
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let (page, _) = let_in(&host, &back, &going.cookie).await?;
    let ticket = parameter(&page, "login_ticket").context("a ticket")?;
    let (status, who) = shop.ask(&host, &json!({"ticket": ticket})).await?;
    ensure!(
        status == 200 && who["open_id"] == user.as_str(),
        "{status}: {who}"
    );
    shop.api.advance_ms(7_201_000)?;
    let (status, profile) = shop.profile(&host, user.as_str()).await?;
    ensure!(
        status == 200 && profile["nickname"] == who["nickname"],
        "{status}: {profile}"
    );
    Ok(())
}

async fn a_browser_that_comes_twice_to_two_hosts_is_let_in_once(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let other = shop.site.host().await?;
    for _ in 0..5 {
        let going = shop.begin(&host, &return_to(PAGE)).await?;
        let back = agree(&shop.api, &going.url, new_user()?.as_str(), "allow").await?;
        let before = shop.requests()?;
        let (one, two) = tokio::join!(
            let_in(&host, &back, &going.cookie),
            let_in(&other, &back, &going.cookie)
        );
        let (one, two) = (one?, two?);
        ensure!(one.0 == two.0, "{} and {}", one.0, two.0);
        ensure!(shop.requests()? == before + 1, "the code is exchanged once");
        let ticket = parameter(&one.0, "login_ticket").context("a ticket")?;
        let shown = json!({"ticket": ticket});
        let (one, two) = tokio::join!(shop.ask(&host, &shown), shop.ask(&other, &shown));
        let mut statuses = [one?.0, two?.0];
        statuses.sort_unstable();
        ensure!(
            statuses == [200, 404],
            "a ticket is good once: {statuses:?}"
        );
    }
    Ok(())
}

async fn a_system_that_logs_in_by_itself_needs_no_secret(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let user = new_user()?;
    let expect = |(status, answer): (u16, Value), code: &str| {
        ensure!(answer["error"]["code"] == code, "{status}: {answer}");
        Ok(())
    };
    let code = shop.code(user.as_str()).await?;
    expect(
        shop.exchange(&host, "wxk_none", &code).await?,
        "unauthorized",
    )?;
    let other = json!({"tenant_id": shop.tenant, "grants": ["forward"]});
    let other = host.admin().post("/api/v1/keys", &other).await?;
    let other = other["key"].as_str().context("a key")?;
    secrets::remember(other);
    expect(shop.exchange(&host, other, &code).await?, "not-granted")?;
    let (status, granted) = shop.exchange(&host, &shop.key, &code).await?;
    ensure!(
        status == 200
            && granted["openid"] == user.as_str()
            && granted["scope"] == "snsapi_userinfo",
        "{status}: {granted}"
    );
    let text = |name: &str| granted[name].as_str().context("a text");
    let (token, refresh_token) = (text("access_token")?, text("refresh_token")?);
    let info = async |token: &str| {
        let query = [("access_token", token), ("openid", user.as_str())];
        shop.sns(&host, "userinfo", &query).await
    };
    let (status, profile) = info(token).await?;
    ensure!(
        status == 200 && profile["openid"] == user.as_str() && profile["privilege"].is_array(),
        "{status}: {profile}"
    );
    // A user's token opens what it is for, and nothing else.
    expect(info(refresh_token).await?, "unauthorized")?;
    expect(info(&format!("{token}x")).await?, "unauthorized")?;
    let query = [("access_token", token)];
    let url = format!("{}/wechat/{}/cgi-bin/user/get", host.base(), shop.app_id);
    let answer = host.http().get(url).query(&query).send().await?;
    ensure!(answer.status() == 401, "{answer:?}");
    let query = [("grant_type", "refresh_token"), ("refresh_token", token)];
    expect(
        shop.sns(&host, "oauth2/refresh_token", &query).await?,
        "unauthorized",
    )?;
    let query = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    let (_, renewed) = shop.sns(&host, "oauth2/refresh_token", &query).await?;
    ensure!(renewed["openid"] == user.as_str(), "{renewed}");
    // WeChat's refusals come as they are.
    let (status, refused) = shop.exchange(&host, &shop.key, &code).await?;
    ensure!(
        status == 200 && refused["errcode"] == 40163,
        "{status}: {refused}"
    );
    // What was given to a key ends with it.
    let keys = host.admin().get("/api/v1/keys").await?;
    let keys = keys["keys"].as_array().context("keys")?;
    let mut ours = keys.iter().filter(|key| key["grants"] == json!(["login"]));
    let id = ours.find(|key| key["tenant_id"] == shop.tenant.as_str());
    let id = id.and_then(|key| key["id"].as_str()).context("its id")?;
    let path = format!("/api/v1/keys/{id}");
    host.admin().call(Method::DELETE, &path, None).await?;
    expect(info(token).await?, "unauthorized")
}

async fn the_plugin_says_what_a_user_is_or_lets_nobody_in(stage: Stage) -> Result<()> {
    let (shop, host) = Webshop::open(&stage).await?;
    let user = new_user()?;
    let come = async |page: &str| -> Result<(Response, Url)> {
        let going = shop.begin(&host, &return_to(page)).await?;
        let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
        let led = come_back(&host, &back, &going.cookie).await?;
        let to = location(&led).unwrap_or_else(|_| SITE.to_owned());
        Ok((led, to.parse()?))
    };
    let who = async |led: &Response| -> Result<Value> {
        let cookie = value_of(&cookie_of(led)?)?;
        Ok(shop.ask(&host, &json!({"cookie": cookie})).await?.1)
    };
    // Settings decide what a member's session says.
    shop.deploy(&host, &Bundle::of(Plugin::Members.component()?))
        .await?;
    let (led, page) = come(PAGE).await?;
    ensure!(parameter(&page, "login_error").is_none(), "{page}");
    let guest = who(&led).await?;
    ensure!(guest.get("claims").is_none(), "{guest}");
    let closed = Bundle::of(Plugin::Members.component()?).config(json!({"followers_only": true}));
    shop.deploy(&host, &closed).await?;
    let (led, page) = come(PAGE).await?;
    ensure!(
        parameter(&page, "login_error").as_deref() == Some("followers-only")
            && parameter(&page, "login_ticket").is_none()
            && cookie_of(&led).is_err(),
        "{page}"
    );
    // And whatever a plugin does wrong, nobody is let in by it.
    shop.deploy(&host, &Bundle::of(Plugin::Rogue.component()?))
        .await?;
    let (led, _) = come(PAGE).await?;
    let claims = who(&led).await?["claims"].clone();
    ensure!(claims["who"] == user.as_str(), "{claims}");
    let (_, page) = come(&format!("{PAGE}&do=refuse")).await?;
    ensure!(
        parameter(&page, "login_error").as_deref() == Some("not-today"),
        "{page}"
    );
    for verb in ["panic", "loop", "lacking", "shout", "twice", "much"] {
        let (led, _) = come(&format!("{PAGE}&do={verb}")).await?;
        expect_page(led, 503, "login-handler-failed").await?;
    }
    let calls = wait::until("records of the calls", wait::SOON, async || {
        let path = format!("/api/v1/accounts/{}/calls?limit=100", shop.app_id);
        let shown = host.admin().get(&path).await?;
        let calls = shown["calls"].as_array().cloned().unwrap_or_default();
        let outcomes: Vec<_> = calls.iter().map(|call| call["outcome"].clone()).collect();
        Ok((outcomes.len() == 10).then_some(outcomes))
    })
    .await?;
    for expected in ["admitted", "refused", "trap", "timeout", "invalid-verdict"] {
        ensure!(calls.iter().any(|outcome| outcome == expected), "{calls:?}");
    }
    // Who was not decided on need not ask WeChat again: the plugin that is better by then is asked.
    let going = shop
        .begin(&host, &return_to(&format!("{PAGE}&do=panic")))
        .await?;
    let back = agree(&shop.api, &going.url, user.as_str(), "allow").await?;
    let page = come_back(&host, &back, &going.cookie).await?;
    expect_page(page, 503, "login-handler-failed").await?;
    let asked = shop.requests()?;
    shop.deploy(&host, &Bundle::of(Plugin::Members.component()?))
        .await?;
    let (page, _) = let_in(&host, &back, &going.cookie).await?;
    ensure!(parameter(&page, "login_ticket").is_some(), "{page}");
    ensure!(shop.requests()? == asked, "the code is exchanged once");
    Ok(())
}
