//! Known answers of signatures and envelopes, from WeChat's SDKs.

use serde_json::Value;
use wxhost_wechat::envelope::{
    self, CallbackKeys, Format, KeySlot, Mode, Receiver, ReceiverSettings,
};
use wxhost_wechat::id::AppId;
use wxhost_wechat::secret::EncodingAesKey;
use wxhost_wechat::{jssdk, signature, xml};

use crate::data;

/// The strings of a vector's `inputs` or `expected`.
struct Strings<'v>(&'v Value);

impl<'v> Strings<'v> {
    fn get(&self, name: &str) -> Option<&'v str> {
        self.0.get(name)?.as_str()
    }

    fn at(&self, name: &str) -> &'v str {
        self.get(name)
            .unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }
}

#[test]
fn every_vector_has_its_known_answer() {
    let vectors = data::json("vectors.json");
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 31);
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let (inputs, expected) = (Strings(&vector["inputs"]), Strings(&vector["expected"]));
        println!("{name}");
        match vector["kind"].as_str().unwrap() {
            "sha1_sorted_concat" => {
                let digest = signature::sha1_sorted_concat(&parts(&inputs));
                assert_eq!(hex::encode(digest), expected.at("sha1"), "{name}");
                let card = jssdk::card_signature(&parts(&inputs));
                assert_eq!(card, expected.at("sha1"), "{name}");
            }
            "jsapi_signature" => assert_eq!(page(&inputs), expected.at("signature"), "{name}"),
            "sha1_sorted_amp" => {
                let mut sorted = parts(&inputs);
                sorted.sort_unstable();
                let digest = signature::sha1_sorted_concat(&[&sorted.join("&")]);
                assert_eq!(hex::encode(digest), expected.at("sha1"), "{name}");
            }
            "callback_signature" => assert_eq!(callback(&inputs), expected.at("signature")),
            "callback_signature_reject" => {
                assert!(
                    !signature::matches(&callback(&inputs), inputs.at("signature")),
                    "{name}"
                );
            }
            "msg_signature" => assert_eq!(message(&inputs), expected.at("msg_signature"), "{name}"),
            "msg_signature_reject" => {
                assert!(!signature::matches(
                    &message(&inputs),
                    inputs.at("msg_signature")
                ));
            }
            "aes_encrypt" => encrypts(&inputs, &expected),
            "aes_decrypt" => decrypts(&inputs, &expected),
            "aes_decrypt_reject" => rejects(name, &inputs),
            other => panic!("{name}: nothing tests the kind {other}"),
        }
    }
}

fn parts<'v>(inputs: &Strings<'v>) -> Vec<&'v str> {
    inputs.0["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part.as_str().unwrap())
        .collect()
}

fn page(inputs: &Strings<'_>) -> String {
    let page = jssdk::page_url(inputs.at("url")).unwrap();
    let timestamp = inputs.at("timestamp").parse().unwrap();
    jssdk::signature(
        inputs.at("jsapi_ticket"),
        inputs.at("noncestr"),
        timestamp,
        &page,
    )
}

fn callback(inputs: &Strings<'_>) -> String {
    let token = data::token(inputs.at("token"));
    signature::callback_signature(&token, inputs.at("timestamp"), inputs.at("nonce"))
}

fn message(inputs: &Strings<'_>) -> String {
    let token = data::token(inputs.at("token"));
    let (timestamp, nonce) = (inputs.at("timestamp"), inputs.at("nonce"));
    signature::message_signature(&token, timestamp, nonce, inputs.at("encrypt"))
}

fn encrypts(inputs: &Strings<'_>, expected: &Strings<'_>) {
    let random: [u8; 16] = inputs.at("random16").as_bytes().try_into().unwrap();
    let plaintext = inputs.at("plaintext");
    let cipher = data::cipher(inputs.at("encoding_aes_key"));
    let encrypt = cipher.encrypt(random, plaintext.as_bytes(), inputs.at("receive_id"));
    assert_eq!(encrypt, expected.at("encrypt"));
    let opened = cipher.decrypt(&encrypt, inputs.at("receive_id")).unwrap();
    assert_eq!(opened, plaintext.as_bytes());

    let Some(envelope) = expected.get("envelope_xml") else {
        return;
    };
    let receiver = Receiver::new(ReceiverSettings {
        app_id: AppId::parse(inputs.at("receive_id")).unwrap(),
        original_id: None,
        mode: Mode::Safe,
        keys: CallbackKeys {
            token: data::token(inputs.at("token")),
            current: Some(EncodingAesKey::parse(inputs.at("encoding_aes_key")).unwrap()),
            previous: None,
        },
        window_seconds: 300,
    })
    .unwrap();
    let (timestamp, nonce) = (inputs.at("timestamp"), inputs.at("nonce"));
    let (slot, format) = (KeySlot::Current, Format::Xml);
    let sealed = envelope::seal(&receiver, slot, format, plaintext, timestamp, nonce, random);
    assert_eq!(sealed, envelope);
    let tree = xml::parse(sealed.as_bytes()).unwrap();
    assert_eq!(tree.text("MsgSignature"), expected.get("msg_signature"));
}

fn decrypts(inputs: &Strings<'_>, expected: &Strings<'_>) {
    assert_eq!(message(inputs), inputs.at("msg_signature"));
    let cipher = data::cipher(inputs.at("encoding_aes_key"));
    let plain = cipher
        .decrypt(inputs.at("encrypt"), inputs.at("receive_id"))
        .unwrap();
    assert_eq!(
        std::str::from_utf8(&plain).unwrap(),
        expected.at("plaintext")
    );
    if let Some(body) = inputs.get("body") {
        let tree = xml::parse(body.as_bytes()).unwrap();
        assert_eq!(tree.text("Encrypt"), inputs.get("encrypt"));
    }
}

/// By its signature where it has one, or else by the cipher.
fn rejects(name: &str, inputs: &Strings<'_>) {
    let signed = match inputs.get("msg_signature") {
        Some(given) => signature::matches(&message(inputs), given),
        None => true,
    };
    let cipher = data::cipher(inputs.at("encoding_aes_key"));
    let opened = cipher.decrypt(inputs.at("encrypt"), inputs.at("receive_id"));
    assert!(!signed || opened.is_err(), "{name}");
}
