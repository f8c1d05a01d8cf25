//! Orders that people pay by WeChat Pay, at the merchant that the operator has bound to the account.
//!
//! ```
//! use wxhost_sdk::prelude::*;
//! use wxhost_sdk::pay;
//!
//! pub struct Till;
//!
//! impl CallbackHandler for Till {
//!     fn on_text(event: &Event, _: &Text) -> Result {
//!         // A run that is repeated finds the same order.
//!         let number = pay::number_of("tea", &event.id);
//!         let order = pay::Request::jsapi(number, &event.open_id, "A pot of tea", 5800);
//!         let placed = pay::create_order(&order)?;
//!         Reply::text(placed.page_url.unwrap_or_default()).into()
//!     }
//! }
//! # use wxhost_sdk::testing::{self, TestHost};
//! # let run = TestHost::new().deliver::<Till>(&testing::text("tea"));
//! # assert!(run.reply_text().unwrap().starts_with("https://pay.example/pay/"));
//! ```
//!
//! `plugin.toml` must ask for it: `[grants] pay = ["orders"]`.

use crate::host;
use crate::orders::Order;

pub use crate::bindings::wxhost::plugin::pay::{
    Error, H5Scene, Invocation, OrderRequest as Request, Placed, Refusal, Scene,
};

/// Hex digits of an event that make up a number.
const DIGITS: usize = 20;

/// Makes an order, or finds it: the same number with the same data gives the same order.
///
/// # Errors
///
/// When it is not granted, wrong, over a limit, paid or closed, or WeChat Pay refuses or can't be reached.
pub fn create_order(request: &Request) -> Result<Placed, Error> {
    host::pay::create_order(request)
}

/// How an order stands, by asking WeChat Pay where it is not settled.
///
/// # Errors
///
/// As [`create_order`]; and when there is no order of this number.
pub fn query(out_trade_no: &str) -> Result<Order, Error> {
    host::pay::query(out_trade_no)
}

/// A number for the order that an event makes: the same whenever the event is handled, and no other event's. `prefix`
/// are at most 12 letters and digits.
#[must_use]
pub fn number_of(prefix: &str, event_id: &str) -> String {
    // FNV-1a, twice: spread out, and nothing that has to be kept secret.
    let hash = |seed: u64| {
        event_id.bytes().fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    let (one, two) = (hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
    let mut digits = format!("{one:016x}{two:016x}");
    digits.truncate(DIGITS);
    format!("{prefix}{digits}")
}

impl Request {
    /// An order that a person pays inside WeChat: what it is for, and fen.
    pub fn jsapi(
        out_trade_no: impl Into<String>,
        open_id: impl Into<String>,
        description: impl Into<String>,
        fen: u64,
    ) -> Self {
        Self::of(out_trade_no, Scene::Jsapi(open_id.into()), description, fen)
    }

    /// An order that somebody pays by scanning a QR code.
    pub fn native(
        out_trade_no: impl Into<String>,
        description: impl Into<String>,
        fen: u64,
    ) -> Self {
        Self::of(out_trade_no, Scene::Native, description, fen)
    }

    /// And this comes back with it: 128 characters at most.
    #[must_use]
    pub fn attach(mut self, attach: impl Into<String>) -> Self {
        self.attach = Some(attach.into());
        self
    }

    /// And it can't be paid after this; Unix milliseconds.
    #[must_use]
    pub fn until_ms(mut self, expires_at: u64) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    fn of(
        out_trade_no: impl Into<String>,
        scene: Scene,
        description: impl Into<String>,
        fen: u64,
    ) -> Self {
        Self {
            out_trade_no: out_trade_no.into(),
            merchant: None,
            scene,
            description: description.into(),
            total: fen,
            attach: None,
            expires_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn a_number_is_of_its_event_and_fits_wechat_pay() {
        let number = number_of("shop", "m:1234567890");
        assert_eq!(number, number_of("shop", "m:1234567890"));
        assert_ne!(number, number_of("shop", "m:1234567891"));
        assert_eq!(number.len(), 24);
        assert!(number_of(&"x".repeat(12), "").len() <= 32);
    }
}
