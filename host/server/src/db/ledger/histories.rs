//! Random histories of an account's money: what WeChat Pay really did on one side, and on the other a host that hears
//! of it late, twice, out of order, falsely or not at all. In the end both have the same.
//!
//! A history is its seed; a failure names it. `WXHOST_TEST_HISTORIES` sets how many there are.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::notices::{Notice, Said};
use super::orders::{Kept, Learnt, Limits, OrderRow};
use super::payments::Payment;
use super::refunds::{Ask, Asked, News};
use super::*;
use crate::db::Database;
use crate::db::testing::databases;
use crate::ledger::{OrderState, RefundFact, RefundState};

/// So many, if nobody says otherwise.
const HISTORIES: u64 = 40;
/// Steps of a history, before it is brought to its end.
const STEPS: usize = 60;
/// Orders of a history.
const ORDERS: u64 = 3;
const MCH: &str = "1900000001";

/// What WeChat Pay has of an order.
#[derive(Debug, Default)]
struct TrueOrder {
    total: i64,
    is_known: bool,
    is_closed: bool,
    /// Fen that are left, by transaction.
    payments: BTreeMap<String, i64>,
}

/// What WeChat Pay has of a refund.
#[derive(Debug)]
struct TrueRefund {
    order: String,
    transaction: String,
    amount: i64,
    fact: RefundFact,
}

/// What WeChat Pay tells.
#[derive(Clone, Debug)]
enum Word {
    Paid {
        order: String,
        transaction: String,
        total: i64,
    },
    Refund {
        number: String,
        amount: i64,
        fact: RefundFact,
    },
}

struct History {
    seed: u64,
    dice: Rng,
    app_id: String,
    orders: BTreeMap<String, TrueOrder>,
    refunds: BTreeMap<String, TrueRefund>,
    /// What was told, or is to be: any of it may be told again at any time.
    words: Vec<Word>,
    /// Facts of which something false was told, and nothing true since.
    flagged: BTreeMap<String, Word>,
    made: usize,
}

impl History {
    fn of(seed: u64) -> Self {
        Self {
            seed,
            dice: Rng::with_seed(seed),
            app_id: format!("wx{seed}"),
            orders: BTreeMap::new(),
            refunds: BTreeMap::new(),
            words: Vec::new(),
            flagged: BTreeMap::new(),
            made: 0,
        }
    }

    fn number<'a>(&'a self, number: &'a str) -> Number<'a> {
        Number {
            app_id: &self.app_id,
            mch_id: MCH,
            number,
        }
    }

    fn new_name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{}-{}", self.seed, self.made)
    }

    fn some_order(&mut self) -> String {
        format!("order-{}", self.dice.u64(0..ORDERS))
    }

    fn some_refund(&mut self) -> Option<String> {
        let numbers: Vec<String> = self.refunds.keys().cloned().collect();
        self.dice.choice(numbers)
    }

    /// One thing happens.
    async fn step(&mut self, db: &Database) {
        match self.dice.u8(0..12) {
            0 | 1 => self.make(db).await,
            2 | 3 => self.pay(),
            4 => self.close(db).await,
            5 => self.query_order(db).await,
            6 => self.ask_refund(db).await,
            7 => self.decide(db).await,
            8 => self.send_refunds(db).await,
            9 => self.turn_refund(),
            10 => self.lie(db).await,
            _ => self.tell(db).await,
        }
    }

    /// The host makes an order; the answer may be lost on the way.
    async fn make(&mut self, db: &Database) {
        let name = self.some_order();
        let total = 100 + i64::try_from(name.len()).unwrap();
        let kept = orders::keep(db, &self.row(&name, total), Limits::default()).await;
        if matches!(kept.unwrap(), Kept::New) {
            assert!(!self.orders.contains_key(&name), "{}", self.seed);
        }
        let fate = self.dice.u8(0..4);
        let order = self.orders.entry(name.clone()).or_insert(TrueOrder {
            total,
            ..TrueOrder::default()
        });
        let is_settled = order.is_closed || !order.payments.is_empty();
        let learnt = match fate {
            _ if is_settled => return,
            // It never reaches WeChat Pay, or is refused there.
            0 => return,
            1 if !order.is_known => Learnt::Refused("PARAM_ERROR"),
            _ => {
                order.is_known = true;
                Learnt::Taken("wx1")
            }
        };
        if fate != 2 {
            let number = self.number(&name);
            orders::learn(db, number, (learnt, "answer")).await.unwrap();
        }
    }

    fn row(&self, name: &str, total: i64) -> OrderRow {
        OrderRow {
            app_id: self.app_id.clone(),
            mch_id: MCH.into(),
            out_trade_no: name.into(),
            state: OrderState::New.as_str().into(),
            scene: "{\"kind\":\"native\"}".into(),
            open_id: None,
            description: "茶".into(),
            total,
            attach: None,
            request_digest: name.into(),
            prepay: None,
            prepaid_at: None,
            transaction_id: None,
            payer_total: None,
            paid_at: None,
            error: None,
            is_closing: None,
            created_at: 1_000,
            expires_at: 7_200_000,
            looks: 0,
            refunded: 0,
        }
    }

    /// Somebody pays, sometimes twice by two invocations.
    fn pay(&mut self) {
        let name = self.some_order();
        let transaction = self.new_name("42");
        let is_twice = self.dice.u8(0..4) == 0;
        let Some(order) = self.orders.get_mut(&name) else {
            return;
        };
        let most = if is_twice { 2 } else { 1 };
        if !order.is_known || order.is_closed || order.payments.len() >= most {
            return;
        }
        order.payments.insert(transaction.clone(), order.total);
        self.words.push(Word::Paid {
            order: name,
            transaction,
            total: order.total,
        });
    }

    /// The host closes an order, unless it is paid; the answer may be lost.
    async fn close(&mut self, db: &Database) {
        let name = self.some_order();
        let is_lost = self.dice.bool();
        let Some(order) = self.orders.get_mut(&name) else {
            return;
        };
        if !order.is_known || !order.payments.is_empty() {
            return;
        }
        order.is_closed = true;
        if !is_lost {
            self.learn_order(db, &name).await;
        }
    }

    async fn query_order(&mut self, db: &Database) {
        let name = self.some_order();
        self.learn_order(db, &name).await;
    }

    /// WeChat Pay answers how an order stands.
    async fn learn_order(&self, db: &Database, name: &str) {
        let Some(order) = self.orders.get(name).filter(|order| order.is_known) else {
            return;
        };
        let number = self.number(name);
        // Of two payments a query tells the first.
        if let Some(transaction) = order.payments.keys().next() {
            let payment = payment(number, transaction, order.total);
            payments::pay(db, payment, "query").await.unwrap();
            return;
        }
        let learnt = match order.is_closed {
            true => Learnt::Closed,
            false => Learnt::Taken("wx1"),
        };
        orders::learn(db, number, (learnt, "query")).await.unwrap();
    }

    /// A refund is asked for: with luck it is within what is left.
    async fn ask_refund(&mut self, db: &Database) {
        let (order, refund) = (self.some_order(), self.new_name("r"));
        let amount = (self.dice.u8(0..5) != 0).then(|| self.dice.i64(1..120));
        let ask = Ask {
            order: self.number(&order),
            out_refund_no: &refund,
            amount,
            reason: None,
            asked_by: "test",
            approve_above: Some(60),
        };
        let asked = refunds::ask(db, &ask).await.unwrap();
        if matches!(asked, Asked::New(_)) {
            // The same number is the same refund.
            let again = refunds::ask(db, &ask).await.unwrap();
            assert!(
                matches!(again, Asked::Before(_)),
                "{}: {again:?}",
                self.seed
            );
        }
    }

    /// Somebody decides on a refund that is held.
    async fn decide(&mut self, db: &Database) {
        let fact = match self.dice.bool() {
            true => RefundFact::Approved,
            false => RefundFact::Rejected,
        };
        let held = self.in_state(db, RefundState::Held).await;
        if let Some(row) = self.dice.choice(held) {
            let news = news(row.number(), (fact, None));
            refunds::learn(db, news).await.unwrap();
        }
    }

    async fn in_state(&self, db: &Database, state: RefundState) -> Vec<refunds::RefundRow> {
        let wanted = (&*self.app_id, Some(state.as_str()));
        refunds::list(db, wanted, (i64::MAX, 1_000)).await.unwrap()
    }

    /// The host sends what is to be refunded. WeChat Pay takes it, or refuses it for good; the answer may be lost.
    async fn send_refunds(&mut self, db: &Database) {
        for row in self.in_state(db, RefundState::Asked).await {
            let fate = self.dice.u8(0..4);
            self.send(db, &row, fate).await;
        }
    }

    async fn send(&mut self, db: &Database, row: &refunds::RefundRow, fate: u8) {
        if !self.refunds.contains_key(&row.out_refund_no) {
            let order = self.orders.get_mut(&row.out_trade_no).expect("an order");
            let is_paid_twice = order.payments.len() > 1;
            let left = order.payments.get_mut(&row.transaction_id);
            let left = left.expect("a payment that WeChat Pay knows");
            // What the second payment of an order has left may be asked of the first, where it is not.
            if fate == 0 || is_paid_twice && *left < row.amount {
                let refused = news(row.number(), (RefundFact::Refused, None));
                refunds::learn(db, refused).await.unwrap();
                return;
            }
            *left -= row.amount;
            assert!(*left >= 0, "{}: more than was paid goes back", self.seed);
            let refund = TrueRefund {
                order: row.out_trade_no.clone(),
                transaction: row.transaction_id.clone(),
                amount: row.amount,
                fact: RefundFact::Taken,
            };
            self.refunds.insert(row.out_refund_no.clone(), refund);
        }
        if fate != 1 {
            self.learn_refund(db, &row.out_refund_no).await;
        }
    }

    async fn learn_refund(&self, db: &Database, number: &str) {
        let refund = &self.refunds[number];
        let news = news(self.number(number), (refund.fact, Some(refund.amount)));
        refunds::learn(db, news).await.unwrap();
    }

    /// Something becomes of a refund at WeChat Pay.
    fn turn_refund(&mut self) {
        let to = self.dice.u8(0..4);
        let Some(number) = self.some_refund() else {
            return;
        };
        let refund = self.refunds.get_mut(&number).expect("a refund");
        let to = match (refund.fact, to) {
            (RefundFact::Succeeded | RefundFact::Closed, _) => return,
            (RefundFact::Taken, 1) => RefundFact::Abnormal,
            (_, 2) => RefundFact::Closed,
            _ => RefundFact::Succeeded,
        };
        refund.fact = to;
        let amount = refund.amount;
        if to == RefundFact::Closed {
            // The merchant has the money again.
            let order = self.orders.get_mut(&refund.order).expect("an order");
            let payment = order.payments.get_mut(&refund.transaction);
            *payment.expect("a payment") += amount;
        }
        self.words.push(Word::Refund {
            number,
            amount,
            fact: to,
        });
    }

    /// One of the words is told, perhaps not for the first time.
    async fn tell(&mut self, db: &Database) {
        if let Some(word) = self.dice.choice(self.words.clone()) {
            let applied = self.notify(db, &word).await;
            // A refund's word may be older than what the host knows already.
            let is_payment = matches!(word, Word::Paid { .. });
            if is_payment {
                assert!(
                    matches!(applied, Applied::Turned | Applied::Before),
                    "{}: {word:?}: {applied:?}",
                    self.seed
                );
            }
        }
    }

    /// Something is told that is not so: of another sum, or of what there is not.
    async fn lie(&mut self, db: &Database) {
        let Some(mut word) = self.dice.choice(self.words.clone()) else {
            return;
        };
        let is_unknown = self.dice.bool();
        let stranger = self.new_name("nobodys");
        match &mut word {
            Word::Paid {
                order,
                transaction,
                total,
            } => {
                transaction.push_str("-lie");
                match is_unknown {
                    true => *order = stranger,
                    false => *total += 1,
                }
            }
            Word::Refund { number, amount, .. } => match is_unknown {
                true => *number = stranger,
                false => *amount += 1,
            },
        }
        let applied = self.notify(db, &word).await;
        assert!(
            matches!(applied, Applied::Flagged(..) | Applied::Before),
            "{}: {word:?}: {applied:?}",
            self.seed
        );
    }

    async fn notify(&mut self, db: &Database, word: &Word) -> Applied {
        let (fact, said) = match word {
            Word::Paid {
                order,
                transaction,
                total,
            } => {
                let payment = payment(self.number(order), transaction, *total);
                (
                    format!("{MCH}/transaction/{transaction}"),
                    Said::Paid(payment),
                )
            }
            Word::Refund {
                number,
                amount,
                fact,
            } => {
                let news = news(self.number(number), (*fact, Some(*amount)));
                let fact = format!("{MCH}/refund/{number}/{fact:?}");
                (fact, Said::Refund(news))
            }
        };
        let notice = Notice {
            fact: &fact,
            id: "EV",
            body_sealed: "v1.a.b",
        };
        let applied = notices::keep(db, notice, said).await.unwrap();
        match applied {
            Applied::Flagged(..) => self.flagged.insert(fact, word.clone()),
            Applied::Turned | Applied::Before => self.flagged.remove(&fact),
        };
        applied
    }

    /// Everything is asked about and decided, until nothing is open.
    async fn settle(&mut self, db: &Database) {
        for word in self.words.clone() {
            if matches!(word, Word::Paid { .. }) {
                self.notify(db, &word).await;
            }
        }
        let names: Vec<String> = self.orders.keys().cloned().collect();
        for name in &names {
            self.learn_order(db, name).await;
        }
        for row in self.in_state(db, RefundState::Held).await {
            let news = news(row.number(), (RefundFact::Approved, None));
            refunds::learn(db, news).await.unwrap();
        }
        for row in self.in_state(db, RefundState::Asked).await {
            self.send(db, &row, 2).await;
        }
        for refund in self.refunds.values_mut() {
            if matches!(refund.fact, RefundFact::Taken | RefundFact::Abnormal) {
                refund.fact = RefundFact::Succeeded;
            }
        }
        for number in self.refunds.keys() {
            self.learn_refund(db, number).await;
        }
    }

    /// Both have the same, and the plugin was told of each fact once.
    async fn compare(&self, db: &Database) {
        let seed = self.seed;
        let balances = balances(db, (&self.app_id, MCH)).await.unwrap();
        assert_eq!(balances.flaw(), None, "{seed}");
        let mut expected = Vec::new();
        for (name, order) in &self.orders {
            let row = orders::of_number(db, &self.app_id, name).await.unwrap();
            let state = row[0].state();
            let is_paid = !order.payments.is_empty();
            match state {
                OrderState::Paid => assert!(is_paid, "{seed}: {name}"),
                OrderState::Closed => assert!(order.is_closed && !is_paid, "{seed}: {name}"),
                OrderState::Unpaid => assert!(!is_paid && !order.is_closed, "{seed}: {name}"),
                OrderState::New | OrderState::Failed => assert!(!order.is_known, "{seed}: {name}"),
            }
            let left: i64 = order.payments.values().sum();
            let book = balances.kept.get(&format!("order/{name}"));
            assert_eq!(book.copied().unwrap_or_default(), left, "{seed}: {name}");
            if is_paid {
                let transaction = row[0].transaction_id.as_ref().expect("a payment");
                expected.push(format!("paid/{transaction}"));
            }
            if order.is_closed {
                expected.push(format!("closed/{MCH}/{name}"));
            }
        }
        let rows = refunds::list(db, (&self.app_id, None), (i64::MAX, 1_000)).await;
        for row in rows.unwrap() {
            let truth = self.refunds.get(&row.out_refund_no);
            let succeeded = truth.is_some_and(|truth| truth.fact == RefundFact::Succeeded);
            let (state, kind) = match succeeded {
                true => (RefundState::Succeeded, "refunded"),
                false => (RefundState::Failed, "refund-failed"),
            };
            let number = &row.out_refund_no;
            assert_eq!(row.state(), state, "{seed}: {number}");
            expected.push(format!("{kind}/{MCH}/{number}/{}", state.as_str()));
        }
        let told = events::list(db, (&self.app_id, None), (i64::MAX, 1_000));
        let told = told.await.unwrap().into_iter().map(|event| event.id);
        // On its way a refund may have been stuck, which is told too.
        let mut told: Vec<String> = told.filter(|id| !id.ends_with("/abnormal")).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "{seed}");
        let flagged = notices::flagged(db, &self.app_id, (i64::MAX, 1_000)).await;
        let mut flagged: Vec<String> = flagged.unwrap().into_iter().map(|row| row.fact).collect();
        flagged.sort();
        let lies: Vec<String> = self.flagged.keys().cloned().collect();
        assert_eq!(flagged, lies, "{seed}");
    }
}

fn payment<'a>(number: Number<'a>, transaction_id: &'a str, total: i64) -> Payment<'a> {
    Payment {
        number,
        transaction_id,
        total,
        payer_total: Some(total),
        open_id: Some("oA"),
        paid_at: 2_000,
    }
}

fn news(number: Number<'_>, (fact, amount): (RefundFact, Option<i64>)) -> News<'_> {
    News {
        number,
        fact,
        refund_id: None,
        amount,
        error: None,
        cause: "test",
    }
}

#[tokio::test]
async fn whatever_is_told_in_whatever_order_both_have_the_same_in_the_end() {
    let histories = std::env::var("WXHOST_TEST_HISTORIES");
    let histories = histories.map_or(HISTORIES, |number| number.parse().unwrap());
    for db in databases().await {
        for seed in 0..histories {
            let mut history = History::of(seed);
            for _ in 0..STEPS {
                history.step(&db).await;
            }
            history.settle(&db).await;
            history.compare(&db).await;
        }
    }
}
