//! What the host knows of an account, ready for use, put together from what each part of the host keeps.

use std::{
    str::FromStr,
    sync::{Arc, atomic::AtomicUsize},
};

use serde::de::DeserializeOwned;
use wxhost_runtime::{AccountInfo, TenantPermits, account};
use wxhost_wechat::{envelope::Mode, id::AppId};

use crate::{
    credentials::{AddressGate, CredentialSettings, Slots, TokenLine},
    db::{accounts::AccountRow, deployments::DeploymentRow, tenants::TenantRow},
    inbox::{CallbackSettings, mode_of},
    plugins::PluginSettings,
    quotas::{Holder, Holders, Limits},
    seal::MasterKeys,
    settings::{StoredError, column},
};

use super::{Authorisation, LoginSettings, QuietHours};

/// Calls of a tenant that may wait, for each one that may run: half a second's worth of ordinary
/// calls, more would not be answered in time.
const QUEUE_PER_CALL: u32 = 16;

/// A customer of the operator.
#[derive(Debug)]
pub struct Tenant {
    /// Its name in the API.
    pub id: Arc<str>,
    /// Who of its calls may run now.
    pub permits: Arc<TenantPermits>,
    /// How much all its accounts may use together, and what they have in use.
    pub quotas: Holder,
    /// Bytes that its events under way hold.
    pub arrival_bytes: Arc<AtomicUsize>,
}

impl Tenant {
    /// The tenant as it is stored now; `before` is what was known of it.
    pub(super) fn from_row(row: &TenantRow, limits: Limits, before: Option<&Arc<Self>>) -> Self {
        let concurrent = u32::try_from(row.max_concurrent_calls).unwrap_or(1).max(1);
        let queue = concurrent.saturating_mul(QUEUE_PER_CALL);
        let before = before.map(|before| &before.quotas);
        Self {
            id: row.id.as_str().into(),
            permits: Arc::new(TenantPermits::new(concurrent, queue)),
            quotas: Holder::new(&row.id, limits, before),
            arrival_bytes: Arc::default(),
        }
    }
}

/// Whether an account is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is.
    Active,
    /// Its callbacks are turned away.
    Disabled,
}

impl Status {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

/// Why an account is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// The operator has disabled it.
    Disabled,
    /// Its owner has taken back what they granted the third-party platform that serves it.
    Withdrawn,
    /// The operator has disabled that platform.
    NoPlatform,
}

impl Unserved {
    /// A stable word, in kebab-case.
    pub fn code(self) -> &'static str {
        match self {
            Self::Disabled => "account-disabled",
            Self::Withdrawn => "authorisation-withdrawn",
            Self::NoPlatform => "platform-disabled",
        }
    }

    /// What it means, and what to do.
    pub fn message(self) -> &'static str {
        match self {
            Self::Disabled => "the account is disabled; its operator can enable it",
            Self::Withdrawn => {
                "the account's owner has taken the authorisation back; let them authorise the platform again"
            }
            Self::NoPlatform => "the third-party platform that serves the account is disabled",
        }
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            _ => Err(String::from("a status is active or disabled")),
        }
    }
}

/// An official account (公众号).
#[derive(Debug)]
pub struct Account {
    /// The AppId.
    pub app_id: AppId,
    /// Whose it is.
    pub tenant: Arc<Tenant>,
    /// What its plugin may know of it.
    pub info: AccountInfo,
    /// Whether it is served.
    pub status: Status,
    /// How its callbacks come.
    pub callbacks: CallbackSettings,
    /// How it calls WeChat.
    pub credentials: CredentialSettings,
    /// The third-party platform that serves it, if one does; it calls WeChat by that then.
    pub authorisation: Option<Authorisation>,
    /// What serves it, and what that may reach.
    pub plugin: PluginSettings,
    /// How users log in to its pages, if they do.
    pub login: Option<LoginSettings>,
    /// When its pushes rest, if they do.
    pub quiet_hours: Option<QuietHours>,
    /// How much it may use, and what it has in use.
    pub quotas: Holder,
    /// Its access token and tickets, as this host holds them.
    pub(crate) slots: Arc<Slots>,
}

impl Account {
    /// Whether it is served.
    pub fn is_active(&self) -> bool {
        self.unserved().is_none()
    }

    /// Why it is not served, if it is not.
    pub fn unserved(&self) -> Option<Unserved> {
        match (self.status, &self.authorisation) {
            (Status::Disabled, _) => Some(Unserved::Disabled),
            (Status::Active, Some(by)) if !by.is_standing => Some(Unserved::Withdrawn),
            (Status::Active, Some(by)) if !by.platform.is_active() => Some(Unserved::NoPlatform),
            (Status::Active, _) => None,
        }
    }

    /// Which call its access token comes from.
    pub fn token_line(&self) -> TokenLine {
        match &self.authorisation {
            Some(_) => TokenLine::Authorizer,
            None => self.credentials.token_line,
        }
    }

    /// Whether WeChat refuses this host's address for it. Of all accounts of a platform it goes by the
    /// platform's list.
    pub(crate) fn address(&self) -> &AddressGate {
        match &self.authorisation {
            Some(authorisation) => &authorisation.platform.slots.address,
            None => &self.slots.address,
        }
    }

    pub(super) fn from_rows(
        row: &AccountRow,
        (deployment, authorisation): (Option<&DeploymentRow>, Option<Authorisation>),
        tenant: Option<&Arc<Tenant>>,
        keys: &MasterKeys,
    ) -> Result<Self, StoredError> {
        let app_id = AppId::parse(&row.app_id).map_err(column("app_id"))?;
        let mode = mode_of(&row.callbacks.mode).map_err(column("mode"))?;
        let tenant = tenant.ok_or_else(|| column("tenant_id")("there is no such tenant"))?;
        Ok(Self {
            tenant: Arc::clone(tenant),
            info: AccountInfo {
                app_id: row.app_id.clone(),
                original_id: row.original_id.clone(),
                name: row.name.clone(),
                mode: match mode {
                    _ if authorisation.is_some() => account::Mode::Safe,
                    Mode::Plain => account::Mode::Plain,
                    Mode::Compatible => account::Mode::Compatible,
                    Mode::Safe => account::Mode::Safe,
                },
            },
            status: row.status.parse().map_err(column("status"))?,
            callbacks: CallbackSettings::from_row(&app_id, &row.original_id, &row.callbacks, keys)?,
            credentials: CredentialSettings::from_row(&row.app_id, &row.credentials, keys)?,
            authorisation,
            plugin: PluginSettings::from_rows(&row.plugin, deployment, keys)?,
            login: lane_settings(&row.app_id, "login", row.login.as_deref()),
            quiet_hours: lane_settings(&row.app_id, "quiet_hours", row.quiet_hours.as_deref()),
            quotas: Holder::new(&row.app_id, Limits::default(), None),
            slots: Arc::default(),
            app_id,
        })
    }

    /// The account as it is stored now, with what this host holds and counts of it already.
    pub(super) fn keep_held(self, before: Option<&Arc<Self>>, limits: Limits) -> Self {
        let quotas = before.map(|before| &before.quotas);
        let quotas = Holder::new(self.app_id.as_str(), limits, quotas);
        match before {
            None => Self { quotas, ..self },
            Some(before) => Self {
                quotas,
                slots: Arc::clone(&before.slots),
                ..self
            },
        }
    }

    /// Whose quotas its events use.
    pub fn holders(&self) -> Holders<'_> {
        Holders {
            account: &self.quotas,
            tenant: &self.tenant.quotas,
        }
    }
}

/// What is stored of a lane's settings. A newer host may have stored what this one does not know: the lane goes on
/// here as if nothing were set.
fn lane_settings<T: DeserializeOwned>(app_id: &str, name: &str, stored: Option<&str>) -> Option<T> {
    let settings = serde_json::from_str(stored?);
    settings
        .inspect_err(|error| {
            tracing::warn!(
                account.app_id = app_id,
                settings = name,
                error = %error,
                "settings of an account can't be read, so that they count as not set at this host"
            );
        })
        .ok()
}
