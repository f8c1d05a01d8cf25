//! How accounts come to a third-party platform: by an invitation, by an import, from their own AppSecret.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use wxhost_tests::account;
use wxhost_tests::wait;
use wxhost_wechat::id::{AppId, OriginalId};

use crate::agency::Agency;
use crate::office::CHEAP_CALL;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: an_account_comes_by_an_invitation_and_is_served_at_once,
        invitations_lead_to_one_account_each, an_account_moves_between_its_secret_and_a_platform,
        the_authorisers_of_other_software_are_imported,
        a_code_whose_answer_is_lost_brings_its_account;
    SHARED: many_accounts_come_to_several_hosts_of_which_one_is_killed,
        one_code_is_exchanged_once_whoever_brings_it;
}

async fn an_account_comes_by_an_invitation_and_is_served_at_once(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    for form in ["pc", "h5"] {
        let (app_id, original_id) = agency.newcomer()?;
        let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
        agency.api.ask(Method::POST, "/apps", &app)?;
        let link = agency.invite(&host, &json!({})).await?;
        let visit = agency.scan(&link, form, &app_id).await?;
        let (status, page) = agency.come_back(&visit).await?;
        ensure!(
            status == 200 && page.contains("授权成功"),
            "{status}: {page}"
        );
        // The browser loads the page again.
        let (status, page) = agency.come_back(&visit).await?;
        ensure!(
            status == 200 && page.contains("授权成功"),
            "{status}: {page}"
        );
        let shown = agency.served(&host, &app_id).await?;
        ensure!(
            shown["platform"] == agency.id().as_str()
                && shown["tenant_id"] == agency.tenant.as_str()
                && shown["active_version"] == 1
                && shown["has_secret"] == false
                && shown["original_id"] == original_id.as_str(),
            "{shown}"
        );
        let reply = agency.ask(&host, (&app_id, &original_id), "hello").await?;
        ensure!(reply == "You wrote: hello", "{reply}");
        let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
        ensure!(
            status == 200 && answer["ip_list"].is_array(),
            "{status}: {answer}"
        );
        // The token that came with the authorisation is used, not fetched again.
        let counts = agency.counts(&app_id)?;
        ensure!(
            counts["exchanges"] == 1 && counts["renewals"] == 0,
            "{counts}"
        );
    }
    let shown = agency.path("invitations");
    let shown = host.admin().get(&shown).await?;
    let used = shown["invitations"].as_array().context("a list")?;
    ensure!(
        used.len() == 2 && used.iter().all(|one| one["state"] == "used"),
        "{shown}"
    );
    agency.stage.expect_sealed_in_redis(&agency.site).await
}

async fn invitations_lead_to_one_account_each(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let mut apps = Vec::new();
    for _ in 0..3 {
        let (app_id, _) = agency.newcomer()?;
        let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
        agency.api.ask(Method::POST, "/apps", &app)?;
        apps.push(app_id);
    }
    let link = agency.invite(&host, &json!({})).await?;
    // Two people begin; the second to end is told that it was used.
    let first = agency.scan(&link, "pc", &apps[0]).await?;
    let second = agency.scan(&link, "pc", &apps[1]).await?;
    ensure!(agency.come_back(&first).await?.0 == 200, "the first");
    agency.served(&host, &apps[0]).await?;
    let (status, page) = agency.come_back(&second).await?;
    ensure!(
        status == 409 && page.contains("invitation-used"),
        "{status}: {page}"
    );
    let (status, page) = host
        .get(link.strip_prefix(host.base()).context("a path")?)
        .await?;
    ensure!(
        status == 409 && page.contains("invitation-used"),
        "{status}: {page}"
    );
    let path = format!("/api/v1/accounts/{}", apps[1]);
    let (status, _) = host.admin().try_call(Method::GET, &path, None).await?;
    ensure!(status == 404, "nobody's account: {status}");
    // Another browser can't end a visit, and a made-up code none at all.
    let link = agency.invite(&host, &json!({})).await?;
    let mut visit = agency.scan(&link, "pc", &apps[2]).await?;
    let cookie = std::mem::take(&mut visit.cookie);
    ensure!(agency.come_back(&visit).await?.0 == 404, "another browser");
    visit.cookie = cookie;
    let back = visit.back.clone();
    let (without, _) = back.split_once("auth_code=").context("a code")?;
    visit.back = format!("{without}auth_code=preauthcode%40%40%40x");
    let (status, page) = agency.come_back(&visit).await?;
    ensure!(
        status == 409 && page.contains("code-refused"),
        "{status}: {page}"
    );
    visit.back = back;
    ensure!(agency.come_back(&visit).await?.0 == 200, "the right code");
    // One that has ended, one that was taken back, one that never was.
    let ended = agency
        .invite(&host, &json!({"expires_in_seconds": 1}))
        .await?;
    let path_of = |link: &str| link.replace(host.base(), "");
    wait::until("an invitation that ends", wait::SOON, async || {
        let (status, page) = host.get(&path_of(&ended)).await?;
        Ok((status == 410 && page.contains("invitation-expired")).then_some(()))
    })
    .await?;
    let made = agency.path("invitations");
    let body = json!({"tenant_id": agency.tenant});
    let made = host.admin().post(&made, &body).await?;
    let path = agency.path(&format!(
        "invitations/{}",
        made["id"].as_str().context("an id")?
    ));
    host.admin().call(Method::DELETE, &path, None).await?;
    let (status, page) = host
        .get(&path_of(made["url"].as_str().context("a link")?))
        .await?;
    ensure!(
        status == 410 && page.contains("invitation-revoked"),
        "{status}: {page}"
    );
    let nowhere = format!("/component/{}/invitations/0123", agency.id());
    ensure!(host.get(&nowhere).await?.0 == 404, "a made-up link");
    for (field, value) in [("tenant_id", json!("nobody")), ("like", json!("wx00"))] {
        let mut body = json!({"tenant_id": agency.tenant});
        body[field] = value;
        let path = agency.path("invitations");
        let refused = host.admin().try_call(Method::POST, &path, Some(&body));
        let (status, refused) = refused.await?;
        ensure!((400..=404).contains(&status), "{status}: {refused}");
    }
    Ok(())
}

async fn an_account_moves_between_its_secret_and_a_platform(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let secret = agency.api.admit(&agency.model, &json!({}))?;
    let change = json!({"secret": secret});
    host.admin().change(&agency.model, &change).await?;
    let app_id = AppId::parse(agency.model.app_id())?;
    let original_id = agency.model.known().original_id.clone();
    ensure!(
        agency.call(&host, &app_id, CHEAP_CALL).await?.0 == 200,
        "by its secret"
    );
    // Nobody has asked for it: the account stays as it is.
    let agreement = json!({"original_id": original_id});
    agency.authorize(&app_id, &agreement).await?;
    let found = agency.path(&format!("authorizers/{app_id}"));
    wait::until("an authoriser that was looked at", wait::SOON, async || {
        let (status, shown) = host.admin().try_call(Method::GET, &found, None).await?;
        Ok((status == 200 && shown["facts_at"].is_i64()).then_some(()))
    })
    .await?;
    let path = format!("/api/v1/accounts/{app_id}");
    ensure!(
        host.admin().get(&path).await?["platform"].is_null(),
        "by its secret still"
    );
    // It belongs to one tenant, and is given to no other.
    let other = host.admin().add_tenant().await?;
    let claimed = format!("{found}/claim");
    let refused = json!({"tenant_id": other});
    let refused = host
        .admin()
        .try_call(Method::POST, &claimed, Some(&refused))
        .await?;
    ensure!(
        refused.0 == 409 && refused.1["error"]["code"] == "account-of-another-tenant",
        "{refused:?}"
    );
    agency.claim(&host, &app_id).await?;
    let shown = agency.served(&host, &app_id).await?;
    ensure!(
        shown["platform"] == agency.id().as_str() && shown["has_secret"] == true,
        "{shown}"
    );
    ensure!(
        agency.ask(&host, (&app_id, &original_id), "a").await? == "You wrote: a",
        "by the platform"
    );
    let user = account::new_user()?;
    let reply = agency.model.ask(&host, &user, "b").await?;
    ensure!(reply == "You wrote: b", "its own door stays open");
    // And back.
    let change = json!({"platform": null});
    host.admin().change(&agency.model, &change).await?;
    let shown = host.admin().get(&path).await?;
    ensure!(shown["platform"].is_null(), "{shown}");
    ensure!(
        agency.call(&host, &app_id, CHEAP_CALL).await?.0 == 200,
        "by its secret again"
    );
    Ok(())
}

async fn the_authorisers_of_other_software_are_imported(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let mut apps = Vec::new();
    for _ in 0..7 {
        let (app_id, _) = agency.newcomer()?;
        agency.authorize(&app_id, &json!({"push": false})).await?;
        apps.push(app_id);
    }
    let path = agency.path("import");
    let body = json!({"tenant_id": agency.tenant});
    host.admin().post(&path, &body).await?;
    let import = wait::until("an import that is done", wait::SOON, async || {
        let import = host.admin().get(&path).await?;
        Ok((import["state"] == "done").then_some(import))
    })
    .await?;
    ensure!(
        import["total"] == 7 && import["listed"] == 7 && import["added"] == 7,
        "{import}"
    );
    for app_id in &apps {
        agency.served(&host, app_id).await?;
    }
    // A table with faults is refused whole, and tells each.
    let (one, other) = (&apps[0], agency.newcomer()?.0);
    let faulty =
        format!("app_id,refresh_token\n{one},refreshtoken@@@1\nno id,x\n{one},y\n{other},\n");
    let refused = json!({"tenant_id": agency.tenant, "csv": faulty});
    let (status, refused) = host
        .admin()
        .try_call(Method::POST, &path, Some(&refused))
        .await?;
    ensure!(
        status == 422
            && refused["error"]["code"] == "invalid-table"
            && refused["error"]["faults"]
                .as_array()
                .is_some_and(|faults| faults.len() == 3),
        "{refused}"
    );
    let table = format!(
        "app_id,refresh_token,tenant_id\n{other},refreshtoken@@@1,{}\n",
        agency.tenant
    );
    let taken = host.admin().post(&path, &json!({"csv": table})).await?;
    ensure!(taken["listed"] == 1 && taken["added"] == 1, "{taken}");
    Ok(())
}

async fn a_code_whose_answer_is_lost_brings_its_account(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let (app_id, original_id) = agency.newcomer()?;
    let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
    agency.api.ask(Method::POST, "/apps", &app)?;
    let component = format!("/components/{}", agency.id());
    let late = json!({"event_url": format!("{}/nowhere", host.base())});
    agency.api.ask(Method::PATCH, &component, &late)?;
    let link = agency.invite(&host, &json!({})).await?;
    let visit = agency.scan(&link, "pc", &app_id).await?;
    let lost = json!({"kind": "drop", "performed": true, "count": 1,
        "path_prefix": "/cgi-bin/component/api_query_auth"});
    agency.api.fault(&lost)?;
    let (status, page) = agency.come_back(&visit).await?;
    ensure!(status == 503, "{status}: {page}");
    // WeChat takes a code once, and a browser does not know whose it is.
    let (status, page) = agency.come_back(&visit).await?;
    ensure!(
        status == 409 && page.contains("微信不接受这个授权码"),
        "{status}: {page}"
    );
    // The event does, late as it comes.
    let here = json!({"event_url": agency.component.event_url});
    agency.api.ask(Method::PATCH, &component, &here)?;
    let event = json!({"info_type": "authorized", "fields": {
        "AuthorizerAppid": app_id, "AuthorizationCode": visit.auth_code()?,
        "AuthorizationCodeExpiredTime": "9999999999", "PreAuthCode": visit.pre_auth_code}});
    let pushed = agency.tell("push", &event).await?;
    ensure!(pushed["pushes"][0]["ok"] == true, "{pushed}");
    let shown = agency.served(&host, &app_id).await?;
    ensure!(shown["tenant_id"] == agency.tenant.as_str(), "{shown}");
    let reply = agency.ask(&host, (&app_id, &original_id), "x").await?;
    ensure!(reply == "You wrote: x", "{reply}");
    let (status, page) = agency.come_back(&visit).await?;
    ensure!(
        status == 200 && page.contains("授权成功"),
        "{status}: {page}"
    );
    let (status, answer) = agency.call(&host, &app_id, CHEAP_CALL).await?;
    ensure!(
        status == 200 && answer["ip_list"].is_array(),
        "{status}: {answer}"
    );
    Ok(())
}

async fn one_code_is_exchanged_once_whoever_brings_it(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let other = agency.site.host().await?;
    for event_first in [true, false] {
        let settings = json!({"event_first": event_first});
        let path = format!("/components/{}", agency.id());
        agency.api.ask(Method::PATCH, &path, &settings)?;
        let (app_id, original_id) = agency.newcomer()?;
        let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
        agency.api.ask(Method::POST, "/apps", &app)?;
        let slow =
            json!({"kind": "slow", "ms": 700, "path_prefix": "/cgi-bin/component/api_query_auth"});
        agency.api.fault(&slow)?;
        let link = agency.invite(&host, &json!({})).await?;
        let mut visit = agency.scan(&link, "pc", &app_id).await?;
        // The redirect comes to the other host, while this one is at the event.
        visit.back = visit.back.replace(host.base(), other.base());
        let visits = join_all([(); 3].map(|()| agency.come_back(&visit))).await;
        for visit in visits {
            let (status, page) = visit?;
            ensure!(status == 200, "{status}: {page}");
        }
        agency.api.mend()?;
        agency.served(&other, &app_id).await?;
        ensure!(
            agency.ask(&other, (&app_id, &original_id), "x").await? == "You wrote: x",
            "served"
        );
        let counts = agency.counts(&app_id)?;
        ensure!(counts["exchanges"] == 1, "{counts}");
    }
    Ok(())
}

/// Accounts that come at once.
const CROWD: usize = 60;

async fn many_accounts_come_to_several_hosts_of_which_one_is_killed(stage: Stage) -> Result<()> {
    let (agency, host) = Agency::open(&stage).await?;
    let mut hosts = vec![agency.site.host().await?, agency.site.host().await?];
    let mut newcomers = Vec::new();
    for _ in 0..CROWD {
        newcomers.push(agency.newcomer()?);
    }
    let (early, late) = newcomers.split_at(CROWD / 2);
    let come = async |newcomers: &[(AppId, OriginalId)]| {
        let told = newcomers.iter().map(async |(app_id, _)| {
            agency.authorize(app_id, &json!({})).await?;
            agency.claim(&host, app_id).await
        });
        join_all(told)
            .await
            .into_iter()
            .collect::<Result<Vec<()>>>()
    };
    come(early).await?;
    let killed = hosts.remove(0);
    let kill = async {
        wait::until("late ones that are under way", wait::SOON, async || {
            let counts = late.iter().map(|(app_id, _)| agency.counts(app_id));
            let counts = counts.collect::<Result<Vec<_>>>()?;
            Ok(counts
                .iter()
                .any(|counts| counts["exchanges"] == 1)
                .then_some(()))
        })
        .await?;
        killed.kill()
    };
    let (came, killed) = tokio::join!(come(late), kill);
    came?;
    killed?;
    let survivor = &hosts[0];
    for (app_id, original_id) in &newcomers {
        let who = (app_id, original_id);
        // What a dead host had in hand is another one's when its lease has ended.
        let patience = Duration::from_secs(60);
        wait::until("an account that is served", patience, async || {
            let asked = agency.ask(survivor, who, "hi").await;
            Ok(asked
                .is_ok_and(|reply| reply == "You wrote: hi")
                .then_some(()))
        })
        .await?;
        let (status, answer) = agency.call(survivor, app_id, CHEAP_CALL).await?;
        ensure!(
            status == 200 && answer["ip_list"].is_array(),
            "{status}: {answer}"
        );
        let counts = agency.counts(app_id)?;
        let fetched =
            counts["exchanges"].as_i64().unwrap_or(0) + counts["renewals"].as_i64().unwrap_or(0);
        // A host that dies between the exchange and its word to the others costs one more.
        ensure!(
            (1..=2).contains(&fetched) && counts["exchanges"] == 1,
            "{counts}"
        );
    }
    Ok(())
}
