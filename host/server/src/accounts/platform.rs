//! Third-party platforms (第三方平台) as this host knows them, and that an account is served by one.

use std::fmt;
use std::sync::Arc;

use secrecy::ExposeSecret;
use wxhost_wechat::envelope::{CallbackKeys, Mode, Receiver, ReceiverSettings};
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{AppSecret, CallbackToken, EncodingAesKey};

use super::{Account, Status};
use crate::credentials::{AddressGate, Attention, Slots, TokenError, TokenLine};
use crate::db::authorisations::{AuthorisationRow, STANDING};
use crate::db::platforms::PlatformRow;
use crate::seal::{MasterKeys, Place};
use crate::settings::{StoredError, column};

/// How far the timestamp of what WeChat tells a platform may be off, in seconds. What is told is told again,
/// and an old word never takes the place of a newer one.
const WINDOW_SECONDS: u64 = 600;

/// A third-party platform.
pub struct Platform {
    /// The component appid.
    pub app_id: AppId,
    /// For people.
    pub name: String,
    /// Whether it is served.
    pub status: Status,
    /// Where its start-page domain leads, without a slash at the end.
    pub public_url: String,
    /// Gets its token, along with a ticket.
    pub secret: AppSecret,
    /// Opens what comes to its event URL.
    pub receiver: Receiver,
    /// What the operator must mend; nothing, as a rule.
    pub attention: Option<Attention>,
    keys: CallbackKeys,
    /// Its token, as this host holds it, and whether WeChat takes this host's address.
    pub(crate) slots: Arc<Slots>,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// Its name for people; its app id where it has none.
    pub fn shown_name(&self) -> &str {
        match &*self.name {
            "" => self.app_id.as_str(),
            name => name,
        }
    }

    /// Whether it is served.
    pub fn is_active(&self) -> bool {
        self.status == Status::Active
    }

    /// The platform as it is stored now; `before` is what was known of it.
    pub(super) fn from_row(
        row: &PlatformRow,
        keys: &MasterKeys,
        before: Option<&Arc<Self>>,
    ) -> Result<Self, StoredError> {
        let app_id = AppId::parse(&row.app_id).map_err(column("app_id"))?;
        let open = |name, sealed: &str| keys.open_text(Place::platform(&row.app_id, name), sealed);
        let aes_key = |name, sealed: &str| -> Result<_, StoredError> {
            let text = open(name, sealed)?;
            EncodingAesKey::parse(text.expose_secret()).map_err(column("aes_key_sealed"))
        };
        let secret = open("secret", &row.secret_sealed)?;
        let token = open("token", &row.token_sealed)?;
        let former = row.former_aes_key_sealed.as_deref();
        let callback_keys = CallbackKeys {
            token: CallbackToken::parse(token.expose_secret()).map_err(column("token_sealed"))?,
            current: Some(aes_key("aes_key", &row.aes_key_sealed)?),
            previous: former
                .map(|sealed| aes_key("former_aes_key", sealed))
                .transpose()?,
        };
        let receiver = receiver(&app_id, None, &callback_keys, WINDOW_SECONDS)?;
        Ok(Self {
            name: row.name.clone(),
            status: row.status.parse().map_err(column("status"))?,
            public_url: row.public_url.clone(),
            secret: AppSecret::parse(secret.expose_secret()).map_err(column("secret_sealed"))?,
            receiver,
            attention: match &row.attention {
                None => None,
                Some(stored) => Attention::read(stored).map_err(column("attention"))?,
            },
            keys: callback_keys,
            slots: before.map_or_else(Arc::default, |before| Arc::clone(&before.slots)),
            app_id,
        })
    }
}

/// What opens callbacks under a platform's keys: always sealed, and for the platform's app id, also where
/// they are an account's.
fn receiver(
    platform: &AppId,
    original_id: Option<OriginalId>,
    keys: &CallbackKeys,
    window_seconds: u64,
) -> Result<Receiver, StoredError> {
    let settings = ReceiverSettings {
        app_id: platform.clone(),
        original_id,
        mode: Mode::Safe,
        keys: keys.clone(),
        window_seconds,
    };
    Receiver::new(settings).map_err(column("encoding_aes_key"))
}

/// That a platform serves an account.
#[derive(Debug)]
pub struct Authorisation {
    /// Which.
    pub platform: Arc<Platform>,
    /// Whether the account's owner still lets it.
    pub is_standing: bool,
    /// What it may do, by WeChat's numbers.
    pub permission_sets: Vec<u32>,
    /// Opens the account's callbacks that come by the platform.
    pub receiver: Receiver,
}

impl Authorisation {
    pub(super) fn from_row(
        row: &AuthorisationRow,
        platform: Option<&Arc<Platform>>,
        (original_id, window_seconds): (&str, i64),
    ) -> Result<Self, StoredError> {
        let platform = platform.ok_or_else(|| column("platform")("there is no such platform"))?;
        let original_id = OriginalId::parse(original_id).map_err(column("original_id"))?;
        let window_seconds = u64::try_from(window_seconds).map_err(column("window_seconds"))?;
        let (id, keys) = (&platform.app_id, &platform.keys);
        Ok(Self {
            is_standing: row.state == STANDING,
            permission_sets: serde_json::from_str(&row.permission_sets)
                .map_err(column("permission_sets"))?,
            receiver: receiver(id, Some(original_id), keys, window_seconds)?,
            platform: Arc::clone(platform),
        })
    }
}

/// Whose a token or ticket is.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// An account's.
    Account(Arc<Account>),
    /// A platform's own.
    Platform(Arc<Platform>),
}

impl Holder {
    pub(crate) fn app_id(&self) -> &AppId {
        match self {
            Self::Account(account) => &account.app_id,
            Self::Platform(platform) => &platform.app_id,
        }
    }

    pub(crate) fn slots(&self) -> &Slots {
        match self {
            Self::Account(account) => &account.slots,
            Self::Platform(platform) => &platform.slots,
        }
    }

    /// Whether WeChat refuses this host's address: of all accounts of a platform it goes by the platform's
    /// list.
    pub(crate) fn address(&self) -> &AddressGate {
        match self {
            Self::Account(account) => account.address(),
            Self::Platform(platform) => &platform.slots.address,
        }
    }

    /// Which call its token comes from.
    pub(crate) fn line(&self) -> TokenLine {
        match self {
            Self::Account(account) => account.token_line(),
            Self::Platform(_) => TokenLine::Component,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        match self {
            Self::Account(account) => account.is_active(),
            Self::Platform(platform) => platform.is_active(),
        }
    }

    /// What its owner must mend.
    pub(crate) fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Account(account) => account.credentials.attention.as_ref(),
            Self::Platform(platform) => platform.attention.as_ref(),
        }
    }

    /// Refuses where WeChat need not be asked.
    pub(crate) fn may_ask(&self) -> Result<(), TokenError> {
        if let Self::Account(account) = self
            && account.authorisation.is_none()
            && account.credentials.secret.is_none()
        {
            return Err(TokenError::NoSecret);
        }
        match self.attention() {
            None => Ok(()),
            Some(attention) => Err(TokenError::AccountBlocked {
                attention: attention.clone(),
            }),
        }
    }
}
