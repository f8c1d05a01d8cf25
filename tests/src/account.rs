//! An official account whose callbacks go to whichever host a test names.
//!
//! All that is WeChat's comes from the simulator; this keeps its secrets on the list of what no host
//! may show, and shortens what scenarios say most often.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wxhost_simulator::{
    Callback, Envelope, HttpAnswer, Outcome, PushSettings, SimulatedAccount, Stamp,
    SystemEnvironment, UserAction, WechatPlatform,
};
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::OpenId;
use wxhost_wechat::reply::Reply;

use crate::host::Host;
use crate::secrets;

/// How long a scenario waits for one answer: longer than WeChat, so that what it sees late is the
/// host's doing.
const PATIENCE: Duration = Duration::from_secs(30);

/// An official account.
#[derive(Debug, Clone)]
pub struct Account {
    known: SimulatedAccount,
    wechat: Arc<WechatPlatform>,
}

/// A WeChat that delivers once, waits long and never mutes: for looking at single answers.
pub fn patient_wechat() -> Result<Arc<WechatPlatform>> {
    let settings = PushSettings {
        deadline: PATIENCE,
        deliveries: 1,
        mute_after: u32::MAX,
        ..PushSettings::default()
    };
    Ok(Arc::new(WechatPlatform::new(
        settings,
        Arc::new(SystemEnvironment),
    )?))
}

/// A user that nobody has seen before.
pub fn new_user() -> Result<OpenId> {
    Ok(OpenId::parse(&format!("o{}", secrets::letters(27)?))?)
}

impl Account {
    /// An account that nobody has seen before.
    #[must_use]
    pub fn fresh(mode: Mode, wechat: &Arc<WechatPlatform>) -> Self {
        let known = SimulatedAccount::register("", mode, &SystemEnvironment);
        secrets::remember(known.token.expose());
        secrets::remember(known.aes_key.expose());
        Self {
            known,
            wechat: Arc::clone(wechat),
        }
    }

    /// What WeChat knows of it. Its callback URL is none; see [`Account::at`].
    #[must_use]
    pub fn known(&self) -> &SimulatedAccount {
        &self.known
    }

    /// The same, to be changed: as when its owner changes the settings on WeChat's page.
    pub fn known_mut(&mut self) -> &mut SimulatedAccount {
        &mut self.known
    }

    /// The AppId.
    #[must_use]
    pub fn app_id(&self) -> &str {
        self.known.app_id.as_str()
    }

    /// The account with its callbacks going to a host.
    #[must_use]
    pub fn at(&self, host: &Host) -> SimulatedAccount {
        SimulatedAccount {
            callback_url: self.url(host),
            ..self.known.clone()
        }
    }

    /// Where a host takes its callbacks.
    #[must_use]
    pub fn url(&self, host: &Host) -> String {
        format!("{}/callback/{}", host.base(), self.app_id())
    }

    /// What the admin API wants to know of it.
    #[must_use]
    pub fn registration(&self, tenant: &str) -> Value {
        let mut document = serde_json::json!({
            "app_id": self.app_id(),
            "tenant_id": tenant,
            "name": "An account",
            "original_id": self.known.original_id.as_str(),
            "mode": match self.known.mode {
                Mode::Plain => "plain",
                Mode::Compatible => "compatible",
                Mode::Safe => "safe",
            },
            "token": self.known.token.expose(),
        });
        if self.known.mode != Mode::Plain {
            document["encoding_aes_key"] = self.known.aes_key.expose().into();
        }
        document
    }

    /// A user does something now. Delivering it twice is a re-send.
    #[must_use]
    pub fn callback(&self, user: &OpenId, action: &UserAction) -> Callback {
        self.wechat.compose(&self.known, user, action)
    }

    /// A callback signed now, and sealed as the mode asks.
    #[must_use]
    pub fn envelope(&self, callback: &Callback) -> Envelope {
        let environment = self.wechat.environment();
        Envelope::seal(
            &self.known,
            callback,
            &Stamp::fresh(environment),
            environment,
        )
    }

    /// Posts any envelope; gives the answer, whatever it is.
    pub async fn post(&self, host: &Host, envelope: &Envelope) -> Result<HttpAnswer> {
        Ok(self.wechat.post(&self.url(host), envelope).await?)
    }

    /// Delivers a callback once.
    pub async fn deliver(&self, host: &Host, callback: &Callback) -> Result<Outcome> {
        let delivery = self.wechat.push(&self.at(host), callback).await;
        let attempt = delivery
            .attempts
            .into_iter()
            .next()
            .context("the pretend WeChat is mute")?;
        Ok(attempt.outcome)
    }

    /// A user writes a text.
    pub async fn say(&self, host: &Host, user: &OpenId, text: &str) -> Result<Outcome> {
        self.deliver(host, &self.callback(user, &UserAction::text(text)))
            .await
    }

    /// A user writes a text, and WeChat delivers it three times at most while it is told to come again.
    pub async fn insist(&self, host: &Host, user: &OpenId, text: &str) -> Result<Outcome> {
        let callback = self.callback(user, &UserAction::text(text));
        let mut outcome = self.deliver(host, &callback).await?;
        for _ in 1..PushSettings::default().deliveries {
            if !matches!(outcome, Outcome::Refused(status) if status == 503) {
                break;
            }
            outcome = self.deliver(host, &callback).await?;
        }
        Ok(outcome)
    }

    /// A user writes a text that must be answered with a text.
    pub async fn ask(&self, host: &Host, user: &OpenId, text: &str) -> Result<String> {
        match self.say(host, user, text).await? {
            Outcome::Replied(Reply::Text(reply)) => Ok(reply),
            other => bail!("{text:?} was answered with {other:?}, not with text"),
        }
    }
}
