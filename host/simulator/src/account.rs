//! An official account as WeChat's settings page (开发 → 基本配置) knows it.

use wxhost_wechat::body::Format;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{CallbackToken, EncodingAesKey};

use crate::Environment;

/// An official account, with the settings that its owner and WeChat share.
#[derive(Debug, Clone)]
pub struct SimulatedAccount {
    /// AppID.
    pub app_id: AppId,
    /// Original id (原始 ID): what callbacks carry as ToUserName.
    pub original_id: OriginalId,
    /// 明文, 兼容 or 安全.
    pub mode: Mode,
    /// XML, or JSON as some newer kinds of account may choose.
    pub format: Format,
    /// Token.
    pub token: CallbackToken,
    /// EncodingAESKey. WeChat keeps one in plain mode too; it is not used there.
    pub aes_key: EncodingAesKey,
    /// URL. WeChat takes ports 80 and 443 only; the pretend one takes any.
    pub callback_url: String,
    /// The third-party platform by which its callbacks travel; none where they come to its own URL.
    pub component: Option<AppId>,
}

impl SimulatedAccount {
    /// A new account with invented ids and secrets, whose callbacks go to
    /// `<host_url>/callback/<app id>`.
    pub fn register(host_url: &str, mode: Mode, environment: &dyn Environment) -> Self {
        let app_id = format!("wx{}", hexadecimal(environment, 16));
        let original_id = format!("gh_{}", hexadecimal(environment, 12));
        Self {
            callback_url: format!("{}/callback/{app_id}", host_url.trim_end_matches('/')),
            app_id: AppId::parse(&app_id).expect("wx and hex digits make an app id"),
            original_id: OriginalId::parse(&original_id)
                .expect("gh_ and hex digits make an original id"),
            mode,
            format: Format::Xml,
            token: CallbackToken::parse(&environment.letters(32))
                .expect("32 letters and digits make a token"),
            aes_key: EncodingAesKey::parse(&environment.letters(43))
                .expect("43 letters and digits make a key"),
            component: None,
        }
    }

    /// Whom what is sealed is for: the platform by which it travels, or the account itself.
    pub fn receive_id(&self) -> &AppId {
        self.component.as_ref().unwrap_or(&self.app_id)
    }
}

pub(crate) fn hexadecimal(environment: &dyn Environment, length: usize) -> String {
    let mut bytes = vec![0; length];
    environment.fill(&mut bytes);
    bytes
        .into_iter()
        .filter_map(|byte| char::from_digit(u32::from(byte % 16), 16))
        .collect()
}
