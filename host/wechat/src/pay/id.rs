//! Numbers of merchants, orders and refunds, and names of keys.

use crate::id::{IdError, Rule, identifier, is_word};

identifier!(
    /// A merchant's number (商户号), such as `1900000001`: 1 to 32 letters and digits.
    MchId,
    Rule { kind: "merchant number", min: 1, max: 32, allows: |byte| byte.is_ascii_alphanumeric() }
);

identifier!(
    /// A merchant's number of an order (商户订单号): 6 to 32 of `[0-9A-Za-z_\-|*]`.
    OutTradeNo,
    Rule { kind: "out_trade_no", min: 6, max: 32, allows: |byte| is_word(byte) || matches!(byte, b'|' | b'*') }
);

identifier!(
    /// A merchant's number of a refund (商户退款单号): 1 to 64 of `[0-9A-Za-z_\-|*@]`.
    OutRefundNo,
    Rule { kind: "out_refund_no", min: 1, max: 64, allows: |byte| is_word(byte) || matches!(byte, b'|' | b'*' | b'@') }
);

identifier!(
    /// WeChat Pay's number of a payment (微信支付订单号): 1 to 64 printable characters of ASCII.
    TransactionId,
    Rule { kind: "transaction id", min: 1, max: 64, allows: |byte| byte.is_ascii_graphic() }
);

identifier!(
    /// WeChat Pay's number of a refund (微信支付退款单号).
    RefundId,
    Rule { kind: "refund id", min: 1, max: 64, allows: |byte| byte.is_ascii_graphic() }
);

identifier!(
    /// What an order is paid by (预支付交易会话标识).
    PrepayId,
    Rule { kind: "prepay id", min: 1, max: 64, allows: |byte| byte.is_ascii_graphic() }
);

identifier!(
    /// What names a key in `Wechatpay-Serial` and `serial_no`: the serial number of a certificate in hex, or the id of
    /// WeChat Pay's public key (`PUB_KEY_ID_…`).
    Serial,
    Rule { kind: "serial number", min: 1, max: 64, allows: is_word }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_orders_and_refunds_keep_to_their_alphabets() {
        for good in ["123456", "a_b-c|d*9", &"x".repeat(32)] {
            assert_eq!(OutTradeNo::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "12345",
            &"x".repeat(33),
            "12345@",
            "12 456",
            "订单订单订单",
            "12345\n",
            "a/../b",
            "123456?",
        ] {
            assert!(OutTradeNo::parse(bad).is_err(), "{bad}");
        }
        assert!(OutRefundNo::parse("a@b").is_ok());
        for bad in ["", &"x".repeat(65), "a b", "a/b"] {
            assert!(OutRefundNo::parse(bad).is_err(), "{bad}");
        }
        assert!(MchId::parse("1900000001").is_ok());
        assert!(MchId::parse("19000-0001").is_err());
        assert!(Serial::parse("PUB_KEY_ID_0114232134912410000000000000").is_ok());
    }
}
