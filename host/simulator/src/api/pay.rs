//! WeChat Pay (微信支付 APIv3), pretended: what `api.mch.weixin.qq.com` answers, and what it tells merchants.
//!
//! It shares no code of signatures and seals with the host: each checks the other. Rules: WeChat Pay's documents of
//! each call; where they are silent the stricter reading is taken.
//!
//! In reading order:
//!
//! * `keys`: RSA keys, certificates, signatures, seals.
//! * `merchant`: a merchant with its keys, orders and refunds.
//! * `authorization`: whether a call is signed as it must be.
//! * `orders`, `refunds`, `certificates`: the calls; `calls` finds them.
//! * `notices`: what merchants are told, again and again until they answer.
//! * `doors`: what the control surface offers.

mod authorization;
mod calls;
mod certificates;
mod doors;
mod keys;
mod merchant;
mod notices;
mod orders;
mod refunds;
mod refusal;

use std::collections::HashMap;

pub(crate) use self::authorization::Headers;
pub(crate) use self::calls::{answer, busy, owns};
pub(crate) use self::doors::obey;
use self::merchant::Merchant;
use self::notices::Plan;
pub(crate) use self::notices::start;

/// All that WeChat Pay knows.
#[derive(Debug, Default)]
pub(crate) struct Pay {
    merchants: HashMap<String, Merchant>,
    plan: Plan,
    /// Names what is numbered.
    counter: u64,
}

impl Pay {
    /// The next number of this kind, at its usual length.
    fn number(&mut self, prefix: &str, length: usize) -> String {
        self.counter += 1;
        let digits = length.saturating_sub(prefix.len());
        format!("{prefix}{:0digits$}", self.counter)
    }

    /// Every secret there was.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.merchants.values().flat_map(Merchant::secrets)
    }
}
