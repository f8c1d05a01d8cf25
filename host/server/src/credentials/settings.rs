//! How an account calls WeChat: what its tokens and tickets are got with, and for whom.

use secrecy::ExposeSecret;
use wxhost_wechat::secret::AppSecret;

use super::attention::{Attention, TokenLine};
use crate::db::credential_settings::CredentialSettingsRow;
use crate::seal::{MasterKeys, Place};
use crate::settings::{ChangeError, StoredError, changed, column};

/// Origins of an account's own web pages.
const MAX_ORIGINS: usize = 32;

/// Bytes of an origin: those of a host's name, a scheme and a port.
const MAX_ORIGIN_BYTES: usize = 280;

/// How an account calls WeChat, ready for use.
#[derive(Debug)]
pub struct CredentialSettings {
    /// Its AppSecret; without one it has no access token.
    pub secret: Option<AppSecret>,
    /// How its access tokens are got.
    pub token_line: TokenLine,
    /// What its owner must mend; nothing, as a rule.
    pub attention: Option<Attention>,
    /// Origins whose pages may have JS-SDK signatures, such as `https://shop.example`.
    pub jssdk_origins: Vec<String>,
}

impl CredentialSettings {
    pub(crate) fn from_row(
        app_id: &str,
        row: &CredentialSettingsRow,
        keys: &MasterKeys,
    ) -> Result<Self, StoredError> {
        Ok(Self {
            secret: row.secret(app_id, keys)?,
            token_line: row.token_line.parse().map_err(column("token_line"))?,
            attention: match &row.attention {
                None => None,
                Some(stored) => Attention::read(stored).map_err(column("attention"))?,
            },
            jssdk_origins: serde_json::from_str(&row.jssdk_origins)
                .map_err(column("jssdk_origins"))?,
        })
    }
}

/// How an account is to call WeChat; what is absent stays as it is, or as it is by default.
#[derive(Clone, Debug, Default)]
pub struct CredentialChange {
    /// The AppSecret; a new one also ends what its owner had to mend. `Some(None)` takes it away.
    pub secret: Option<Option<AppSecret>>,
    /// How access tokens are got.
    pub token_line: Option<TokenLine>,
    /// Origins whose pages may have JS-SDK signatures.
    pub jssdk_origins: Option<Vec<String>>,
    /// No third-party platform serves it any more: it calls WeChat by its own AppSecret.
    pub leaves_platform: bool,
}

impl CredentialChange {
    pub(crate) fn apply(
        self,
        app_id: &str,
        row: &mut CredentialSettingsRow,
        keys: &MasterKeys,
    ) -> Result<(), ChangeError> {
        if let Some(secret) = self.secret {
            let place = Place::app_secret(app_id);
            row.secret_sealed = match secret {
                None => None,
                Some(secret) => Some(keys.seal(place, secret.expose().as_bytes())?),
            };
            row.attention = None;
        }
        if self.leaves_platform {
            row.platform = None;
            row.attention = None;
        }
        if let Some(line) = self.token_line {
            row.token_line = line.as_str().to_owned();
        }
        if let Some(origins) = self.jssdk_origins {
            check_origins(&origins)?;
            let json = serde_json::to_string(&origins);
            row.jssdk_origins =
                json.map_err(|error| ChangeError::invalid("jssdk_origins", error))?;
        }
        Ok(())
    }
}

impl Default for CredentialSettingsRow {
    /// Those of an account that does not call WeChat.
    fn default() -> Self {
        Self {
            secret_sealed: None,
            token_line: TokenLine::Stable.as_str().to_owned(),
            attention: None,
            jssdk_origins: String::from("[]"),
            platform: None,
        }
    }
}

impl CredentialSettingsRow {
    fn secret(&self, app_id: &str, keys: &MasterKeys) -> Result<Option<AppSecret>, StoredError> {
        let Some(sealed) = &self.secret_sealed else {
            return Ok(None);
        };
        let text = keys.open_text(Place::app_secret(app_id), sealed)?;
        let secret = AppSecret::parse(text.expose_secret()).map_err(column("secret_sealed"))?;
        Ok(Some(secret))
    }

    /// Notes what an account's owner must mend before WeChat takes `failed` again; false if the account has
    /// another secret by now.
    pub(crate) fn need_owner(
        &mut self,
        app_id: &str,
        failed: &AppSecret,
        attention: &Attention,
        keys: &MasterKeys,
    ) -> Result<bool, ChangeError> {
        let secret = self.secret(app_id, keys).ok().flatten();
        let is_the_same = secret.is_some_and(|secret| secret.expose() == failed.expose());
        if is_the_same {
            self.attention = Some(attention.to_json()?);
        }
        Ok(is_the_same)
    }

    /// The names of what is another in `after`, for the audit: of a secret no more than that.
    pub(crate) fn changed_in(&self, after: &Self) -> impl Iterator<Item = &'static str> + use<> {
        changed([
            ("secret", self.secret_sealed != after.secret_sealed),
            ("token_line", self.token_line != after.token_line),
            ("attention", self.attention != after.attention),
            ("jssdk_origins", self.jssdk_origins != after.jssdk_origins),
            ("platform", self.platform != after.platform),
        ])
    }
}

fn check_origins(origins: &[String]) -> Result<(), ChangeError> {
    let is_origin = |origin: &String| {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':');
        host.is_some_and(|host| !host.is_empty() && host.bytes().all(fits))
            && origin.len() <= MAX_ORIGIN_BYTES
    };
    if origins.len() > MAX_ORIGINS {
        return Err(ChangeError::invalid(
            "jssdk_origins",
            format_args!("must be at most {MAX_ORIGINS}"),
        ));
    }
    match origins.iter().find(|origin| !is_origin(origin)) {
        None => Ok(()),
        Some(origin) => Err(ChangeError::invalid(
            "jssdk_origins",
            format_args!("{origin:?} is not an origin such as https://shop.example"),
        )),
    }
}
