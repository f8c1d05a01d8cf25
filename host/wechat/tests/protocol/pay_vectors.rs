//! Known answers of WeChat Pay's signatures and seals, from its documents and SDKs.

use std::sync::Arc;

use serde_json::Value;
use wxhost_wechat::id::AppId;
use wxhost_wechat::pay::{
    self, ApiV3Key, Certificate, Envelope, MchId, MerchantKey, PlatformKey, PrepayId, Serial,
    SignatureError, Signed, Stamp, aead,
};

use crate::data;

struct Vector<'v>(&'v Value);

impl<'v> Vector<'v> {
    fn text(&self, name: &str) -> &'v str {
        self.0[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    fn key(&self) -> MerchantKey {
        let serial = self.0.get("serial_no").and_then(Value::as_str);
        let serial = Serial::parse(serial.unwrap_or("1")).unwrap();
        MerchantKey::from_pem(serial, self.text("private_key_pem")).unwrap()
    }

    fn platform_key(&self) -> PlatformKey {
        match self.0.get("public_key_pem").and_then(Value::as_str) {
            Some(pem) => {
                let id = Serial::parse("PUB_KEY_ID_1").unwrap();
                PlatformKey::from_public_key_pem(id, pem).unwrap()
            }
            None => PlatformKey::from_certificate_pem(self.text("certificate_pem")).unwrap(),
        }
    }

    fn stamp(&self, timestamp: &str, nonce: &str) -> Stamp<'v> {
        Stamp {
            timestamp_s: self.text(timestamp).parse().unwrap(),
            nonce: self.text(nonce),
        }
    }
}

#[test]
fn every_vector_has_its_known_answer() {
    let vectors = data::json("pay_vectors.json");
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 25);
    for vector in vectors {
        println!("{}", vector["name"]);
        let (given, expected) = (Vector(&vector["inputs"]), &vector["expected"]);
        match vector["kind"].as_str().unwrap() {
            "payv3_request_sign" => {
                let mch_id = given.0.get("mchid").and_then(Value::as_str);
                let mch_id = MchId::parse(mch_id.unwrap_or("1")).unwrap();
                let authorization = pay::authorization(
                    &mch_id,
                    &given.key(),
                    given.text("method"),
                    given.text("url"),
                    given.text("body").as_bytes(),
                    given.stamp("timestamp", "nonce_str"),
                );
                let signature = expected["signature"].as_str().unwrap();
                assert!(authorization.contains(&format!("signature=\"{signature}\"")));
                if let Some(whole) = expected["authorization"].as_str() {
                    let pairs = |text: &str| {
                        let (scheme, pairs) = text.split_once(' ').unwrap();
                        let mut pairs: Vec<_> = pairs.split(',').map(str::to_owned).collect();
                        pairs.sort();
                        (scheme.to_owned(), pairs)
                    };
                    assert_eq!(pairs(&authorization), pairs(whole));
                }
            }
            "payv3_jsapi_paysign" => {
                let app_id = AppId::parse(given.text("appId")).unwrap();
                let prepay = given.text("package").strip_prefix("prepay_id=").unwrap();
                let prepay = PrepayId::parse(prepay).unwrap();
                let stamp = given.stamp("timeStamp", "nonceStr");
                let invocation = pay::jsapi(&app_id, &prepay, &given.key(), stamp);
                assert_eq!(invocation.pay_sign, expected["paySign"].as_str().unwrap());
                let json = serde_json::to_value(&invocation).unwrap();
                assert_eq!(json["package"], given.text("package"));
            }
            "payv3_app_sign" => {
                let app_id = AppId::parse(given.text("appid")).unwrap();
                let prepay = PrepayId::parse(given.text("prepayid")).unwrap();
                let stamp = given.stamp("timestamp", "noncestr");
                let partner = MchId::parse("1900000001").unwrap();
                let invocation = pay::app(&app_id, &partner, &prepay, &given.key(), stamp);
                assert_eq!(invocation.sign, expected["sign"].as_str().unwrap());
            }
            "rsa_sha256_sign" => {
                let signature = given.key().sign(given.text("message").as_bytes());
                assert_eq!(signature, expected["signature"].as_str().unwrap());
            }
            "payv3_verify" | "payv3_verify_reject" => {
                let key = Arc::new(given.platform_key());
                let signed = Signed {
                    timestamp: given.text("timestamp"),
                    nonce: given.text("nonce"),
                    signature: given.text("signature"),
                    serial: "PUB_KEY_ID_1",
                };
                let now_s: i64 = signed.timestamp.parse().unwrap();
                let known = |serial: &str| (serial == "PUB_KEY_ID_1").then(|| Arc::clone(&key));
                let body = given.text("body").as_bytes();
                let checked = signed.check(body, &known, now_s + 300);
                let is_valid = expected["valid"].as_bool().unwrap();
                assert_eq!(checked.is_ok(), is_valid, "{checked:?}");
                if is_valid {
                    refuse_what_is_spoilt(signed, body, &known, now_s);
                }
            }
            "payv3_verify_raw" => {
                let key = given.platform_key();
                if let Some(serial) = given.0.get("serial").and_then(Value::as_str) {
                    assert_eq!(key.serial().as_str(), serial);
                }
                let message = given.text("message").as_bytes();
                let is_valid = key.verify(message, given.text("signature"));
                assert_eq!(is_valid, expected["valid"].as_bool().unwrap());
            }
            "payv3_aead_decrypt" | "payv3_aead_reject" => {
                let key = ApiV3Key::parse(given.text("api_v3_key")).unwrap();
                let associated_data = given.0["associated_data"].as_str().unwrap_or_default();
                let opened = aead::open(
                    &key,
                    given.text("nonce"),
                    associated_data,
                    given.text("ciphertext"),
                );
                let opened = opened
                    .ok()
                    .map(|clear| String::from_utf8(clear.to_vec()).unwrap());
                assert_eq!(opened.as_deref(), expected["plaintext"].as_str());
            }
            "payv3_certificates" => {
                let key = ApiV3Key::parse(given.text("api_v3_key")).unwrap();
                let body = given.text("response_body").as_bytes();
                let keys = pay::certificates::read(body, &key).unwrap();
                let pem = expected["certificate_pem"].as_str().unwrap();
                assert_eq!(
                    keys[0].serial().as_str(),
                    expected["serial_no"].as_str().unwrap()
                );
                assert_eq!(keys[0].pem().trim(), pem.trim());
                let other = ApiV3Key::parse(&"x".repeat(32)).unwrap();
                assert!(pay::certificates::read(body, &other).is_err());
            }
            "payv3_oaep_decrypt" => {
                let clear = given.key().decrypt_oaep(given.text("ciphertext")).unwrap();
                assert_eq!(clear, expected["plaintext"].as_str().unwrap());
            }
            other => panic!("nothing tests {other}"),
        }
    }
}

/// The same signature under another time, nonce, body or name.
fn refuse_what_is_spoilt(
    signed: Signed<'_>,
    body: &[u8],
    known: &dyn Fn(&str) -> Option<Arc<PlatformKey>>,
    now_s: i64,
) {
    let refused =
        |signed: Signed<'_>, body: &[u8], now_s| signed.check(body, known, now_s).unwrap_err();
    assert_eq!(
        refused(signed, body, now_s + 301),
        SignatureError::Stale { skew_s: 301 }
    );
    assert_eq!(
        refused(signed, body, now_s - 301),
        SignatureError::Stale { skew_s: -301 }
    );
    let truncated = &body[..body.len() - 1];
    assert_eq!(refused(signed, truncated, now_s), SignatureError::Wrong);
    let nonce = Signed {
        nonce: "other",
        ..signed
    };
    assert_eq!(refused(nonce, body, now_s), SignatureError::Wrong);
    let stranger = Signed {
        serial: "other",
        ..signed
    };
    assert_eq!(
        refused(stranger, body, now_s),
        SignatureError::UnknownSerial("other".into())
    );
    let unsigned = Signed {
        signature: "",
        ..signed
    };
    assert_eq!(
        refused(unsigned, body, now_s),
        SignatureError::Missing("Wechatpay-Signature")
    );
    let timeless = Signed {
        timestamp: "soon",
        ..signed
    };
    assert_eq!(refused(timeless, body, now_s), SignatureError::Wrong);
}

#[test]
fn what_is_no_key_is_refused_and_never_shown() {
    let serial = || Serial::parse("1").unwrap();
    for pem in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "茶",
    ] {
        assert!(MerchantKey::from_pem(serial(), pem).is_err());
        assert!(PlatformKey::from_certificate_pem(pem).is_err());
        assert!(PlatformKey::from_public_key_pem(serial(), pem).is_err());
        assert!(Certificate::parse_pem(pem).is_err());
    }
    for text in [
        "",
        &"k".repeat(31),
        &"k".repeat(33),
        &"!".repeat(32),
        &"茶".repeat(11),
    ] {
        assert!(ApiV3Key::parse(text).is_err());
    }
    let key = ApiV3Key::parse(&"k".repeat(32)).unwrap();
    assert_eq!(format!("{key:?}"), "ApiV3Key(…)");
}

#[test]
fn a_notice_opens_with_its_merchants_key_only() {
    let key = ApiV3Key::parse(&"k".repeat(32)).unwrap();
    let clear = br#"{"appid":"wx01","mchid":"1900000001","out_trade_no":"123456","trade_state":"SUCCESS",
        "transaction_id":"4200","success_time":"2018-06-08T10:34:56+08:00","amount":{"total":100,"currency":"CNY"}}"#;
    let envelope = |ciphertext: &str, algorithm: &str, kind: &str| {
        serde_json::json!({
            "id": "EV-1", "create_time": "2018-06-08T10:34:56+08:00", "event_type": "TRANSACTION.SUCCESS",
            "resource_type": "encrypt-resource", "summary": "支付成功",
            "resource": {"original_type": kind, "algorithm": algorithm, "ciphertext": ciphertext,
                "associated_data": "transaction", "nonce": "0123456789ab"},
        })
        .to_string()
    };
    let sealed = aead::seal(&key, "0123456789ab", "transaction", clear).unwrap();
    let good = envelope(&sealed, "AEAD_AES_256_GCM", "transaction");
    let read = Envelope::read(good.as_bytes()).unwrap();
    assert!(
        matches!(read.open(&key), Ok(pay::Notice::Transaction(told)) if told.mch_id == "1900000001")
    );
    let other = ApiV3Key::parse(&"o".repeat(32)).unwrap();
    assert!(read.open(&other).is_err());
    let newer = envelope(&sealed, "AEAD_AES_256_GCM", "payscore");
    let newer = Envelope::read(newer.as_bytes())
        .unwrap()
        .open(&key)
        .unwrap();
    assert!(matches!(newer, pay::Notice::Other { .. }));
    for bad in [
        envelope(&sealed, "AEAD_SM4_GCM", "transaction"),
        envelope(&sealed[..8], "AEAD_AES_256_GCM", "transaction"),
        envelope("", "AEAD_AES_256_GCM", "transaction"),
        envelope(&sealed, "AEAD_AES_256_GCM", "refund"),
    ] {
        assert!(Envelope::read(bad.as_bytes()).unwrap().open(&key).is_err());
    }
    for cut in 0..good.len() {
        assert!(Envelope::read(&good.as_bytes()[..cut]).is_err(), "{cut}");
    }
}
