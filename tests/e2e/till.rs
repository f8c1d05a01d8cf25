//! A shop with a merchant of WeChat Pay, its back end, and what WeChat Pay knows of it.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wxhost_tests::account::{Account, new_user};
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::site::Site;
use wxhost_tests::{secrets, wait};

use crate::office::admit;
use crate::stage::Stage;

/// A shop with a till.
pub(crate) struct Till {
    pub(crate) api: WechatApi,
    pub(crate) site: Site,
    pub(crate) tenant: String,
    pub(crate) account: Account,
    pub(crate) mch_id: String,
    pub(crate) key: String,
    /// What the merchant's console gives out.
    pub(crate) console: Value,
}

/// How WeChat Pay knows the merchant, and what the operator grants the account there.
pub(crate) struct Terms {
    /// `public-key` or `certificate`.
    pub(crate) signs_by: &'static str,
    /// What WeChat Pay knows beside.
    pub(crate) merchant: Value,
    pub(crate) grants: Value,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            signs_by: "public-key",
            merchant: json!({"refund_gap": false}),
            grants: json!({"refunds": true}),
        }
    }
}

impl Till {
    pub(crate) async fn open(stage: &Stage) -> Result<(Self, Host)> {
        Self::open_on(stage, Terms::default()).await
    }

    pub(crate) async fn open_on(stage: &Stage, terms: Terms) -> Result<(Self, Host)> {
        let api = WechatApi::start().await?;
        let site = stage.site_with(&api).await?;
        let site = site.with("WECHAT_OPEN_BASE", api.url());
        let host = site.host().await?;
        let tenant = host.admin().add_tenant().await?;
        let login =
            json!({"site_url": host.base(), "return_urls": ["https://shop.example/orders"]});
        let domain = host.base().trim_start_matches("http://").to_owned();
        let settings = (&json!({"oauth_domain": domain}), &json!({"login": login}));
        let account = admit(stage, &host, &api, &tenant, settings).await?;
        let mch_id = format!("19{}", digits(8)?);
        let mut merchant = terms.merchant;
        merchant["mch_id"] = json!(mch_id);
        merchant["app_ids"] = json!([account.app_id()]);
        merchant["certificates"] = json!(terms.signs_by);
        let console = api.pay(Method::POST, "/merchants", &merchant).await?;
        remember(&console);
        let key = json!({"tenant_id": tenant, "grants": ["pay", "refund"]});
        let made = host.admin().post("/api/v1/keys", &key).await?;
        let key = made["key"].as_str().context("a key")?.to_owned();
        secrets::remember(&key);
        let till = Self {
            api,
            site,
            tenant,
            account,
            mch_id,
            key,
            console,
        };
        till.register(&host, terms.signs_by).await?;
        let binding = json!({"grants": terms.grants});
        till.bind(&host, &binding).await?;
        Ok((till, host))
    }

    /// The operator adds the merchant.
    async fn register(&self, host: &Host, signs_by: &str) -> Result<()> {
        let console = &self.console;
        let mut merchant = json!({
            "mch_id": self.mch_id,
            "tenant_id": self.tenant,
            "name": "茶铺",
            "public_url": host.base(),
            "v3_key": console["v3_key"],
            "certificate": {
                "private_key": console["private_key"],
                "certificate": console["certificate"],
            },
        });
        if signs_by == "public-key" {
            merchant["platform_key"] =
                json!({"id": console["public_key"]["id"], "pem": console["public_key"]["pem"]});
        }
        host.admin().post("/api/v1/merchants", &merchant).await?;
        Ok(())
    }

    /// The operator binds the account to the merchant.
    pub(crate) async fn bind(&self, host: &Host, binding: &Value) -> Result<Value> {
        let path = format!(
            "/api/v1/merchants/{}/accounts/{}",
            self.mch_id,
            self.account.app_id()
        );
        host.admin().call(Method::PUT, &path, Some(binding)).await
    }

    /// The back end calls: status and answer.
    pub(crate) async fn call(
        &self,
        host: &Host,
        (method, path): (Method, &str),
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let app_id = self.account.app_id();
        let url = format!("{}/api/v1/accounts/{app_id}/pay/{path}", host.base());
        let mut request = host.http().request(method, url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// An order of a new person's.
    pub(crate) async fn order(&self, host: &Host, number: &str, fen: i64) -> Result<Value> {
        let order = self.jsapi(number, fen)?;
        let (status, placed) = self
            .call(host, (Method::POST, "orders"), Some(&order))
            .await?;
        ensure!(status == 200, "{status}: {placed}");
        Ok(placed)
    }

    /// What the back end says of an order.
    pub(crate) fn jsapi(&self, number: &str, fen: i64) -> Result<Value> {
        let scene = json!({"kind": "jsapi", "open_id": new_user()?.as_str()});
        Ok(json!({
            "out_trade_no": number, "scene": scene, "description": "龙井一两", "total_fen": fen,
        }))
    }

    /// How the ledger has an order.
    pub(crate) async fn ledger(&self, host: &Host, number: &str) -> Result<Value> {
        let path = format!("orders/{number}");
        let (status, order) = self.call(host, (Method::GET, &path), None).await?;
        ensure!(status == 200, "{status}: {order}");
        Ok(order)
    }

    /// Waits until the ledger has an order in a state.
    pub(crate) async fn expect(&self, host: &Host, number: &str, state: &str) -> Result<Value> {
        let what = format!("the order {number} that is {state}");
        wait::until(&what, wait::SOON, async || {
            let order = self.ledger(host, number).await?;
            Ok((order["state"] == state).then_some(order))
        })
        .await
    }

    /// A person pays.
    pub(crate) async fn pay(&self, number: &str) -> Result<String> {
        let payment = json!({"mch_id": self.mch_id, "out_trade_no": number});
        let paid = self.api.pay(Method::POST, "/pay", &payment).await?;
        Ok(paid["transaction_id"]
            .as_str()
            .context("a payment")?
            .to_owned())
    }

    /// Asks for money back: status and answer.
    pub(crate) async fn refund(
        &self,
        host: &Host,
        number: &str,
        refund: &Value,
    ) -> Result<(u16, Value)> {
        let path = format!("orders/{number}/refunds");
        self.call(host, (Method::POST, &path), Some(refund)).await
    }

    /// Waits until the ledger has a refund in a state.
    pub(crate) async fn expect_refund(
        &self,
        host: &Host,
        number: &str,
        state: &str,
    ) -> Result<Value> {
        let what = format!("the refund {number} that is {state}");
        wait::until(&what, wait::SOON, async || {
            let path = format!("refunds/{number}");
            let (status, refund) = self.call(host, (Method::GET, &path), None).await?;
            ensure!(status == 200, "{status}: {refund}");
            Ok((refund["state"] == state).then_some(refund))
        })
        .await
    }

    /// WeChat Pay's address is told something by whoever.
    pub(crate) async fn forge(&self, number: &str, kind: &str) -> Result<Value> {
        let forgery = json!({"mch_id": self.mch_id, "out_trade_no": number, "kind": kind});
        self.api.pay(Method::POST, "/notices", &forgery).await
    }

    /// What WeChat Pay has in its books.
    pub(crate) async fn books(&self) -> Result<Value> {
        let path = format!("/merchants/{}/books", self.mch_id);
        self.api.pay(Method::GET, &path, &Value::Null).await
    }

    /// Fails unless the host's books balance and agree with WeChat Pay's.
    pub(crate) async fn expect_books(&self, host: &Host) -> Result<()> {
        let path = format!("/api/v1/accounts/{}/books", self.account.app_id());
        let ours = host.admin().get(&path).await?;
        let ours = &ours["books"][0];
        ensure!(ours["flaw"].is_null(), "{ours}");
        let theirs = self.books().await?;
        ensure!(
            ours["kept_fen"].as_i64()
                == theirs["funds"]
                    .as_i64()
                    .map(|funds| { funds + ours["going_back_fen"].as_i64().unwrap_or_default() }),
            "ours {ours}, theirs {theirs}"
        );
        Ok(())
    }

    /// Facts that the account's plugin is told of.
    pub(crate) async fn events(&self, host: &Host) -> Result<Vec<Value>> {
        let path = format!("/api/v1/accounts/{}/pay-events", self.account.app_id());
        let events = host.admin().get(&path).await?;
        Ok(events["events"].as_array().context("events")?.clone())
    }

    /// What WeChat Pay has told that contradicts the ledger.
    pub(crate) async fn flagged(&self, host: &Host) -> Result<Vec<Value>> {
        let path = format!(
            "/api/v1/accounts/{}/pay-notices/flagged",
            self.account.app_id()
        );
        let notices = host.admin().get(&path).await?;
        Ok(notices["notices"].as_array().context("notices")?.clone())
    }
}

/// Puts what a merchant keeps to itself on the list of what no host may show.
pub(crate) fn remember(console: &Value) {
    for name in ["v3_key", "private_key"] {
        if let Some(secret) = console[name].as_str() {
            secrets::remember(secret);
        }
    }
}

fn digits(count: usize) -> Result<String> {
    let letters = secrets::letters(count)?;
    Ok(letters
        .bytes()
        .map(|byte| char::from(b'0' + byte % 10))
        .collect())
}
