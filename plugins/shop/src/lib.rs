//! A small shop in a chat: customers see what there is, order by a word, pay on the host's page, and get their money
//! back by another word. Who does not pay in time gives the goods back.
//!
//! It is all settings: `schema.json` says what they look like, `example.json` is a set to start from.

mod settings;
mod stock;
#[cfg(test)]
mod tests;

use settings::{Item, Settings};
use wxhost_sdk::message::{CustomerMessage, TemplateMessage};
use wxhost_sdk::orders::{self, Order, OrderState, Refund, RefundState, yuan};
use wxhost_sdk::pay::{self, Request};
use wxhost_sdk::payment::{self, PaymentHandler};
use wxhost_sdk::prelude::*;
use wxhost_sdk::time;

/// Orders that are shown.
const SHOWN: u32 = 5;
/// The most of an item in an order.
const MOST: u64 = 99;
/// Bytes of an order's number at most.
const MOST_OF_A_NUMBER: usize = 32;
/// Bytes that the items' lines may have: with what follows them they fit into a reply, which has 2,048 at most.
const LIST_BYTES: usize = 1_800;

/// The shop.
pub struct Shop;

impl CallbackHandler for Shop {
    fn on_text(event: &Event, text: &Text) -> Result {
        let settings: Settings = config::parse()?;
        let (words, text) = (&settings.words, text.content.trim());
        if text == words.list {
            return list(&settings);
        }
        if text == words.orders {
            return own_orders(&event.open_id);
        }
        if let Some(wanted) = text.strip_prefix(&words.buy) {
            return buy(&settings, event, wanted.trim());
        }
        if let Some(number) = text.strip_prefix(&words.refund) {
            return refund(&settings, &event.open_id, number.trim());
        }
        Reply::text(help(&settings)).into()
    }
}

impl PaymentHandler for Shop {
    fn on_paid(event: &payment::Event) -> Result {
        let settings: Settings = config::parse()?;
        let order = &event.order;
        let Some(open_id) = &order.open_id else {
            return Ok(Outcome::none());
        };
        let outcome = Outcome::none();
        let sum = format!("¥{}", yuan(order.total));
        Ok(match &settings.paid_template {
            Some(template) => outcome.send(
                TemplateMessage::new(open_id, &template.template_id)
                    .field(&template.goods, &order.description)
                    .field(&template.sum, sum)
                    .field(&template.number, &order.out_trade_no),
            ),
            None => {
                let said = format!("收到您的付款{sum}：{}。谢谢！", order.description);
                outcome.send(CustomerMessage::text(open_id, said))
            }
        })
    }

    fn on_closed(event: &payment::Event) -> Result {
        let settings: Settings = config::parse()?;
        give_back(&settings, Outcome::none(), &event.order)
    }

    fn on_refunded(event: &payment::Event, refund: &Refund) -> Result {
        let settings: Settings = config::parse()?;
        let order = &event.order;
        // Who gets a part of the money back, keeps the goods.
        let outcome = match order.refunded >= order.total {
            true => give_back(&settings, Outcome::none(), order)?,
            false => Outcome::none(),
        };
        let said = format!("¥{}已退回您的支付账户。", yuan(refund.amount));
        Ok(tell(outcome, order, said))
    }

    fn on_refund_failed(event: &payment::Event, refund: &Refund) -> Result {
        let said = match refund.state {
            // The merchant has to see to it: asking again would change nothing.
            RefundState::Abnormal => "退款暂时无法到账，我们会尽快处理。",
            _ => "退款没有成功，请稍后再试或联系我们。",
        };
        Ok(tell(Outcome::none(), &event.order, said))
    }
}

wxhost_sdk::register!(
    Shop,
    handlers = [callback, payment],
    manifest = include_str!("../plugin.toml"),
    config_schema = include_str!("../schema.json"),
);

fn help(settings: &Settings) -> String {
    let words = &settings.words;
    format!(
        "回复“{}”看看有什么，“{} 编号”下单，“{}”查看订单，“{} 订单号”退款。",
        words.list, words.buy, words.orders, words.refund
    )
}

fn list(settings: &Settings) -> Result {
    let mut said = String::new();
    for item in &settings.items {
        let left = match stock::left(item)? {
            0 => "售罄".to_owned(),
            left => format!("还有{left}件"),
        };
        let line = format!(
            "{}  {} ¥{}，{left}\n",
            item.key,
            item.name,
            yuan(item.price_fen)
        );
        // WeChat takes no longer text; what is not shown can be bought all the same.
        if said.len() + line.len() > LIST_BYTES {
            said += "……\n";
            break;
        }
        said += &line;
    }
    said += &format!("回复“{} 编号”下单。", settings.words.buy);
    Reply::text(said).into()
}

/// `key`, or `key x2`.
fn parsed<'a>(settings: &'a Settings, wanted: &str) -> Option<(&'a Item, u64)> {
    // A key may look like a key and a number itself: `box2`.
    if let Some(item) = settings.item(wanted) {
        return Some((item, 1));
    }
    let (key, count) = wanted.rsplit_once(['x', '*', '×'])?;
    let item = settings.item(key.trim())?;
    let count = count.trim().parse().ok()?;
    (1..=MOST).contains(&count).then_some((item, count))
}

fn buy(settings: &Settings, event: &Event, wanted: &str) -> Result {
    let Some((item, count)) = parsed(settings, wanted) else {
        return Reply::text(help(settings)).into();
    };
    // The same number whenever this event is handled: it is the same order then.
    let number = pay::number_of("shop", &event.id);
    let left = stock::left(item)?;
    if left < count {
        let said = format!("{}只剩{left}件了。", item.name);
        let outcome = Outcome::reply(Reply::text(said));
        // Somebody else was faster while this one's order was being made: nobody is to pay it.
        let made = orders::get(&number)?;
        let in_vain = made.filter(|order| order.state == OrderState::Unpaid);
        return Ok(match (in_vain, stock::kept(&number)?) {
            (Some(_), None) => outcome.close_order(number),
            _ => outcome,
        });
    }
    let description = match count {
        1 => item.name.clone(),
        count => format!("{} ×{count}", item.name),
    };
    let sum = item.price_fen.saturating_mul(count);
    let until = event_ms(event) + settings.minutes_to_pay * 60_000;
    let request = Request::jsapi(&number, &event.open_id, description, sum).until_ms(until);
    let placed = match pay::create_order(&request) {
        Ok(placed) => placed,
        Err(pay::Error::OverLimit(_)) => {
            return Reply::text("超过了本店的支付限额，请改日再来。").into();
        }
        Err(error) => return Err(error.into()),
    };
    let page = placed.page_url.unwrap_or_default();
    let said = format!(
        "{}，共¥{}。请在{}分钟内支付：{page}",
        placed.order.description,
        yuan(sum),
        settings.minutes_to_pay
    );
    let outcome = Outcome::reply(Reply::text(said));
    stock::keep(outcome, (item, left), (&number, count))
}

/// When WeChat made the event: the same whenever it is handled, so that the order is the same, too.
fn event_ms(event: &Event) -> u64 {
    match event.create_time {
        0 => time::now_ms(),
        seconds => seconds * 1000,
    }
}

fn own_orders(open_id: &str) -> Result {
    let orders = orders::list(open_id, SHOWN)?;
    if orders.is_empty() {
        return Reply::text("您还没有订单。").into();
    }
    let lines = orders.iter().map(|order| {
        let state = match order.state {
            OrderState::Unpaid => "待支付",
            OrderState::Paid if order.refunded >= order.total => "已退款",
            OrderState::Paid => "已支付",
            OrderState::Closed => "已关闭",
            OrderState::Failed => "失败",
        };
        let (number, sum) = (&order.out_trade_no, yuan(order.total));
        format!("{number} {} ¥{sum} {state}", order.description)
    });
    Reply::text(lines.collect::<Vec<_>>().join("\n")).into()
}

fn refund(settings: &Settings, open_id: &str, number: &str) -> Result {
    // Longer than any number that there is, it is somebody's prose.
    let order = match (1..=MOST_OF_A_NUMBER).contains(&number.len()) {
        true => orders::get(number)?,
        false => None,
    };
    let order = order.filter(|order| order.is_of(open_id));
    // What the tenant's own systems sell is not this shop's to give back.
    let order = match order {
        Some(order) if order.refunded == 0 && stock::kept(number)?.is_none() => None,
        other => other,
    };
    let said = match order {
        None => "没有找到您的这个订单。",
        Some(order) if !order.is_paid() => "这个订单还没有支付。",
        Some(order) if order.refunded > 0 => "这个订单已经在退款了。",
        Some(order) => {
            let said = format!("正在退还¥{}，到账后会告诉您。", yuan(order.total));
            let reason = Some(format!("{}：顾客申请", settings.words.refund));
            // The number of a refund that failed is never refunded again.
            let refund_number = match orders::refunds(number)?.len() {
                0 => format!("refund-{number}"),
                before => format!("refund-{number}-{before}"),
            };
            let outcome = Outcome::reply(Reply::text(said));
            return Ok(outcome.refund(number, refund_number, reason));
        }
    };
    Reply::text(said).into()
}

/// Tells whoever has paid, if that is known.
fn tell(outcome: Outcome, order: &Order, said: impl Into<String>) -> Outcome {
    match &order.open_id {
        Some(open_id) => outcome.send(CustomerMessage::text(open_id, said)),
        None => outcome,
    }
}

fn give_back(settings: &Settings, outcome: Outcome, order: &Order) -> Result {
    let number = &order.out_trade_no;
    let item = match stock::kept(number)? {
        None => None,
        Some(kept) => settings.item(&kept.key),
    };
    stock::give_back(outcome, item, number)
}
