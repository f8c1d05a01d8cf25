//! Who plays in the demo: two tenants and their three accounts, each with a plugin of its own.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use wxhost_simulator::{SimulatedAccount, SystemEnvironment};
use wxhost_wechat::envelope::Mode;

use super::admin::Admin;
use crate::transcript::say;

/// An account with the name that people know it by.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) name: &'static str,
    pub(super) account: SimulatedAccount,
}

/// The three accounts.
#[derive(Debug)]
pub(super) struct Cast {
    /// Answers every text; plain mode.
    pub(super) echo: Player,
    /// A tea house's desk; compatible mode.
    pub(super) tea_house: Player,
    /// A bookshop's desk; safe mode, and another tenant's.
    pub(super) bookshop: Player,
}

impl Cast {
    /// Adds tenants and accounts over the admin API and deploys the plugins.
    pub(super) async fn onboard(admin: &Admin, plugins: &Path, url: &str) -> Result<Self> {
        let hello = component(plugins, "hello.wasm")?;
        let desk = component(plugins, "desk.wasm")?;
        let player = |name, mode| Player {
            name,
            account: SimulatedAccount::register(url, mode, &SystemEnvironment),
        };
        let cast = Self {
            echo: player("回声", Mode::Plain),
            tea_house: player("茶馆", Mode::Compatible),
            bookshop: player("书店", Mode::Safe),
        };
        admin.add_tenant("tea-house", "茶馆").await?;
        admin.add_tenant("bookshop", "书店").await?;
        say("\ntenant     account                mode        plugin");
        for (tenant, player, plugin, component, config) in [
            ("tea-house", &cast.echo, "hello.wasm", &hello, json!({})),
            (
                "tea-house",
                &cast.tea_house,
                "desk.wasm",
                &desk,
                tea_house(),
            ),
            ("bookshop", &cast.bookshop, "desk.wasm", &desk, bookshop()),
        ] {
            let account = &player.account;
            admin.add_account(tenant, player.name, account).await?;
            admin.deploy(account, component, &config).await?;
            let mode = account.mode.as_str();
            say(&format!(
                "{tenant:<10} {} {} {mode:<11} {plugin}",
                player.name, account.app_id
            ));
        }
        Ok(cast)
    }

    /// Tells a person how to go on by hand.
    pub(super) fn invite(&self, url: &str, admin_token: &str) {
        let program = std::env::args()
            .next()
            .unwrap_or_else(|| "wxhost".to_owned());
        say(&format!(
            "\nThe host stays up until Ctrl-C.\n\
             \x20 admin API    {url}/api/v1 (described by {url}/api/v1/openapi.json)\n\
             \x20 admin token  {admin_token}\n\
             \x20 health       {url}/healthz {url}/readyz\n\
             \x20 metrics      {url}/metrics\n\n\
             Try, in another terminal:"
        ));
        for (player, action) in [
            (&self.echo, "text 你好"),
            (&self.tea_house, "click HOURS"),
            (&self.bookshop, "follow --scene poster-3"),
            (&self.bookshop, "--forge bad-signature text 你好"),
        ] {
            say(&format!(
                "{program} sim send {} {action}",
                arguments(&player.account)
            ));
        }
        let app_id = &self.bookshop.account.app_id;
        say(&format!(
            "{program} --server {url} --admin-token {admin_token} calls --account {app_id}"
        ));
    }
}

fn arguments(account: &SimulatedAccount) -> String {
    let mut arguments = format!(
        "--url {} --mode {} --token {} --app-id {} --original-id {}",
        account.callback_url,
        account.mode.as_str(),
        account.token.expose(),
        account.app_id,
        account.original_id,
    );
    if account.mode != Mode::Plain {
        arguments += &format!(" --aes-key {}", account.aes_key.expose());
    }
    arguments
}

fn component(plugins: &Path, file: &str) -> Result<Vec<u8>> {
    let path = plugins.join(file);
    std::fs::read(&path).with_context(|| {
        format!(
            "{} (`cargo xtask plugins` builds it; --plugins names its directory)",
            path.display()
        )
    })
}

fn tea_house() -> Value {
    json!({
        "welcome": "欢迎来到茶馆！",
        "topics": [{
            "name": "hours",
            "keywords": ["营业时间"],
            "menu_keys": ["HOURS"],
            "reply": "每天 10:00 至 22:00 营业。",
            "more": "节假日 18:00 打烊。",
        }],
        "more_keywords": ["更多"],
    })
}

fn bookshop() -> Value {
    json!({
        "welcome": "欢迎来到书店！",
        "scenes": { "poster-3": "欢迎从三号海报来到书店，凭此消息九折。" },
        "topics": [{
            "name": "new",
            "keywords": ["新书"],
            "reply": "本周新书：《茶经》。",
        }],
        "human": { "keywords": ["人工"] },
    })
}
