//! An operator with a third-party platform, for the scenarios of accounts that come by a scan.

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use reqwest::header::COOKIE;
use serde_json::{Value, json};
use wxhost_simulator::{
    Outcome, SimulatedAccount, SimulatedComponent, SystemEnvironment, UserAction,
};
use wxhost_tests::account::{self, Account};
use wxhost_tests::admin::Bundle;
use wxhost_tests::api::WechatApi;
use wxhost_tests::host::Host;
use wxhost_tests::plugin::Plugin;
use wxhost_tests::site::Site;
use wxhost_tests::{secrets, wait};
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::reply::Reply;

use crate::browser::{browser, cookie_of, encoded, hidden, location};
use crate::stage::Stage;

/// A platform, the tenant that it serves and an account whose settings newcomers get.
pub(crate) struct Agency {
    pub(crate) stage: Stage,
    pub(crate) api: WechatApi,
    pub(crate) site: Site,
    pub(crate) component: SimulatedComponent,
    pub(crate) tenant: String,
    pub(crate) model: Account,
    /// A key of the tenant's for access tokens and calls.
    pub(crate) key: String,
}

/// What a browser has been through.
pub(crate) struct Visit {
    /// Where WeChat leads back to.
    pub(crate) back: String,
    pub(crate) cookie: String,
    pub(crate) pre_auth_code: String,
}

impl Visit {
    /// The authorisation code that WeChat gave the browser to bring back.
    pub(crate) fn auth_code(&self) -> Result<String> {
        let url: reqwest::Url = self.back.parse()?;
        let found = url.query_pairs().find(|(name, _)| name == "auth_code");
        found
            .map(|(_, code)| code.into_owned())
            .context("an authorisation code")
    }
}

impl Agency {
    /// A platform whose tickets have begun, and a tenant with a plugin.
    pub(crate) async fn open(stage: &Stage) -> Result<(Self, Host)> {
        let api = WechatApi::start().await?;
        let site = stage.site_with(&api).await?;
        let site = site
            .with("WECHAT_MP_BASE", api.url())
            .with("WECHAT_OPEN_BASE", api.url());
        let host = site.host().await?;
        let component = SimulatedComponent::register(host.base(), &SystemEnvironment);
        for secret in [
            component.secret.expose(),
            component.token.expose(),
            component.aes_key.expose(),
        ] {
            secrets::remember(secret);
        }
        api.put_component(&component)?;
        let admin = host.admin();
        let platform = registration(&component, host.base());
        admin.post("/api/v1/platforms", &platform).await?;
        let tenant = admin.add_tenant().await?;
        let model = Account::fresh(Mode::Safe, stage.wechat());
        admin.add_account(&model, &tenant).await?;
        let bundle = Bundle::of(Plugin::Hello.component()?);
        admin.deploy(&model, &bundle).await?;
        let like = json!({"like": model.app_id()});
        let path = format!("/api/v1/tenants/{tenant}");
        admin.call(Method::PATCH, &path, Some(&like)).await?;
        let key = json!({"tenant_id": tenant, "grants": ["access-token", "forward"]});
        let made = admin.post("/api/v1/keys", &key).await?;
        let key = made["key"].as_str().context("a key")?.to_owned();
        secrets::remember(&key);
        let agency = Self {
            stage: stage.clone(),
            api,
            site,
            component,
            tenant,
            model,
            key,
        };
        agency.ticket().await?;
        Ok((agency, host))
    }

    pub(crate) fn id(&self) -> &AppId {
        &self.component.app_id
    }

    /// A path of the admin API below the platform.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/platforms/{}/{rest}", self.id())
    }

    /// WeChat pushes a ticket, which the host takes.
    pub(crate) async fn ticket(&self) -> Result<()> {
        let told = self.tell("ticket", &json!({})).await?;
        ensure!(told["push"]["ok"] == true, "{told}");
        Ok(())
    }

    pub(crate) async fn tell(&self, what: &str, body: &Value) -> Result<Value> {
        self.api.tell(self.id(), what, body).await
    }

    /// An account that nobody has seen before.
    pub(crate) fn newcomer(&self) -> Result<(AppId, OriginalId)> {
        let invented = SimulatedAccount::register("", Mode::Safe, &SystemEnvironment);
        let original_id = OriginalId::parse(&format!("gh_{}", &invented.app_id.as_str()[2..14]))?;
        Ok((invented.app_id, original_id))
    }

    /// Its administrator agrees, without any invitation.
    pub(crate) async fn authorize(&self, app_id: &AppId, more: &Value) -> Result<Value> {
        let mut agreement = json!({
            "app_id": app_id,
            "original_id": format!("gh_{}", &app_id.as_str()[2..14]),
            "nick_name": "茶馆",
        });
        if let (Value::Object(agreement), Value::Object(more)) = (&mut agreement, more) {
            agreement.extend(more.clone());
        }
        self.tell("authorize", &agreement).await
    }

    /// An invitation with these settings beside the tenant; its link.
    pub(crate) async fn invite(&self, host: &Host, more: &Value) -> Result<String> {
        let mut wanted = json!({"tenant_id": self.tenant, "name": "云店"});
        if let (Value::Object(wanted), Value::Object(more)) = (&mut wanted, more) {
            wanted.extend(more.clone());
        }
        let path = self.path("invitations");
        let made = host.admin().post(&path, &wanted).await?;
        Ok(made["url"].as_str().context("a link")?.to_owned())
    }

    /// A customer opens a link, goes on to WeChat's page and agrees there for an account; None for the one
    /// form or the other.
    pub(crate) async fn scan(&self, link: &str, form: &str, app_id: &AppId) -> Result<Visit> {
        let browser = browser()?;
        let first = browser.get(link).send().await?;
        let status = first.status();
        let text = first.text().await?;
        ensure!(
            status == 200 && text.contains("授权公众号"),
            "{status}: {text}"
        );
        let gone = browser.get(format!("{link}/{form}")).send().await?;
        let cookie = cookie_of(&gone)?;
        let page = browser.get(location(&gone)?).send().await?.text().await?;
        ensure!(page.contains(app_id.as_str()), "{page}");
        let form = [
            ("pre_auth_code", hidden(&page, "pre_auth_code")?),
            ("redirect_uri", hidden(&page, "redirect_uri")?),
            ("app_id", app_id.to_string()),
        ];
        let url = format!("{}/_sim/components/{}/scan", self.api.url(), self.id());
        let request = browser.post(url).body(encoded(&form));
        let agreed = request.send().await?;
        ensure!(agreed.status() == 302, "{:?}", agreed.text().await?);
        Ok(Visit {
            back: location(&agreed)?,
            cookie,
            pre_auth_code: hidden(&page, "pre_auth_code")?,
        })
    }

    /// The customer comes back: status and page.
    pub(crate) async fn come_back(&self, visit: &Visit) -> Result<(u16, String)> {
        let request = browser()?.get(&visit.back).header(COOKIE, &visit.cookie);
        let page = request.send().await?;
        Ok((page.status().as_u16(), page.text().await?))
    }

    /// An account as a host shows it, once it is served by the platform.
    pub(crate) async fn served(&self, host: &Host, app_id: &AppId) -> Result<Value> {
        let path = format!("/api/v1/accounts/{app_id}");
        wait::until("an account that is served", wait::SOON, async || {
            let (status, shown) = host.admin().try_call(Method::GET, &path, None).await?;
            // Row and memory are read one after the other.
            let is_served = status == 200
                && shown["platform"] == self.id().as_str()
                && shown["authorisation"]["is_standing"] == true;
            Ok(is_served.then_some(shown))
        })
        .await
    }

    /// What a user is replied to a text, by the platform's door of a host.
    pub(crate) async fn ask(
        &self,
        host: &Host,
        (app_id, original_id): (&AppId, &OriginalId),
        text: &str,
    ) -> Result<String> {
        let mut account = self.component.account(app_id, original_id);
        account.callback_url = format!("{}/component/{}/callback/{app_id}", host.base(), self.id());
        let user = account::new_user()?;
        let wechat = self.stage.wechat();
        let callback = wechat.compose(&account, &user, &UserAction::text(text));
        let delivery = wechat.push(&account, &callback).await;
        let attempt = delivery.attempts.into_iter().next().context("a delivery")?;
        match attempt.outcome {
            Outcome::Replied(Reply::Text(text)) => Ok(text),
            Outcome::Silent => Ok(String::new()),
            other => bail!("{other:?}"),
        }
    }

    /// Calls WeChat for an account with the tenant's key: status and answer.
    pub(crate) async fn call(
        &self,
        host: &Host,
        app_id: &AppId,
        path: &str,
    ) -> Result<(u16, Value)> {
        let url = format!("{}/wechat/{app_id}{path}", host.base());
        let answer = host.http().get(url).bearer_auth(&self.key).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// An account that has come without an invitation is given to the agency's tenant, and served.
    pub(crate) async fn claimed(&self, host: &Host, app_id: &AppId) -> Result<()> {
        let told = self.authorize(app_id, &json!({})).await?;
        ensure!(told["push"]["ok"] == true, "{told}");
        self.claim(host, app_id).await?;
        self.served(host, app_id).await?;
        Ok(())
    }

    /// Gives an account to the agency's tenant, once the host has heard of it.
    pub(crate) async fn claim(&self, host: &Host, app_id: &AppId) -> Result<()> {
        let path = self.path(&format!("authorizers/{app_id}/claim"));
        let body = json!({"tenant_id": self.tenant});
        wait::until("an authoriser that is known", wait::SOON, async || {
            let claimed = host.admin().try_call(Method::POST, &path, Some(&body));
            Ok((claimed.await?.0 == 202).then_some(()))
        })
        .await
    }

    /// What WeChat has counted of an account under the platform.
    pub(crate) fn counts(&self, app_id: &AppId) -> Result<Value> {
        let path = format!("/components/{}", self.id());
        let shown = self.api.ask(Method::GET, &path, &Value::Null)?;
        Ok(shown["authorizers"][app_id.as_str()].clone())
    }
}

/// A platform as an operator adds it.
pub(crate) fn registration(component: &SimulatedComponent, public_url: &str) -> Value {
    json!({
        "app_id": component.app_id,
        "name": "云店平台",
        "public_url": public_url,
        "secret": component.secret.expose(),
        "token": component.token.expose(),
        "encoding_aes_key": component.aes_key.expose(),
    })
}
