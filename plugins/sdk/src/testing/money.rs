//! Orders in memory, and facts to begin with.

use super::imports::State;

use crate::orders::{Order, OrderState, Refund, RefundState};
use crate::outcome::RefundRequest;
use crate::pay::Request;
use crate::payment::{Event, Fact};

/// An order that a test's host keeps.
#[derive(Debug, Clone)]
pub(crate) struct TestOrder {
    pub(crate) order: Order,
    request: Option<Request>,
    refunds: Vec<Refund>,
}

/// The order of this number is paid by this person.
#[must_use]
pub fn paid(out_trade_no: &str, open_id: &str, fen: u64) -> Event {
    let order = Order {
        state: OrderState::Paid,
        paid_at: Some(1_700_000_060_000),
        transaction_id: Some("4200000000000000000000000001".to_owned()),
        ..order(out_trade_no, open_id, fen)
    };
    event(Fact::Paid, order)
}

/// The order of this number was not paid in time.
#[must_use]
pub fn closed(out_trade_no: &str, open_id: &str, fen: u64) -> Event {
    let order = Order {
        state: OrderState::Closed,
        ..order(out_trade_no, open_id, fen)
    };
    event(Fact::Closed, order)
}

/// The payer has the money of the refund of that number. Of an order that the host knows it may be a part; any other
/// came to so many fen.
#[must_use]
pub fn refunded(out_trade_no: &str, open_id: &str, (out_refund_no, fen): (&str, u64)) -> Event {
    let refund = refund(out_trade_no, (out_refund_no, fen), RefundState::Succeeded);
    let paid = paid(out_trade_no, open_id, fen);
    let order = Order {
        refunded: fen,
        ..paid.order
    };
    event(Fact::Refunded(refund), order)
}

/// The refund of that number came to nothing: the money is the merchant's again. As [`refunded`] else.
#[must_use]
pub fn refund_failed(
    out_trade_no: &str,
    open_id: &str,
    (out_refund_no, fen): (&str, u64),
) -> Event {
    let refund = refund(out_trade_no, (out_refund_no, fen), RefundState::Failed);
    event(
        Fact::RefundFailed(refund),
        paid(out_trade_no, open_id, fen).order,
    )
}

fn refund(out_trade_no: &str, (out_refund_no, fen): (&str, u64), state: RefundState) -> Refund {
    Refund {
        out_refund_no: out_refund_no.to_owned(),
        out_trade_no: out_trade_no.to_owned(),
        amount: fen,
        state,
        reason: None,
        error: None,
    }
}

fn event(fact: Fact, order: Order) -> Event {
    Event {
        id: format!("test/{}", order.out_trade_no),
        fact,
        order,
        contact: None,
    }
}

fn order(out_trade_no: &str, open_id: &str, fen: u64) -> Order {
    Order {
        out_trade_no: out_trade_no.to_owned(),
        merchant: "1900000001".to_owned(),
        description: "Test".to_owned(),
        total: fen,
        state: OrderState::Unpaid,
        open_id: Some(open_id.to_owned()),
        attach: None,
        created_at: 1_700_000_000_000,
        expires_at: 1_700_007_200_000,
        paid_at: None,
        transaction_id: None,
        refunded: 0,
    }
}

impl TestOrder {
    /// What became of a refund, also of one that somebody else has asked for.
    fn learn(&mut self, told: &Refund) {
        let mut refunds = self.refunds.iter_mut();
        match refunds.find(|refund| refund.out_refund_no == told.out_refund_no) {
            Some(refund) => refund.state = told.state,
            None => self.refunds.push(told.clone()),
        }
        let refunds = self.refunds.iter();
        let going = refunds.filter(|refund| refund.state != RefundState::Failed);
        self.order.refunded = going.map(|refund| refund.amount).sum();
    }
}

impl State {
    /// A fact about an order as this host knows it, which the order's state follows.
    pub(super) fn told(&mut self, event: &Event) -> Event {
        let mut event = event.clone();
        let number = &event.order.out_trade_no;
        if let Some(kept) = self.orders.get_mut(number) {
            let told = &event.order;
            kept.order = Order {
                state: told.state,
                paid_at: told.paid_at,
                transaction_id: told.transaction_id.clone(),
                ..kept.order.clone()
            };
            if let Fact::Refunded(told) | Fact::RefundFailed(told) = &event.fact {
                kept.learn(told);
            }
            event.order = kept.order.clone();
        } else {
            let kept = TestOrder {
                order: event.order.clone(),
                request: None,
                refunds: Vec::new(),
            };
            self.orders.insert(number.clone(), kept);
        }
        if event.contact.is_none() {
            let person = event.order.open_id.as_ref();
            let known = person.and_then(|open_id| self.contacts.get(open_id));
            event.contact = known.cloned();
        }
        event
    }

    pub(super) fn may_refund(&self, request: &RefundRequest) -> bool {
        let Some(kept) = self.orders.get(&request.out_trade_no) else {
            return false;
        };
        let mut refunds = kept.refunds.iter();
        if refunds.any(|refund| refund.out_refund_no == request.out_refund_no) {
            return true;
        }
        let left = kept.order.total - kept.order.refunded;
        let amount = request.amount.unwrap_or(left);
        kept.order.is_paid() && (1..=left).contains(&amount)
    }

    pub(super) fn refund(&mut self, request: &RefundRequest) {
        let Some(kept) = self.orders.get_mut(&request.out_trade_no) else {
            return;
        };
        let mut refunds = kept.refunds.iter();
        if refunds.any(|refund| refund.out_refund_no == request.out_refund_no) {
            return;
        }
        let left = kept.order.total - kept.order.refunded;
        let amount = request.amount.unwrap_or(left);
        kept.order.refunded += amount;
        kept.refunds.push(Refund {
            out_refund_no: request.out_refund_no.clone(),
            out_trade_no: request.out_trade_no.clone(),
            amount,
            state: RefundState::Processing,
            reason: request.reason.clone(),
            error: None,
        });
    }

    pub(super) fn close(&mut self, number: &str) {
        let kept = self.orders.get_mut(number);
        if let Some(kept) = kept.filter(|kept| kept.order.state == OrderState::Unpaid) {
            kept.order.state = OrderState::Closed;
        }
    }
}

pub(crate) mod pay {
    use super::super::imports::ask;
    use super::{TestOrder, order};
    use crate::orders::{Order, OrderState};
    use crate::pay::{Error, Invocation, Placed, Request, Scene};

    pub(crate) fn create_order(request: &Request) -> Result<Placed, Error> {
        ask(|state| {
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            let length = request.out_trade_no.len();
            if !(6..=32).contains(&length) || request.total == 0 || request.description.is_empty() {
                return Err(Error::InvalidArgument("order-request".to_owned()));
            }
            let open_id = match &request.scene {
                Scene::Jsapi(open_id) => Some(open_id.clone()),
                Scene::Native | Scene::App | Scene::H5(_) => None,
            };
            let now_ms = state.now_ms;
            let kept = state.orders.entry(request.out_trade_no.clone());
            let kept = kept.or_insert_with(|| TestOrder {
                order: Order {
                    description: request.description.clone(),
                    attach: request.attach.clone(),
                    open_id,
                    created_at: now_ms,
                    expires_at: request.expires_at.unwrap_or(now_ms + 7_200_000),
                    ..order(&request.out_trade_no, "", request.total)
                },
                request: Some(request.clone()),
                refunds: Vec::new(),
            });
            match kept.order.state {
                _ if kept.request.as_ref() != Some(request) => {
                    Err(Error::OrderDiffers("data".to_owned()))
                }
                OrderState::Paid => Err(Error::AlreadyPaid),
                OrderState::Closed | OrderState::Failed => Err(Error::Closed),
                OrderState::Unpaid => Ok(placed(&kept.order, request)),
            }
        })
    }

    fn placed(order: &Order, request: &Request) -> Placed {
        let number = &order.out_trade_no;
        let (invocation, page_url) = match &request.scene {
            Scene::Jsapi(_) => (
                Invocation::Jsapi("{}".to_owned()),
                Some(format!(
                    "https://pay.example/pay/wx0123456789abcdef/{number}"
                )),
            ),
            Scene::Native => (Invocation::Native("weixin://test".to_owned()), None),
            Scene::App => (Invocation::App("{}".to_owned()), None),
            Scene::H5(_) => (Invocation::H5("https://wx.example".to_owned()), None),
        };
        Placed {
            order: order.clone(),
            invocation,
            page_url,
        }
    }

    pub(crate) fn query(out_trade_no: &str) -> Result<Order, Error> {
        ask(|state| {
            if state.unavailable {
                return Err(Error::Unavailable);
            }
            let kept = state.orders.get(out_trade_no);
            kept.map(|kept| kept.order.clone())
                .ok_or(Error::UnknownOrder)
        })
    }
}

pub(crate) mod orders {
    use super::super::imports::{State, ask};
    use crate::orders::{Error, Order, Refund};

    pub(crate) fn get(out_trade_no: &str) -> Result<Option<Order>, Error> {
        asked(|state| {
            state
                .orders
                .get(out_trade_no)
                .map(|kept| kept.order.clone())
        })
    }

    pub(crate) fn list(open_id: &str, limit: u32) -> Result<Vec<Order>, Error> {
        asked(|state| {
            let orders = state.orders.values().map(|kept| &kept.order);
            let mut found: Vec<_> = orders.filter(|it| it.is_of(open_id)).cloned().collect();
            found.sort_by_key(|order| std::cmp::Reverse(order.created_at));
            found.truncate(limit.clamp(1, 20) as usize);
            found
        })
    }

    pub(crate) fn refunds(out_trade_no: &str) -> Result<Vec<Refund>, Error> {
        asked(|state| {
            let kept = state.orders.get(out_trade_no);
            kept.map(|kept| kept.refunds.clone()).unwrap_or_default()
        })
    }

    fn asked<T>(question: impl FnOnce(&State) -> T) -> Result<T, Error> {
        ask(|state| match state.unavailable {
            true => Err(Error::Unavailable),
            false => Ok(question(state)),
        })
    }
}
