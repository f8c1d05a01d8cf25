//! The settings, as `schema.json` describes them.

use serde::Deserialize;

/// All settings.
#[derive(Deserialize)]
pub(crate) struct Settings {
    /// What is sold.
    pub(crate) items: Vec<Item>,
    /// What customers write.
    #[serde(default)]
    pub(crate) words: Words,
    /// How long the goods are kept for who has ordered.
    #[serde(default = "half_an_hour")]
    pub(crate) minutes_to_pay: u64,
    /// A template message for who has paid.
    pub(crate) paid_template: Option<PaidTemplate>,
}

fn half_an_hour() -> u64 {
    30
}

/// Something that is sold.
#[derive(Deserialize)]
pub(crate) struct Item {
    /// What a customer writes after the word to buy.
    pub(crate) key: String,
    /// As it is shown.
    pub(crate) name: String,
    /// Fen.
    pub(crate) price_fen: u64,
    /// How many there are at first.
    pub(crate) stock: u64,
}

/// What customers write.
#[derive(Deserialize)]
#[serde(default)]
pub(crate) struct Words {
    /// To see what there is.
    pub(crate) list: String,
    /// To buy: the key of an item follows.
    pub(crate) buy: String,
    /// To see one's orders.
    pub(crate) orders: String,
    /// To have one's money back: the number of an order follows.
    pub(crate) refund: String,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            list: "商品".to_owned(),
            buy: "买".to_owned(),
            orders: "订单".to_owned(),
            refund: "退款".to_owned(),
        }
    }
}

/// A template message for who has paid, and its fields.
#[derive(Deserialize)]
pub(crate) struct PaidTemplate {
    pub(crate) template_id: String,
    pub(crate) goods: String,
    pub(crate) sum: String,
    pub(crate) number: String,
}

impl Settings {
    /// The item of that key.
    pub(crate) fn item(&self, key: &str) -> Option<&Item> {
        let mut items = self.items.iter();
        items.find(|item| item.key.eq_ignore_ascii_case(key))
    }
}
