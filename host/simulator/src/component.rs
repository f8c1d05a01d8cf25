//! A third-party platform (第三方平台) as WeChat's console knows it.

use wxhost_wechat::body::Format;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{AppSecret, CallbackToken, EncodingAesKey};

use crate::account::hexadecimal;
use crate::{Environment, SimulatedAccount};

/// What stands for an account's app id in a platform's message URL.
const APP_ID_PLACE: &str = "$APPID$";

/// A third-party platform, with the settings that its operator and WeChat share.
#[derive(Debug, Clone)]
pub struct SimulatedComponent {
    /// The component appid.
    pub app_id: AppId,
    /// AppSecret.
    pub secret: AppSecret,
    /// 消息校验Token.
    pub token: CallbackToken,
    /// 消息加解密Key.
    pub aes_key: EncodingAesKey,
    /// 授权事件接收URL.
    pub event_url: String,
    /// 消息与事件接收URL; holds `$APPID$`.
    pub message_url: String,
}

impl SimulatedComponent {
    /// A new platform with an invented id and secrets, served at `host_url`.
    pub fn register(host_url: &str, environment: &dyn Environment) -> Self {
        let app_id = format!("wx{}", hexadecimal(environment, 16));
        let base = format!("{}/component/{app_id}", host_url.trim_end_matches('/'));
        Self {
            event_url: format!("{base}/events"),
            message_url: format!("{base}/callback/{APP_ID_PLACE}"),
            app_id: AppId::parse(&app_id).expect("wx and hex digits make an app id"),
            secret: AppSecret::parse(&environment.letters(32))
                .expect("32 letters and digits make a secret"),
            token: CallbackToken::parse(&environment.letters(32))
                .expect("32 letters and digits make a token"),
            aes_key: EncodingAesKey::parse(&environment.letters(43))
                .expect("43 letters and digits make a key"),
        }
    }

    /// An account whose callbacks travel by this platform: to its message URL, under its token and key,
    /// always sealed, and sealed for its app id.
    pub fn account(&self, app_id: &AppId, original_id: &OriginalId) -> SimulatedAccount {
        SimulatedAccount {
            app_id: app_id.clone(),
            original_id: original_id.clone(),
            mode: Mode::Safe,
            format: Format::Xml,
            token: self.token.clone(),
            aes_key: self.aes_key.clone(),
            callback_url: self.message_url.replace(APP_ID_PLACE, app_id.as_str()),
            component: Some(self.app_id.clone()),
        }
    }
}
