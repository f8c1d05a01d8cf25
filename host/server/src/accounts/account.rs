//! What the host knows of an account, ready for use: keys opened, ciphers built.

use std::{fmt, str::FromStr, sync::Arc};

use secrecy::ExposeSecret;
use wxhost_runtime::{
    AccountInfo, CallLimits, Digest, Handler, Manifest, TenantPermits, Wanted, account,
};
use wxhost_wechat::{
    envelope::{CallbackKeys, Mode, Receiver, ReceiverSettings},
    id::{AppId, OriginalId},
    secret::{AES_KEY_LENGTH, AppSecret, CallbackToken, EncodingAesKey},
};

use crate::{
    credentials::{Attention, Slots, TokenLine},
    db::{accounts::AccountRow, deployments::DeploymentRow, tenants::TenantRow},
    grants::{Grants, OperatorGrants},
    quotas::{Holder, Holders, Limits},
    random,
    seal::{MasterKeys, Place, SealError},
    secrets::Secrets,
};

/// Calls of a tenant that may wait, for each one that may run: half a second's worth of ordinary
/// calls, more would not be answered in time.
const QUEUE_PER_CALL: u32 = 16;

/// Why an account's row cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A box does not open.
    #[error("a secret of the account cannot be opened")]
    Seal(#[from] SealError),
    /// A column holds what it should not.
    #[error("the stored {column} is not valid: {reason}")]
    Column {
        /// Which.
        column: &'static str,
        /// Why.
        reason: String,
    },
}

fn column<E: fmt::Display>(column: &'static str) -> impl FnOnce(E) -> AccountError {
    move |error| AccountError::Column {
        column,
        reason: error.to_string(),
    }
}

/// A customer of the operator.
#[derive(Debug)]
pub struct Tenant {
    /// Its name in the API.
    pub id: Arc<str>,
    /// Who of its calls may run now.
    pub permits: Arc<TenantPermits>,
    /// How much all its accounts may use together, and what they have in use.
    pub quotas: Holder,
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

/// The word for a mode, as it is stored and shown.
pub(crate) fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Plain => "plain",
        Mode::Compatible => "compatible",
        Mode::Safe => "safe",
    }
}

/// The mode that a word stands for.
pub(crate) fn mode_of(word: &str) -> Result<Mode, String> {
    match word {
        "plain" => Ok(Mode::Plain),
        "compatible" => Ok(Mode::Compatible),
        "safe" => Ok(Mode::Safe),
        _ => Err(String::from("a mode is plain, compatible or safe")),
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
    /// Opens its callbacks and seals the replies.
    pub receiver: Receiver,
    /// What the user gets when the plugin fails.
    pub fallback_text: Option<String>,
    /// Whether it is served.
    pub status: Status,
    /// What serves it.
    pub deployment: Option<Arc<Deployment>>,
    /// Its AppSecret; without one it has no access token.
    pub secret: Option<AppSecret>,
    /// How its access tokens are got.
    pub token_line: TokenLine,
    /// What its owner must mend; nothing, as a rule.
    pub attention: Option<Attention>,
    /// What the operator lets its plugin reach.
    pub grants: Grants,
    /// Origins whose pages may have JS-SDK signatures, such as `https://shop.example`.
    pub jssdk_origins: Vec<String>,
    /// How much it may use, and what it has in use.
    pub quotas: Holder,
    /// Its access token and tickets, as this host holds them.
    pub(crate) slots: Arc<Slots>,
}

impl Account {
    /// Whether it is served.
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }

    pub(super) fn from_rows(
        row: &AccountRow,
        deployment: Option<&DeploymentRow>,
        tenant: Option<&Arc<Tenant>>,
        keys: &MasterKeys,
    ) -> Result<Self, AccountError> {
        let app_id = AppId::parse(&row.app_id).map_err(column("app_id"))?;
        let mode = mode_of(&row.mode).map_err(column("mode"))?;
        let tenant = tenant.ok_or_else(|| column("tenant_id")("there is no such tenant"))?;
        Ok(Self {
            tenant: Arc::clone(tenant),
            info: AccountInfo {
                app_id: row.app_id.clone(),
                original_id: row.original_id.clone(),
                name: row.name.clone(),
                mode: match mode {
                    Mode::Plain => account::Mode::Plain,
                    Mode::Compatible => account::Mode::Compatible,
                    Mode::Safe => account::Mode::Safe,
                },
            },
            receiver: receiver(row, app_id.clone(), mode, keys)?,
            fallback_text: row.fallback_text.clone(),
            status: row.status.parse().map_err(column("status"))?,
            deployment: deployment
                .map(|row| Deployment::from_row(row, keys).map(Arc::new))
                .transpose()?,
            secret: app_secret(row, keys)?,
            token_line: row.token_line.parse().map_err(column("token_line"))?,
            attention: match &row.attention {
                None => None,
                Some(stored) => Attention::read(stored).map_err(column("attention"))?,
            },
            grants: grants_of(&row.grants).map_err(column("grants"))?,
            jssdk_origins: serde_json::from_str(&row.jssdk_origins)
                .map_err(column("jssdk_origins"))?,
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

/// The AppSecret of a row.
pub(super) fn app_secret(
    row: &AccountRow,
    keys: &MasterKeys,
) -> Result<Option<AppSecret>, AccountError> {
    let Some(sealed) = &row.secret_sealed else {
        return Ok(None);
    };
    let text = keys.open_text(Place::app_secret(&row.app_id), sealed)?;
    let secret = AppSecret::parse(text.expose_secret()).map_err(column("secret_sealed"))?;
    Ok(Some(secret))
}

/// The receiver that a row describes.
pub(super) fn receiver(
    row: &AccountRow,
    app_id: AppId,
    mode: Mode,
    keys: &MasterKeys,
) -> Result<Receiver, AccountError> {
    let token = keys.open_text(Place::token(&row.app_id), &row.token_sealed)?;
    let aes_key = |place, sealed: &Option<String>| -> Result<_, AccountError> {
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let text = keys.open_text(place, sealed)?;
        let key = EncodingAesKey::parse(text.expose_secret()).map_err(column("aes_key_sealed"))?;
        Ok(Some(key))
    };
    let present = Place::aes_key(&row.app_id);
    let previous = match &row.previous_aes_key_sealed {
        None => aes_key(
            Place::former_aes_key(&row.app_id),
            &row.former_aes_key_sealed,
        )?,
        // A host of the version before has changed the key since.
        before => aes_key(present, before)?,
    };
    let settings = ReceiverSettings {
        app_id,
        original_id: Some(OriginalId::parse(&row.original_id).map_err(column("original_id"))?),
        mode,
        keys: CallbackKeys {
            token: CallbackToken::parse(token.expose_secret()).map_err(column("token_sealed"))?,
            current: aes_key(present, &row.aes_key_sealed)?,
            previous,
        },
        window_seconds: u64::try_from(row.window_seconds).map_err(column("window_seconds"))?,
    };
    Receiver::new(settings).map_err(column("encoding_aes_key"))
}

/// A receiver with keys that nobody has. It takes both clear and encrypted callbacks as far as a
/// wrong signature would get.
pub(super) fn decoy() -> Result<Receiver, AccountError> {
    let word = || hex::encode(random::sixteen());
    let aes_key = format!("{}{}", word(), &word()[..AES_KEY_LENGTH - 32]);
    let settings = ReceiverSettings {
        app_id: AppId::parse("decoy").map_err(column("app_id"))?,
        original_id: None,
        mode: Mode::Compatible,
        keys: CallbackKeys {
            token: CallbackToken::parse(&word()).map_err(column("token_sealed"))?,
            current: Some(EncodingAesKey::parse(&aes_key).map_err(column("aes_key_sealed"))?),
            previous: None,
        },
        window_seconds: 300,
    };
    Receiver::new(settings).map_err(column("encoding_aes_key"))
}

/// A plugin with its settings, as it serves one account.
pub struct Deployment {
    /// 1, 2, 3 … per account.
    pub version: i64,
    /// The component.
    pub digest: Digest,
    /// The plugin's settings, a JSON document.
    pub config: Arc<str>,
    /// For the host's edge, never for the plugin.
    pub secrets: Secrets,
    /// What a call may use.
    pub limits: CallLimits,
    /// What the component handles.
    pub handlers: Vec<Handler>,
    /// What the plugin asks for; a call gets of it what the operator grants.
    pub wanted: Wanted,
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("version", &self.version)
            .field("digest", &self.digest)
            .field("handlers", &self.handlers)
            .finish_non_exhaustive()
    }
}

impl Deployment {
    fn from_row(row: &DeploymentRow, keys: &MasterKeys) -> Result<Self, AccountError> {
        let version = row.version.to_string();
        let secrets = keys.open(Place::secrets(&row.app_id, &version), &row.secrets_sealed)?;
        let wanted = wanted_of(row.manifest.as_deref()).map_err(column("manifest"))?;
        let limits: CallLimits = serde_json::from_str(&row.limits).map_err(column("limits"))?;
        Ok(Self {
            version: row.version,
            digest: row.digest.parse().map_err(column("digest"))?,
            config: row.config.as_str().into(),
            secrets: Secrets::from_stored(&secrets, &wanted).map_err(column("secrets_sealed"))?,
            limits,
            handlers: handlers_of(&row.handlers).map_err(column("handlers"))?,
            wanted,
        })
    }
}

/// What a stored list grants.
pub(crate) fn grants_of(stored: &str) -> Result<Grants, serde_json::Error> {
    let said: OperatorGrants = serde_json::from_str(stored)?;
    Ok(Grants::from(&said))
}

/// What a stored manifest asks for.
pub(crate) fn wanted_of(stored: Option<&str>) -> Result<Wanted, serde_json::Error> {
    let manifest = stored.map(serde_json::from_str::<Manifest>).transpose()?;
    Ok(manifest.map(|manifest| manifest.grants).unwrap_or_default())
}

/// The handlers in a stored list. A newer host may have stored kinds that this one does not know.
pub(crate) fn handlers_of(stored: &str) -> Result<Vec<Handler>, serde_json::Error> {
    let names: Vec<String> = serde_json::from_str(stored)?;
    let known = |name: &String| Handler::ALL.into_iter().find(|h| h.as_str() == name);
    Ok(names.iter().filter_map(known).collect())
}
