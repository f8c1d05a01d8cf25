//! Redis as operators run it: behind Sentinels, as a Cluster, over TLS; too old, or gone over to another
//! master.

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::redis::{Cluster, Sealed, Watched};
use wxhost_tests::site::Site;
use wxhost_tests::wait;

use crate::office::Office;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    SHARED: hosts_follow_sentinels_to_another_master,
        hosts_follow_a_cluster_to_another_master,
        hosts_share_a_redis_over_tls,
        a_redis_that_is_too_old_is_refused_at_start;
}

/// Accounts: their keys lie on all masters of a Cluster.
const ACCOUNTS: usize = 24;

async fn hosts_follow_sentinels_to_another_master(stage: Stage) -> Result<()> {
    let mut redis = Watched::start(&stage.directory()?).await?;
    let url = redis.url();
    share_through(
        &stage,
        |site| site.with("REDIS_URL", &url),
        async || redis.fail_over().await,
    )
    .await
}

async fn hosts_follow_a_cluster_to_another_master(stage: Stage) -> Result<()> {
    let mut redis = Cluster::start(&stage.directory()?).await?;
    let url = redis.url();
    share_through(
        &stage,
        |site| site.with("REDIS_URL", &url),
        async || redis.fail_over().await,
    )
    .await
}

async fn hosts_share_a_redis_over_tls(stage: Stage) -> Result<()> {
    let redis = Sealed::start(&stage.directory()?)?;
    let set = |site: Site| {
        site.with("REDIS_URL", redis.url())
            .with_variable("SSL_CERT_FILE", redis.authority().display())
    };
    share_through(&stage, set, async || Ok(())).await
}

/// Hosts share their tokens through this Redis, go on while `change` happens to it, and share them again
/// afterwards: a host that comes then finds all of them.
async fn share_through(
    stage: &Stage,
    set: impl FnOnce(Site) -> Site,
    change: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let api = WechatApi::start().await?;
    let site = set(stage.site_with(&api).await?);
    let hosts = [site.host().await?, site.host().await?];
    let nothing = (&json!({}), &json!({}));
    let office = Office::open(stage, &hosts[0], &api, ACCOUNTS, nothing).await?;
    office.known_to(&hosts[1]).await?;
    for host in &hosts {
        office.sweep(host, &office.accounts, "before").await?;
    }
    expect_one_fetch_each(&api, &office)?;
    change().await?;
    for host in &hosts {
        office.sweep(host, &office.accounts, "during").await?;
        wait::until("a host with its Redis", wait::SOON, async || {
            Ok((host.get("/readyz").await?.0 == 200).then_some(()))
        })
        .await?;
    }
    for host in &hosts {
        office.sweep(host, &office.accounts, "after").await?;
    }
    let newcomer = site.host().await?;
    office
        .sweep(&newcomer, &office.accounts, "newcomer")
        .await?;
    expect_one_fetch_each(&api, &office)?;
    expect_news_to_pass(&hosts[0], &newcomer, &office).await
}

fn expect_one_fetch_each(api: &WechatApi, office: &Office) -> Result<()> {
    for account in &office.accounts {
        let fetches = api.app(account)?.stable_fetches();
        ensure!(fetches == 1, "{fetches} fetches for {}", account.app_id());
    }
    Ok(())
}

/// A token that one host forces is the other's, too.
async fn expect_news_to_pass(one: &Host, other: &Host, office: &Office) -> Result<()> {
    for account in &office.accounts[..4] {
        let path = format!("/api/v1/accounts/{}", account.app_id());
        let refresh = format!("{path}/access-token/refresh");
        let forced = one.admin().post(&refresh, &json!({})).await?;
        wait::until("news of a forced token", wait::SOON, async || {
            let shown = other.admin().get(&path).await?;
            let is_same = shown["access_token"]["fence"] == forced["fence"];
            Ok(is_same.then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn a_redis_that_is_too_old_is_refused_at_start(stage: Stage) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("redis://{}", listener.local_addr()?);
    let old = tokio::spawn(play_an_old_redis(listener));
    let site = stage.site().await?.with("REDIS_URL", url);
    let mut host = site.launch()?;
    let status = host.ended(wait::SOON).await?;
    old.abort();
    ensure!(!status.success(), "it has started");
    let said = host.printed()?;
    ensure!(
        said.contains("it is Redis 4.0; the oldest that works is 5.0"),
        "{said}"
    );
    Ok(())
}

/// Answers everything with OK, and INFO as Redis 4 does.
async fn play_an_old_redis(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut asked = vec![0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut asked).await {
                let text = String::from_utf8_lossy(&asked[..length]).to_uppercase();
                // An answer for each command of a pipeline.
                let mut answer = String::new();
                for command in text.split('*').skip(1) {
                    let info = "# Server\r\nredis_version:4.0.9\r\n";
                    match command.contains("INFO") && !command.contains("SETINFO") {
                        true => answer.push_str(&format!("${}\r\n{info}\r\n", info.len())),
                        false => answer.push_str("+OK\r\n"),
                    }
                }
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}
