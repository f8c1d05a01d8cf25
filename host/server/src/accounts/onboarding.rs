//! Accounts that a third-party platform comes to serve: made, or moved from their own AppSecret, in the
//! transaction that says so.

use wxhost_wechat::api::component::AuthorizerInfo;
use wxhost_wechat::id::OriginalId;
use wxhost_wechat::secret::{AES_KEY_LENGTH, CallbackToken, EncodingAesKey};
use wxhost_wechat::{envelope::Mode, id::AppId};

use super::{Accounts, Status};
use crate::clock::Clock;
use crate::db::accounts::AccountRow;
use crate::db::credential_settings::CredentialSettingsRow;
use crate::db::deployments::NewDeployment;
use crate::db::plugin_settings::PluginSettingsRow;
use crate::db::{self, Change, DbError};
use crate::inbox::NewCallbacks;
use crate::random;
use crate::seal::Place;
use crate::settings::ChangeError;

/// How far a callback's timestamp may be off, where nothing says otherwise.
const WINDOW_SECONDS: u32 = 300;
/// Characters of a name that are kept.
const MAX_NAME_CHARACTERS: usize = 128;

/// An account that a platform comes to serve.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The account.
    pub app_id: &'a AppId,
    /// The platform.
    pub platform: &'a str,
    /// Whose it is.
    pub tenant_id: &'a str,
    /// What WeChat tells of it.
    pub info: &'a AuthorizerInfo,
    /// The account whose settings it gets, if it is new.
    pub like_app_id: Option<&'a str>,
}

/// Why an account can't be served by a platform.
#[derive(Debug, thiserror::Error)]
pub enum OnboardingError {
    /// It is another tenant's.
    #[error("the account belongs to another tenant")]
    AnotherTenants,
    /// WeChat does not say what its callbacks are addressed to.
    #[error("wechat tells no original id (原始 ID) of the account")]
    NoOriginalId,
    /// A value is not acceptable.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl From<DbError> for OnboardingError {
    fn from(error: DbError) -> Self {
        Self::Change(error.into())
    }
}

impl Accounts {
    /// Has an account served by a platform: a new one with the settings of another, one that is there as it
    /// is. True if it is new.
    ///
    /// # Errors
    /// It can't be; the change is not to be committed.
    pub async fn serve_by_platform(
        &self,
        change: &mut Change,
        newcomer: Newcomer<'_>,
    ) -> Result<bool, OnboardingError> {
        let app_id = newcomer.app_id.as_str();
        let known = db::accounts::find_for_change(change, app_id).await?;
        let Some(mut row) = known else {
            self.make(change, newcomer).await?;
            return Ok(true);
        };
        if row.tenant_id != newcomer.tenant_id {
            return Err(OnboardingError::AnotherTenants);
        }
        row.credentials.platform = Some(newcomer.platform.to_owned());
        row.credentials.attention = None;
        if let Ok(original_id) = OriginalId::parse(&newcomer.info.user_name) {
            row.original_id = original_id.as_str().to_owned();
        }
        if row.name.is_empty() {
            row.name = name_of(newcomer.info);
        }
        row.updated_at = Clock.now_ms();
        db::accounts::update(change, &row).await?;
        Ok(false)
    }

    async fn make(
        &self,
        change: &mut Change,
        newcomer: Newcomer<'_>,
    ) -> Result<(), OnboardingError> {
        let app_id = newcomer.app_id.as_str();
        let original_id = OriginalId::parse(&newcomer.info.user_name)
            .map_err(|_| OnboardingError::NoOriginalId)?;
        let now_ms = Clock.now_ms();
        let mut row = AccountRow {
            app_id: app_id.to_owned(),
            tenant_id: newcomer.tenant_id.to_owned(),
            name: name_of(newcomer.info),
            original_id: original_id.as_str().to_owned(),
            status: Status::Active.as_str().to_owned(),
            created_at: now_ms,
            updated_at: now_ms,
            callbacks: callbacks_of_nobody()?
                .into_row(app_id, &self.keys)
                .map_err(ChangeError::from)?,
            credentials: CredentialSettingsRow {
                platform: Some(newcomer.platform.to_owned()),
                ..CredentialSettingsRow::default()
            },
            plugin: PluginSettingsRow::default(),
            login: None,
            quiet_hours: None,
        };
        let like = match newcomer.like_app_id {
            None => None,
            Some(like) => db::accounts::find_for_change(change, like).await?,
        };
        if let Some(like) = &like {
            row.callbacks.window_seconds = like.callbacks.window_seconds;
            row.callbacks
                .fallback_text
                .clone_from(&like.callbacks.fallback_text);
            row.callbacks
                .opt_out_words
                .clone_from(&like.callbacks.opt_out_words);
            row.credentials
                .jssdk_origins
                .clone_from(&like.credentials.jssdk_origins);
            row.plugin.grants.clone_from(&like.plugin.grants);
            row.login.clone_from(&like.login);
            row.quiet_hours.clone_from(&like.quiet_hours);
        }
        db::accounts::insert(change, &row).await?;
        if let Some(like) = &like {
            db::quotas::copy(change, &like.app_id, app_id).await?;
            self.deploy_like(change, like, app_id).await?;
        }
        Ok(())
    }

    /// Gives a new account the active deployment of another, as its first.
    async fn deploy_like(
        &self,
        change: &mut Change,
        like: &AccountRow,
        app_id: &str,
    ) -> Result<(), ChangeError> {
        let Some(version) = like.plugin.active_version else {
            return Ok(());
        };
        let Some(model) = db::deployments::find_for_change(change, &like.app_id, version).await?
        else {
            return Ok(());
        };
        let from = model.version.to_string();
        let secrets = self
            .keys
            .open(Place::secrets(&like.app_id, &from), &model.secrets_sealed)?;
        let deployment = NewDeployment {
            app_id,
            version: 1,
            digest: &model.digest,
            config: &model.config,
            secrets_sealed: &self.keys.seal(Place::secrets(app_id, "1"), &secrets)?,
            limits: &model.limits,
            created_at: Clock.now_ms(),
        };
        db::deployments::insert(change, &deployment).await?;
        let settings = PluginSettingsRow {
            active_version: Some(1),
            grants: like.plugin.grants.clone(),
        };
        db::plugin_settings::update(change, app_id, &settings).await?;
        Ok(())
    }
}

/// What opens callbacks at the account's own address, to which nothing comes while a platform serves it: keys
/// that nobody has.
fn callbacks_of_nobody() -> Result<NewCallbacks, ChangeError> {
    let word = || hex::encode(random::sixteen());
    let aes_key = format!("{}{}", word(), &word()[..AES_KEY_LENGTH - 32]);
    Ok(NewCallbacks {
        mode: Mode::Safe,
        token: CallbackToken::parse(&word()).map_err(|e| ChangeError::invalid("token", e))?,
        aes_key: Some(
            EncodingAesKey::parse(&aes_key)
                .map_err(|e| ChangeError::invalid("encoding_aes_key", e))?,
        ),
        window_seconds: WINDOW_SECONDS,
        fallback_text: None,
    })
}

/// An account's name as WeChat tells it, as far as it can be kept.
fn name_of(info: &AuthorizerInfo) -> String {
    let name = info.nick_name.chars().filter(|c| !c.is_control());
    name.take(MAX_NAME_CHARACTERS).collect()
}
