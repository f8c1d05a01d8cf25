//! Any query and body as a callback. The input is `query`, a line feed, `body`.
//!
//! Signatures are worth nothing to a fuzzer, so a correct one is put in where the input leaves it out:
//! then the ciphertext and what is under it are reached too. A body that does not parse as an envelope
//! is sealed first, so that it is opened again and read.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wxhost_wechat::body::Format;
use wxhost_wechat::cipher::MessageCipher;
use wxhost_wechat::envelope::{
    self, CallbackKeys, CallbackQuery, KeySlot, Mode, Opened, Receiver, ReceiverSettings,
};
use wxhost_wechat::id::AppId;
use wxhost_wechat::secret::{CallbackToken, EncodingAesKey};
use wxhost_wechat::signature;

const APP_ID: &str = "wxb11529c136998cb6";
const NOW: i64 = 1_458_300_676;

static TOKEN: LazyLock<CallbackToken> =
    LazyLock::new(|| CallbackToken::parse("pamtest").expect("a token"));

static KEY: LazyLock<EncodingAesKey> = LazyLock::new(|| {
    EncodingAesKey::parse("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG").expect("a key")
});

static CIPHER: LazyLock<MessageCipher> = LazyLock::new(|| MessageCipher::new(&KEY));

static RECEIVERS: LazyLock<[Receiver; 3]> = LazyLock::new(|| {
    [Mode::Plain, Mode::Compatible, Mode::Safe].map(|mode| {
        Receiver::new(ReceiverSettings {
            app_id: AppId::parse(APP_ID).expect("an app id"),
            original_id: None,
            mode,
            keys: CallbackKeys {
                token: TOKEN.clone(),
                current: Some(KEY.clone()),
                previous: EncodingAesKey::parse(&"k".repeat(43)).ok(),
            },
            window_seconds: 300,
        })
        .expect("a receiver")
    })
});

fuzz_target!(|input: &[u8]| {
    let end = input
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(input.len());
    let (query, body) = input.split_at(end);
    let Ok(query) = std::str::from_utf8(query) else {
        return;
    };
    let body = body.get(1..).unwrap_or_default();
    let query = CallbackQuery::parse(query);

    for receiver in RECEIVERS.iter() {
        let _ = envelope::verify_url(receiver, &query, NOW);
        let _ = envelope::open(receiver, &query, body, NOW);
        let signed = signed(&query, body);
        if let Ok(opened) = envelope::open(receiver, &signed, body, NOW) {
            seal_and_open(receiver, &opened);
        }
    }

    // The same body, sealed.
    let encrypt = CIPHER.encrypt([0; 16], body, APP_ID);
    let sealed = format!("<xml><Encrypt>{encrypt}</Encrypt></xml>");
    let query = CallbackQuery {
        encrypt_type: Some("aes".into()),
        ..CallbackQuery::default()
    };
    let query = signed(&query, sealed.as_bytes());
    match envelope::open(&RECEIVERS[2], &query, sealed.as_bytes(), NOW) {
        Ok(opened) => {
            assert_eq!(opened.clear, body);
            assert_eq!(opened.sealing, Some(KeySlot::Current));
        }
        Err(error) => assert!(
            !["bad-signature", "bad-base64", "bad-envelope"].contains(&error.code()),
            "{error}"
        ),
    }
});

/// The query with a correct time and correct signatures for this body.
fn signed<'q>(query: &CallbackQuery<'q>, body: &[u8]) -> CallbackQuery<'q> {
    let mut query = query.clone();
    let timestamp = NOW.to_string();
    let nonce = query.nonce.get_or_insert("1".into()).clone();
    query.signature = Some(signature::callback_signature(&TOKEN, &timestamp, &nonce).into());
    if let Ok(outer) = Format::of(body).parse(body) {
        let encrypt = outer.text("Encrypt").unwrap_or_default();
        let signature = signature::message_signature(&TOKEN, &timestamp, &nonce, encrypt);
        query.msg_signature = Some(signature.into());
    }
    query.timestamp = Some(timestamp.into());
    query
}

/// What a callback said, sent back sealed, opens again.
fn seal_and_open(receiver: &Receiver, opened: &Opened) {
    let Ok(clear) = std::str::from_utf8(&opened.clear) else {
        return;
    };
    let slot = KeySlot::Current;
    let sealed = envelope::seal(receiver, slot, opened.format, clear, "1", "]]>\"", [1; 16]);
    let outer = opened
        .format
        .parse(sealed.as_bytes())
        .expect("our own envelope parses");
    let encrypt = outer.text("Encrypt").expect("it has a ciphertext");
    assert_eq!(
        CIPHER.decrypt(encrypt, APP_ID).as_deref(),
        Ok(clear.as_bytes())
    );
}
