//! A shop whose pages are in WeChat, its back end, and the browsers of its customers.

use anyhow::{Context, Result, ensure};
use reqwest::header::COOKIE;
use reqwest::{Method, Response, Url};
use serde_json::{Value, json};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::secrets;
use wxhost_tests::site::Site;

use crate::browser::{browser, cookie_of, encoded, hidden, location};
use crate::office::admit;
use crate::stage::Stage;

/// Where the account's web domain leads to the hosts.
pub(crate) const SITE: &str = "https://login.shop.example";
/// The shop's page, on another site.
pub(crate) const PAGE: &str = "https://shop.example/orders?id=7";
/// What WeChat's page asks of the account's own administrator.
pub(crate) const DOMAIN: &str = "login.shop.example";

/// A shop whose pages are in WeChat.
pub(crate) struct Webshop {
    pub(crate) api: WechatApi,
    pub(crate) site: Site,
    pub(crate) tenant: String,
    pub(crate) app_id: String,
    pub(crate) key: String,
}

/// A login on its way.
pub(crate) struct Going {
    /// WeChat's page.
    pub(crate) url: String,
    /// What the browser keeps.
    pub(crate) cookie: String,
}

impl Webshop {
    pub(crate) async fn open(stage: &Stage) -> Result<(Self, Host)> {
        let api = WechatApi::start().await?;
        let site = stage.site_with(&api).await?;
        let site = site.with("WECHAT_OPEN_BASE", api.url());
        let host = site.host().await?;
        let tenant = host.admin().add_tenant().await?;
        let login = json!({"site_url": SITE,
            "return_urls": ["https://shop.example/orders", "https://login.shop.example/"]});
        let settings = (&json!({"oauth_domain": DOMAIN}), &json!({"login": login}));
        let account = admit(stage, &host, &api, &tenant, settings).await?;
        let key = login_key(&host, &tenant).await?;
        let shop = Self {
            api,
            site,
            tenant,
            app_id: account.app_id().to_owned(),
            key,
        };
        Ok((shop, host))
    }

    /// A browser opens a page that wants to know who it is.
    pub(crate) async fn start(&self, host: &Host, query: &str) -> Result<Response> {
        let url = format!("{}/oauth/{}/start?{query}", host.base(), self.app_id);
        Ok(browser()?.get(url).send().await?)
    }

    pub(crate) async fn begin(&self, host: &Host, query: &str) -> Result<Going> {
        let started = self.start(host, query).await?;
        ensure!(started.status() == 302, "{}", started.text().await?);
        Ok(Going {
            url: location(&started)?,
            cookie: cookie_of(&started)?,
        })
    }

    /// Deploys a plugin to the account.
    pub(crate) async fn deploy(&self, host: &Host, bundle: &Bundle) -> Result<()> {
        let path = format!("/api/v1/accounts/{}/deployments", self.app_id);
        host.admin().post(&path, &bundle.to_json()).await?;
        Ok(())
    }

    /// What WeChat has counted of the account's logins.
    pub(crate) fn counts(&self) -> Result<Value> {
        let path = format!("/apps/{}", self.app_id);
        let shown = self.api.ask(Method::GET, &path, &Value::Null)?;
        Ok(shown["logins"].clone())
    }

    /// The back end asks: status and answer.
    pub(crate) async fn ask(&self, host: &Host, shown: &Value) -> Result<(u16, Value)> {
        ask(host, (&self.app_id, &self.key), shown).await
    }
}

pub(crate) async fn login_key(host: &Host, tenant: &str) -> Result<String> {
    let wanted = json!({"tenant_id": tenant, "grants": ["login"]});
    let made = host.admin().post("/api/v1/keys", &wanted).await?;
    let key = made["key"].as_str().context("a key")?.to_owned();
    secrets::remember(&key);
    Ok(key)
}

pub(crate) async fn ask(
    host: &Host,
    (app_id, key): (&str, &str),
    shown: &Value,
) -> Result<(u16, Value)> {
    let url = format!("{}/api/v1/accounts/{app_id}/session", host.base());
    let request = host.http().post(url).bearer_auth(key).json(shown);
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// The user does as `consent` says on WeChat's page; where it leads.
pub(crate) async fn agree(
    api: &WechatApi,
    url: &str,
    open_id: &str,
    consent: &str,
) -> Result<String> {
    let page = browser()?.get(url).send().await?.text().await?;
    ensure!(page.contains("微信登录"), "{url}: {page}");
    let mut form = Vec::new();
    for name in ["appid", "redirect_uri", "response_type", "scope", "state"] {
        form.push((name, hidden(&page, name)?));
    }
    if let Ok(component) = hidden(&page, "component_appid") {
        form.push(("component_appid", component));
    }
    form.push(("open_id", open_id.to_owned()));
    form.push(("consent", consent.to_owned()));
    let url = format!("{}/_sim/authorize", api.url());
    let request = browser()?.post(url).body(encoded(&form));
    let agreed = request.send().await?;
    ensure!(agreed.status() == 302, "{}", agreed.text().await?);
    location(&agreed)
}

/// The browser comes back to a host, to which the shop's domain leads.
pub(crate) async fn come_back(host: &Host, url: &str, cookie: &str) -> Result<Response> {
    let url = url.replace(SITE, host.base());
    let request = browser()?.get(url).header(COOKIE, cookie);
    Ok(request.send().await?)
}

/// A user who has come back as they should: where they are led on to, and the cookie of the session.
pub(crate) async fn let_in(host: &Host, back: &str, cookie: &str) -> Result<(Url, String)> {
    let led = come_back(host, back, cookie).await?;
    ensure!(led.status() == 302, "{}", led.text().await?);
    Ok((location(&led)?.parse()?, cookie_of(&led)?))
}

/// A page that says no, with this status and code.
pub(crate) async fn expect_page(page: Response, status: u16, code: &str) -> Result<()> {
    let (given, text) = (page.status().as_u16(), page.text().await?);
    ensure!(
        given == status && text.contains(&format!("<code>{code}</code>")),
        "{given}: {text}"
    );
    Ok(())
}

pub(crate) fn parameter(url: &Url, name: &str) -> Option<String> {
    let found = url.query_pairs().find(|(given, _)| given == name);
    found.map(|(_, value)| value.into_owned())
}

pub(crate) fn value_of(cookie: &str) -> Result<String> {
    let (_, value) = cookie.split_once('=').context("a value")?;
    Ok(value.to_owned())
}

pub(crate) fn return_to(page: &str) -> String {
    encoded(&[("return_to", page.to_owned())])
}

impl Webshop {
    /// How often WeChat was asked to exchange a code.
    pub(crate) fn requests(&self) -> Result<usize> {
        let path = format!("/requests?app_id={}&path=/sns/oauth2/", self.app_id);
        let asked = self.api.ask(Method::GET, &path, &Value::Null)?;
        Ok(asked.as_array().context("a list")?.len())
    }

    pub(crate) async fn profile(&self, host: &Host, open_id: &str) -> Result<(u16, Value)> {
        let path = format!("/api/v1/accounts/{}/users/{open_id}/profile", self.app_id);
        let url = format!("{}{path}", host.base());
        let answer = host.http().get(url).bearer_auth(&self.key).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }
}

/// Calls of web authorisation by a tenant's own system.
impl Webshop {
    /// A code with which a user has come back to the system's own page.
    pub(crate) async fn code(&self, open_id: &str) -> Result<String> {
        let query = encoded(&[
            ("appid", self.app_id.clone()),
            ("redirect_uri", format!("{SITE}/own")),
            ("response_type", "code".to_owned()),
            ("scope", "snsapi_userinfo".to_owned()),
            ("state", "s1".to_owned()),
        ]);
        let url = format!("{}/connect/oauth2/authorize?{query}", self.api.url());
        let back: Url = agree(&self.api, &url, open_id, "allow").await?.parse()?;
        parameter(&back, "code").context("a code")
    }

    /// Asks a host in WeChat's words; what a system is told is no secret of the host's.
    pub(crate) async fn sns(
        &self,
        host: &Host,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(u16, Value)> {
        let url = format!("{}/wechat/{}/sns/{path}", host.base(), self.app_id);
        let answer = host.http().get(url).query(query).send().await?;
        let (status, body) = (answer.status().as_u16(), answer.text().await?);
        secrets::expect_none("a forwarded answer", &body)?;
        Ok((status, serde_json::from_str(&body)?))
    }

    pub(crate) async fn exchange(
        &self,
        host: &Host,
        key: &str,
        code: &str,
    ) -> Result<(u16, Value)> {
        let query = [
            ("appid", &*self.app_id),
            ("secret", key),
            ("code", code),
            ("grant_type", "authorization_code"),
        ];
        self.sns(host, "oauth2/access_token", &query).await
    }
}
