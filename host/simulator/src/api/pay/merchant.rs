//! A merchant: its keys, its orders and its refunds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keys::{KeyFault, Signer};
use super::notices::Notice;
use super::orders::Order;
use super::refunds::{Outcome, Refund};

/// API certificates that are good at once.
const MOST_CERTIFICATES: usize = 3;

/// Which key WeChat Pay signs with by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SignsBy {
    /// Its platform certificate.
    Certificate,
    /// Its public key.
    #[default]
    PublicKey,
}

#[derive(Debug)]
pub(crate) struct Merchant {
    pub(crate) mch_id: String,
    pub(crate) app_ids: Vec<String>,
    pub(crate) sub_merchants: Vec<String>,
    pub(crate) v3_key: String,
    /// The newest last.
    pub(crate) certificates: Vec<Signer>,
    /// Platform certificates, the newest last: it signs, those before still verify.
    pub(crate) platform: Vec<Signer>,
    pub(crate) public_key: Option<Signer>,
    /// By which notices are signed.
    pub(crate) notices_by: SignsBy,
    pub(crate) orders: BTreeMap<String, Order>,
    pub(crate) refunds: BTreeMap<String, Refund>,
    pub(crate) notices: Vec<Notice>,
    /// What is there beside what people have paid, fen.
    pub(crate) balance: i64,
    /// What becomes of refunds that are asked for from now on.
    pub(crate) outcome: Outcome,
    /// Whether a minute has to pass between refunds of one order.
    pub(crate) has_refund_gap: bool,
}

/// The keys of a merchant: made before it is one, for it takes a while.
pub(crate) struct Keys {
    pub(crate) certificate: Signer,
    pub(crate) platform: Signer,
    pub(crate) public_key: Signer,
}

impl Keys {
    pub(crate) fn fresh(mch_id: &str) -> Result<Self, KeyFault> {
        Ok(Self {
            certificate: Signer::with_certificate(mch_id)?,
            platform: Signer::of_platform()?,
            public_key: Signer::public_of(mch_id)?,
        })
    }
}

impl Merchant {
    /// Adds an API certificate; the oldest goes where there are more than three.
    pub(crate) fn add_certificate(&mut self, certificate: Signer) {
        self.certificates.push(certificate);
        if self.certificates.len() > MOST_CERTIFICATES {
            self.certificates.remove(0);
        }
    }

    pub(crate) fn signer(&self, by: SignsBy) -> Option<&Signer> {
        match by {
            SignsBy::Certificate => self.platform.last(),
            SignsBy::PublicKey => self.public_key.as_ref(),
        }
    }

    /// What there is to refund from.
    pub(crate) fn funds(&self) -> i64 {
        let paid = self.orders.values().filter(|order| order.is_paid());
        let paid: i64 = paid.map(|order| order.total).sum();
        let gone = self.refunds.values().filter(|refund| refund.takes_money());
        let gone: i64 = gone.map(|refund| refund.amount).sum();
        self.balance + paid - gone
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let keys = self.certificates.iter().map(|key| &*key.private_pem);
        std::iter::once(&*self.v3_key).chain(keys)
    }

    /// What its owner reads in WeChat Pay's console.
    pub(crate) fn console(&self) -> Value {
        let newest = self.certificates.last();
        let platform = self.platform.last();
        json!({
            "mch_id": self.mch_id,
            "v3_key": self.v3_key,
            "serial": newest.map(|key| &key.name),
            "private_key": newest.map(|key| &key.private_pem),
            "certificate": newest.and_then(|key| key.certificate_pem.as_ref()),
            "platform": {
                "serial": platform.map(|key| &key.name),
                "certificate": platform.and_then(|key| key.certificate_pem.as_ref()),
            },
            "public_key": self.public_key.as_ref().map(|key| json!({
                "id": key.name, "pem": key.public_pem,
            })),
        })
    }

    /// All that was moved, and all that it was told.
    pub(crate) fn books(&self) -> Value {
        let orders = self.orders.values().map(|order| {
            let mut shown = order.shown();
            shown["refunded"] = json!(self.refunded(&order.out_trade_no));
            shown
        });
        json!({
            "orders": orders.collect::<Vec<_>>(),
            "refunds": self.refunds.values().map(Refund::shown).collect::<Vec<_>>(),
            "notices": self.notices.iter().map(Notice::shown).collect::<Vec<_>>(),
            "funds": self.funds(),
        })
    }

    /// What was given back of an order, or is on its way.
    pub(crate) fn refunded(&self, out_trade_no: &str) -> i64 {
        let of_order = self.refunds.values();
        let of_order = of_order.filter(|it| it.out_trade_no == out_trade_no && it.takes_money());
        of_order.map(|refund| refund.amount).sum()
    }
}
