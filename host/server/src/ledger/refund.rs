//! Where a refund stands, and what facts make of it.

use super::{Turn, words};

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundState {
    /// Somebody has to approve it.
    Held,
    /// It is to be asked for; WeChat Pay may know it already.
    Asked,
    /// WeChat Pay is at it.
    Processing,
    /// The payer has the money.
    Succeeded,
    /// The payer's card or account does not take it: the merchant has to see to it.
    Abnormal,
    /// It came to nothing.
    Failed,
}

words!(RefundState {
    Held => "held",
    Asked => "asked",
    Processing => "processing",
    Succeeded => "succeeded",
    Abnormal => "abnormal",
    Failed => "failed",
});

/// What can be learnt of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefundFact {
    /// Somebody approved it.
    Approved,
    /// Somebody rejected it.
    Rejected,
    /// WeChat Pay took it.
    Taken,
    /// The payer has the money.
    Succeeded,
    /// It is stuck.
    Abnormal,
    /// WeChat Pay closed it: the money is the merchant's again.
    Closed,
    /// WeChat Pay refused it, for good.
    Refused,
}

impl RefundFact {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Approved,
        Self::Rejected,
        Self::Taken,
        Self::Succeeded,
        Self::Abnormal,
        Self::Closed,
        Self::Refused,
    ];
}

impl RefundState {
    /// Whether the money is neither with the payer nor free again.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Succeeded | Self::Failed)
    }

    /// What a fact makes of it.
    pub fn on(self, fact: RefundFact) -> Turn<Self> {
        use RefundState::{Abnormal, Asked, Failed, Held, Processing, Succeeded};
        match (self, fact) {
            (Held, RefundFact::Approved) => Turn::To(Asked),
            (Held, RefundFact::Rejected) => Turn::To(Failed),
            // Nothing was asked of WeChat Pay yet.
            (Held, _) => Turn::Contradicts,
            (Asked, RefundFact::Taken) => Turn::To(Processing),
            (Asked | Processing | Abnormal, RefundFact::Succeeded) => Turn::To(Succeeded),
            (Asked | Processing, RefundFact::Abnormal) => Turn::To(Abnormal),
            (Asked | Processing | Abnormal, RefundFact::Closed) => Turn::To(Failed),
            (Asked, RefundFact::Refused) => Turn::To(Failed),
            // What has gone cannot have come back, and the other way round.
            (Succeeded, RefundFact::Closed | RefundFact::Refused) => Turn::Contradicts,
            (Failed, RefundFact::Succeeded | RefundFact::Taken | RefundFact::Abnormal) => {
                Turn::Contradicts
            }
            (Succeeded, RefundFact::Taken | RefundFact::Succeeded | RefundFact::Abnormal)
            | (Failed, RefundFact::Closed | RefundFact::Refused)
            | (Processing, RefundFact::Taken | RefundFact::Refused)
            | (Abnormal, RefundFact::Taken | RefundFact::Abnormal | RefundFact::Refused)
            | (_, RefundFact::Approved | RefundFact::Rejected) => Turn::Stays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_makes_of_each_state_what_the_table_says() {
        // Columns: approved, rejected, taken, succeeded, abnormal, closed, refused.
        let table = [
            ("held", ["asked", "failed", "!", "!", "!", "!", "!"]),
            (
                "asked",
                [
                    "-",
                    "-",
                    "processing",
                    "succeeded",
                    "abnormal",
                    "failed",
                    "failed",
                ],
            ),
            (
                "processing",
                ["-", "-", "-", "succeeded", "abnormal", "failed", "-"],
            ),
            ("succeeded", ["-", "-", "-", "-", "-", "!", "!"]),
            ("abnormal", ["-", "-", "-", "succeeded", "-", "failed", "-"]),
            ("failed", ["-", "-", "!", "!", "!", "-", "-"]),
        ];
        assert_eq!(table.len(), RefundState::ALL.len());
        for (from, expected) in table {
            let state = RefundState::of(from).unwrap();
            let turns = RefundFact::ALL.map(|fact| match state.on(fact) {
                Turn::To(to) => to.as_str(),
                Turn::Stays => "-",
                Turn::Contradicts => "!",
            });
            assert_eq!(turns, expected, "{from}");
        }
    }
}
