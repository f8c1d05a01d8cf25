//! Where an order stands, and what facts make of it.

use super::{Turn, words};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// It is written; WeChat Pay may not know it yet.
    New,
    /// WeChat Pay has it, and it can be paid.
    Unpaid,
    /// It is paid.
    Paid,
    /// It can't be paid any more, and nobody has.
    Closed,
    /// WeChat Pay did not take it. The same order may be tried again.
    Failed,
}

words!(OrderState {
    New => "new",
    Unpaid => "unpaid",
    Paid => "paid",
    Closed => "closed",
    Failed => "failed",
});

/// What can be learnt of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderFact {
    /// WeChat Pay took it.
    Taken,
    /// WeChat Pay refused it.
    Refused,
    /// It is paid.
    Paid,
    /// WeChat Pay has closed it, or never had it and its time is over.
    Closed,
}

impl OrderFact {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Taken, Self::Refused, Self::Paid, Self::Closed];
}

impl OrderState {
    /// What a fact makes of it.
    pub fn on(self, fact: OrderFact) -> Turn<Self> {
        use OrderState::{Closed, Failed, New, Paid, Unpaid};
        match (self, fact) {
            // Money has come, whatever was thought before.
            (New | Unpaid | Closed | Failed, OrderFact::Paid) => Turn::To(Paid),
            (New | Failed, OrderFact::Taken) => Turn::To(Unpaid),
            (New, OrderFact::Refused) => Turn::To(Failed),
            (New | Unpaid | Failed, OrderFact::Closed) => Turn::To(Closed),
            // Late words, and what is known.
            (Paid, _) | (Closed, OrderFact::Taken | OrderFact::Refused | OrderFact::Closed) => {
                Turn::Stays
            }
            (Unpaid, OrderFact::Taken | OrderFact::Refused) | (Failed, OrderFact::Refused) => {
                Turn::Stays
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_makes_of_each_state_what_the_table_says() {
        // Columns: taken, refused, paid, closed.
        let table = [
            ("new", ["unpaid", "failed", "paid", "closed"]),
            ("unpaid", ["-", "-", "paid", "closed"]),
            ("paid", ["-", "-", "-", "-"]),
            ("closed", ["-", "-", "paid", "-"]),
            ("failed", ["unpaid", "-", "paid", "closed"]),
        ];
        assert_eq!(table.len(), OrderState::ALL.len());
        for (from, expected) in table {
            let state = OrderState::of(from).unwrap();
            let turns = OrderFact::ALL.map(|fact| match state.on(fact) {
                Turn::To(to) => to.as_str(),
                Turn::Stays => "-",
                Turn::Contradicts => "!",
            });
            assert_eq!(turns, expected, "{from}");
        }
    }
}
