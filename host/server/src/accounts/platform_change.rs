//! Changes to third-party platforms: checked, sealed, stored, and seen like those of accounts.

use wxhost_wechat::id::AppId;
use wxhost_wechat::secret::{AppSecret, CallbackToken, EncodingAesKey};

use super::{Accounts, Platform, Status};
use crate::audit::{Action, Author};
use crate::clock::Clock;
use crate::credentials::Attention;
use crate::db::{self, DbError, platforms::PlatformRow};
use crate::seal::{MasterKeys, Place, SealError};
use crate::settings::{ChangeError, changed, check_name};

/// Bytes of a platform's public address.
const MAX_URL_BYTES: usize = 280;

/// A platform to be added.
#[derive(Clone, Debug)]
pub struct NewPlatform {
    /// The component appid.
    pub app_id: AppId,
    /// For people.
    pub name: String,
    /// Where its start-page domain leads, such as `https://wx.example`.
    pub public_url: String,
    /// As WeChat's console shows it.
    pub secret: AppSecret,
    /// 消息校验Token.
    pub token: CallbackToken,
    /// 消息加解密Key.
    pub aes_key: EncodingAesKey,
}

/// What is to be changed of a platform; nothing else is.
#[derive(Clone, Debug, Default)]
pub struct PlatformChange {
    /// For people.
    pub name: Option<String>,
    /// Whether it is served.
    pub status: Option<Status>,
    /// Where its start-page domain leads.
    pub public_url: Option<String>,
    /// A new secret; what the operator had to mend counts as mended.
    pub secret: Option<AppSecret>,
}

/// New keys of a platform.
#[derive(Clone, Debug, Default)]
pub struct PlatformKeys {
    /// Takes the place of the old one at once.
    pub token: Option<CallbackToken>,
    /// The old one still opens what comes until the next change.
    pub aes_key: Option<EncodingAesKey>,
}

impl Accounts {
    /// Adds a platform.
    pub async fn add_platform(
        &self,
        platform: NewPlatform,
        by: &Author,
    ) -> Result<PlatformRow, ChangeError> {
        let app_id = platform.app_id.as_str();
        let now_ms = Clock.now_ms();
        let keys = &self.keys;
        let row = PlatformRow {
            app_id: app_id.to_owned(),
            name: platform.name,
            status: Status::Active.as_str().to_owned(),
            public_url: platform.public_url,
            secret_sealed: sealed(keys, app_id, "secret", platform.secret.expose())?,
            token_sealed: sealed(keys, app_id, "token", platform.token.expose())?,
            aes_key_sealed: sealed(keys, app_id, "aes_key", platform.aes_key.expose())?,
            former_aes_key_sealed: None,
            attention: None,
            created_at: now_ms,
            updated_at: now_ms,
        };
        self.check_platform(&row)?;
        let mut change = self.db().change().await?;
        match db::platforms::insert(&mut change, &row).await {
            Err(DbError::Duplicate(_)) => {
                return Err(ChangeError::Exists {
                    what: "a platform",
                    id: row.app_id,
                });
            }
            inserted => inserted?,
        }
        by.note(&mut change, Action::PlatformAdd, Some(&row.app_id), "")
            .await?;
        change.commit().await?;
        Ok(row)
    }

    /// Changes a platform.
    pub async fn change_platform(
        &self,
        app_id: &str,
        wanted: PlatformChange,
        by: &Author,
    ) -> Result<PlatformRow, ChangeError> {
        self.update_platform(app_id, (by, Action::PlatformChange), |row| {
            if let Some(name) = wanted.name {
                row.name = name;
            }
            if let Some(status) = wanted.status {
                row.status = status.as_str().to_owned();
            }
            if let Some(url) = wanted.public_url {
                row.public_url = url;
            }
            if let Some(secret) = &wanted.secret {
                row.secret_sealed = sealed(&self.keys, app_id, "secret", secret.expose())?;
                row.attention = None;
            }
            Ok(())
        })
        .await
    }

    /// Gives a platform new keys. The AES key before still opens what WeChat sealed with it.
    pub async fn rotate_platform_keys(
        &self,
        app_id: &str,
        new: PlatformKeys,
        by: &Author,
    ) -> Result<PlatformRow, ChangeError> {
        let keys = &self.keys;
        self.update_platform(app_id, (by, Action::PlatformRotateKey), |row| {
            if let Some(token) = &new.token {
                row.token_sealed = sealed(keys, app_id, "token", token.expose())?;
            }
            if let Some(key) = &new.aes_key {
                let before = keys.open(Place::platform(app_id, "aes_key"), &row.aes_key_sealed)?;
                let place = Place::platform(app_id, "former_aes_key");
                row.former_aes_key_sealed = Some(keys.seal(place, &before)?);
                row.aes_key_sealed = sealed(keys, app_id, "aes_key", key.expose())?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that WeChat gives a platform no token before its operator has acted, unless the platform has
    /// got another secret than `failed` meanwhile: false.
    pub async fn need_operator(
        &self,
        app_id: &str,
        failed: &AppSecret,
        attention: &Attention,
    ) -> Result<bool, ChangeError> {
        let mut noted = false;
        let by = (&Author::host(), Action::AttentionSet);
        self.update_platform(app_id, by, |row| {
            let place = Place::platform(app_id, "secret");
            let present = self.keys.open(place, &row.secret_sealed)?;
            noted = present.as_slice() == failed.expose().as_bytes();
            if noted {
                row.attention = Some(attention.to_json()?);
            }
            Ok(())
        })
        .await?;
        Ok(noted)
    }

    /// Takes it that a platform's operator has acted: WeChat is asked for tokens again.
    pub async fn clear_platform_attention(
        &self,
        app_id: &str,
        by: &Author,
    ) -> Result<PlatformRow, ChangeError> {
        self.update_platform(app_id, (by, Action::AttentionClear), |row| {
            row.attention = None;
            Ok(())
        })
        .await
    }

    async fn update_platform(
        &self,
        app_id: &str,
        (by, action): (&Author, Action),
        edit: impl FnOnce(&mut PlatformRow) -> Result<(), ChangeError>,
    ) -> Result<PlatformRow, ChangeError> {
        let mut change = self.db().change().await?;
        let mut row = db::platforms::find_for_change(&mut change, app_id)
            .await?
            .ok_or_else(|| ChangeError::no_platform(app_id))?;
        let before = row.clone();
        edit(&mut row)?;
        self.check_platform(&row)?;
        row.updated_at = Clock.now_ms();
        db::platforms::update(&mut change, &row).await?;
        let fields = changed_fields(&before, &row);
        if !fields.is_empty() {
            by.note(&mut change, action, Some(app_id), &fields).await?;
        }
        change.commit().await?;
        Ok(row)
    }

    /// Refuses what the host could not serve: a row that is stored can be used.
    fn check_platform(&self, row: &PlatformRow) -> Result<(), ChangeError> {
        check_name(&row.name)?;
        check_url(&row.public_url)?;
        Platform::from_row(row, &self.keys, None)?;
        Ok(())
    }
}

fn sealed(
    keys: &MasterKeys,
    app_id: &str,
    column: &'static str,
    clear: &str,
) -> Result<String, SealError> {
    keys.seal(Place::platform(app_id, column), clear.as_bytes())
}

fn check_url(url: &str) -> Result<(), ChangeError> {
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:".contains(&byte);
    if host.is_some_and(|host| !host.is_empty() && host.bytes().all(fits))
        && url.len() <= MAX_URL_BYTES
    {
        return Ok(());
    }
    Err(ChangeError::invalid(
        "public_url",
        "must be an origin without a slash at its end, such as https://wx.example",
    ))
}

/// The names of what was changed, for the audit: of a secret no more than that.
fn changed_fields(before: &PlatformRow, after: &PlatformRow) -> String {
    changed([
        ("name", before.name != after.name),
        ("status", before.status != after.status),
        ("public_url", before.public_url != after.public_url),
        ("secret", before.secret_sealed != after.secret_sealed),
        ("token", before.token_sealed != after.token_sealed),
        (
            "encoding_aes_key",
            before.aes_key_sealed != after.aes_key_sealed,
        ),
        ("attention", before.attention != after.attention),
    ])
    .collect::<Vec<_>>()
    .join(" ")
}
