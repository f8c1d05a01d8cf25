//! Introduces whoever `wxhost sim send` plays to the pretend API of `wxhost sim serve`, so that messages
//! to that person are taken there as WeChat would: it knows the person, and what they did last.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, StatusCode, Url};
use serde_json::json;
use wxhost_simulator::UserAction;

/// Where `wxhost sim serve` listens unless it is told otherwise.
pub(crate) const USUAL_API: &str = "http://127.0.0.1:9600";
/// How long the pretend API may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A person and what they do.
#[derive(Debug)]
pub(crate) struct Introduction<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) open_id: &'a str,
    pub(crate) action: &'a UserAction,
}

impl Introduction<'_> {
    /// Tells the API at `api`. Where none is named, whichever is at the usual address, if one is there
    /// and has the account.
    pub(crate) async fn make(&self, api: Option<&str>) -> Result<()> {
        let told = self.tell(api.unwrap_or(USUAL_API)).await;
        match api {
            Some(_) => told,
            None => Ok(()),
        }
    }

    async fn tell(&self, api: &str) -> Result<()> {
        let http = Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let api: Url = api.parse().with_context(|| format!("--api {api}"))?;
        let app = api.join(&format!("/_sim/apps/{}", self.app_id))?;
        let unreachable = || format!("cannot reach the pretend API at {api}");
        let shown = http.get(app.clone()).send().await;
        let shown = shown.with_context(unreachable)?;
        if shown.status() != StatusCode::OK {
            bail!(
                "{api} is no pretend API that has {}; `wxhost sim serve --app {0}:<secret>` is one",
                self.app_id
            );
        }
        let person = format!("{app}/followers/{}", self.open_id);
        if http.get(person).send().await?.status() == StatusCode::NOT_FOUND {
            let followers = json!({ "open_ids": [self.open_id] });
            let url = format!("{app}/followers");
            http.post(url).json(&followers).send().await?;
        }
        if let Some(kind) = self.action.interaction() {
            let interaction = json!({ "open_id": self.open_id, "kind": kind });
            let url = format!("{app}/interactions");
            http.post(url).json(&interaction).send().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Method;
    use serde_json::Value;
    use wxhost_simulator::api::{ApiServer, AppSettings, Settings};
    use wxhost_wechat::id::AppId;

    use super::*;

    const APP: &str = "wx49f0ab532d5d035a";

    #[tokio::test]
    async fn who_writes_is_known_to_the_pretend_api_and_may_be_written_to() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let app_id = AppId::parse(APP).unwrap();
        let settings = Settings {
            apps: vec![AppSettings::new(app_id, "0123456789abcdef0123456789abcdef")],
            ..Settings::default()
        };
        let server = ApiServer::start(settings).await.unwrap();
        let url = server.url().to_string();
        let left = || {
            let path = format!("/apps/{APP}/followers/oA");
            let shown = server.control().ask(Method::GET, &path, &Value::Null);
            shown.map(|user| user["messages_left"].as_u64())
        };
        assert!(left().is_err());
        for (action, expected) in [
            (UserAction::view("http://example.com"), Some(0)),
            (UserAction::click("K"), Some(3)),
            (UserAction::text("hello"), Some(5)),
            (UserAction::menu_message_entry("yes", "1"), Some(5)),
            (UserAction::unsubscribe(), Some(0)),
        ] {
            let introduction = Introduction {
                app_id: APP,
                open_id: "oA",
                action: &action,
            };
            introduction.make(Some(&url)).await.unwrap();
            assert_eq!(left().unwrap(), expected, "{action:?}");
        }
        let stranger = Introduction {
            app_id: "wx0000000000000000",
            open_id: "oA",
            action: &UserAction::text("hello"),
        };
        let error = stranger.make(Some(&url)).await.unwrap_err().to_string();
        assert!(error.contains("no pretend API"), "{error}");
        // Nobody has named one.
        stranger.make(None).await.unwrap();
    }
}
