//! Another system of the tenant's takes tokens of the same account, over and over. No call of a plugin
//! fails by that.

use std::cell::Cell;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use serde_json::{Value, json};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::site::Site;

use crate::office;
use crate::samples::QUOTA;
use crate::scenario::scenarios;
use crate::stage::Stage;

scenarios! {
    BOTH: classic_neighbour_does_not_touch_stable_tokens, classic_neighbour_takes_classic_tokens_away,
        neighbour_forces_new_stable_tokens;
}

/// How often a neighbour ends the host's token.
const ROUNDS: u64 = 12;
/// Calls of the plugin in each round, at the same time.
const CALLS: usize = 4;
/// WeChat refuses to force a token within 30 s of the last time.
const FORCE_GAP_MS: u64 = 31_000;

/// A plugin's account, and whoever else has its AppSecret.
struct House {
    api: WechatApi,
    _site: Site,
    host: Host,
    account: Account,
    secret: String,
}

impl House {
    async fn build(stage: &Stage, line: &str) -> Result<Self> {
        let api = WechatApi::start().await?;
        let site = stage.site_with(&api).await?;
        let host = site.host().await?;
        let app = json!({"quotas": {"/cgi-bin/token": 1_000_000}});
        let settings = json!({"token_line": line});
        let bundle = Bundle::of(Plugin::Rogue.component()?);
        let account = office::admit_with(stage, &host, &api, (&app, &settings), &bundle).await?;
        let secret = api.secret_of(&account)?;
        Ok(Self {
            api,
            _site: site,
            host,
            account,
            secret,
        })
    }

    /// The plugin calls WeChat several times at once, and each time WeChat does as it is asked.
    async fn expect_plugin_calls(&self) -> Result<()> {
        let users = (0..CALLS).map(|_| new_user()).collect::<Result<Vec<_>>>()?;
        let (text, expected) = QUOTA;
        let asked = users
            .iter()
            .map(|user| self.account.ask(&self.host, user, text));
        for answer in join_all(asked).await {
            let answer = answer?;
            ensure!(
                answer.starts_with(expected),
                "the plugin was told {answer:?}"
            );
        }
        Ok(())
    }

    async fn take_classic_token(&self) -> Result<()> {
        let query = format!(
            "/cgi-bin/token?grant_type=client_credential&appid={}&secret={}",
            self.account.app_id(),
            self.secret
        );
        expect_token(&self.api.call(&query, None).await?)
    }

    async fn force_stable_token(&self) -> Result<()> {
        let document = json!({
            "grant_type": "client_credential",
            "appid": self.account.app_id(),
            "secret": self.secret,
            "force_refresh": true,
        });
        let path = "/cgi-bin/stable_token";
        expect_token(&self.api.call(path, Some(&document)).await?)
    }
}

fn expect_token(answer: &Value) -> Result<()> {
    let token = answer["access_token"].as_str();
    token
        .map(drop)
        .with_context(|| format!("the neighbour was told {answer}"))
}

async fn classic_neighbour_does_not_touch_stable_tokens(stage: Stage) -> Result<()> {
    let house = House::build(&stage, "stable").await?;
    house.expect_plugin_calls().await?;
    let over = Cell::new(false);
    let neighbour = async {
        while !over.get() {
            house.take_classic_token().await?;
        }
        anyhow::Ok(())
    };
    let plugin = async {
        for _ in 0..ROUNDS {
            house.expect_plugin_calls().await?;
        }
        over.set(true);
        anyhow::Ok(())
    };
    futures::try_join!(neighbour, plugin)?;
    let app = house.api.app(&house.account)?;
    ensure!(
        app.stable_fetches() == 1 && app.invalid_uses() == 0,
        "{app:?}"
    );
    ensure!(app.number("classic_fetches") >= ROUNDS, "{app:?}");
    Ok(())
}

async fn classic_neighbour_takes_classic_tokens_away(stage: Stage) -> Result<()> {
    let house = House::build(&stage, "classic").await?;
    house.expect_plugin_calls().await?;
    for _ in 0..ROUNDS {
        // The first ends the host's token after a time of grace, the second at once.
        house.take_classic_token().await?;
        house.take_classic_token().await?;
        house.expect_plugin_calls().await?;
    }
    let app = house.api.app(&house.account)?;
    ensure!(
        app.invalid_uses() >= ROUNDS,
        "the token was never taken away: {app:?}"
    );
    let fetches = app.number("classic_fetches") - 2 * ROUNDS;
    ensure!(
        fetches <= ROUNDS + 1,
        "{fetches} fetches for {ROUNDS} tokens: {app:?}"
    );
    Ok(())
}

async fn neighbour_forces_new_stable_tokens(stage: Stage) -> Result<()> {
    let house = House::build(&stage, "stable").await?;
    house.expect_plugin_calls().await?;
    for _ in 0..ROUNDS {
        house.api.advance_ms(FORCE_GAP_MS)?;
        house.force_stable_token().await?;
        house.expect_plugin_calls().await?;
    }
    let app = house.api.app(&house.account)?;
    ensure!(
        app.invalid_uses() >= ROUNDS,
        "the token was never taken away: {app:?}"
    );
    ensure!(
        app.number("forced") == ROUNDS,
        "the host forced tokens, too: {app:?}"
    );
    let fetches = app.stable_fetches() - ROUNDS;
    ensure!(
        fetches <= ROUNDS + 1,
        "{fetches} fetches for {ROUNDS} tokens: {app:?}"
    );
    Ok(())
}
