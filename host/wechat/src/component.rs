//! Third-party platforms (第三方平台, component): what WeChat tells a platform about itself and about the
//! accounts that have let it serve them, and what such an account grants.
//!
//! - [`Event`]: what comes to the platform's event URL, read from a body that
//!   [`crate::envelope::authenticate`] has opened.
//! - [`permission`]: the permission sets (权限集), and which one a call of the API needs.
//! - [`link`]: the addresses at which an account's administrator grants them.
//! - [`release_test`]: what WeChat checks before it releases a platform (全网发布检测).

mod event;
pub mod link;
pub mod permission;
pub mod release_test;

pub use event::{Event, EventError, Told};

#[cfg(test)]
mod tests {
    use crate::cipher::MessageCipher;
    use crate::envelope::{
        self, CallbackKeys, CallbackQuery, KeySlot, Mode, Receiver, ReceiverSettings,
    };
    use crate::id::{AppId, OriginalId};
    use crate::secret::{CallbackToken, EncodingAesKey};
    use crate::signature;

    /// WeChat's own example of a push to a platform (第三方平台, 消息加解密), signatures and plaintext
    /// recomputed.
    const PUSH: &str = "D7yzvUNAL930rd28wf21s4hvXhz0L6Uit/p2Di6C5DHyYGpEgdBRnKjBec34JwoQXicwaZC7fOVihW80F4VtsdvE//1vr7oAbqjDv8KenVp+ajKYpJnyQ4zMRhIC+a31fCVOMC03FfzV/QuC94kBP55a+Za3sJgvAn+ZbsNqZI5DkyuzkhQN8OBqCzFhizGmy0xpM0MEA4agpvE+RuNO1rhHTtuJB5yltw1FiYzecSXJ+y/D2r81VkRn2eYjh2ltsoyfbDR7Is6ookXIFxTfyeNyeHxMeT4KN5WpCDmSbTcUYrbBUlkGLJ9n/rU8YOywma6G7aTb7KZKOqCxgfoUlYEZPk4FUL/TK7ShriFDMVCLyjQJ15Ob++agDWtcxhfUfe6HIoIpRW8mKNBQiY/Jd1svvuskA1wLef1RTtzKfMpagSCX/laZINmdnX4zrF6kIaR9P4xQrWXbsTFHTYe0Mg==";
    /// And of the reply.
    const REPLY: &str = "hE8R6mGXHkJJjU72KxzKUd1GEkKJaEZq7vRL8XgK3o+00k8JGq6+pZJUIlTSyhsX+bxIBQ72g3GyvDdIZcr6+3HAZbSvPT9t/o11MI7d6WELwqrGd7jMnV0zv3Zc9Nq7";

    fn platform(original_id: &str) -> Receiver {
        let settings = ReceiverSettings {
            app_id: AppId::parse("wx134c8103faa5a59e").unwrap(),
            original_id: Some(OriginalId::parse(original_id).unwrap()),
            mode: Mode::Safe,
            keys: CallbackKeys {
                token: CallbackToken::parse("AAAAA").unwrap(),
                current: Some(EncodingAesKey::parse(&"A".repeat(43)).unwrap()),
                previous: None,
            },
            window_seconds: 300,
        };
        Receiver::new(settings).unwrap()
    }

    #[test]
    fn wechats_own_example_of_a_push_is_opened() {
        let body =
            format!("<xml><ToUserName>gh_97417a04a28d</ToUserName><Encrypt>{PUSH}</Encrypt></xml>");
        let query = CallbackQuery::parse(
            "signature=cc0c594499c1634947d5b502f158ee518947db27&timestamp=1715943329&nonce=1590219412\
             &encrypt_type=aes&msg_signature=6c12a4205838198b8fa631b3220723bb07f1015c",
        );
        let account = platform("gh_97417a04a28d");
        let opened = envelope::open(&account, &query, body.as_bytes(), 1_715_943_330).unwrap();
        assert_eq!(opened.clear.len(), 292);
        assert_eq!(opened.message.content.kind(), "other");
        assert_eq!(
            opened.message.from_user.as_str(),
            "o9AgO5Kd5ggOC-bXrbNODIiE3bGY"
        );
        // It is another account's.
        let other = platform("gh_000000000000");
        assert!(envelope::open(&other, &query, body.as_bytes(), 1_715_943_330).is_err());
    }

    #[test]
    fn a_reply_is_sealed_for_the_platform_as_in_wechats_own_example() {
        let token = CallbackToken::parse("AAAAA").unwrap();
        let key = EncodingAesKey::parse(&"A".repeat(43)).unwrap();
        let signed = signature::message_signature(&token, "1713424427", "415670741", REPLY);
        assert_eq!(signed, "03e0812039325c2712ef5f0f980fd14c70d6e307");
        let clear = "<xml><demo_resp>[CDATA[good luck]]</demo_resp></xml>";
        let random = *b"999951349e8ee746";
        let sealed =
            MessageCipher::new(&key).encrypt(random, clear.as_bytes(), "wx134c8103faa5a59e");
        assert_eq!(sealed, REPLY);
        let whole = envelope::seal(
            &platform("gh_1"),
            KeySlot::Current,
            crate::body::Format::Xml,
            clear,
            "1713424427",
            "415670741",
            random,
        );
        assert!(whole.contains(REPLY) && whole.contains(&signed), "{whole}");
    }
}
