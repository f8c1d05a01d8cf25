//! The ledger, whatever is told in whatever order, on each database.

use super::orders::{Kept, Learnt, Limits, OrderRow};
use super::payments::Payment;
use super::refunds::{Ask, Asked, News};
use super::*;
use crate::db::Database;
use crate::db::testing::databases;
use crate::ledger::RefundFact;

const APP: &str = "wx01";
const MCH: &str = "1900000001";

fn number(number: &str) -> Number<'_> {
    Number {
        app_id: APP,
        mch_id: MCH,
        number,
    }
}

fn order(no: &str, total: i64) -> OrderRow {
    OrderRow {
        app_id: APP.into(),
        mch_id: MCH.into(),
        out_trade_no: no.into(),
        state: "new".into(),
        scene: "{\"kind\":\"native\"}".into(),
        open_id: Some("oA".into()),
        description: "茶".into(),
        total,
        attach: None,
        request_digest: no.into(),
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

fn payment<'a>(no: &'a str, transaction_id: &'a str, total: i64) -> Payment<'a> {
    Payment {
        number: number(no),
        transaction_id,
        total,
        payer_total: Some(total),
        open_id: Some("oA"),
        paid_at: 2_000,
    }
}

fn ask<'a>(no: &'a str, out_refund_no: &'a str, amount: Option<i64>) -> Ask<'a> {
    Ask {
        order: number(no),
        out_refund_no,
        amount,
        reason: None,
        asked_by: "test",
        approve_above: None,
    }
}

fn news(out_refund_no: &str, fact: RefundFact) -> News<'_> {
    News {
        number: number(out_refund_no),
        fact,
        refund_id: None,
        amount: None,
        error: None,
        cause: "test",
    }
}

/// An order that WeChat has taken.
async fn unpaid(db: &Database, no: &str, total: i64) {
    let kept = orders::keep(db, &order(no, total), Limits::default()).await;
    assert_eq!(kept.unwrap(), Kept::New);
    let learnt = (Learnt::Taken("wx1"), "taken");
    orders::learn(db, number(no), learnt).await.unwrap();
}

async fn state(db: &Database, no: &str) -> OrderRow {
    orders::of_number(db, APP, no).await.unwrap().remove(0)
}

async fn expect_balance(db: &Database, book: &str, expected: i64) {
    let balances = balances(db, (APP, MCH)).await.unwrap();
    assert_eq!(balances.flaw(), None);
    assert_eq!(
        balances.kept.get(book).copied().unwrap_or_default(),
        expected,
        "{book}"
    );
}

#[tokio::test]
async fn a_payment_moves_money_once_and_a_late_word_never_undoes_it() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        let pay = async || {
            payments::pay(&db, payment("o1", "4200", 100), "notice")
                .await
                .unwrap()
        };
        assert_eq!(pay().await, Applied::Turned);
        assert_eq!(pay().await, Applied::Before);
        for learnt in [
            Learnt::Closed,
            Learnt::Refused("late"),
            Learnt::Taken("wx2"),
        ] {
            orders::learn(&db, number("o1"), (learnt, "late"))
                .await
                .unwrap();
        }
        let row = state(&db, "o1").await;
        assert_eq!(
            (&*row.state, row.transaction_id.as_deref()),
            ("paid", Some("4200"))
        );
        expect_balance(&db, "order/o1", 100).await;
        let events = events::list(&db, (APP, None), (i64::MAX, 10))
            .await
            .unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(&*events[0].id, "paid/4200");
        let lines = history(&db, (APP, MCH), "order/o1").await.unwrap();
        let turns: Vec<_> = lines.iter().map(|line| &*line.to_state).collect();
        assert_eq!(turns, ["new", "unpaid", "paid"]);
    }
}

#[tokio::test]
async fn money_that_comes_for_a_closed_order_is_money_all_the_same() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        orders::learn(&db, number("o1"), (Learnt::Closed, "closed"))
            .await
            .unwrap();
        assert_eq!(&*state(&db, "o1").await.state, "closed");
        let paid = payments::pay(&db, payment("o1", "4200", 100), "notice").await;
        assert_eq!(paid.unwrap(), Applied::Turned);
        assert_eq!(&*state(&db, "o1").await.state, "paid");
        let kinds = events::list(&db, (APP, None), (i64::MAX, 10))
            .await
            .unwrap();
        assert_eq!(kinds.len(), 2);
    }
}

#[tokio::test]
async fn an_order_that_is_paid_twice_gives_the_second_payment_back() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        for transaction in ["4200", "4201", "4201"] {
            payments::pay(&db, payment("o1", transaction, 100), "notice")
                .await
                .unwrap();
        }
        let refunds = refunds::of_order(&db, number("o1")).await.unwrap();
        assert_eq!(refunds.len(), 1);
        assert_eq!(
            (&*refunds[0].transaction_id, refunds[0].amount),
            ("4201", 100)
        );
        expect_balance(&db, "order/o1", 100).await;
        expect_balance(&db, "refund/again-4201", 100).await;
        assert_eq!(
            state(&db, "o1").await.transaction_id.as_deref(),
            Some("4200")
        );
    }
}

#[tokio::test]
async fn what_contradicts_an_order_moves_nothing_and_is_looked_at_anew() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        let notice = notices::Notice {
            fact: "1900000001/transaction/4200",
            id: "EV-1",
            body_sealed: "v1.a.b",
        };
        let keep = async |total| {
            let said = notices::Said::Paid(payment("o1", "4200", total));
            notices::keep(&db, notice, said).await.unwrap()
        };
        assert!(matches!(
            keep(99).await,
            Applied::Flagged("wrong-amount", _)
        ));
        let flagged = notices::flagged(&db, APP, (i64::MAX, 10)).await.unwrap();
        assert_eq!(flagged.len(), 1);
        expect_balance(&db, "order/o1", 0).await;
        assert_eq!(keep(100).await, Applied::Turned);
        assert_eq!(keep(100).await, Applied::Before);
        assert_eq!(keep(99).await, Applied::Before, "it was applied, for good");
        assert!(
            notices::flagged(&db, APP, (i64::MAX, 10))
                .await
                .unwrap()
                .is_empty()
        );
        expect_balance(&db, "order/o1", 100).await;
    }
}

#[tokio::test]
async fn refunds_never_take_more_than_is_there() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        let asked = async |ask: Ask<'_>| refunds::ask(&db, &ask).await.unwrap();
        assert_eq!(asked(ask("o1", "r0", None)).await, Asked::NotPaid);
        assert_eq!(asked(ask("o9", "r0", None)).await, Asked::UnknownOrder);
        payments::pay(&db, payment("o1", "4200", 100), "notice")
            .await
            .unwrap();
        assert!(matches!(
            asked(ask("o1", "r1", Some(60))).await,
            Asked::New(_)
        ));
        assert!(matches!(
            asked(ask("o1", "r1", Some(60))).await,
            Asked::Before(_)
        ));
        assert_eq!(asked(ask("o1", "r1", Some(61))).await, Asked::Differs);
        assert_eq!(asked(ask("o1", "r2", Some(41))).await, Asked::TooMuch(40));
        expect_balance(&db, "order/o1", 40).await;
        // It comes to nothing: its money is free again.
        let closed = refunds::learn(&db, news("r1", RefundFact::Closed)).await;
        assert_eq!(closed.unwrap(), Applied::Turned);
        expect_balance(&db, "order/o1", 100).await;
        let late = refunds::learn(&db, news("r1", RefundFact::Succeeded))
            .await
            .unwrap();
        assert!(matches!(late, Applied::Flagged("contradiction", _)));
        let Asked::New(rest) = asked(ask("o1", "r3", None)).await else {
            panic!("all that is left");
        };
        assert_eq!(rest.amount, 100);
        for fact in [
            RefundFact::Taken,
            RefundFact::Succeeded,
            RefundFact::Succeeded,
        ] {
            refunds::learn(&db, news("r3", fact)).await.unwrap();
        }
        expect_balance(&db, "refund/r3", 0).await;
        expect_balance(&db, "order/o1", 0).await;
        assert_eq!(state(&db, "o1").await.refunded, 100);
    }
}

#[tokio::test]
async fn refunds_at_once_share_what_is_there() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        payments::pay(&db, payment("o1", "4200", 100), "notice")
            .await
            .unwrap();
        let numbers: Vec<String> = (0..40).map(|number| format!("r{number}")).collect();
        let asks = numbers.iter().map(async |number| {
            let ask = ask("o1", number, Some(7));
            refunds::ask(&db, &ask).await.unwrap()
        });
        let asked = futures::future::join_all(asks).await;
        let made = asked.iter().filter(|asked| matches!(asked, Asked::New(_)));
        assert_eq!(made.count(), 14);
        expect_balance(&db, "order/o1", 2).await;
        let refunds = refunds::of_order(&db, number("o1")).await.unwrap();
        let mut times: Vec<_> = refunds.iter().map(|refund| refund.created_at).collect();
        times.dedup();
        assert_eq!(refunds.iter().map(|refund| refund.amount).sum::<i64>(), 98);
    }
}

#[tokio::test]
async fn a_refund_above_the_threshold_waits_for_somebody() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        payments::pay(&db, payment("o1", "4200", 100), "notice")
            .await
            .unwrap();
        let held = Ask {
            approve_above: Some(50),
            ..ask("o1", "r1", Some(51))
        };
        refunds::ask(&db, &held).await.unwrap();
        let row = refunds::find(&db, number("r1")).await.unwrap().unwrap();
        assert_eq!(&*row.state, "held");
        let told = refunds::learn(&db, news("r1", RefundFact::Succeeded))
            .await
            .unwrap();
        assert!(matches!(told, Applied::Flagged("contradiction", _)));
        refunds::learn(&db, news("r1", RefundFact::Rejected))
            .await
            .unwrap();
        expect_balance(&db, "order/o1", 100).await;
    }
}

#[tokio::test]
async fn orders_over_a_days_sum_are_not_written() {
    for db in databases().await {
        let limits = Limits {
            person_day: Some(150),
            day: Some(300),
            day_began_at: 0,
        };
        let keep = async |no: &str, person: &str, total| {
            let row = OrderRow {
                open_id: Some(person.into()),
                ..order(no, total)
            };
            orders::keep(&db, &row, limits).await.unwrap()
        };
        assert_eq!(keep("o1", "oA", 100).await, Kept::New);
        assert_eq!(
            keep("o2", "oA", 51).await,
            Kept::Over("person_day_fen", 150)
        );
        assert_eq!(keep("o2", "oA", 50).await, Kept::New);
        assert_eq!(keep("o3", "oB", 150).await, Kept::New);
        assert_eq!(keep("o4", "oC", 1).await, Kept::Over("day_fen", 300));
        assert!(
            matches!(keep("o1", "oA", 100).await, Kept::Before(_)),
            "it counts once"
        );
    }
}

#[tokio::test]
async fn an_event_is_taken_by_one_commit() {
    for db in databases().await {
        unpaid(&db, "o1", 100).await;
        payments::pay(&db, payment("o1", "4200", 100), "notice")
            .await
            .unwrap();
        let lease = |owner| crate::db::Lease {
            owner,
            now_ms: i64::MAX - 10,
            until_ms: i64::MAX - 5,
        };
        let leased = events::lease(&db, lease("a"), 10).await.unwrap();
        assert_eq!(leased.len(), 1);
        assert!(events::lease(&db, lease("b"), 10).await.unwrap().is_empty());
        let take = async |owner| {
            let mut transaction = db.begin().await.unwrap();
            let key = (APP, "paid/4200", owner);
            let taken = events::take(transaction.connection(), key).await.unwrap();
            transaction.commit().await.unwrap();
            taken
        };
        assert!(!take("b").await);
        assert!(take("a").await);
        assert!(!take("a").await);
        assert!(!events::resume(&db, APP, "paid/4200").await.unwrap());
    }
}
