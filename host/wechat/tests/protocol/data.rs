//! The test data in `tests/data` and an account to try it on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::{CallbackKeys, CallbackQuery, Mode, Receiver, ReceiverSettings};
use wxhost_wechat::id::{AppId, OriginalId};
use wxhost_wechat::secret::{CallbackToken, EncodingAesKey};
use wxhost_wechat::signature;

pub(crate) const TOKEN: &str = "pamtest";
pub(crate) const APP_ID: &str = "wxb11529c136998cb6";
pub(crate) const ORIGINAL_ID: &str = "gh_0a1b2c3d4e5f";
pub(crate) const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
pub(crate) const OTHER_AES_KEY: &str = "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR";
pub(crate) const NOW: i64 = 1_700_000_000;

/// A text message to the account.
pub(crate) const TEXT: &str = "<xml><ToUserName><![CDATA[gh_0a1b2c3d4e5f]]></ToUserName>\
    <FromUserName><![CDATA[oUser]]></FromUserName><CreateTime>1700000000</CreateTime>\
    <MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好]]></Content><MsgId>1</MsgId></xml>";

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap()
}

pub(crate) fn token(text: &str) -> CallbackToken {
    CallbackToken::parse(text).unwrap()
}

pub(crate) fn cipher(key: &str) -> MessageCipher {
    MessageCipher::new(&EncodingAesKey::parse(key).unwrap())
}

/// The account's settings; change what a test is about.
pub(crate) fn settings(mode: Mode) -> ReceiverSettings {
    ReceiverSettings {
        app_id: AppId::parse(APP_ID).unwrap(),
        original_id: Some(OriginalId::parse(ORIGINAL_ID).unwrap()),
        mode,
        keys: CallbackKeys {
            token: token(TOKEN),
            current: Some(EncodingAesKey::parse(AES_KEY).unwrap()),
            previous: None,
        },
        window_seconds: 300,
    }
}

pub(crate) fn receiver(mode: Mode) -> Receiver {
    Receiver::new(settings(mode)).unwrap()
}

/// The query of a delivery in clear, now.
pub(crate) fn plain_query() -> CallbackQuery<'static> {
    let timestamp = NOW.to_string();
    CallbackQuery {
        signature: Some(signature::callback_signature(&token(TOKEN), &timestamp, "1234").into()),
        timestamp: Some(timestamp.into()),
        nonce: Some("1234".into()),
        ..CallbackQuery::default()
    }
}

/// The query of a sealed delivery, now.
pub(crate) fn sealed_query(encrypt: &str) -> CallbackQuery<'static> {
    let timestamp = NOW.to_string();
    let signature = signature::message_signature(&token(TOKEN), &timestamp, "1234", encrypt);
    CallbackQuery {
        encrypt_type: Some("aes".into()),
        msg_signature: Some(signature.into()),
        ..plain_query()
    }
}

/// A sealed delivery of `clear`, the way WeChat makes it: query and body.
pub(crate) fn sealed(clear: &str) -> (CallbackQuery<'static>, String) {
    let encrypt = cipher(AES_KEY).encrypt(*b"0123456789abcdef", clear.as_bytes(), APP_ID);
    (sealed_query(&encrypt), sealed_body(&encrypt))
}

pub(crate) fn sealed_body(encrypt: &str) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{ORIGINAL_ID}]]></ToUserName>\
         <Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
    )
}
